"""How much of an index a search must look at for a recall: measured, not guessed.

Does    Asks held-out queries, or runs of tokens from passages of the collection (whose own
        passage then does not count), with more and more effort, and compares the ten best
        with those of exact MaxSim. What came of it is kept with the codebook, so that a user
        asks for a recall or a time and not for cells and margins.
Costs   One exact search a query, over vectors where they are there, else over codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tokret.indexes.base import Request
from tokret.indexes.effort import CHUNK, MARGINS, PROBES, Effort, Setting
from tokret.types import Floats, Ints, Tokens

K = 10  # documents whose recall is measured
QUERIES = 48
QUERY_TOKENS = 24
WORK = 60_000_000  # tokens compared exactly, in all
MOST = 512  # passages whose codes are read for a query


class Asked(NamedTuple):
    """A query [Q, H], and the passage that it was taken from (-1: none)."""

    vectors: Floats
    source: int


class Searched(NamedTuple):
    """Passages [C] in the order in which their codes were read, and what that took."""

    passages: Ints
    scores: Floats
    expected: Floats
    before: float  # seconds until codes were read,
    reading: float  # and of reading them


Search = Callable[[Request, Effort], Searched]


def pseudo_queries(
    take: Callable[[Ints], Tokens], offsets: Ints, seed: int, threads: int
) -> list[Asked]:
    """Runs of tokens from passages that are drawn with a seed."""
    rng = np.random.default_rng(seed)
    lengths = np.diff(offsets)
    count = int(np.clip(WORK // max(int(offsets[-1]), 1), 8, QUERIES))
    long = np.flatnonzero(lengths >= min(QUERY_TOKENS, int(lengths.max(initial=0))))
    drawn = np.sort(rng.permutation(long)[:count])
    tokens = take(drawn)
    asked = []
    for i, source in enumerate(drawn.tolist()):
        rows = tokens[i]
        start = int(rng.integers(0, max(1, len(rows) - QUERY_TOKENS + 1)))
        asked.append(Asked(rows[start : start + QUERY_TOKENS], source))
    return asked


def curve(asked: Sequence[Asked], truths: Sequence[Ints], search: Search) -> list[Setting]:
    """Settings that no other beats in both recall and time, the least recall first.

    ``truths`` are the passages that are exactly best for each query, its own source left
    out. One search for each query and number of cells gives all margins.
    """
    settings = []
    for nprobe in PROBES:
        effort = Effort(nprobe, MOST, float("inf"))
        runs = [search(Request(None, query, k=K), effort) for query, _ in asked]
        for margin in MARGINS:
            recalls, ms = [], []
            for (query, source), truth, run in zip(asked, truths, runs, strict=True):
                count = _stop(run.scores, run.expected, margin * len(query))
                order = np.argsort(-run.scores[:count], kind="stable")
                best = [p for p in run.passages[:count][order].tolist() if p != source][:K]
                recalls.append(len(set(best) & set(truth.tolist())) / max(len(truth), 1))
                share = count / max(len(run.scores), 1)
                ms.append(1e3 * (run.before + run.reading * share))
            settings.append(Setting(float(np.mean(recalls)), nprobe, margin, float(np.median(ms))))
    return _best(settings)


def _stop(scores: Floats, expected: Floats, margin: float) -> int:
    """How many passages are read with a margin, as the compiled stage does."""
    for first in range(CHUNK, len(scores), CHUNK):
        kth = np.partition(scores[:first], -min(K, first))[-min(K, first)]
        if first >= K and expected[first] + margin < kth:
            return first
    return len(scores)


def _best(settings: list[Setting]) -> list[Setting]:
    kept: list[Setting] = []
    for setting in sorted(settings, key=lambda s: (s.ms, -s.recall)):
        if not kept or setting.recall > kept[-1].recall:
            kept.append(setting)
    return kept
