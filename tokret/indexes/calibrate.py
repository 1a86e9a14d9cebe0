"""How much of an index a search must look at for a recall: measured, not guessed.

Does    Asks queries that are given, or makes some: runs of tokens of a passage, which then does
        not count, each moved towards a token of another passage. Searches with more and more
        effort and compares the best with those of exact MaxSim. A recall that is kept is the
        mean less two standard errors; what it took is counted, not timed, so that the same data
        make the same choice. Kept with the codebook, so that a user asks for a recall or a time
        and not for cells and margins.
Costs   One exact search a query, over vectors where they are there, else over codes; and codes
        of some MOST passages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.indexes.base import Request
from tokret.indexes.effort import (
    CHUNK,
    DEPTHS,
    MARGINS,
    PROBES,
    Calibration,
    Effort,
    Setting,
)
from tokret.indexes.ivf_scan import Scan
from tokret.types import Floats, Ints, Tokens

QUERIES, LEAST_QUERIES = 64, 16
GIVEN = 256  # of the queries given, evenly spaced
QUERY_TOKENS = 24
NOISE = 0.5  # of another token, on top of each
WORK = 200_000_000  # tokens compared exactly, in all
DOUBT = 2  # standard errors that a recall is kept below its mean
GAIN = 0.001  # of recall, for which more work is worth keeping a setting
MOST = 512  # passages whose codes are read for a query


class Query(NamedTuple):
    """A query [Q, H], and the passage that it was taken from (-1: none)."""

    vectors: Floats
    source: int


class Found(NamedTuple):
    """What one query found with one number of cells, all of it read by its codes."""

    passages: Ints  # [C], the best expected first
    expected: Floats  # [C], falling
    work: NDArray[np.float64]  # [C + 1], when so many are read


Truth = Callable[[Floats], Floats]  # a query -> MaxSim of every passage [N], -inf of those not live
Search = Callable[[Query], tuple[list[Found], Mapping[int, float]]]


def pseudo_queries(take: Callable[[Ints], Tokens], offsets: Ints, seed: int) -> list[Query]:
    """Runs of tokens from passages drawn with a seed, with some of other passages' tokens."""
    rng = np.random.default_rng(seed)
    lengths = np.diff(offsets)
    count = int(np.clip(WORK // max(int(offsets[-1]), 1), LEAST_QUERIES, QUERIES))
    long = np.flatnonzero(lengths >= min(QUERY_TOKENS, int(lengths.max(initial=0))))
    drawn = np.sort(rng.permutation(long)[:count])
    tokens = take(drawn)
    noise = take(np.sort(rng.permutation(np.flatnonzero(lengths))[: 4 * count])).vectors
    asked = []
    for i, source in enumerate(drawn.tolist()):
        start = int(rng.integers(0, max(1, int(lengths[source]) - QUERY_TOKENS + 1)))
        rows = tokens[i][start : start + QUERY_TOKENS].astype(np.float32)
        other = noise[rng.integers(0, len(noise), len(rows))].astype(np.float32)
        lengths_of = np.linalg.norm(rows, axis=1, keepdims=True)
        moved = rows + NOISE * _unit(other) * lengths_of
        asked.append(Query((_unit(moved) * lengths_of).astype(np.float32), source))
    return asked


def given_queries(queries: Sequence[Floats]) -> list[Query]:
    """Real queries, or an even share of them where they are more than GIVEN."""
    chosen = np.unique(np.linspace(0, len(queries) - 1, min(len(queries), GIVEN)).astype(int))
    return [Query(queries[i].astype(np.float32), -1) for i in chosen if len(queries[i])]


def scanning(scan: Scan) -> Search:
    """Search with every number of cells; codes of what any of them finds are read once."""
    width = scan.book.rotation.shape[1]

    def search(query: Query) -> tuple[list[Found], dict[int, float]]:
        asked = scan.ask(query.vectors)
        found = []
        for nprobe in PROBES:
            effort = Effort(nprobe, MOST, float("inf"))
            some = scan.gather(asked, Request(None, query.vectors, k=max(DEPTHS)), effort)
            counts = np.arange(min(len(some.passages), MOST) + 1)
            work = np.array([w.weighed(width) for w in scan.work(some, counts)])
            others = some.passages[:MOST] != query.source
            keep = np.concatenate([[True], others])
            passages, expected = some.passages[:MOST][others], some.expected[:MOST][others]
            found.append(Found(passages, expected, work[keep]))
        union = np.unique(np.concatenate([one.passages for one in found]))
        none = np.zeros(len(union), np.float32)
        sims = scan.read(asked, union, none, len(union), float("inf"), 1)
        sums = sims.astype(np.float64).sum(axis=1)
        return found, dict(zip(union.tolist(), sums.tolist(), strict=True))

    return search


def measured(
    queries: Sequence[Query],
    truth: Truth,
    search: Search,
    *,
    tokens: int,
    given: bool,
    rescored: Callable[[int], int] | None = None,
    ceilings: Mapping[int, float] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Settings that no other beats in both recall and work, for each of DEPTHS.

    ``rescored`` says, where vectors are stored, how many of the best for k documents get their
    true score. ``ceilings``, where ``truth`` is of codes alone: what share of the exact best
    these find at most, by depth.
    """
    shape = (len(queries), len(PROBES), len(MARGINS))
    recalls = {depth: np.zeros(shape) for depth in DEPTHS}
    works = {depth: np.zeros(shape) for depth in DEPTHS}
    for i, query in enumerate(queries):
        report(i, len(queries))
        every = truth(query.vectors).astype(np.float64)
        if query.source >= 0:
            every[query.source] = -np.inf
        order = np.argsort(-every, kind="stable")[: max(DEPTHS)]
        order = order[np.isfinite(every[order])]
        runs, sums = search(query)
        for depth in DEPTHS:
            best = set(order[:depth].tolist())
            head = 0 if rescored is None else rescored(depth)
            for p, run in enumerate(runs):
                scores = np.array([sums[n] for n in run.passages.tolist()])
                stops = _stops(scores, run.expected, np.array(MARGINS) * len(query.vectors), depth)
                for m, count in enumerate(stops.tolist()):
                    final = scores[:count].copy()
                    first = np.argsort(-final, kind="stable")[:head]
                    final[first] = every[run.passages[first]]
                    ranked = run.passages[np.argsort(-final, kind="stable")[:depth]]
                    recalls[depth][i, p, m] = len(best & set(ranked.tolist())) / max(len(best), 1)
                    works[depth][i, p, m] = run.work[count]
    report(len(queries), len(queries))
    most = {depth: float(found[:, -1, -1].mean()) for depth, found in recalls.items()}
    curves = {
        depth: _curve(recalls[depth], works[depth], 1.0 if ceilings is None else ceilings[depth])
        for depth in DEPTHS
    }
    return Calibration(tokens, len(queries), given, most if ceilings is None else ceilings, curves)


def _stops(scores: Floats, expected: Floats, margins: Floats, keep: int) -> Ints:
    """How many passages are read with each of some margins, as the compiled stage does."""
    firsts = np.arange(-(-max(keep, 1) // CHUNK) * CHUNK, len(scores), CHUNK)
    worst = np.array([np.partition(scores[:n], n - keep)[n - keep] for n in firsts])
    ends = expected[firsts][None] + margins[:, None] < worst[None]
    ends = np.concatenate([ends, np.ones((len(margins), 1), np.bool_)], axis=1)
    stops: Ints = np.append(firsts, len(scores))[ends.argmax(axis=1)]
    return stops


def _curve(
    recalls: NDArray[np.float64], works: NDArray[np.float64], ceiling: float
) -> list[Setting]:
    """Of means over queries, the settings that pay, of rising recall and work."""
    count = len(recalls)
    low = recalls.mean(axis=0) - DOUBT * recalls.std(axis=0) / np.sqrt(max(count - 1, 1))
    low, work = np.maximum(low * ceiling, 0.0), works.mean(axis=0)
    settings = [
        Setting(float(low[p, m]), nprobe, margin, float(work[p, m]))
        for p, nprobe in enumerate(PROBES)
        for m, margin in enumerate(MARGINS)
    ]
    kept: list[Setting] = []
    for setting in sorted(settings, key=lambda s: (s.work, -s.recall)):
        if not kept or setting.recall > kept[-1].recall + GAIN:
            kept.append(setting)
    return kept


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(lengths, 1e-30)).astype(np.float32)
    return unit
