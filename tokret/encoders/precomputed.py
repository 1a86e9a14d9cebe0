"""Vectors made elsewhere: read from .npy or .safetensors, passage by passage."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.encoders.base import Encoded, Identity, encoders
from tokret.errors import InputError, UsageError
from tokret.registry import Spec
from tokret.types import Floats, Ints, rising

PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".npz")
LENGTHS = ".doclens.npy"  # beside vectors in NAME.npy: NAME.doclens.npy
NPY_HEADER_MOST = 1 << 16  # bytes; NumPy reads no longer ones than 10,000
NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in names of fields alone
}
LONGEST = 2**40  # tokens of one passage; their sum stays within int64
HEADER_MOST = 100_000_000  # bytes, the limit that safetensors sets itself
TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}

Array = NDArray[Any]


@encoders.register("precomputed")
@dataclass(frozen=True)
class Precomputed(Spec):
    """Stands for a model that ran elsewhere: it names the vectors and encodes nothing."""

    dim: int
    model: str = "unknown"

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise UsageError(f"precomputed: dim must be at least 1, got {self.dim}.")

    @property
    def identity(self) -> Identity:
        """The name that was given, and the width; the weights are unknown."""
        return Identity(str(self), hashlib.sha256(str(self).encode()).hexdigest(), self.dim)

    @property
    def max_tokens(self) -> int:
        """Longest document it reads: none."""
        return 0

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Raise UsageError: there is no model to run."""
        raise UsageError(f"{self} encodes no queries; pass query vectors [Q, {self.dim}] instead.")

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """Raise UsageError: there is no model to run."""
        raise UsageError(
            f"{self} encodes no documents; pass vectors [T, {self.dim}] instead, for example "
            "from open_vectors(path)."
        )

    def token_spans(self, text: str) -> Ints:
        """Raise UsageError: there is no tokenizer."""
        raise UsageError(f"{self} has no tokenizer; vectors made elsewhere have no places in text.")


def open_vectors(path: str | Path, lengths: str | Path | Array | None = None) -> Iterator[Floats]:
    """Iterate over passages' vectors, each float32 [n_i, H], without reading the file whole.

    ``path`` is an .npy of all rows [T, H] with the passages' ``lengths`` [N], given as array
    or .npy file, or found beside it as NAME.doclens.npy; or a .safetensors with ``vectors``
    [T, H] and ``lengths`` [N] or ``offsets`` [N + 1]; or a folder of such files, read in the
    order of their names, all of one width. float16, float32 and float64 are read.

    Raises InputError for a file that is absent, damaged, pickled, of another shape or type,
    or whose lengths do not add up, before the first passage; and for NaN or infinity, naming
    the passage, when it is reached.
    """
    path = Path(path)
    shards = [path]
    if path.is_dir():
        if lengths is not None:
            raise InputError(f"{path} is a folder; lengths lie beside its files, not in one array.")
        shards = sorted(_shards(path), key=lambda shard: shard.name)
        if not shards:
            raise InputError(f"{path} holds no .npy or .safetensors files of vectors.")
    opened = [(shard, *_open(shard, lengths)) for shard in shards]
    widths = {vectors.shape[1]: shard for shard, vectors, _ in opened}
    if len(widths) > 1:
        raise InputError(f"Files of one folder differ in width: {_listed(widths)}.")
    return _passages(opened)


def _passages(opened: list[tuple[Path, Array, Ints]]) -> Iterator[Floats]:
    number = 0
    for shard, vectors, offsets in opened:
        for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            with np.errstate(over="ignore"):  # float64 beyond float32 is infinite, then refused
                rows = np.array(vectors[a:b], np.float32)
            if not np.isfinite(rows).all():
                bad = int(np.argwhere(~np.isfinite(rows))[0][0])
                raise InputError(
                    f"{shard}: passage {number} holds NaN or infinity in float32, first in "
                    f"token {bad} (row {a + bad})."
                )
            yield rows
            number += 1


def _shards(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix in PICKLED:
            raise _pickled(path)
        if path.suffix in (".npy", ".safetensors") and not path.name.endswith(LENGTHS):
            yield path


def _open(path: Path, lengths: str | Path | Array | None) -> tuple[Array, Ints]:
    """Map a file's vectors [T, H] and read where its passages lie, offsets [N + 1]."""
    if path.suffix in PICKLED:
        raise _pickled(path)
    if not path.is_file():
        raise InputError(f"No vectors at {path}.")
    if path.suffix == ".npy":
        vectors, counts = _npy(path), _lengths(path, lengths)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(_counts(counts, path))])
    elif path.suffix == ".safetensors":
        vectors, offsets = _safetensors(path)
    else:
        raise InputError(f"{path} is neither .npy nor .safetensors.")
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise InputError(
            f"{path} must hold floats [T, H], got {list(vectors.shape)} of {vectors.dtype}."
        )
    if offsets[-1] != len(vectors):
        raise InputError(
            f"{path}: lengths add up to {offsets[-1]} tokens, but there are {len(vectors)} vectors."
        )
    return vectors, offsets


def _lengths(path: Path, lengths: str | Path | Array | None) -> Array:
    if lengths is None:
        lengths = path.with_name(path.name.removesuffix(".npy") + LENGTHS)
        if not lengths.is_file():
            raise InputError(f"{path} needs the passages' lengths: give them, or write {lengths}.")
    if isinstance(lengths, str | Path):
        return _npy(Path(lengths))
    return np.asarray(lengths)


def _counts(counts: Array, path: Path) -> Ints:
    """Check lengths [N]: whole numbers, none below 0 nor absurdly large."""
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise InputError(
            f"{path}: lengths must be integers [N], got {list(counts.shape)} of {counts.dtype}."
        )
    if len(counts) and (counts.min() < 0 or counts.max() >= LONGEST):
        raise InputError(f"{path}: lengths must not be negative, nor {LONGEST} or more.")
    return counts.astype(np.int64)


def _npy(path: Path) -> Array:
    """Map an .npy file; NumPy compares sizes with the file, and pickles are refused."""
    if path.suffix in PICKLED:
        raise _pickled(path)
    try:
        with path.open("rb") as file:
            head = io.BytesIO(file.read(NPY_HEADER_MOST))  # what says its length may lie
        read = NPY_HEADERS.get(np.lib.format.read_magic(head))
        if read is None:
            raise InputError(f"{path} is in a version of .npy that NumPy does not write.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of files that Python 2 wrote
            shape, fortran, dtype = read(head)
        header = head.tell()
        if dtype.hasobject:
            raise InputError(f"{path} holds Python objects, that is, pickles; write plain numbers.")
        need = header + int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
        if path.stat().st_size < need:
            raise InputError(f"{path} is cut short: {path.stat().st_size} of {need} bytes.")
        if 0 in shape:  # an empty file cannot be mapped
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", header, shape, "F" if fortran else "C")
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        TypeError,
        OverflowError,
        TokenError,
    ) as error:
        raise InputError(f"{path} is not a readable .npy file: {error}") from error


def _safetensors(path: Path) -> tuple[Array, Ints]:
    """Map ``vectors`` of a .safetensors file, and read its ``lengths`` or ``offsets``."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_MOST, size - 8):
                raise InputError(f"{path} is damaged: its header would hold {length} bytes.")
            header = json.loads(file.read(length))
        tensors = {key: _tensor(path, header[key], 8 + length, size) for key in _wanted(header)}
    except (
        struct.error,
        ValueError,
        OverflowError,
        RecursionError,
        KeyError,
        TypeError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a readable .safetensors file: {error!r}.") from error
    if "vectors" not in tensors or len(tensors) != 2:
        raise InputError(
            f"{path} must hold 'vectors' and either 'lengths' or 'offsets'; it holds "
            f"{', '.join(sorted(set(header) - {'__metadata__'})) or 'nothing'}."
        )
    if "lengths" in tensors:
        counts = _counts(tensors["lengths"], path)
        return tensors["vectors"], np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    offsets = tensors["offsets"]
    whole = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 0
    if not whole or offsets[0] != 0 or not rising(offsets):
        raise InputError(f"{path}: offsets must be integers [N + 1] that rise from 0.")
    return tensors["vectors"], offsets.astype(np.int64)


def _wanted(header: dict[str, Any]) -> list[str]:
    return [key for key in ("vectors", "lengths", "offsets") if key in header]


def _tensor(path: Path, entry: dict[str, Any], base: int, size: int) -> Array:
    """Map one tensor after comparing its shape with its bytes, and those with the file."""
    dtype = TYPES.get(entry["dtype"])
    if dtype is None:
        known = ", ".join(TYPES)
        raise InputError(f"{path} holds numbers of type {entry['dtype']}; read are {known}.")
    shape = tuple(int(n) for n in entry["shape"])
    first, last = entry["data_offsets"]
    count = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if min(shape, default=0) < 0 or not 0 <= first <= last <= size - base or last - first != count:
        raise InputError(f"{path} is damaged or cut short: a tensor does not fit the file.")
    if count == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", base + first, shape)


def _pickled(path: Path) -> InputError:
    return InputError(
        f"{path} may hold pickles, which can run code on load; tokret reads .npy and .safetensors. "
        "Write it again with numpy.save(..., allow_pickle=False) or safetensors."
    )


def _listed(widths: dict[int, Path]) -> str:
    return ", ".join(f"{width} in {path.name}" for width, path in sorted(widths.items()))
