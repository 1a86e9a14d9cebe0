"""One damage to an index: by accident, or by somebody who makes every digest fit again."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tokret.indexes.files import BLOCK, block_digest, to_json

NUMBERS = [
    *(-1, 0, 1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**47, 2**53, 2**63 - 1, 2**63, 2**64),
    *(-(2**63), 10**30, 1.5, -0.0, 1e308),
]
TEXTS = [
    *(
        "",
        "../x",
        "/etc/passwd",
        "seg-\0",
        "CON",
        "NUL",
        "con.json",
        "a/b",
        ".",
        "..",
        "x" * 10_000,
    ),
    *("\ud800", "\u202e", "\x1b[2J", "<script>", ">f4", "|O", "<f8", "seg-0123456789abcdef"),
    *("manifest-00000001.json", "CURRENT", "exact(", "exact(dtype=[])", "st(model='x')"),
    *("bm25(k1=1e999)", "ivf(cells=99999999999)", "-" * 3000, "(" * 3000, "f(" * 1500),
]
RAW = [  # JSON that could mislead a parser, in place of a description
    b"[" * 10**6 + b"]" * 10**6,
    b'{"a":' * 10**6,
    b'{"a": 1, "a": 2}',
    b'{"format": 1, "format": 2}',
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": -Infinity}',
    b'{"a": ' + b"9" * 10_000 + b"}",
    b'{"a": "' + b"\\u0000" * 10**5 + b'"}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"null",
    b"{}",
    b"",
    b"[" + b"[]," * 10**6 + b"[]]",
]


def files(root: Path) -> list[Path]:
    """All files of an index that hold data."""
    skip = {"writer.lock", "writer.json"}
    found = (p for p in root.rglob("*") if p.is_file() and p.name not in skip)
    return sorted(found, key=lambda p: (p.name[:8], p.stat().st_size))  # folders have chance names


def own(path: Path) -> bytearray:
    """The bytes of a file, which is about to be replaced and shares them with none."""
    data = bytearray(path.read_bytes())
    path.unlink()
    return data


# -- accidents: each takes the index, its old versions, and a source of chance -----------------


def flip(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice([p for p in files(root) if p.stat().st_size])
    data = own(file)
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return f"{file.name} at {place}"


def overwrite(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice([p for p in files(root) if p.stat().st_size])
    data = own(file)
    first = rng.randrange(len(data))
    count = min(rng.choice([1, 2, 8, 64, 4096]), len(data) - first)
    fill = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count)])
    data[first : first + count] = fill
    file.write_bytes(data)
    return f"{file.name} from {first}, {count} bytes"


def truncate(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice([p for p in files(root) if p.stat().st_size])
    data = own(file)
    size = rng.choice([0, 1, len(data) - 1, rng.randrange(len(data))])
    file.write_bytes(data[:size])
    return f"{file.name} to {size}"


def extend(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice(files(root))
    data = own(file)
    more = rng.choice([1, 7, 8, 4096, BLOCK])
    file.write_bytes(data + rng.choice([bytes(more), rng.randbytes(more)]))
    return f"{file.name} by {more}"


def sparse(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice(files(root))
    data = own(file)
    file.write_bytes(data)
    os.truncate(file, 5 << 30)
    return f"{file.name} to 5 GiB"


def swap(root: Path, old: Path, rng: random.Random) -> str:
    one, two = rng.sample(files(root), 2)
    a, b = own(one), own(two)
    one.write_bytes(b)
    two.write_bytes(a)
    return f"{one.name} with {two.name}"


def remove(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice(files(root))
    file.unlink()
    return file.name


def stale(root: Path, old: Path, rng: random.Random) -> str:
    """A pointer or a manifest of an earlier version, as a copy that was cut off leaves it."""
    kept = rng.choice(sorted(old.iterdir()))
    name = kept.name.partition("-")[2]
    target = root / name
    if name != "CURRENT" and rng.random() < 0.5:  # under the name of the current one
        target = next(root.glob("manifest-*.json"))
    target.unlink(missing_ok=True)
    shutil.copy(kept, target)
    return f"{kept.name} as {target.name}"


def trick(root: Path, old: Path, rng: random.Random) -> str:
    """Something else under the name of a file or folder."""
    what = rng.choice(["link", "loop", "device", "fifo", "folder", "linked folder"])
    if what == "linked folder":
        target = rng.choice([root / "segments", *(root / "segments").iterdir()])
        target.rename(root / "elsewhere")
        target.symlink_to(root / "elsewhere")
        return f"{target.name} a {what}"
    file = rng.choice(files(root))
    data = own(file)
    if what == "link":
        (root / "elsewhere").write_bytes(data)
        file.symlink_to(root / "elsewhere")
    elif what == "loop":
        file.symlink_to(file)
    elif what == "device":
        file.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/dev/full"]))
    elif what == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    return f"{file.name} a {what}"


def raw(root: Path, old: Path, rng: random.Random) -> str:
    file = rng.choice([p for p in files(root) if p.suffix in (".json", "")])
    file.unlink()
    i = rng.randrange(len(RAW))
    file.write_bytes(RAW[i])
    return f"{file.name} is JSON {i}"


# -- attacks: digests are made to fit -------------------------------------------------------------


def tampered_value(root: Path, old: Path, rng: random.Random) -> str:
    """A value of a manifest or of a description."""
    manifest = _manifest(root)
    entry = None
    said = "manifest"
    value = manifest
    if rng.random() < 0.6:
        entry = rng.choice(_entries(manifest))
        value = _description(root, entry)
        said = "description"
    place = _change(value, rng)
    _write(root, manifest, {} if entry is None else {id(entry): (entry, value)})
    return f"{said}: {place}"


def tampered_column(root: Path, old: Path, rng: random.Random) -> str:
    """Values, rows, dtype or shape of one to three columns."""
    manifest = _manifest(root)
    entry = rng.choice(_entries(manifest))
    description = _description(root, entry)
    names = sorted(n for n, c in description["columns"].items() if c["shape"][0])
    said = []
    for name in rng.sample(names, min(rng.choice([1, 1, 1, 2, 3]), len(names))):
        column = description["columns"][name]
        file = root / "segments" / entry["id"] / f"{name}.bin"
        array = np.frombuffer(own(file), column["dtype"]).reshape(column["shape"]).copy()
        how, array = _twisted(array, rng)
        data = array.tobytes()
        file.write_bytes(data)
        column.update(dtype=array.dtype.str, shape=list(array.shape), blocks=_blocks(data))
        said.append(f"{name} {how}")
    _write(root, manifest, {id(entry): (entry, description)})
    return ", ".join(said)


def tampered_flip(root: Path, old: Path, rng: random.Random) -> str:
    """A bit of a column that is mapped, under a digest that fits."""
    manifest = _manifest(root)
    entry = rng.choice(_entries(manifest))
    description = _description(root, entry)
    name = rng.choice([n for n, c in description["columns"].items() if c["shape"][0]])
    file = root / "segments" / entry["id"] / f"{name}.bin"
    data = own(file)
    for _ in range(rng.choice([1, 1, 8, 64])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    description["columns"][name]["blocks"] = _blocks(data)
    _write(root, manifest, {id(entry): (entry, description)})
    return name


def tampered_state(root: Path, old: Path, rng: random.Random) -> str:
    """A value of the state of an unfinished build; of a manifest where there is none."""
    path = root / "build.json"
    if not path.exists():
        return tampered_value(root, old, rng)
    state = json.loads(path.read_text())
    path.unlink()
    seal = state.pop("sha256", None)
    place = _change(state, rng)
    if seal is not None and isinstance(state, dict):
        state["sha256"] = hashlib.sha256(_json(state)).hexdigest()
    path.write_bytes(_json(state))
    return f"build.json: {place}"


ACCIDENTS: dict[Callable[[Path, Path, random.Random], str], int] = {
    flip: 30,
    overwrite: 10,
    truncate: 8,
    extend: 3,
    sparse: 1,
    swap: 4,
    remove: 2,
    stale: 4,
    trick: 4,
    raw: 3,
}
ATTACKS: dict[Callable[[Path, Path, random.Random], str], int] = {
    tampered_value: 10,
    tampered_column: 12,
    tampered_flip: 7,
    tampered_state: 2,
}


def _manifest(root: Path) -> dict[str, Any]:
    pointer = json.loads((root / "CURRENT").read_text())
    value: dict[str, Any] = json.loads((root / pointer["manifest"]).read_text())
    return value


def _entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [*manifest["segments"], *([manifest["derived"]] if manifest["derived"] else [])]


def _description(root: Path, entry: dict[str, Any]) -> dict[str, Any]:
    path = root / "segments" / entry["id"] / "segment.json"
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def _write(root: Path, manifest: object, changed: dict[int, tuple[dict[str, Any], object]]) -> None:
    """Put descriptions, the manifest and the pointer in place, each vouching for the one below."""
    for entry, description in changed.values():
        path = root / "segments" / entry["id"] / "segment.json"
        data = _json(description)
        path.unlink()
        path.write_bytes(data)
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    name = json.loads((root / "CURRENT").read_text())["manifest"]
    data = _json(manifest)
    for path, content in (
        (root / name, data),
        (
            root / "CURRENT",
            to_json({"manifest": name, "sha256": hashlib.sha256(data).hexdigest()}),
        ),
    ):
        path.unlink()
        path.write_bytes(content)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _blocks(data: bytes | bytearray) -> list[str]:
    return [block_digest(bytes(data[at : at + BLOCK])) for at in range(0, len(data), BLOCK)]


def _change(value: dict[str, Any], rng: random.Random) -> str:
    """Replace, remove or double one value, anywhere inside; returns where."""
    where: list[tuple[Any, Any]] = []

    def walk(inner: dict[str, Any] | list[Any]) -> None:
        items = inner.items() if isinstance(inner, dict) else enumerate(inner)
        for key, item in items:
            where.append((inner, key))
            if isinstance(item, dict | list):
                walk(item)

    walk(value)
    holder, key = rng.choice(where)
    how = rng.random()
    if how < 0.1:
        del holder[key]
        return f"{key} gone"
    if how < 0.15 and isinstance(holder, list):
        holder.append(holder[key])
        return f"{key} twice"
    other = rng.choice(
        [rng.choice(NUMBERS), rng.choice(TEXTS), None, True, [], {}, [[]], {"": 0}, [1] * 1000]
    )
    if rng.random() < 0.4 and isinstance(holder[key], int):
        other = holder[key] + rng.choice([-1, 1, 2])
    holder[key] = other
    return f"{key} = {other!r:.40}"


def _twisted(array: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray]:
    kind = rng.random()
    flat = array.reshape(-1)
    if kind < 0.6:
        info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
        for _ in range(rng.choice([1, 1, 3, len(flat)])):
            at = rng.randrange(len(flat))
            if info is None:
                new = rng.choice([float("nan"), float("inf"), -float("inf"), 6e4, -0.0, 1e-7])
            else:
                near = int(flat[at]) + rng.choice([-1, 1, 2, 1000])
                options = [info.min, info.max, 0, near, rng.randint(int(info.min), int(info.max))]
                new = min(max(rng.choice(options), int(info.min)), int(info.max))
            flat[at] = new
        return "values", array
    if kind < 0.7 and array.dtype.kind == "i":  # rises by differences that overflow
        flat[len(flat) // 3 : 2 * len(flat) // 3] = np.iinfo(array.dtype).min
        flat[len(flat) // 3 - 1] = np.iinfo(array.dtype).max
        return "wraps", array
    if kind < 0.8:
        return "fewer rows", array[: rng.randrange(len(array))].copy()
    if kind < 0.87:
        return "more rows", np.concatenate([array, array[: rng.randrange(len(array) + 1)]])
    if kind < 0.92:
        return "reversed", array[::-1].copy()
    if kind < 0.96:
        return "flat", array.reshape(-1)
    return "another dtype", array.astype(rng.choice(["|u1", "<i4", "<f4", "<i8", "<f2"]))
