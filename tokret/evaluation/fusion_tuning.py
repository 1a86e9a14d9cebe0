"""Choose how to fuse runs by what it brings on judged queries of a development set.

Does    Fuses by each candidate, measures each query, and keeps the best mean. What it would
        bring on other queries is estimated by leaving parts out: chosen on the rest, measured
        on the part.
Costs   A fusion and a measuring for each candidate; leaving out costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tokret.collections import Qrels
from tokret.errors import UsageError
from tokret.evaluation.fusion import RRF, CombMNZ, CombSUM, Fuser, Weighted, fusers
from tokret.evaluation.measures import AnyRun, evaluate

RRF_KS = (60, 1, 5, 10, 20, 100)  # the paper's first: of equals, the first is taken
MOST_WEIGHTS = 70  # combinations of weights that are tried


@dataclass(frozen=True)
class Tuned:
    """The method that is best on the queries given, and what all are worth.

    ``tried`` holds every candidate and its mean, the best first; ``alone`` the runs as they
    are. ``held_out`` is the mean over queries of methods chosen without them, ``folds`` the
    number of parts they were left out in: of the two values, the one to expect elsewhere.
    """

    method: str
    value: float
    held_out: float
    folds: int
    measure: str
    tried: tuple[tuple[str, float], ...]
    alone: tuple[float, ...]


def candidates(runs: int) -> Iterator[Fuser]:
    """RRF, CombSUM, CombMNZ, and weights that add up to 1, in as fine steps as are few enough."""
    yield from (RRF(k) for k in RRF_KS)
    yield CombSUM()
    yield CombMNZ()
    steps = max(
        (s for s in (10, 8, 5, 4, 3, 2) if math.comb(s + runs - 1, runs - 1) <= MOST_WEIGHTS),
        default=0,
    )
    for parts in _parts(steps, runs) if steps else ():
        if max(parts) < steps:  # a run alone is no fusion
            yield Weighted(tuple(part / steps for part in parts))


def tune(
    runs: Sequence[AnyRun],
    qrels: Qrels,
    measure: str = "nDCG@10",
    methods: Sequence[str | Fuser] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    remove_self: bool = False,
) -> Tuned:
    """Fuse ``runs`` by every method and keep the one with the best mean of ``measure``.

    By default the methods of ``candidates``. Use the method on other queries than these.
    Raises UsageError for fewer than two runs or two judged queries, and what fusing and
    measuring raise.
    """
    if len(runs) < 2:
        raise UsageError(f"Fusion is tuned for two runs or more, got {len(runs)}.")
    tried: list[Fuser] = (
        list(candidates(len(runs))) if methods is None else [fusers.build(m) for m in methods]
    )
    if not tried:
        raise UsageError("Name at least one method to try.")

    def values(run: AnyRun) -> list[float]:
        report = evaluate(run, qrels, measure, remove_self=remove_self, per_query=True)
        ((_, by_query),) = report.per_query.items()
        return list(by_query.values())

    each = np.array([values(method.fuse(runs)) for method in tried])
    queries = each.shape[1]
    folds = min(folds, queries)
    if folds < 2:
        raise UsageError(f"Tuning takes two judged queries and two folds or more, got {queries}.")
    means = [math.fsum(row) / queries for row in each]
    best = int(np.argmax(means))
    held_out = np.empty(queries)
    for part in np.array_split(np.random.default_rng(seed).permutation(queries), folds):
        rest = np.delete(each, part, axis=1).mean(axis=1)
        held_out[part] = each[int(np.argmax(rest)), part]
    order = sorted(range(len(tried)), key=lambda i: -means[i])
    return Tuned(
        method=str(tried[best]),
        value=means[best],
        held_out=float(held_out.mean()),
        folds=folds,
        measure=measure,
        tried=tuple((str(tried[i]), means[i]) for i in order),
        alone=tuple(math.fsum(row) / queries for row in map(values, runs)),
    )


def _parts(total: int, many: int) -> Iterator[tuple[int, ...]]:
    """Whole numbers that add up to ``total``, in every way."""
    if many == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _parts(total - first, many - 1):
            yield (first, *rest)
