"""The folder on disk: what is refused, what is found, what a crash leaves."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tokret.errors import IndexCorruptError, IndexFormatError, ResourceError
from tokret.indexes import Index, store, verify
from tokret.indexes.files import (
    BLOCK,
    Column,
    ColumnWriter,
    block_digest,
    read_json,
    write_atomically,
)

DOCS = [("d1", "red green blue"), ("d2", "green tea"), ("d3", "a blue whale")]


@pytest.fixture(params=["exact", 'exact(dtype="int8")', "bm25"])
def folder(request, tmp_path):
    with Index.create(tmp_path / "index", encoder="toy", backend=request.param) as index:
        index.add(DOCS)
        index.add([("d4", "last")])
        index.delete(["d2"])
    return tmp_path / "index"


def data_files(folder):
    skip = {"writer.lock"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in skip)


def rewrite_manifest(folder, change):
    """Change the manifest as an attacker who knows the format would."""
    pointer = json.loads((folder / "CURRENT").read_text())
    path = folder / pointer["manifest"]
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    pointer["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "CURRENT").write_text(json.dumps(pointer, indent=1, sort_keys=True) + "\n")


def test_a_whole_index_verifies(folder):
    assert verify(folder) == [] and verify(folder, "quick") == []


def test_a_flipped_bit_in_any_file_is_found_and_named(folder):
    for file in data_files(folder):
        original = file.read_bytes()
        for place in {0, len(original) // 2, len(original) - 1} if original else ():
            changed = bytearray(original)
            changed[place] ^= 0x10
            file.write_bytes(changed)
            damages = verify(folder)
            assert damages, f"{file.name} at {place}"
            with pytest.raises((IndexCorruptError, IndexFormatError)):
                Index.open(folder, verify="full")
        file.write_bytes(original)
    assert verify(folder) == []


def test_damage_is_found_with_its_file_and_range(tmp_path):
    index = Index.create(tmp_path / "i", encoder="precomputed(dim=64)")
    index.add([("a", "x")], vectors=[np.random.default_rng(0).standard_normal((20_000, 64))])
    (file,) = (tmp_path / "i").rglob("vectors.bin")
    with open(file, "r+b") as f:
        f.seek(BLOCK + 7)
        f.write(b"\xff\x00\xff")
    (damage,) = verify(tmp_path / "i")
    assert damage.file.endswith("vectors.bin")
    assert damage.message == f"damaged between byte {BLOCK} and {2 * BLOCK}"


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_truncated_or_grown_file_is_refused_before_it_is_mapped(folder, size):
    for file in data_files(folder):
        original = file.read_bytes()
        if not original and size <= 0:
            continue
        file.write_bytes(original[:size] if size <= 0 else original + b"x")
        with pytest.raises((IndexCorruptError, IndexFormatError)):
            Index.open(folder).search("red")
        assert verify(folder, "quick")
        file.write_bytes(original)


def test_a_missing_file_is_named(folder):
    for file in data_files(folder):
        if file.name == "CURRENT":
            continue
        hidden = file.with_name("hidden")
        file.rename(hidden)
        with pytest.raises(IndexCorruptError, match=file.name):
            Index.open(folder)
        assert any(file.name in damage.file for damage in verify(folder))
        hidden.rename(file)


def test_two_files_that_change_places_are_found(folder):
    first, second = (
        next(p for p in data_files(folder) if p.name == name)
        for name in ("doc_id_ends.bin", "passage_ends.bin")
    )
    spare = first.with_name("spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    assert verify(folder)


def test_a_link_in_place_of_a_file_is_refused(folder, tmp_path):
    file = next(p for p in data_files(folder) if p.name == "texts.bin")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with pytest.raises(IndexCorruptError, match="expected a plain file"):
        Index.open(folder)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda m: m.update(format=2), IndexFormatError, "has format 2; tokret .* reads up to 1"),
        (lambda m: m.update(features=["zip"]), IndexFormatError, "uses 'zip', which tokret"),
        (lambda m: m.update(format="1"), IndexCorruptError, "has no format number"),
        (lambda m: m.update(format=0), IndexCorruptError, "has no format number"),
        (lambda m: m.update(features=5), IndexCorruptError, "must be a list of strings"),
        (lambda m: m.update(features=[[1], "a"]), IndexCorruptError, "must be a list of strings"),
        (lambda m: m.update(version=10**9), IndexCorruptError, "not a manifest of ours"),
        (lambda m: m.update(version=1), IndexCorruptError, "not a manifest of ours"),
        (lambda m: m.update(backend="later(x=1)"), IndexFormatError, "the backend 'later"),
        (lambda m: m.update(encoder=5), IndexCorruptError, "not a manifest of ours"),
        (
            lambda m: m.update(encoder={"spec": 5, "sha256": "", "dim": 1}),
            IndexCorruptError,
            "ours",
        ),
        (
            lambda m: m.update(encoder={"spec": "toy", "sha256": "", "dim": "16"}),
            IndexCorruptError,
            "value of another type",
        ),
        (lambda m: m.update(derived=0), IndexCorruptError, "lacks id"),
        (lambda m: m.update(derived={}), IndexCorruptError, "lacks id"),
        (lambda m: m["settings"].update(max_tokens="9"), IndexCorruptError, "whole number"),
        (lambda m: m["settings"].update(overlap=1.5), IndexCorruptError, "whole number"),
        (lambda m: m["settings"].update(normalize="no"), IndexCorruptError, "true or false"),
        (
            lambda m: m["segments"][0]["deletes"].update(dtype="<u8"),
            IndexCorruptError,
            "must be <i8",
        ),
        (lambda m: m.pop("segments"), IndexCorruptError, "not a manifest of ours"),
        (lambda m: m["segments"][0].update(id="../../etc"), IndexCorruptError, "no segment"),
        (lambda m: m["segments"][0].update(id="/etc"), IndexCorruptError, "no segment of ours"),
        (lambda m: m["segments"][0].update(id="seg-\0"), IndexCorruptError, "no segment of ours"),
        (lambda m: m["segments"][0].update(bytes=-1), IndexCorruptError, "expected -1 bytes"),
        (lambda m: m["segments"][0].update(sha256="0" * 64), IndexCorruptError, "not those"),
        (lambda m: m["settings"].update(long="no"), IndexCorruptError, "not a manifest of ours"),
        (lambda m: m["settings"].update(new=1), IndexCorruptError, "not a manifest of ours"),
    ],
)
def test_a_manifest_that_no_writer_writes_is_refused(folder, change, error, says):
    rewrite_manifest(folder, change)
    with pytest.raises(error, match=says):
        Index.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        "[]",
        "",
        "{" + '"a":{' * 100_000,
    ],
)
def test_json_that_could_mislead_a_parser_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(IndexCorruptError):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**62]},
        {"shape": [-1]},
        {"shape": [1, 1, 1]},
        {"shape": [True]},
        {"dtype": "|O"},
        {"dtype": ">f4"},
        {"blocks": []},
        {"blocks": ["zz"]},
        {"blocks": "x"},
    ],
)
def test_a_column_that_no_writer_writes_is_refused(tmp_path, change):
    writer = ColumnWriter(tmp_path / "c.bin", "<f4", None)
    writer.append(np.ones(5, np.float32))
    good = writer.close().to_dict()
    Column.from_dict(good, "c")
    with pytest.raises(IndexCorruptError):
        Column.from_dict({**good, **change}, "c")


def test_a_huge_json_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(5 << 30)  # sparse: takes no space
    with pytest.raises(IndexCorruptError, match="beyond the limit"):
        read_json(tmp_path / "x.json")


def test_a_column_written_in_pieces_equals_one_written_whole(tmp_path):
    values = np.arange(900_000, dtype=np.int32).reshape(-1, 3)
    whole = ColumnWriter(tmp_path / "a", "<i4", 3)
    whole.append(values)
    parts = ColumnWriter(tmp_path / "b", "<i4", 3)
    for part in np.array_split(values, 7):
        parts.append(part)
        parts.sync()
        state = parts.state()
        parts.append(values[:5])  # what a crash leaves behind a checkpoint
        parts.abandon()
        parts = ColumnWriter(tmp_path / "b", **state)
    assert parts.close() == whole.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "x", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ResourceError, match="3 bytes were to be written"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_failed_commit_leaves_the_version_before(folder, monkeypatch):
    before = Index.open(folder).search("green blue")
    real = store.write_atomically

    def fail_at_the_pointer(path, data):
        if path.name == "CURRENT":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store, "write_atomically", fail_at_the_pointer)
    with pytest.raises(ResourceError, match=r"No space left for the index at .* bytes are free"):
        Index.open(folder).add([("new", "green")])
    monkeypatch.undo()
    assert Index.open(folder).search("green blue") == before
    assert verify(folder) == []
    Index.open(folder).add([("new", "green")])
    assert "new" in Index.open(folder)


def test_orphans_are_ignored_and_cleared_by_the_next_commit(folder):
    (folder / "segments" / "seg-0123456789abcdef").mkdir()
    (folder / "manifest-00000099.json").write_text("{")
    assert verify(folder) == []
    Index.open(folder).add([("new", "x")])
    assert not (folder / "segments" / "seg-0123456789abcdef").exists()
    assert not (folder / "manifest-00000099.json").exists()


def test_a_reader_keeps_its_version_while_files_go(folder):
    reader = Index.open(folder)
    want = reader.search("blue")
    writer = Index.open(folder)
    writer.delete(["d1", "d3", "d4"])
    assert reader.search("blue") == want
    assert Index.open(folder).search("blue") == []


def test_a_reader_that_has_not_yet_searched_keeps_its_version_too(folder):
    want, text = Index.open(folder).search("blue"), Index.open(folder).document("d3").text
    reader = Index.open(folder)
    Index.open(folder).delete(["d1", "d3", "d4"])
    assert reader.search("blue") == want and reader.document("d3").text == text
    assert reader.explain("blue", "d3")


def rewrite_segment(folder, change, of=lambda manifest: manifest["segments"][0]):
    """Change the description of a segment, and what vouches for it."""

    def vouch(manifest):
        entry = of(manifest)
        path = folder / "segments" / entry["id"] / "segment.json"
        value = json.loads(path.read_text())
        change(value["columns"])
        path.write_text(json.dumps(value))
        data = path.read_bytes()
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    rewrite_manifest(folder, vouch)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("id_order"), "no column 'id_order'"),
        (lambda c: c["passage_spans"].update(shape=[6]), "passage_spans must be <i8"),
        (lambda c: c["id_order"].update(dtype="<u8"), "id_order must be <i8"),
        (lambda c: c["text_ends"].update(shape=[2]), r"expected 16 bytes, got 24"),
        (lambda c: c.update({"text_ends": c["doc_ids"]}), "expected 6 bytes, got 24"),
        (lambda c: c.update({"../x": c["doc_ids"]}), "is no column's name"),
        (lambda c: c.update({"x" * 300: c["doc_ids"]}), "is no column's name"),
    ],
)
def test_a_segment_that_no_writer_writes_is_refused(folder, change, says):
    rewrite_segment(folder, change)
    with pytest.raises(IndexCorruptError, match=says):
        Index.open(folder).document("d1")
    assert verify(folder)


@pytest.mark.parametrize("name", ["passages", "indices"])
@pytest.mark.parametrize("number", [-1, 1000])
def test_a_score_matrix_that_names_what_there_is_not_is_refused(tmp_path, name, number):
    Index.create(tmp_path / "i", backend="bm25").add(DOCS)
    (path,) = (tmp_path / "i").rglob(f"{name}.bin")
    dtype = {"passages": "<i8", "indices": "<i4"}[name]
    values = np.fromfile(path, dtype)
    values[0] = number
    values.tofile(path)
    blocks = [block_digest(path.read_bytes())]
    rewrite_segment(tmp_path / "i", lambda c: c[name].update(blocks=blocks), lambda m: m["derived"])
    with pytest.raises(IndexCorruptError, match=rf"{name}\.bin: numbers must lie from 0"):
        Index.open(tmp_path / "i")


def test_columns_that_lie_beside_each_other_have_equal_rows(folder):
    pointer = json.loads((folder / "CURRENT").read_text())
    first = json.loads((folder / pointer["manifest"]).read_text())["segments"][0]["id"]
    path = folder / "segments" / first / "passage_ends.bin"
    path.write_bytes(path.read_bytes()[:16])
    rewrite_segment(folder, lambda c: c["passage_ends"].update(shape=[2]))
    with pytest.raises(IndexCorruptError, match="unequal numbers of rows"):
        Index.open(folder)


def test_an_index_on_a_read_only_medium_is_searched(folder):
    if os.geteuid() == 0:  # permissions do not stop root; the files must not change all the same
        pass
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert Index.open(folder).search("whale", k=1)[0].doc_id == "d3"
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_only_files_of_ours_are_cleared(folder):
    for name in ["notes.tmp", "manifest-1.json", "deletes-mine.bin"]:
        (folder / name).write_text("mine")
    (folder / "CURRENT.123.tmp").write_text("ours")
    (folder / "segments" / "mine").mkdir()
    Index.open(folder).add([("new", "x")])
    assert (folder / "notes.tmp").exists() and (folder / "segments" / "mine").exists()
    assert (folder / "manifest-1.json").exists() and (folder / "deletes-mine.bin").exists()
    assert not (folder / "CURRENT.123.tmp").exists()


def test_a_commit_during_verification_is_no_damage(folder):
    committed = []

    def commit(done, total):
        if not committed:
            committed.append(1)
            Index.open(folder).delete(["d1", "d3", "d4"])

    assert verify(folder, progress=commit) == [] and committed


def test_an_index_copied_elsewhere_is_the_same(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert Index.open(tmp_path / "copy").search("blue") == Index.open(folder).search("blue")


def test_no_damage_of_any_kind_ends_the_process(folder, tmp_path):
    """Mutations of every file, opened and searched in a process of their own."""
    code = """
import random, sys
from pathlib import Path
from tokret.errors import TokretError
from tokret.indexes import Index, verify
folder, rng = Path(sys.argv[1]), random.Random(7)
files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "writer.lock")
silent = 0
for _ in range(150):
    file = rng.choice(files)
    data = file.read_bytes()
    kind = rng.choice(["flip", "cut", "grow", "zero"])
    if not data and kind != "grow":
        continue
    place = rng.randrange(len(data) or 1)
    changed = bytearray(data)
    if kind == "flip": changed[place] ^= 1 << rng.randrange(8)
    if kind == "cut": del changed[place:]
    if kind == "grow": changed += b"junk"
    if kind == "zero": changed[place:place + 8] = bytes(len(changed[place:place + 8]))
    file.write_bytes(changed)
    try:
        Index.open(folder).search([[0.25] * 16] if sys.argv[2] != "bm25" else "blue")
    except TokretError:
        pass
    try:
        silent += bytes(changed) != data and not verify(folder)
    except TokretError:
        pass
    file.write_bytes(data)
print(silent)
"""
    kind = "bm25" if any(folder.rglob("terms.bin")) else "exact"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), kind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr[-2000:]
