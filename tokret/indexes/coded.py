"""Coded segments: token vectors as codes on a lattice, and the lists of its cells.

Does    Writes the live documents of segments of vectors as one segment of codes, passage
        after passage; the postings of its cells are made from the passages' cells before
        it is sealed, in blocks of 65,536 passages so that a posting is two bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tokret.errors import IndexCorruptError
from tokret.indexes.codebook import Codebook
from tokret.indexes.exact import stored_tokens
from tokret.indexes.field_table import copy_fields
from tokret.indexes.manifest import Entry
from tokret.indexes.merge import Source, copy_rows
from tokret.indexes.segment import Layout, Segment, SegmentWriter
from tokret.indexes.store import Store
from tokret.kernels import stages
from tokret.kernels.stages import Block, block
from tokret.types import Floats, Ints, Mask, Tokens, rising

KIND = "ivf"
CODED_COLUMNS: Layout = {
    "cell_ends": ("<i8", None),  # the different cells of each passage
    "cells": ("<u2", None),  # in the order in which its rows need them
    "code_ends": ("<i8", None),
    "codes": ("|u1", None),
    "errors": ("<f4", None),  # of each passage: how far a vector lies from its code, at most
}
POSTING_COLUMNS: Layout = {  # block after block
    "posting_ends": ("<i8", None),
    "postings": ("<u2", None),
}
BLOCK_PASSAGES = 1 << 16
WINDOW_TOKENS = 1 << 15  # coded at a time


def write_coded(
    store: Store,
    source: Source,
    codebook: Codebook,
    keep_vectors: bool,
    threads: int,
    advance: Callable[[int], None],
) -> Entry | None:
    """Write a segment of vectors as codes; None where no document is left."""
    if not source.documents:
        return None
    left_out = set() if keep_vectors else {"vectors", "scales"}
    copied = {name: form for name, form in source.layout.items() if name not in left_out}
    writer = SegmentWriter(store.new_segment_path(), KIND, {**copied, **CODED_COLUMNS})
    segment = source.segment
    live = np.ones(segment.documents, np.bool_) if source.alive is None else source.alive
    try:
        copy_rows(segment, live, writer, copied)
        copy_fields(segment, live, writer, 0)
        passages = np.flatnonzero(np.repeat(live, np.diff(segment.passage_offsets)))
        tokens = stored_tokens(segment)
        for window in windows(tokens, passages):
            _append(writer, tokens.gather(window), codebook, threads)
            advance(int(np.diff(tokens.offsets)[window].sum()))
        add_postings(writer, len(codebook.cells))
        return Entry.from_dict(writer.seal(segment.hashes()[live]), writer.path.name)
    except BaseException:
        writer.discard()
        raise


def windows(tokens: Tokens, passages: Ints) -> Iterator[Ints]:
    """Passages in runs of about WINDOW_TOKENS tokens."""
    held = np.diff(tokens.offsets)[passages].cumsum()
    first = 0
    while first < len(passages):
        before = held[first - 1] if first else 0
        last = int(np.searchsorted(held, before + WINDOW_TOKENS)) + 1
        yield passages[first:last]
        first = last


def _append(writer: SegmentWriter, tokens: Tokens, codebook: Codebook, threads: int) -> None:
    vectors = tokens.vectors.astype(np.float32, copy=False)
    batch = codebook.batch(tokens, threads)
    codes, ends, rows = codebook.coding.encode(batch, threads=threads)
    away = codebook.vectors(rows)
    away -= vectors
    away = np.sqrt(np.einsum("th,th->t", away, away))
    errors = np.zeros(len(tokens), np.float32)
    full = np.flatnonzero(np.diff(tokens.offsets))
    if len(full):
        errors[full] = np.maximum.reduceat(away, tokens.offsets[full])
    writer.append(
        cell_ends=writer.rows("cells") + batch.cell_offsets[1:],
        code_ends=writer.rows("codes") + ends,
        cells=batch.cells,
        codes=codes,
        errors=np.nextafter(errors * np.float32(1.00001), np.float32(np.inf)),
    )


def add_postings(writer: SegmentWriter, cells: int) -> None:
    """Turn the cells of each passage into the passages of each cell."""
    offsets = np.concatenate([[0], writer.map("cell_ends")]).astype(np.int64)
    none = np.empty(0, np.int64)
    writer.add_columns(POSTING_COLUMNS, posting_ends=none, postings=none.astype(np.uint16))
    for ends, postings in posted(offsets, writer.map("cells"), cells):
        writer.append(posting_ends=ends, postings=postings)


def posted(
    offsets: Ints, column: NDArray[np.uint16], cells: int
) -> Iterator[tuple[Ints, NDArray[np.uint16]]]:
    """Ends and postings of each block, from the cells of passages: offsets [N + 1] and those."""
    base = 0
    for first in range(0, len(offsets) - 1, BLOCK_PASSAGES):
        last = min(first + BLOCK_PASSAGES, len(offsets) - 1)
        mine = np.asarray(column[offsets[first] : offsets[last]])
        numbers = np.arange(last - first, dtype=np.uint16)
        owners = np.repeat(numbers, np.diff(offsets[first : last + 1]))
        order = np.argsort(mine, kind="stable")
        yield base + np.bincount(mine, minlength=cells).cumsum(), owners[order]
        base += len(mine)


class CodedSegment:
    """A coded segment, opened: its offsets checked and in memory, its codes mapped."""

    def __init__(self, segment: Segment, codebook: Codebook) -> None:
        segment.expect({**CODED_COLUMNS, **POSTING_COLUMNS})
        self.segment = segment
        self.token_offsets = segment.token_offsets
        self.cell_offsets = segment.read_offsets("cell_ends", segment.columns["cells"].shape[0])
        self.code_offsets = segment.read_offsets("code_ends", segment.columns["codes"].shape[0])
        self.errors: Floats = segment.read("errors")
        self.cells = segment.map("cells")
        self.codes = segment.map("codes")
        postings = segment.map("postings")
        ends = segment.read("posting_ends")
        count = -(-segment.passages // BLOCK_PASSAGES)
        known = len(ends) // max(count, 1)
        if (
            len(ends) != known * count
            or not min(count, 1) <= known <= len(codebook.cells)
            or len(postings) != len(self.cells)
            or (len(ends) and (ends[0] < 0 or not rising(ends) or ends[-1] != len(postings)))
        ):
            raise IndexCorruptError(f"{segment.path}: its postings do not cover its cells.")
        # A row is the first of a cell of its passage, or has a byte of its own.
        most = np.diff(self.code_offsets) + np.diff(self.cell_offsets)
        if (most < np.diff(self.token_offsets)).any():
            raise IndexCorruptError(f"{segment.path}: a passage has more tokens than bytes.")
        if not (np.isfinite(self.errors).all() and self.errors.min(initial=0) >= 0):
            raise IndexCorruptError(f"{segment.path}: an error of codes is no length.")
        if len(self.cells) and int(self.cells.max()) >= len(codebook.cells):
            raise IndexCorruptError(f"{segment.path}: a passage names a cell there is not.")
        self.blocks: list[Block] = []
        for b in range(count):
            first = b * BLOCK_PASSAGES
            last = min(first + BLOCK_PASSAGES, segment.passages)
            start = ends[b * known - 1] if b else 0
            offsets = np.concatenate([[start], ends[b * known : (b + 1) * known]])
            self.blocks.append(
                block(
                    codebook.coding,
                    offsets.astype(np.int64),
                    postings,
                    self.cell_offsets[first : last + 1],
                    self.cells,
                    self.token_offsets[first : last + 1],
                    self.codes,
                    self.code_offsets[first : last + 1],
                )
            )

    def rows(self, passage: int, codebook: Codebook) -> NDArray[np.int8]:
        """Rows [T, W] of one passage. Raises IndexCorruptError where they cannot be read."""
        block, n = divmod(passage, BLOCK_PASSAGES)
        count = int(self.token_offsets[passage + 1] - self.token_offsets[passage])
        try:
            return stages.decode(codebook.coding, self.blocks[block], n, count)
        except ValueError as error:
            where = self.segment.path / "codes.bin"
            raise IndexCorruptError(f"{where}: of passage {passage}: {error}.") from error

    def check(self, codebook: Codebook) -> None:
        """Read every passage, and hold postings to its cells. Raises IndexCorruptError."""
        known = len(self.segment.map("posting_ends")) // max(len(self.blocks), 1)
        ends, postings = self.segment.map("posting_ends"), self.segment.map("postings")
        for b, (own_ends, own) in enumerate(posted(self.cell_offsets, self.cells, known)):
            there = ends[b * known : (b + 1) * known]
            if not np.array_equal(there, own_ends):
                raise self._unlike("posting_ends")
            if not np.array_equal(postings[int(there[-1]) - len(own) : int(there[-1])], own):
                raise self._unlike("postings")
        for n in range(self.segment.passages):
            self.rows(n, codebook)

    def _unlike(self, name: str) -> IndexCorruptError:
        file = self.segment.path / f"{name}.bin"
        return IndexCorruptError(f"{file}: not what the cells of passages give.")


_OPENED: WeakKeyDictionary[Segment, CodedSegment] = WeakKeyDictionary()


def open_coded(segment: Segment, codebook: Codebook) -> CodedSegment:
    """Open a coded segment; a commit keeps most of them, so they are remembered."""
    if segment not in _OPENED:
        _OPENED[segment] = CodedSegment(segment, codebook)
    return _OPENED[segment]


def passage_mask(segment: Segment, alive: Mask | None) -> Mask | None:
    """Which passages count, from which documents do."""
    return None if alive is None else np.repeat(alive, np.diff(segment.passage_offsets))
