"""The search of an ivf index: coded segments, and vectors beside them that wait to be coded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tokret import kernels
from tokret.errors import IndexCorruptError, InputError, UsageError
from tokret.indexes.base import Certificate, Request
from tokret.indexes.calibrate import Query, Truth, pseudo_queries
from tokret.indexes.codebook import Codebook
from tokret.indexes.coded import KIND, CodedSegment, open_coded, passage_mask
from tokret.indexes.effort import Calibration, Effort, Speed, Target, calibration_of, choose
from tokret.indexes.exact import stored_tokens
from tokret.indexes.ivf_bounds import slack_of_codes, widest
from tokret.indexes.ivf_scan import Ranked, Scan
from tokret.indexes.segment import Segment
from tokret.indexes.store import Snapshot
from tokret.kernels import stages
from tokret.scoring import MaxSim, Part, Scorer, Xtr
from tokret.scoring.base import no_candidates, take
from tokret.types import Floats, Ints, Mask, Tokens

if TYPE_CHECKING:
    from tokret.indexes.ivf import Ivf

RESCORED = 12  # passages scored by stored vectors, beside five for each four documents wanted
FLOORS = ("kth", "kth*gamma", "zero", "const")  # imputations that need no other similarity
TIMED = 4  # passages whose tokens are searched for, to see how fast this machine is
TIMED_TOKENS = 24
READ = 1 << 14  # passages read at a time where all are

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


class IvfSearcher:
    """Coded segments, and segments of vectors that wait to be coded."""

    def __init__(self, backend: Ivf, snapshot: Snapshot, book: Codebook | None = None) -> None:
        self._backend = backend
        book = book or codebook_of(snapshot)
        self._first = np.cumsum([0, *(s.passages for s in snapshot.segments)])
        self._plain: list[tuple[int, Part]] = []
        self._segments = snapshot.segments
        self._unit = snapshot.manifest.settings.normalize  # no vector is longer than 1
        self._stored: list[Part | None] = []
        self._book = book
        coded: list[tuple[int, CodedSegment, Mask | None]] = []
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
                coded.append((int(self._first[s]), open_coded(segment, book), alive))
        doc_of = None
        if any(s.passages != s.documents for s in snapshot.segments):
            counts = [np.diff(segment.passage_offsets) for segment in snapshot.segments]
            every = np.concatenate(counts)
            doc_of = np.repeat(np.arange(len(every)), every)
        self.scan = Scan(book, coded, doc_of) if book is not None and coded else None
        self.calibration: Calibration | None = calibration_of(book.facts) if book else None

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
        if target.exact or self.scan is None or not _by_codes(scorer):
            return self._exact(query, scorer, request.allowed, threads)
        ranked = self.scan.search(query, request, self.effort(target, request.k), threads)
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
        if query is None or self.scan is None or request.target.exact:
            return Certificate(np.zeros(len(passages)), -np.inf)
        slack = slack_of_codes(self.scan, query, passages, self._unit)
        best = np.argsort(-scores, kind="stable")[: rescored(request.k)]
        for mine, true in self._by_vectors(query, passages, best, 1):
            slack[mine] = np.abs(scores[mine] - true.astype(np.float64))
        if len(passages) == self._scorable(self.scan, request.allowed):
            return Certificate(slack, -np.inf)
        return Certificate(slack, widest(self.scan.book, query, self._unit))

    def effort(self, target: Target, k: int = 10) -> Effort:
        """What the target, or the options of searching, come to for ``k`` documents."""
        backend = self._backend
        settings = self.calibration.curve(k) if self.calibration else []
        chosen = choose(settings, target, backend.recall, lambda: self.speed).effort
        return Effort(
            backend.nprobe or chosen.nprobe,
            backend.candidates or chosen.candidates,
            backend.margin or chosen.margin,
        )

    @cached_property
    def speed(self) -> Speed:
        """How long work takes here: passages' own tokens, searched with little and with much.

        Measured when it is first asked for, in some tens of milliseconds.
        """
        scan, calibration = self.scan, self.calibration
        if scan is None or calibration is None:
            return Speed(0.0, 0.0)
        every = scan.all_of(None)
        sources = every[np.linspace(0, len(every) - 1, TIMED).astype(int)]
        queries = [self.passage_tokens(int(n))[:TIMED_TOKENS] for n in sources]
        curve = calibration.curve(10)
        points = []
        for effort in (curve[0].effort, curve[-1].effort):
            spent, work = 0.0, 0.0
            for query in queries:
                times = []
                for _ in range(3):
                    start = time.perf_counter()
                    request = Request(None, query, k=10)
                    ranked = scan.search(query, request, effort, 1)
                    self.scores(query, ranked, 10)
                    times.append(time.perf_counter() - start)
                spent += min(times)
                found = scan.gather(scan.ask(query), request, effort)
                count = np.array([len(ranked.passages)])
                work += scan.work(found, count)[0].weighed(scan.book.rotation.shape[1])
            points.append((work / len(queries), 1000 * spent / len(queries)))
        (little, short), (much, long) = points
        unit = max(long - short, 0.0) / (much - little) if much > little else 0.0
        return Speed(max(short - unit * little, 0.0), unit)

    def measuring(self, seed: int, threads: int) -> tuple[list[Query], Truth]:
        """Queries made of passages, and MaxSim of all of them, by vectors or else by codes."""
        scan = self.scan
        if scan is None:
            return [], lambda query: np.empty(0, np.float32)
        live = scan.all_of(None)

        def take_rows(numbers: Ints) -> Tokens:
            return Tokens.of([self.passage_tokens(int(live[n])) for n in numbers])

        def truth(query: Floats) -> Floats:
            every = np.full(int(self._first[-1]), -np.inf, np.float32)
            if all(part is not None for part in self._stored):
                found, scores = self._exact(query, None, None, threads)
                coded = np.isin(found, live)
                every[found[coded]] = scores[coded]
                return every
            for at in range(0, len(live), READ):
                some = live[at : at + READ]
                none = np.zeros(len(some), np.float32)
                sims = scan.read(scan.ask(query), some, none, len(some), np.inf, threads)
                every[some] = sims.astype(np.float64).sum(axis=1)
            return every

        offsets = np.concatenate([[0], scan.sizes(live)[0].cumsum()])
        asked = pseudo_queries(take_rows, offsets, seed)
        return [q._replace(source=int(live[q.source])) for q in asked], truth

    def measurement(self) -> dict[str, Any] | None:
        """Tokens, queries and best recalls of what was measured, and whether the index outgrew it.

        None where vectors alone are searched.
        """
        if self.scan is None:
            return None
        there = sum(segment.segment.tokens for _, segment, _ in self.scan.coded)
        found = self.calibration
        if found is None:
            return {"tokens": 0, "stale": True}
        best = {str(k): round(curve[-1].recall, 4) for k, curve in found.curves.items()}
        asked = "given" if found.given else "made of passages"
        held = {"tokens": found.tokens, "queries": found.queries, "asked": asked, "recall": best}
        return {**held, "stale": found.stale(there)}

    def scores(self, query: Floats, ranked: Ranked, k: int, threads: int = 1) -> Floats:
        """Sums of similarities [C]; those of the best by stored vectors, where there are any."""
        scores: Floats = ranked.sims.astype(np.float64).sum(axis=1).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[: rescored(k)]
        for mine, true in self._by_vectors(query, ranked.passages, best, threads):
            scores[mine] = true
        return scores

    def _by_vectors(
        self, query: Floats, passages: Ints, chosen: Ints, threads: int
    ) -> Iterator[tuple[Ints, Floats]]:
        """Of chosen places in passages [C], by segment: those with stored vectors, and MaxSim."""
        owners = np.searchsorted(self._first, passages[chosen], side="right") - 1
        for s in np.unique(owners).tolist():
            part = self._stored[s]
            if part is not None:
                mine = chosen[owners == s]
                some = take(part.tokens, passages[mine] - int(self._first[s]))
                yield mine, kernels.maxsim(query, some, threads=threads)

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
        scan = self.scan
        if scan is None:
            return np.zeros(len(query))
        asked, sizes = scan.ask(query), scan.cell_sizes
        cells = min(len(sizes), max(64, 4 * k_prime * len(sizes) // max(int(sizes.sum()), 1)))
        reach = scan.reach(query)
        scored = stages.score_cells(scan.book.coding, asked.codes, asked.scales, cells, reach)
        seen = sizes[scored.nearest].cumsum(axis=1)
        at = np.minimum((seen < k_prime).sum(axis=1), scored.sims.shape[1] - 1)
        floor: NDArray[np.float64] = scored.sims[np.arange(len(query)), at].astype(np.float64)
        return floor

    def _scorable(self, scan: Scan, allowed: Mask | None) -> int:
        """How many passages a search of everything would score."""
        plain = 0
        for s, part in self._plain:
            first, last = self._first[s : s + 2]
            some = part if allowed is None else part.only(allowed[first:last])
            plain += len(some.scorable())
        return plain + len(scan.all_of(allowed))

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

    def passage_tokens(self, passage: int) -> Floats:
        """Vectors of one passage, stored or decoded, in float32 [T, H]."""
        s = int(np.searchsorted(self._first, passage, side="right")) - 1
        place = passage - int(self._first[s])
        segment = self._segments[s]
        if "vectors" in segment.columns:
            return stored_tokens(segment)[place]
        book = self._book
        if book is None:
            raise IndexCorruptError(f"{segment.path}: the index has no codebook.")
        return book.vectors(open_coded(segment, book).rows(place, book))

    def staged(self, query: Floats, passages: Ints) -> tuple[bool, Mask | None]:
        """Whether similarities to passages of one document are those of codes.

        And for which query tokens [Q] one of the nearest cells, as many as a search for ten
        documents looks in, holds a token of it.
        """
        s = int(np.searchsorted(self._first, passages[0], side="right")) - 1
        scan = self.scan
        if scan is None or all(first != self._first[s] for first, _, _ in scan.coded):
            return False, None
        asked, effort = scan.ask(query), self.effort(Target())
        scored = stages.score_cells(
            scan.book.coding, asked.codes, asked.scales, effort.nprobe, scan.reach(query)
        )
        near = np.isin(scored.nearest, scan.cells_of(passages))
        reached: Mask = np.logical_or.reduce(near, axis=1)
        return self._stored[s] is None, reached

    def check(self) -> None:
        """Read every code, and hold postings to the cells that they list."""
        if self.scan is not None:
            for _, coded, _ in self.scan.coded:
                coded.check(self.scan.book)


def rescored(k: int) -> int:
    """How many of the best passages are scored again by stored vectors, where these are."""
    return 5 * k // 4 + RESCORED


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
