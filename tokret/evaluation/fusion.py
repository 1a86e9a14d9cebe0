"""Fusion of several runs into one.

Paper   RRF: Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet
        and individual Rank Learning Methods. SIGIR 2009.
        CombSUM, CombMNZ: Fox, Shaw: Combination of Multiple Searches. TREC-2, 1994.
        Convex: Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid
        Retrieval. TOIS 42(1), 2023. arXiv:2210.11934.
Does    Gives each document of any run one score from its ranks or scores in all.
Costs   O(R K log K) a query, for R runs of K results.
Departs Scores are brought to 0..1 by each query's own smallest and largest score, not
        by a bound of the scorer; where all are equal, each is 1. Sums are exactly
        rounded, so the order of the runs changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from tokret.collections.runs import Run
from tokret.errors import UsageError
from tokret.evaluation.graded import as_run
from tokret.evaluation.measures import AnyRun
from tokret.registry import Registry, Spec

Scores = Mapping[str, float]  # of one query's documents, best first


class Fuser(Protocol):
    """Several runs to one."""

    name: ClassVar[str]

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse the queries of all runs; one that a run lacks, from the others.

        Raises UsageError for another number of runs than the method takes, InputError
        for a score that is not finite or a document given twice.
        """
        ...


fusers: Registry[Fuser] = Registry("fusion method")


def rrf(rankings: Sequence[Scores], k: int = 60) -> dict[str, list[float]]:
    """List each document's 1 / (k + rank), ranks from 1, in the runs that hold it."""
    parts: dict[str, list[float]] = {}
    for ranking in rankings:
        for rank, doc_id in enumerate(ranking, 1):
            parts.setdefault(doc_id, []).append(1 / (k + rank))
    return parts


def min_max(rankings: Iterable[Scores]) -> dict[str, list[float]]:
    """List each document's score in the runs that hold it, each run's range made 0..1."""
    parts: dict[str, list[float]] = {}
    for ranking in rankings:
        if ranking:
            top, low = max(ranking.values()), min(ranking.values())
            for doc_id, score in ranking.items():
                # Halves, so that the widest range of doubles does not overflow.
                scaled = (score / 2 - low / 2) / (top / 2 - low / 2) if top > low else 1.0
                parts.setdefault(doc_id, []).append(scaled)
    return parts


@fusers.register("rrf")
@dataclass(frozen=True)
class RRF(Spec):
    """Add up reciprocal ranks; ``k`` = 60 is the paper's."""

    k: int = 60

    def __post_init__(self) -> None:
        if self.k < 0:
            raise UsageError(f"rrf needs k >= 0, got {self.k}.")

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse by rank alone; how the runs' scores are scaled does not matter."""
        return _each_query(runs, lambda rankings: _sums(rrf(rankings, self.k)))


@fusers.register("combsum")
@dataclass(frozen=True)
class CombSUM(Spec):
    """Add up the scores, each run's brought to 0..1."""

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse by score; a run that lacks a document adds nothing."""
        return _each_query(runs, lambda rankings: _sums(min_max(rankings)))


@fusers.register("combmnz")
@dataclass(frozen=True)
class CombMNZ(Spec):
    """CombSUM times the number of runs that hold the document."""

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse by score and agreement."""

        def fused(rankings: Sequence[Scores]) -> dict[str, float]:
            return {d: len(parts) * math.fsum(parts) for d, parts in min_max(rankings).items()}

        return _each_query(runs, fused)


@fusers.register("convex")
@dataclass(frozen=True)
class Convex(Spec):
    """``alpha`` of the first run's score and the rest of the second's, each in 0..1."""

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"convex needs 0 <= alpha <= 1, got {self.alpha}.")

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse exactly two runs."""
        if len(runs) != 2:
            raise UsageError(f"convex fuses two runs, got {len(runs)}; see combsum for more.")

        def fused(rankings: Sequence[Scores]) -> dict[str, float]:
            first, second = ({d: s for d, [s] in min_max([r]).items()} for r in rankings)
            return {
                doc_id: self.alpha * first.get(doc_id, 0.0)
                + (1 - self.alpha) * second.get(doc_id, 0.0)
                for doc_id in {**first, **second}
            }

        return _each_query(runs, fused)


@fusers.register("weighted")
@dataclass(frozen=True)
class Weighted(Spec):
    """``weights`` of the runs, in their order, times scores in 0..1, or times 1 / (k + rank).

    Without weights every run weighs the same.
    """

    weights: tuple[float, ...] = ()
    of: Literal["scores", "ranks"] = "scores"
    k: int = 60

    def __post_init__(self) -> None:
        bad = not all(math.isfinite(weight) and weight >= 0 for weight in self.weights)
        if bad or (self.weights and not any(self.weights)) or self.k < 0:
            raise UsageError(
                f"weighted needs weights of 0 or more, one above 0, and k >= 0; got {self}."
            )

    def fuse(self, runs: Sequence[AnyRun]) -> Run:
        """Fuse as many runs as there are weights."""
        weights = self.weights or (1.0,) * len(runs)
        if len(weights) != len(runs):
            raise UsageError(f"{self} has {len(weights)} weights, and there are {len(runs)} runs.")

        def fused(rankings: Sequence[Scores]) -> dict[str, float]:
            parts: dict[str, list[float]] = {}
            for weight, ranking in zip(weights, rankings, strict=True):
                own = min_max([ranking]) if self.of == "scores" else rrf([ranking], self.k)
                for doc_id, [value] in own.items():
                    parts.setdefault(doc_id, []).append(weight * value)
            return _sums(parts)

        return _each_query(runs, fused)


def _each_query(runs: Sequence[AnyRun], fused: Callable[[Sequence[Scores]], Scores]) -> Run:
    if not runs:
        raise UsageError("Fusion needs at least one run.")
    rankings = [as_run(run).ranking for run in runs]
    queries = dict.fromkeys(query_id for ranking in rankings for query_id in ranking)
    return Run.of({q: fused([ranking.get(q, {}) for ranking in rankings]) for q in queries})


def _sums(parts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {doc_id: math.fsum(values) for doc_id, values in parts.items()}
