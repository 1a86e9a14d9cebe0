"""Files that are written once, whole, and checked before they are believed.

A column is one array in one file: raw little-endian bytes with no header. Its dtype,
shape and a digest of every MiB stand in the segment's description, so that a size is
known before a byte is mapped and damage is found with its place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tokret.errors import IndexCorruptError, ResourceError

BLOCK = 1 << 20  # bytes under one digest: small enough to say where, few enough to list
DIGEST = 8  # bytes of a block's BLAKE2b
MAX_JSON = 64 << 20  # bytes of the largest description that is read
SMALL = 1 << 16  # bytes up to which a column is held in memory; a larger one is mapped
SYNCS = 4  # files made durable at a time; a disk takes that many for little more than one
COLUMN_DTYPES = ("|u1", "|i1", "<f2", "<f4", "<i4", "<i8", "<u2", "<u8")

_REFUSED = {
    errno.ENOSPC: ("No space left for", "make room"),
    errno.EDQUOT: ("The quota leaves no space for", "make room"),
    errno.EFBIG: ("Files may not become so large (ulimit -f):", "raise the limit"),
    errno.EIO: ("The disk failed (input/output error) at", "see to the disk"),
}

Array = NDArray[Any]


def block_digest(block: bytes | memoryview) -> str:
    """Digest of one block, as hexadecimal text."""
    return hashlib.blake2b(block, digest_size=DIGEST).hexdigest()


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def room(path: Path, needed: int | None = None) -> Iterator[None]:
    """Name the place where the disk, a quota or a limit refused to take more: ResourceError.

    ``needed`` bytes were to be written there, where that is known.
    """
    try:
        yield
    except OSError as error:
        refused = _REFUSED.get(error.errno or 0)
        if refused is None:
            raise
        what, advice = refused
        folder = path if path.is_dir() else path.parent
        sizes = [] if needed is None else [f"{needed:,} bytes were to be written"]
        with contextlib.suppress(OSError):
            sizes.append(f"{shutil.disk_usage(folder).free:,} bytes are free")
        told = f" ({', '.join(sizes)})" if sizes else ""
        place = f"the index at {path}" if path == folder else str(path)
        raise ResourceError(
            f"{what} {place}{told}. What was committed is whole; {advice} and run the same "
            "command again."
        ) from error


@contextlib.contextmanager
def address_space(path: Path, size: int) -> Iterator[None]:
    """Name the file for which there is not memory enough: ResourceError."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise ResourceError(
            f"{path}: there is no memory for its {size:,} bytes; close other programs, or raise "
            "the limit of this one."
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` under ``path`` so that a reader sees the old file or the new one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with room(path, len(data)):
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def to_json(value: object) -> bytes:
    """One JSON text, the same for the same value."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_json(path: Path, size: int | None = None, sha256: str | None = None) -> dict[str, Any]:
    """Read a JSON object, checking its size and digest first where they are known.

    Raises FileNotFoundError, or IndexCorruptError for anything but one plain object:
    duplicate keys, deep nesting, numbers that are not finite, and texts over MAX_JSON.
    """
    data = read_checked(path, size)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise IndexCorruptError(f"{path}: the contents are not those that were committed.")
    try:
        return parse_json(data)
    except (ValueError, RecursionError) as error:
        raise IndexCorruptError(f"{path}: not the JSON it should be: {error}.") from error


def parse_json(data: bytes) -> dict[str, Any]:
    """Parse one JSON object. Raises ValueError or RecursionError for anything else."""
    value = json.loads(
        data, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
    )
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a digest of itself, for a file that no other vouches for."""
    return {**value, "sha256": hashlib.sha256(to_json(dict(value))).hexdigest()}


def seal_holds(value: Mapping[str, Any]) -> bool:
    """Whether a sealed object is as it was sealed."""
    return value == sealed({key: item for key, item in value.items() if key != "sha256"})


def read_checked(path: Path, size: int | None = None) -> bytes:
    """Read a small file whole, refusing a link, another size, or more than MAX_JSON."""
    actual = regular_size(path)
    if size is not None and actual != size:
        raise IndexCorruptError(f"{path}: expected {size} bytes, got {actual}.")
    if actual > MAX_JSON:
        raise IndexCorruptError(f"{path}: {actual} bytes is beyond the limit of {MAX_JSON}.")
    return path.read_bytes()


def regular_size(path: Path) -> int:
    """Size of a file that is neither a link nor a device."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise IndexCorruptError(f"{path}: expected a plain file.")
    return status.st_size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number here")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no number here")
    return value


def blocks_damaged(path: Path, digests: Sequence[str], size: int) -> list[tuple[int, int]]:
    """Ranges of a file's first ``size`` bytes whose blocks have not these digests."""
    bad = []
    with open(path, "rb") as file:
        for i, want in enumerate(digests):
            block = file.read(min(BLOCK, size - i * BLOCK))
            if block_digest(block) != want:
                bad.append((i * BLOCK, i * BLOCK + len(block)))
    return bad


@dataclass(frozen=True)
class Column:
    """The description of one array on disk."""

    dtype: str
    shape: tuple[int, ...]
    blocks: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        count = 1
        for n in self.shape:
            count *= n
        return count * np.dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"dtype": self.dtype, "shape": list(self.shape), "blocks": list(self.blocks)}

    @classmethod
    def from_dict(cls, value: object, where: str) -> Column:
        """Read a description, refusing what no writer of ours produces."""
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "blocks"}:
            raise IndexCorruptError(f"{where}: expected dtype, shape and blocks.")
        dtype, shape, blocks = value["dtype"], value["shape"], value["blocks"]
        if isinstance(dtype, str) and dtype[:1] == ">":
            raise IndexCorruptError(
                f"{where}: {dtype!r:.20} is big-endian; the numbers of an index are little-endian."
            )
        sizes_ok = isinstance(shape, list) and 1 <= len(shape) <= 2
        if (
            dtype not in COLUMN_DTYPES
            or not sizes_ok
            or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
            or not isinstance(blocks, list)
            or not all(isinstance(b, str) and len(b) == 2 * DIGEST for b in blocks)
        ):
            raise IndexCorruptError(f"{where}: a dtype, shape or digest is not valid.")
        column = cls(dtype, tuple(shape), tuple(blocks))
        if column.size >= 1 << 60 or len(blocks) != -(-column.size // BLOCK):
            raise IndexCorruptError(f"{where}: {len(blocks)} digests do not cover {shape}.")
        return column

    def check_size(self, path: Path) -> None:
        """Refuse a file of another size, before it is mapped."""
        try:
            actual = regular_size(path)
        except FileNotFoundError:
            raise IndexCorruptError(
                f"{path}: missing; expected a file of {self.size} bytes."
            ) from None
        if actual != self.size:
            raise IndexCorruptError(f"{path}: expected {self.size} bytes, got {actual}.")

    def damaged_ranges(self, path: Path) -> list[tuple[int, int]]:
        """Byte ranges whose digest is not the recorded one."""
        return blocks_damaged(path, self.blocks, self.size)

    def read(self, path: Path) -> Array:
        """Read the array into memory, every digest checked."""
        return self.checked(self.hold(path), path)

    def read_rows(self, path: Path, ranges: NDArray[np.int64]) -> Iterator[Array]:
        """Read ranges [n, 2] of rows, rising, about a block at a time; each digest is checked.

        Bytes are given away only once the whole block that they lie in has been found good.
        """
        self.check_size(path)
        row = np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])
        parts, size = [b""], 0
        at, block = -1, b""
        with open(path, "rb") as file:
            for first, last in map(np.ndarray.tolist, ranges):
                for i in range(first * row // BLOCK, -(-last * row // BLOCK)):
                    if i != at:
                        file.seek(i * BLOCK)
                        at, block = i, file.read(min(BLOCK, self.size - i * BLOCK))
                        self._check_block(i, block, path)
                    begin = max(first * row - i * BLOCK, 0)
                    parts.append(block[begin : last * row - i * BLOCK])
                    size += len(parts[-1])
                    if size >= BLOCK:  # the end of a row may lie in the next block
                        data = b"".join(parts)
                        whole = size // row * row
                        yield self._rows(data[:whole])
                        parts, size = [data[whole:]], size - whole
        if size:
            yield self._rows(b"".join(parts))

    def _rows(self, data: bytes) -> Array:
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])

    def hold(self, path: Path) -> Array:
        """Take hold of the array, read-only; only its size is checked.

        What is held outlasts the file's name, so a commit that removes it takes nothing
        from a reader.
        """
        self.check_size(path)
        if self.size > SMALL:
            with address_space(path, self.size):
                return np.asarray(np.memmap(path, self.dtype, "r", shape=self.shape))
        data = path.read_bytes()
        if len(data) != self.size:
            raise IndexCorruptError(f"{path}: expected {self.size} bytes, got {len(data)}.")
        return np.frombuffer(data, self.dtype).reshape(self.shape)

    def checked(self, held: Array, path: Path) -> Array:
        """Copy an array that ``hold`` gave into memory, every digest checked."""
        with address_space(path, self.size):
            copy = np.empty(self.shape, self.dtype)
        source, data = (array.reshape(-1).view(np.uint8) for array in (held, copy))
        for i in range(len(self.blocks)):
            block = slice(i * BLOCK, (i + 1) * BLOCK)
            data[block] = source[block]  # what is checked is what is kept
            self._check_block(i, data[block].data, path)
        return copy

    def checked_rows(self, held: Array, path: Path, first: int, last: int) -> Array:
        """Rows ``first`` to ``last`` of what ``hold`` gave, each block they touch checked."""
        row = np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])
        data = held.reshape(-1).view(np.uint8)
        for i in range(first * row // BLOCK, -(-last * row // BLOCK) if last > first else 0):
            self._check_block(i, data[i * BLOCK : (i + 1) * BLOCK].data, path)
        return held[first:last]

    def _check_block(self, i: int, block: bytes | memoryview, path: Path) -> None:
        if block_digest(block) != self.blocks[i]:
            raise IndexCorruptError(
                f"{path}: damaged between byte {i * BLOCK} and {(i + 1) * BLOCK}."
            )


@dataclass
class ColumnWriter:
    """Appends rows to one column, digesting as it goes."""

    path: Path
    dtype: str
    width: int | None  # values in a row; None for a column of single values
    rows: int = 0
    blocks: list[str] = field(default_factory=list)
    tail: str | None = None  # digest of what comes after the whole blocks, where it is known

    def __post_init__(self) -> None:
        self._tail = b""  # bytes since the last whole block
        self._synced = False
        with room(self.path):
            self._file: BinaryIO = open(self.path, "ab")  # noqa: SIM115  (closed by close)
            self._file.truncate(self.rows * self.row_bytes)
        whole = len(self.blocks) * BLOCK
        if self.rows * self.row_bytes > whole:
            with open(self.path, "rb") as file:
                file.seek(whole)
                self._tail = file.read()
        if self.tail not in (None, block_digest(self._tail)):
            self._file.close()
            raise IndexCorruptError(f"{self.path}: damaged after byte {whole}.")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return np.dtype(self.dtype).itemsize * (1 if self.width is None else self.width)

    def append(self, values: Array) -> None:
        """Write rows; their dtype and width must be the column's."""
        rows = np.ascontiguousarray(values, self.dtype)
        data = rows.tobytes()
        self._synced = False
        with room(self.path, len(data)):
            self._file.write(data)
        self.rows += len(rows)
        view = memoryview(self._tail + data)
        whole = len(view) - len(view) % BLOCK
        for at in range(0, whole, BLOCK):
            self.blocks.append(block_digest(view[at : at + BLOCK]))
        self._tail = bytes(view[whole:])

    def map(self) -> Array:
        """What was appended so far, read-only, as it lies on disk."""
        with room(self.path):
            self._file.flush()
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        if self.rows * self.row_bytes == 0:
            return np.empty(shape, self.dtype)
        return np.asarray(np.memmap(self.path, self.dtype, "r", shape=shape))

    def sync(self) -> None:
        """Make what was appended survive a power cut.

        Where that fails, nobody knows what of it is on the disk, and asking again may be
        answered with a success that is none: the file is to be written anew.
        """
        with room(self.path, self.rows * self.row_bytes):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._synced = True

    def close(self) -> Column:
        """Finish the file, make it durable and describe it."""
        if not self._synced:
            self.sync()
        self._file.close()
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        last = [block_digest(self._tail)] if self._tail else []
        return Column(self.dtype, shape, (*self.blocks, *last))

    def abandon(self) -> None:
        """Let go of the file without finishing it; what it still held back may be lost."""
        with contextlib.suppress(OSError):
            self._file.close()

    def state(self) -> dict[str, Any]:
        """What a later process needs in order to go on appending."""
        return {
            "dtype": self.dtype,
            "width": self.width,
            "rows": self.rows,
            "blocks": list(self.blocks),
            "tail": block_digest(self._tail),
        }


def sync_columns(columns: Iterable[ColumnWriter]) -> None:
    """Make what was appended to several columns survive a power cut."""
    with ThreadPoolExecutor(SYNCS) as pool:
        list(pool.map(ColumnWriter.sync, columns))
