"""The search of an ivf index, stage by stage, over coded segments and vectors beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tokret import kernels
from tokret.errors import IndexCorruptError, InputError, UsageError
from tokret.indexes.base import Certificate, Request
from tokret.indexes.codebook import Codebook
from tokret.indexes.coded import BLOCK_PASSAGES, KIND, CodedSegment, open_coded, passage_mask
from tokret.indexes.effort import COMPARED, Effort, Target, choose, settings_of
from tokret.indexes.exact import stored_tokens
from tokret.indexes.segment import Segment
from tokret.indexes.store import Snapshot
from tokret.kernels import stages
from tokret.scoring import MaxSim, Part, Scorer, Xtr
from tokret.scoring.base import no_candidates, take
from tokret.types import Floats, Ints, Mask

if TYPE_CHECKING:
    from tokret.indexes.ivf import Ivf

SCANNED = 4  # of a filter's passages for each that may be read: so many are all compared
WIDER = 4  # times as many cells where the nearest hold too few documents
ROUNDING = 1e-5  # of the greatest similarity: more than sums in float32 lose
RESCORED = 12  # passages scored by stored vectors, beside five for each four documents wanted
FLOORS = ("kth", "kth*gamma", "zero", "const")  # imputations that need no other similarity

_READ: WeakKeyDictionary[Segment, Codebook] = WeakKeyDictionary()  # a commit keeps it


def codebook_of(snapshot: Snapshot) -> Codebook | None:
    """The codebook of a version, or None where nothing is coded yet."""
    segment = snapshot.derived
    if segment is None:
        return None
    if segment not in _READ:
        _READ[segment] = Codebook.read(segment)
    book, encoder = _READ[segment], snapshot.manifest.encoder
    if encoder is not None and len(book.rotation) != encoder.dim:
        raise IndexCorruptError(
            f"{segment.path}: a codebook of vectors of width {len(book.rotation)}, in an index of "
            f"{encoder.dim}."
        )
    return book


class Ranked(NamedTuple):
    """Passages [C] whose codes were read, in that order, with their similarities [C, Q]."""

    passages: Ints
    sims: Floats
    expected: Floats
    missing: Floats  # [Q]: no passage that was not probed has a token nearer than about this


class IvfSearcher:
    """Coded segments, and segments of vectors that wait to be coded."""

    def __init__(self, backend: Ivf, snapshot: Snapshot, book: Codebook | None = None) -> None:
        self._backend = backend
        book = book or codebook_of(snapshot)
        self._first = np.cumsum([0, *(s.passages for s in snapshot.segments)])
        self._coded: list[tuple[int, CodedSegment, Mask | None]] = []
        self._plain: list[tuple[int, Part]] = []
        self._segments = snapshot.segments
        self._unit = snapshot.manifest.settings.normalize  # no vector is longer than 1
        self._doc_of: Ints | None = None  # of each passage; None where it is the passage
        if any(s.passages != s.documents for s in snapshot.segments):
            counts = [np.diff(segment.passage_offsets) for segment in snapshot.segments]
            every = np.concatenate(counts)
            self._doc_of = np.repeat(np.arange(len(every)), every)
        self._stored: list[Part | None] = []
        for s, entry in enumerate(snapshot.manifest.segments):
            segment = snapshot.segments[s]
            alive = passage_mask(segment, snapshot.alive[s])
            stored = "vectors" in segment.columns
            self._stored.append(Part(stored_tokens(segment), alive) if stored else None)
            if entry.kind != KIND:
                self._plain.append((s, Part(stored_tokens(segment), alive)))
            elif book is None:
                raise IndexCorruptError(f"{segment.path}: coded, but the index has no codebook.")
            else:
                self._coded.append((s, open_coded(segment, book), alive))
        self._book = book
        self._settings = settings_of(book.facts) if book else []
        self.seconds: dict[str, float] = {}

    # -- the answer -------------------------------------------------------------------------

    def rank(self, request: Request, scorer: Scorer | None, threads: int) -> tuple[Ints, Floats]:
        """Passages that may be among the best [C], rising, and their scores [C].

        MaxSim by codes, or by stored vectors of the best; with the scorer ``xtr``, the mean
        of the same similarities, none below its k_prime-th. ``exact`` compares every stored
        vector. Raises UsageError where that, or the scorer, cannot be had.
        """
        query = request.vectors
        if query is None:
            raise UsageError("This index is searched by token vectors; give a text or an array.")
        if len(query) == 0 or not self._segments:
            return no_candidates()
        self._check_width(query)
        target = request.target.checked()
        if target.exact:
            return self._exact(query, scorer, request.allowed, threads)
        if not self._coded or not _by_codes(scorer):
            return self._exact(query, scorer, request.allowed, threads)
        ranked = self.search(query, request, self.effort(target), threads)
        if isinstance(scorer, Xtr):
            found = [self._xtr(query, ranked, scorer, request, threads)]
        else:
            found = [
                self._score_plain(query, request.allowed, threads),
                (ranked.passages, self.scores(query, ranked, request.k, threads)),
            ]
        passages = np.concatenate([passages for passages, _ in found])
        scores = np.concatenate([scores for _, scores in found])
        if isinstance(scorer, MaxSim) and scorer.mean:
            scores = (scores / len(query)).astype(np.float32)
        order = np.argsort(passages, kind="stable")
        return passages[order], scores[order]

    def certify(self, request: Request, passages: Ints, scores: Floats) -> Certificate:
        """How far MaxSim of ranked passages [C], and of all others, may lie from what was found.

        A code lies no farther from its vector than the passage's error says; a passage whose
        codes were not read may score as high as its longest vector lets it.
        """
        query = request.vectors
        slack = np.zeros(len(passages))
        if query is None or not self._coded or request.target.exact:
            return Certificate(slack, -np.inf)
        book = self._codebook
        lengths = np.sqrt(np.square(query.astype(np.float64)).sum(axis=1))
        codes, scales = book.query(query)
        turned = query.astype(np.float64) @ book.inverse
        rounding = np.linalg.norm(turned - codes * scales[:, None].astype(np.float64), axis=1).sum()
        row = 127 * float(np.sqrt(book.inverse.shape[1]))
        longest = float("inf")
        if self._unit:
            longest = max(book.reach, 1 + 1e-3)  # of a unit vector in float16 or int8
            row = min(row, replace(book, reach=longest).longest_row)
        lost = ROUNDING * lengths.sum() * max(book.reach, 1.0)
        owners = np.searchsorted(self._first, passages, side="right") - 1
        for s, coded, _ in self._coded:
            mine = owners == s
            errors = coded.errors[passages[mine] - int(self._first[s])]
            slack[mine] = errors * lengths.sum() + rounding * row + lost
        best = np.argsort(-scores, kind="stable")[: 5 * request.k // 4 + RESCORED]
        for s, _, _ in self._coded:
            part, mine = self._stored[s], best[owners[best] == s]
            if part is not None and len(mine):
                some = take(part.tokens, passages[mine] - int(self._first[s]))
                true = kernels.maxsim(query, some).astype(np.float64)
                slack[mine] = np.abs(scores[mine] - true)
        if len(passages) == self._scorable(request.allowed):
            return Certificate(slack, -np.inf)
        return Certificate(slack, float(lengths.sum()) * longest)

    def _scorable(self, allowed: Mask | None) -> int:
        """How many passages a search of everything would score."""
        plain = 0
        for s, part in self._plain:
            first, last = self._first[s : s + 2]
            some = part if allowed is None else part.only(allowed[first:last])
            plain += len(some.scorable())
        return plain + len(self._all_of(allowed)[0])

    def effort(self, target: Target) -> Effort:
        """What the target, or the options of searching, come to."""
        backend = self._backend
        chosen = choose(self._settings, target, backend.recall).effort
        return Effort(
            backend.nprobe or chosen.nprobe,
            backend.candidates or chosen.candidates,
            backend.margin or chosen.margin,
        )

    def _exact(
        self, query: Floats, scorer: Scorer | None, allowed: Mask | None, threads: int
    ) -> tuple[Ints, Floats]:
        parts = []
        for s, part in enumerate(self._stored):
            if part is None:
                raise UsageError(
                    "This index keeps codes alone: exact search, and scorers other than maxsim "
                    "and xtr with impute 'kth', need the vectors. Build it with "
                    "--backend 'ivf(store=\"int8\")'."
                )
            first, last = self._first[s : s + 2]
            parts.append(part if allowed is None else part.only(allowed[first:last]))
        return (scorer or MaxSim()).score(query, parts, threads=threads)

    def scores(self, query: Floats, ranked: Ranked, k: int, threads: int = 1) -> Floats:
        """Sums of similarities [C]; those of the best by stored vectors, where there are any."""
        scores: Floats = ranked.sims.astype(np.float64).sum(axis=1).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[: 5 * k // 4 + RESCORED]
        owners = np.searchsorted(self._first, ranked.passages[order], side="right") - 1
        for s in np.unique(owners).tolist():
            part = self._stored[s]
            if part is None:
                continue
            mine = order[owners == s]
            some = take(part.tokens, ranked.passages[mine] - int(self._first[s]))
            scores[mine] = kernels.maxsim(query, some, threads=threads)
        return scores

    def _xtr(
        self, query: Floats, ranked: Ranked, scorer: Xtr, request: Request, threads: int
    ) -> tuple[Ints, Floats]:
        """Mean of similarities, with the k_prime-th for those that are below it."""
        passages, sims = [ranked.passages], [ranked.sims]
        for s, part in self._plain:
            first, last = self._first[s : s + 2]
            some = part if request.allowed is None else part.only(request.allowed[first:last])
            chosen = some.scorable()
            sims.append(similarities_by_token(query, some, chosen, threads))
            passages.append(first + chosen)
        floor = self._floor(query, scorer.k_prime)
        every = np.concatenate(sims).astype(np.float64)
        missing = {"kth": floor, "kth*gamma": floor * scorer.gamma}.get(
            scorer.impute, np.full(len(query), scorer.const if scorer.impute == "const" else 0.0)
        )
        present = every >= floor
        filled = np.where(present, every, missing)
        found = present.any(axis=1)
        scores = filled.mean(axis=1).astype(np.float32)
        return np.concatenate(passages)[found], scores[found]

    def _floor(self, query: Floats, k_prime: int) -> NDArray[np.float64]:
        """About the k_prime-th similarity of each query token [Q].

        As WARP does: that of the cell at which so many have been seen, nearest cells first.
        """
        book = self._codebook
        codes, scales = book.query(query)
        sizes = self._cell_sizes()
        cells = min(len(sizes), max(64, 4 * k_prime * len(sizes) // max(int(sizes.sum()), 1)))
        scored = stages.score_cells(book.coding, codes, scales, cells, self._reach(query))
        seen = sizes[scored.nearest].cumsum(axis=1)
        at = np.minimum((seen < k_prime).sum(axis=1), scored.sims.shape[1] - 1)
        floor: NDArray[np.float64] = scored.sims[np.arange(len(query)), at].astype(np.float64)
        return floor

    def _cell_sizes(self) -> Ints:
        """How many passages each cell holds, in all segments."""
        sizes = np.zeros(len(self._codebook.cells), np.int64)
        for _, coded, _ in self._coded:
            np.add.at(sizes, np.asarray(coded.cells), 1)
        return sizes

    def _reach(self, query: Floats) -> float:
        longest = float(np.sqrt(np.square(query).sum(axis=1)).max(initial=0.0))
        return longest * self._codebook.reach

    @property
    def _codebook(self) -> Codebook:
        if self._book is None:
            raise IndexCorruptError(f"{self._segments[0].path}: the index has no codebook.")
        return self._book

    def _check_width(self, query: Floats) -> None:
        width = self._book.rotation.shape[0] if self._book else self._plain[0][1].tokens.width
        if query.shape[1] != width:
            raise InputError(
                f"The query has vectors of width {query.shape[1]}, the index of {width}; encode "
                "it with the index's own model."
            )

    def _score_plain(
        self, query: Floats, allowed: Mask | None, threads: int
    ) -> tuple[Ints, Floats]:
        passages, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for s, part in self._plain:
            first, last = self._first[s : s + 2]
            some = part if allowed is None else part.only(allowed[first:last])
            found, sums = MaxSim().score(query, [some], threads=threads)
            passages.append(first + found)
            scores.append(sums)
        return np.concatenate(passages), np.concatenate(scores)

    def _blocks(self, allowed: Mask | None) -> Iterator[tuple[stages.Block, int, Mask | None]]:
        """Every block, its first passage, and which of its passages may be found."""
        for s, coded, alive in self._coded:
            first = int(self._first[s])
            mask = alive
            if allowed is not None:
                ours = allowed[first : first + coded.segment.passages]
                mask = ours if alive is None else ours & alive
            for b, block in enumerate(coded.blocks):
                at = b * BLOCK_PASSAGES
                some = (
                    None if mask is None else np.ascontiguousarray(mask[at : at + block.passages])
                )
                yield block, first + at, some

    def search(self, query: Floats, request: Request, effort: Effort, threads: int) -> Ranked:
        """All stages: passages of coded segments whose codes were read."""
        book = self._codebook
        coding = book.coding
        with self._timed("cells"):
            codes, scales = book.query(query)
        blocks = list(self._blocks(request.allowed))
        scored, owners, passages = self._gather(query, codes, scales, blocks, request, effort)
        missing = np.ascontiguousarray(scored.sims[:, -1])
        if not len(passages):
            none = np.empty(0, np.float32)
            return Ranked(
                np.empty(0, np.int64), np.empty((0, len(query)), np.float32), none, missing
            )
        firsts = np.array([first for _, first, _ in blocks])
        with self._timed("compare"):
            expected = np.concatenate(
                [
                    stages.interact(coding, block, scored, len(query), passages[owners == b])
                    for b, (block, _, _) in enumerate(blocks)
                ]
            )
            order = np.argsort(-expected, kind="stable")
            keep = self._first_of(firsts[owners[order]] + passages[order], request.k)
            order = order[: max(effort.candidates, keep)]
            owners, passages = owners[order].astype(np.int64), passages[order]
        with self._timed("refine"):
            try:
                sims = stages.refine(
                    coding,
                    [block for block, _, _ in blocks],
                    codes,
                    scales,
                    owners,
                    passages,
                    np.ascontiguousarray(expected[order]),
                    keep,
                    effort.margin * len(query),
                    threads,
                )
            except ValueError as error:
                raise IndexCorruptError(
                    f"{self._segments[0].path.parent}: {error}; run `tokret verify` on the index."
                ) from error
            found = firsts[owners[: len(sims)]] + passages[: len(sims)]
        return Ranked(found, sims, expected[order][: len(sims)], missing)

    def _gather(
        self,
        query: Floats,
        codes: NDArray[np.int8],
        scales: Floats,
        blocks: list[tuple[stages.Block, int, Mask | None]],
        request: Request,
        effort: Effort,
    ) -> tuple[stages.CellScores, Ints, Ints]:
        """Cells scored, and passages worth comparing: blocks [C], and numbers there [C].

        All that a filter allows, where they are few; else those of the nearest cells, of as
        many as it takes to find ``k`` documents.
        """
        coding = self._codebook.coding
        cells, reach = len(coding.centroids), self._reach(query)
        nprobe, compared = effort.nprobe, max(effort.compared, COMPARED * request.k)
        firsts = np.array([first for _, first, _ in blocks])
        few = None
        if request.allowed is not None:
            with self._timed("probe"):
                held = self._all_of(request.allowed)
            few = held if len(held[0]) <= SCANNED * effort.candidates else None
        while True:
            with self._timed("cells"):
                scored = stages.score_cells(coding, codes, scales, nprobe, reach)
            if few is not None:
                return scored, *few
            with self._timed("probe"):
                missing = np.ascontiguousarray(scored.sims[:, -1])
                gathered = [
                    stages.probe(coding, block, scored, missing, mask, compared)
                    for block, _, mask in blocks
                ]
                owners = np.repeat(np.arange(len(blocks)), [len(found) for found, _ in gathered])
                passages = np.concatenate([found for found, _ in gathered])
                if len(passages) > compared:
                    gains = np.concatenate([gain for _, gain in gathered])
                    best = np.sort(np.argsort(-gains, kind="stable")[:compared])
                    owners, passages = owners[best], passages[best]
            if nprobe >= cells and len(passages) < compared:
                return scored, owners, passages
            if self._documents(firsts[owners] + passages) >= request.k:
                return scored, owners, passages
            nprobe, compared = min(WIDER * nprobe, cells), WIDER * compared

    def _documents(self, passages: Ints) -> int:
        """How many documents passages [C] are of."""
        return len(passages if self._doc_of is None else np.unique(self._doc_of[passages]))

    def _first_of(self, passages: Ints, k: int) -> int:
        """How many of the first passages [C] hold ``k`` documents; all where there are less."""
        if self._doc_of is None:
            return min(k, len(passages))
        firsts = np.sort(np.unique(self._doc_of[passages], return_index=True)[1])
        return int(firsts[k - 1]) + 1 if k <= len(firsts) else len(passages)

    def _all_of(self, allowed: Mask | None) -> tuple[Ints, Ints]:
        """Passages that may be found and have tokens: their blocks [C], and numbers there [C]."""
        owners, passages = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        before = 0
        for s, coded, alive in self._coded:
            full = np.diff(coded.token_offsets) > 0
            if alive is not None:
                full &= alive
            if allowed is not None:
                full &= allowed[int(self._first[s]) : int(self._first[s + 1])]
            block, place = np.divmod(np.flatnonzero(full), BLOCK_PASSAGES)
            owners.append(before + block)
            passages.append(place)
            before += len(coded.blocks)
        return np.concatenate(owners), np.concatenate(passages)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def passage_tokens(self, passage: int) -> Floats:
        """Vectors of one passage, stored or decoded, in float32 [T, H]."""
        s = int(np.searchsorted(self._first, passage, side="right")) - 1
        place = passage - int(self._first[s])
        segment = self._segments[s]
        if "vectors" in segment.columns:
            return stored_tokens(segment)[place]
        book = self._codebook
        return book.vectors(open_coded(segment, book).rows(place, book))

    def check(self) -> None:
        """Read every code, and hold postings to the cells that they list."""
        for _, coded, _ in self._coded:
            coded.check(self._codebook)


def _by_codes(scorer: Scorer | None) -> bool:
    """Whether the scores of codes are those of the scorer."""
    if isinstance(scorer, Xtr):
        return scorer.impute in FLOORS
    return scorer is None or isinstance(scorer, MaxSim)


def similarities_by_token(query: Floats, part: Part, passages: Ints, threads: int) -> Floats:
    """Best similarity of each query token in chosen passages [C, Q]."""
    chosen = take(part.tokens, passages)
    columns = [kernels.maxsim(row[None], chosen, threads=threads) for row in query]
    return np.stack(columns, axis=1) if columns else np.empty((len(passages), 0), np.float32)
