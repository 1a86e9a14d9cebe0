"""Coded segments of one version, searched stage by stage: by cells, then by codes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.errors import IndexCorruptError
from tokret.indexes.base import Request
from tokret.indexes.codebook import Codebook
from tokret.indexes.coded import CodedSegment
from tokret.indexes.effort import COMPARED, Effort, Work
from tokret.kernels import stages
from tokret.types import Floats, Ints, Mask

SCANNED = 4  # of a filter's passages for each that may be read: so many are all compared
WIDER = 4  # times as many cells where the nearest hold too few documents


class Asked(NamedTuple):
    """A query [Q, H], its codes [Q, W] and their scales [Q]."""

    vectors: Floats
    codes: NDArray[np.int8]
    scales: Floats


class Candidates(NamedTuple):
    """Passages [C] compared by their cells, and what is expected of them, falling."""

    passages: Ints
    expected: Floats
    scored: stages.CellScores


class Ranked(NamedTuple):
    """Passages [C] whose codes were read, in that order, with their similarities [C, Q]."""

    passages: Ints
    sims: Floats
    expected: Floats
    missing: Floats  # [Q]: no passage that was not probed has a token nearer than about this


class Scan:
    """Coded segments: the first passage of each, it, and which of its passages count.

    ``doc_of`` [N] is the document of every passage of the index; None where it is the passage.
    """

    def __init__(
        self,
        book: Codebook,
        coded: Sequence[tuple[int, CodedSegment, Mask | None]],
        doc_of: Ints | None,
    ) -> None:
        self.book = book
        self.coded = coded
        self._doc_of = doc_of
        self.blocks = [block for _, segment, _ in coded for block in segment.blocks]
        firsts = [
            first + np.cumsum([0, *(block.passages for block in segment.blocks[:-1])])
            for first, segment, _ in coded
        ]
        self.firsts = np.concatenate([np.empty(0, np.int64), *firsts]).astype(np.int64)
        self.seconds: dict[str, float] = {}  # of each stage, added up

    def search(self, query: Floats, request: Request, effort: Effort, threads: int) -> Ranked:
        """All stages: passages whose codes were read."""
        asked = self.ask(query)
        found = self.gather(asked, request, effort)
        keep = self._first_of(found.passages, request.k)
        most = max(effort.candidates, keep)
        passages, expected = found.passages[:most], found.expected[:most]
        sims = self.read(asked, passages, expected, keep, effort.margin, threads)
        count = len(sims)
        missing = np.ascontiguousarray(found.scored.sims[:, -1])
        return Ranked(passages[:count], sims, expected[:count], missing)

    def ask(self, query: Floats) -> Asked:
        """Bring a query [Q, H] to the space of the codes."""
        with self._timed("cells"):
            return Asked(query, *self.book.query(query))

    def gather(self, asked: Asked, request: Request, effort: Effort) -> Candidates:
        """Passages worth reading, the best expected first.

        All that a filter allows, where they are few; else those of the nearest cells, of as
        many as it takes to find ``k`` documents.
        """
        scored, owners, passages = self._probed(asked, request, effort)
        with self._timed("compare"):
            expected = [np.empty(0, np.float32)]
            for b, block in enumerate(self.blocks):
                mine = passages[owners == b]
                if len(mine):
                    tokens = len(asked.codes)
                    expected.append(stages.interact(self.book.coding, block, scored, tokens, mine))
            sums = np.concatenate(expected)
            order = np.argsort(-sums, kind="stable")
            return Candidates((self.firsts[owners] + passages)[order], sums[order], scored)

    def read(
        self,
        asked: Asked,
        passages: Ints,
        expected: Floats,
        keep: int,
        margin: float,
        threads: int,
    ) -> Floats:
        """Best similarities [n, Q] of the first n passages, from their codes.

        Reading ends where what is ``expected`` [C], falling, is more than ``margin`` a query
        token below the ``keep``-th best found. Raises IndexCorruptError for codes of none.
        """
        if not len(passages):
            return np.empty((0, len(asked.codes)), np.float32)
        owners, numbers = self._placed(passages)
        with self._timed("refine"):
            try:
                return stages.refine(
                    self.book.coding,
                    self.blocks,
                    asked.codes,
                    asked.scales,
                    owners,
                    numbers,
                    np.ascontiguousarray(expected),
                    keep,
                    margin * len(asked.codes),
                    threads,
                )
            except ValueError as error:
                raise self._damaged(error) from error

    def sizes(self, passages: Ints) -> tuple[Ints, Ints]:
        """How many tokens, and how many different cells, passages [C] have."""
        tokens, cells = np.zeros(len(passages), np.int64), np.zeros(len(passages), np.int64)
        for first, segment, _ in self.coded:
            mine = (passages >= first) & (passages < first + segment.segment.passages)
            at = passages[mine] - first
            tokens[mine] = segment.token_offsets[at + 1] - segment.token_offsets[at]
            cells[mine] = segment.cell_offsets[at + 1] - segment.cell_offsets[at]
        return tokens, cells

    def cells_of(self, passages: Ints) -> Ints:
        """The cells of passages, end to end."""
        found = [np.empty(0, np.int64)]
        for first, segment, _ in self.coded:
            for at in (
                passages[(passages >= first) & (passages < first + segment.segment.passages)]
                - first
            ):
                held = segment.cells[segment.cell_offsets[at] : segment.cell_offsets[at + 1]]
                found.append(held.astype(np.int64))
        return np.concatenate(found)

    def work(self, found: Candidates, counts: Ints) -> list[Work]:
        """What it takes to gather candidates and to read the first ``counts`` of them."""
        tokens, cells = self.sizes(found.passages)
        read = np.concatenate([[0], tokens.cumsum()])
        postings = float(self.cell_sizes[found.scored.nearest].sum())
        before = float(len(found.scored.table)), postings, float(cells.sum())
        return [Work(*before, float(read[count])) for count in counts]

    @cached_property
    def cell_sizes(self) -> Ints:
        """How many passages each cell holds."""
        sizes = np.zeros(len(self.book.cells), np.int64)
        for _, segment, _ in self.coded:
            sizes += np.bincount(segment.cells, minlength=len(sizes))
        return sizes

    def reach(self, query: Floats) -> float:
        """The greatest similarity that a token of a query [Q, H] can have."""
        longest = float(np.sqrt(np.square(query).sum(axis=1)).max(initial=0.0))
        return longest * self.book.reach

    def all_of(self, allowed: Mask | None) -> Ints:
        """Passages that may be found and have tokens."""
        found = [np.empty(0, np.int64)]
        for first, segment, alive in self.coded:
            full = np.diff(segment.token_offsets) > 0
            if alive is not None:
                full &= alive
            if allowed is not None:
                full &= allowed[first : first + len(full)]
            found.append(first + np.flatnonzero(full))
        return np.concatenate(found)

    def _probed(
        self, asked: Asked, request: Request, effort: Effort
    ) -> tuple[stages.CellScores, Ints, Ints]:
        """Cells scored, and passages to compare: their blocks [C], and numbers there [C]."""
        coding = self.book.coding
        cells, reach = len(coding.centroids), self.reach(asked.vectors)
        nprobe, compared = effort.nprobe, max(effort.compared, COMPARED * request.k)
        few = None
        with self._timed("probe"):
            masks = self._masks(request.allowed)
            if request.allowed is not None:
                held = self.all_of(request.allowed)
                few = held if len(held) <= SCANNED * effort.candidates else None
        while True:
            with self._timed("cells"):
                scored = stages.score_cells(coding, asked.codes, asked.scales, nprobe, reach)
            if few is not None:
                return scored, *self._placed(few)
            with self._timed("probe"):
                missing = np.ascontiguousarray(scored.sims[:, -1])
                gathered = [
                    stages.probe(coding, block, scored, missing, mask, compared)
                    for block, mask in zip(self.blocks, masks, strict=True)
                ]
                owners = np.repeat(np.arange(len(gathered)), [len(found) for found, _ in gathered])
                passages = np.concatenate([found for found, _ in gathered])
                if len(passages) > compared:
                    gains = np.concatenate([gain for _, gain in gathered])
                    best = np.sort(np.argsort(-gains, kind="stable")[:compared])
                    owners, passages = owners[best], passages[best]
            if nprobe >= cells and len(passages) < compared:
                return scored, owners, passages
            if self._documents(self.firsts[owners] + passages) >= request.k:
                return scored, owners, passages
            nprobe, compared = min(WIDER * nprobe, cells), WIDER * compared

    def _masks(self, allowed: Mask | None) -> list[Mask | None]:
        """Which passages of each block may be found; None: all."""
        masks: list[Mask | None] = []
        for first, segment, alive in self.coded:
            mask = alive
            if allowed is not None:
                ours = allowed[first : first + segment.segment.passages]
                mask = ours if alive is None else ours & alive
            at = 0
            for block in segment.blocks:
                masks.append(None if mask is None else mask[at : at + block.passages])
                at += block.passages
        return masks

    def _placed(self, passages: Ints) -> tuple[Ints, Ints]:
        """Blocks of passages [C], and their numbers there [C]."""
        owners = np.searchsorted(self.firsts, passages, side="right") - 1
        return owners, passages - self.firsts[owners]

    def _documents(self, passages: Ints) -> int:
        """How many documents passages [C] are of."""
        return len(passages if self._doc_of is None else np.unique(self._doc_of[passages]))

    def _first_of(self, passages: Ints, k: int) -> int:
        """How many of the first passages [C] hold ``k`` documents; all where there are less."""
        if self._doc_of is None:
            return min(k, len(passages))
        firsts = np.sort(np.unique(self._doc_of[passages], return_index=True)[1])
        return int(firsts[k - 1]) + 1 if k <= len(firsts) else len(passages)

    def _damaged(self, error: ValueError) -> IndexCorruptError:
        folder = self.coded[0][1].segment.path.parent
        return IndexCorruptError(f"{folder}: {error}; run `tokret verify` on the index.")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
