"""A damaged segment, read as far as its blocks are whole.

Does    Compares every block with its digest, and follows what is damaged up to documents:
        one is lost where a block with a byte of it, of its passages or of its tokens is.
        Numbers of ends in a damaged block are replaced by the last good one before, so that
        those of other documents keep their places.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.errors import IndexCorruptError
from tokret.indexes.files import (
    BLOCK,
    SMALL,
    Array,
    Column,
    block_digest,
    parse_json,
    read_checked,
)
from tokret.indexes.segment import (
    BESIDE,
    DESCRIPTION,
    ENDS,
    LOOKUP_COLUMNS,
    Segment,
    columns_of,
    read_description,
)
from tokret.types import Ints, Mask, rising

DOCUMENTS, PASSAGES, TOKENS = BESIDE
ENDS_OF = {below: ends for ends, below in ENDS.items()}
REBUILT = {*LOOKUP_COLUMNS, "posting_ends", "postings"}  # from what is kept
TRIED = 1 << 32  # bytes hashed in search of one flipped bit: some seconds
Ranges = list[tuple[int, int]]


class Tolerant(Column):
    """A column whose file may have another size; blocks are still checked before they are used."""

    def check_size(self, path: Path) -> None:
        """Any size will do."""

    def read_rows(self, path: Path, ranges: NDArray[np.int64]) -> Iterator[Array]:
        """Nothing is read, not even the file's name, where nothing is asked for."""
        some = ranges[ranges[:, 0] < ranges[:, 1]]
        return super().read_rows(path, some) if len(some) else iter(())

    def damaged_rows(self, path: Path) -> Ranges:
        """Rows of which a byte lies in a block that is not as it was written, merged."""
        row = np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])
        bad: Ranges = []
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(path, "rb")) if _plain(path) else None
            for i, want in enumerate(self.blocks):
                block = b"" if file is None else file.read(min(BLOCK, self.size - i * BLOCK))
                if block_digest(block) != want:
                    first = i * BLOCK // row
                    last = min(-(-(i + 1) * BLOCK // row), self.shape[0])
                    if bad and bad[-1][1] >= first:
                        first = bad.pop()[0]
                    bad.append((first, last))
        return bad

    def hold(self, path: Path) -> Array:
        """What there is of the array, zeros after it."""
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        there = path.stat().st_size if _plain(path) else 0
        if there >= self.size > SMALL:
            return np.asarray(np.memmap(path, self.dtype, "r", shape=self.shape))
        with tempfile.TemporaryFile() as file:
            if there:
                with open(path, "rb") as source:
                    while len(data := source.read(BLOCK)) and file.tell() < self.size:
                        file.write(data)
            file.truncate(self.size)
            return np.asarray(np.memmap(file, self.dtype, "r", shape=self.shape))


def _description(path: Path, entry: Mapping[str, Any]) -> tuple[dict[str, Column], bool]:
    """Columns, and whether a bit of their description had to be put right."""
    try:
        return read_description(path, entry), False
    except IndexCorruptError:
        where, proof = path / DESCRIPTION, entry["sha256"]
        if not _plain(where):
            raise
        data = mended(
            read_checked(where, entry["bytes"]), lambda d: hashlib.sha256(d).hexdigest() == proof
        )
        if hashlib.sha256(data).hexdigest() != proof:
            raise
        return columns_of(where, parse_json(data), entry["kind"]), True


def mended(data: bytes, proven: Callable[[bytes], bool]) -> bytes:
    """The bytes, or those with the one bit changed that makes their digest right.

    As they are where no bit does, and where they are too many to try all.
    """
    if proven(data) or 8 * len(data) ** 2 > TRIED:
        return data
    tried = bytearray(data)
    for i in range(len(tried)):
        for bit in range(8):
            tried[i] ^= 1 << bit
            if proven(bytes(tried)):
                return bytes(tried)
            tried[i] ^= 1 << bit
    return data


def _plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


class Salvage(Segment):
    """A segment some of whose blocks are damaged. Its description must be whole."""

    def __init__(self, path: Path, entry: Mapping[str, Any]) -> None:
        self.path = path
        described, self.mended = _description(path, entry)
        tolerant = {name: Tolerant(**vars(column)) for name, column in described.items()}
        self.columns = {**tolerant}
        self.damaged = {
            name: column.damaged_rows(path / f"{name}.bin") for name, column in tolerant.items()
        }
        self.grown = any(
            not _plain(file) or file.stat().st_size != column.size
            for file, column in ((path / f"{name}.bin", c) for name, c in tolerant.items())
        )
        self._held = {name: c.hold(path / f"{name}.bin") for name, c in tolerant.items()}
        self.check_layout()

    def read_offsets(self, name: str, total: int) -> Ints:
        """Offsets [n + 1]; of items that are lost, any that keep the others in their places."""
        offsets = np.concatenate([[0], self._held[name]]).astype(np.int64)
        for first, last in self.damaged[name]:
            offsets[first + 1 : last + 1] = offsets[first]
            if last == len(offsets) - 1:
                offsets[-1] = total
        if offsets[-1] != total or not rising(offsets):
            raise IndexCorruptError(f"{self.path / name}.bin: ends must rise to {total}.")
        return offsets

    @cached_property
    def _doc_ids(self) -> tuple[bytes, Ints]:
        blob = self._held["doc_ids"].tobytes()
        return blob, self.read_offsets("doc_id_ends", len(blob))

    @cached_property
    def lost(self) -> Mask:
        """Documents of which a byte is damaged, metadata aside [D]."""
        gone = np.zeros(self.documents, np.bool_)
        for name, ranges in self.damaged.items():
            if name not in REBUILT and not name.startswith("field_"):
                for first, last in ranges:
                    gone[self._documents_of(name, first, last)] = True
        return gone

    def name(self, d: int) -> str | None:
        """Id of a document, lost or not; None where the id itself is damaged."""
        if any(
            d in self._documents_of(name, first, last)
            for name in ("doc_ids", "doc_id_ends")
            for first, last in self.damaged[name]
        ):
            return None
        with contextlib.suppress(IndexCorruptError):
            return self.doc_id(d)
        return None

    def _documents_of(self, name: str, first: int, last: int) -> range:
        """Documents that need rows ``first`` to ``last`` of a column."""
        if name in ENDS:
            last += 1  # an end is the next one's beginning
        if name in DOCUMENTS:
            return range(first, min(last, self.documents))
        if name in ENDS_OF and name != "passage_spans":
            ends = ENDS_OF[name]
            above = self._above(self.read_offsets(ends, self.columns[name].shape[0]), first, last)
            return above if ends in DOCUMENTS else self._of_passages(above)
        if name in TOKENS:
            return self._of_passages(self._above(self.token_offsets, first, last))
        if name in PASSAGES:
            return self._of_passages(range(first, min(last, self.passages)))
        return range(self.documents)

    def _of_passages(self, passages: range) -> range:
        return self._above(self.passage_offsets, passages.start, passages.stop)

    @staticmethod
    def _above(offsets: Ints, first: int, last: int) -> range:
        """Items that own something of ``first`` to ``last``, and empty ones between them."""
        if first >= last:
            return range(0)
        start = int(np.searchsorted(offsets[1:], first, side="right"))
        return range(start, int(np.searchsorted(offsets[:-1], last, side="left")))
