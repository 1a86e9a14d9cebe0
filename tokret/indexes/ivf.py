"""Tokens in cells and codes: the engine for more tokens than are worth scoring one by one.

Paper   The stages are those of PLAID (Santhanam et al., arXiv:2205.09707) and WARP (Scheerer
        et al., arXiv:2501.17788); imputation is XTR's (arXiv:2304.01982).
Does    Keeps what is added as vectors, searched by brute force, until there are BRUTE_TOKENS
        of them; then trains a codebook once and codes them, and what comes later when there
        is enough of it again. A search scores the cells, gathers passages from the nearest,
        compares these by their cells, and reads the codes of the best.
Costs   About ``bits`` / 8 bytes a dimension and token, 4 bytes for each different cell of a
        passage, and the vectors if ``store`` keeps them. A build keeps them until it is done.
Departs No stage scores by centroids alone or by imputation alone in the end: the first hits
        are ordered by the MaxSim of their codes, or of stored vectors.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tokret import kernels
from tokret.errors import UsageError
from tokret.indexes import codebook as codebooks
from tokret.indexes.base import ALONE, Terms, backends
from tokret.indexes.calibrate import (
    Query,
    Truth,
    given_queries,
    measured,
    pseudo_queries,
    scanning,
)
from tokret.indexes.codebook import Codebook, train
from tokret.indexes.coded import KIND, add_postings, write_coded
from tokret.indexes.effort import calibration_of
from tokret.indexes.exact import Exact, stored_tokens
from tokret.indexes.files import Array
from tokret.indexes.ivf_search import IvfSearcher, codebook_of, rescored
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.merge import Source, sources
from tokret.indexes.segment import Layout, SegmentWriter
from tokret.indexes.store import Store
from tokret.indexes.tune import SEARCHING
from tokret.registry import Spec
from tokret.types import Dtype, Floats, Ints, Mask, Match, Tokens

BRUTE_TOKENS = 50_000  # up to which vectors are not worth coding


@backends.register("ivf")
@dataclass(frozen=True)
class Ivf(Spec):
    """Cells and codes of ``bits`` a dimension; ``store`` keeps vectors beside them.

    ``cells`` 0 chooses their number by the tokens there are. Of searching: ``recall`` of the
    exact best that is aimed at, by what was measured at the build; or, for experts, ``nprobe``
    cells for each query token (0: by recall), ``candidates`` whose codes are read at most, and
    ``margin`` of the score within which they are.
    """

    bits: float = 2.31
    store: Literal["none", "int8", "fp16", "fp32"] = "none"
    cells: int = 0
    seed: int = 0
    memory: int = 1 << 30
    recall: float = field(default=0.97, metadata=SEARCHING)
    nprobe: int = field(default=0, metadata=SEARCHING)
    candidates: int = field(default=0, metadata=SEARCHING)
    margin: float = field(default=0.0, metadata=SEARCHING)

    kind = "tokens"
    encodes = True

    def __post_init__(self) -> None:
        if not 0.5 <= self.bits <= 4:
            raise UsageError(
                f"ivf: bits a dimension must be from 0.5 to 4, got {self.bits}; for more, "
                "keep vectors by store='int8'."
            )
        if self.store not in ("none", "int8", "fp16", "fp32"):
            raise UsageError(
                f"ivf: store must be 'none', 'int8', 'fp16' or 'fp32', got {self.store!r}."
            )
        if self.cells and not 16 <= self.cells <= 1 << 16:
            raise UsageError(f"ivf: cells must be 16 to 65,536, or 0, got {self.cells}.")
        if not 0 < self.recall <= 1:
            raise UsageError(f"ivf: recall must be above 0 and at most 1, got {self.recall}.")
        if min(self.nprobe, self.candidates, self.seed, self.margin, self.memory - (1 << 24)) < 0:
            raise UsageError(f"{self} holds a negative number, or less than 16 MiB of memory.")

    @property
    def dtype(self) -> Dtype:
        """How vectors are kept that are not coded yet, or that are stored."""
        return "fp16" if self.store == "none" else self.store

    def layout(self, width: int) -> Layout:
        """The vectors, as ``exact`` keeps them."""
        return Exact(self.dtype).layout(width)

    def columns(self, tokens: Tokens) -> dict[str, Array]:
        """The batch in the stored type. Raises InputError where fp16 overflows."""
        return Exact(self.dtype).columns(tokens)

    def finish(self, writer: SegmentWriter) -> None:
        """Postings of a coded segment, which its passages' cells give."""
        if writer.kind == KIND:
            cells = writer.map("cells")
            add_postings(writer, int(cells.max()) + 1 if len(cells) else 1)

    def matches(self, query: str, text: str) -> list[Match]:
        """Matches are between vectors here."""
        return []

    def searcher(self, snapshot: object) -> IvfSearcher:
        """Map codes and vectors; offsets and postings' ends are read."""
        return IvfSearcher(self, snapshot)  # type: ignore[arg-type]

    def settle(self, store: Store, draft: Manifest, terms: Terms = ALONE) -> Manifest:
        """Code the vectors that wait, where there are enough; measure what searches bring.

        The latter once, of vectors, when the codebook is made; and, where ``terms`` ask to
        renew it and the index has grown a lot since, of what is stored.
        """
        snapshot = store.snapshot(draft)
        every = sources(snapshot)
        waiting = [(i, s) for i, s in enumerate(every) if s.kind != KIND and s.documents]
        before = book = codebook_of(snapshot)
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        if sum(live_tokens(source) for _, source in waiting) >= max(BRUTE_TOKENS, 1):
            if kernels.NATIVE:
                given = [source for _, source in waiting]
                book = self._book_for(given, book, threads, terms)
                draft = self._coded(store, draft, waiting, book, threads, terms)
                if before is None and all(entry.kind == KIND for entry in draft.segments):
                    truth = truth_of_vectors(given, threads)
                    offsets, take = live_passages(given)
                    asked = pseudo_queries(take, offsets, self.seed)
                    book = self._calibrated(book, store, draft, terms, asked, truth)
            else:
                warnings.warn(
                    "Vectors are kept as they are and searched by brute force: coding them needs "
                    "tokret's compiled kernels (`tokret doctor` says how to get them).",
                    stacklevel=2,
                )
        if book is None:
            if terms.queries:
                warnings.warn(
                    f"Queries to measure with are of use from {BRUTE_TOKENS:,} tokens on; so few "
                    "are searched whole.",
                    stacklevel=2,
                )
            return draft
        if book is before and terms.renew and stale(book, draft, store):
            searcher = IvfSearcher(self, store.snapshot(replace(draft, derived=None)), book)
            asked, truth = searcher.measuring(self.seed, threads)
            book = self._calibrated(book, store, draft, terms, asked, truth)
        return draft if book is before else replace(draft, derived=write_codebook(store, book))

    def _book_for(
        self, given: list[Source], book: Codebook | None, threads: int, terms: Terms
    ) -> Codebook:
        """A codebook for the live passages of segments of vectors: new, or grown if it must."""
        offsets, take = live_passages(given)
        memory = (terms.memory or self.memory) // 4
        if book is not None:
            return book.grown(offsets, take, seed=self.seed, threads=threads, memory=memory)
        return train(
            offsets,
            take,
            bits=self.bits,
            cells=self.cells or None,
            seed=self.seed,
            threads=threads,
            memory=memory,
            report=terms.report,
        )

    def _coded(
        self,
        store: Store,
        draft: Manifest,
        waiting: list[tuple[int, Source]],
        book: Codebook,
        threads: int,
        terms: Terms,
    ) -> Manifest:
        """The version with codes in place of the vectors that wait."""
        entries: list[Entry | None] = list(draft.segments)
        total, done = sum(source.segment.tokens for _, source in waiting), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if terms.report is not None:
                terms.report("code", done, total)

        for i, source in waiting:
            keep = self.store != "none"
            entries[i] = write_coded(store, source, book, keep, threads, advance)
        return replace(draft, segments=tuple(entry for entry in entries if entry is not None))

    def _calibrated(
        self,
        book: Codebook,
        store: Store,
        draft: Manifest,
        terms: Terms,
        asked: list[Query],
        truth: Truth,
    ) -> Codebook:
        """The codebook with what efforts were measured to bring on this very collection.

        Of codes alone, when it is done again, no more than codes were measured to find at first.
        """
        searcher = IvfSearcher(self, store.snapshot(replace(draft, derived=None)), book)
        scan, old = searcher.scan, calibration_of(book.facts)
        if scan is None:
            return book
        if terms.queries:
            asked = given_queries(terms.queries)
        found = measured(
            asked,
            truth,
            scanning(scan),
            tokens=coded_tokens(draft, store),
            given=bool(terms.queries),
            rescored=rescored if self.store != "none" else None,
            ceilings=old.ceilings if old and self.store == "none" else None,
            report=lambda done, total: terms.report and terms.report("calibrate", done, total),
        )
        return replace(book, facts={**book.facts, "calibration": found.facts()})


def coded_tokens(draft: Manifest, store: Store) -> int:
    """Tokens of all coded segments of a version, deleted ones counted."""
    return sum(store.segment(entry).tokens for entry in draft.segments if entry.kind == KIND)


def stale(book: Codebook, draft: Manifest, store: Store) -> bool:
    """Whether the index was measured never, or when it was much smaller."""
    there, found = coded_tokens(draft, store), calibration_of(book.facts)
    return there > 0 and (found is None or found.stale(there))


def truth_of_vectors(given: list[Source], threads: int) -> Truth:
    """MaxSim of the live passages of segments of vectors, one after another."""
    masks = [live_mask(source) for source in given]

    def truth(query: Floats) -> Floats:
        return np.concatenate(
            [
                kernels.maxsim(query, stored_tokens(source.segment), threads=threads)[mask]
                for source, mask in zip(given, masks, strict=True)
            ]
        )

    return truth


def write_codebook(store: Store, book: Codebook) -> Entry:
    """Write a codebook as the segment that all coded segments share."""
    writer = SegmentWriter(store.new_segment_path(), "codebook", codebooks.LAYOUT)
    try:
        book.write(writer)
        return Entry.from_dict(writer.seal(), writer.path.name)
    except BaseException:
        writer.discard()
        raise


def live_tokens(source: Source) -> int:
    """How many tokens the documents of a segment of vectors have that count."""
    return int(np.diff(source.segment.token_offsets)[live_mask(source)].sum())


def live_mask(source: Source) -> Mask:
    """Passages of a segment whose documents count [N]."""
    if source.alive is None:
        return np.ones(source.segment.passages, np.bool_)
    return np.repeat(source.alive, np.diff(source.segment.passage_offsets))


def live_passages(given: list[Source]) -> tuple[Ints, Callable[[Ints], Tokens]]:
    """Token offsets of the live passages of segments of vectors, and how to read them."""
    held = [stored_tokens(source.segment) for source in given]
    passages = [np.flatnonzero(live_mask(source)) for source in given]
    owners = np.repeat(np.arange(len(given)), [len(mine) for mine in passages])
    where = np.concatenate(passages)
    lengths = np.concatenate(
        [np.diff(tokens.offsets)[mine] for tokens, mine in zip(held, passages, strict=True)]
    )

    def take(numbers: Ints) -> Tokens:
        parts = [
            held[s].gather(where[numbers][owners[numbers] == s])
            for s in np.unique(owners[numbers]).tolist()
        ]
        ends = np.concatenate([np.diff(part.offsets) for part in parts]).cumsum()
        vectors = np.concatenate([part.vectors for part in parts])
        return Tokens(vectors, np.concatenate([[0], ends]).astype(np.int64))

    return np.concatenate([[0], lengths.cumsum()]).astype(np.int64), take
