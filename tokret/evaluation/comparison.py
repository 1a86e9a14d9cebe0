"""Runs compared query by query: differences, how sure they are, who wins where."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokret.errors import UsageError
from tokret.evaluation import significance
from tokret.evaluation.graded import Doubles, Graded, Qrels
from tokret.evaluation.measures import (
    DEFAULT_MEASURES,
    AnyRun,
    Report,
    joined,
    report_of,
    values_of,
)
from tokret.evaluation.names import measures_named
from tokret.evaluation.significance import ROUNDING

if TYPE_CHECKING:
    from ir_measures import Measure

Pairs = Literal["baseline", "all"]
Family = Literal["table", "measure"]
TESTS = ("randomisation", "t", "wilcoxon")
PERMUTATIONS = 20_000
RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """What ``b`` has over ``a`` in one measure; above 0, ``b`` is better.

    ``low`` and ``high`` are the ends of the bootstrap interval of the mean difference,
    ``effect`` is Cohen's d, ``p`` the p-values by test, ``holm`` and ``bh`` those of the same
    tests corrected for all comparisons of the family. ``wins`` are the queries where ``b``
    is better.
    """

    a: str
    b: str
    measure: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    effect: float
    p: Mapping[str, float]
    holm: Mapping[str, float]
    bh: Mapping[str, float]
    wins: int
    ties: int
    losses: int

    def significant(self, alpha: float = 0.05) -> bool:
        """Whether the randomisation test, corrected by Holm, is below ``alpha``."""
        return self.holm["randomisation"] < alpha


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several runs on the same judgements.

    ``values`` [R, M, Q] are those of runs, measures and queries; ``reports`` say how each
    run's numbers were made; ``method`` how the tests were.
    """

    names: tuple[str, ...]
    measures: tuple[str, ...]
    queries: tuple[str, ...]
    values: Doubles
    reports: tuple[Report, ...]
    differences: tuple[Difference, ...]
    method: dict[str, Any]
    heads: tuple[Mapping[str, list[tuple[str, float]]], ...] = field(default=(), repr=False)

    def find(self, b: str, measure: str | None = None, a: str | None = None) -> Difference:
        """The difference of ``b`` to ``a``, by default the first run and the first measure."""
        a = self.names[0] if a is None else a
        measure = self.measures[0] if measure is None else measure
        for difference in self.differences:
            if (difference.a, difference.b, difference.measure) == (a, b, measure):
                return difference
        raise UsageError(f"{b!r} was not compared with {a!r} in {measure}.")

    def by_query(self, b: str, measure: str, a: str | None = None) -> dict[str, float]:
        """What ``b`` has over ``a`` for each query, the greatest loss first."""
        first = self.values[self.names.index(self.names[0] if a is None else a)]
        m = self.measures.index(measure)
        gaps = (self.values[self.names.index(b), m] - first[m]).tolist()
        pairs = zip(self.queries, gaps, strict=True)
        return dict(sorted(pairs, key=lambda pair: (pair[1], pair[0])))

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``; infinite effects are None."""
        out: dict[str, Any] = {
            "runs": [
                {"name": name, **report.to_dict()}
                for name, report in zip(self.names, self.reports, strict=True)
            ],
            "measures": list(self.measures),
            "queries": len(self.queries),
            "differences": [_plain(difference) for difference in self.differences],
            "method": dict(self.method),
        }
        if per_query:
            out["per_query"] = {
                measure: {
                    query: dict(zip(self.names, self.values[:, m, q].tolist(), strict=True))
                    for q, query in enumerate(self.queries)
                }
                for m, measure in enumerate(self.measures)
            }
        return out


def compare(
    runs: Mapping[str, AnyRun] | Sequence[AnyRun],
    qrels: Qrels,
    measures: str | Measure | Iterable[str | Measure] = DEFAULT_MEASURES,
    *,
    pairs: Pairs = "baseline",
    family: Family = "table",
    permutations: int = PERMUTATIONS,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    remove_self: bool = False,
    keep: int = 0,
) -> Comparison:
    """Compare runs query by query: each with the first, or ``pairs="all"``.

    Corrections go over all p-values of a test that the table shows; with
    ``family="measure"`` over those of one measure. ``keep`` documents of each query stay in
    ``heads``. The same input and seed give the same numbers.

    Raises UsageError for fewer than two runs, two of one name, counts of resamplings below 1
    and measures that are sums; else what ``evaluate`` raises, with the run's name.
    """
    named = _named(runs)
    wanted = measures_named(measures)
    _check(wanted, pairs, family, permutations, resamples, confidence)
    found = []
    for name, run in named.items():
        try:
            found.append(joined(run, qrels, remove_self=remove_self, keep=keep))
        except Exception as error:
            error.add_note(f"run {name}")
            raise
    return compare_graded(
        dict(zip(named, found, strict=True)),
        wanted,
        pairs=pairs,
        family=family,
        permutations=permutations,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def compare_graded(
    runs: Mapping[str, Graded],
    measures: Sequence[Measure],
    *,
    pairs: Pairs = "baseline",
    family: Family = "table",
    permutations: int = PERMUTATIONS,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare runs that were joined with the same judgements."""
    names, found = tuple(runs), list(runs.values())
    values = np.stack([values_of(run, measures) for run in found])
    which = (
        [(0, b) for b in range(1, len(names))]
        if pairs == "baseline"
        else list(itertools.combinations(range(len(names)), 2))
    )
    gaps = np.stack([values[b] - values[a] for a, b in which])  # [P, M, Q]
    columns = gaps.reshape(-1, gaps.shape[-1]).T
    p = {
        "randomisation": significance.randomisation(columns, permutations, seed),
        "t": significance.t_test(columns),
        "wilcoxon": significance.wilcoxon(columns),
    }
    adjusted = {
        correction: {test: _within(family, len(measures), by, p[test]) for test in TESTS}
        for correction, by in (
            ("holm", significance.holm),
            ("bh", significance.benjamini_hochberg),
        )
    }
    low, high = significance.bootstrap(columns, resamples, confidence, seed)
    effect = significance.effect_size(columns)
    reports = tuple(report_of(run, measures) for run in found)
    differences = []
    for c, ((a, b), m) in enumerate(itertools.product(which, range(len(measures)))):
        measure, gap = str(measures[m]), columns[:, c]
        value_a, value_b = reports[a][measure], reports[b][measure]
        differences.append(
            Difference(
                names[a],
                names[b],
                measure,
                value_a,
                value_b,
                value_b - value_a,
                float(low[c]),
                float(high[c]),
                float(effect[c]),
                {test: float(p[test][c]) for test in TESTS},
                {test: float(adjusted["holm"][test][c]) for test in TESTS},
                {test: float(adjusted["bh"][test][c]) for test in TESTS},
                int((gap > ROUNDING).sum()),
                int((np.abs(gap) <= ROUNDING).sum()),
                int((gap < -ROUNDING).sum()),
            )
        )
    exact = len(columns) <= significance.EXACT
    method = {
        "pairs": pairs,
        "family": family,
        "comparisons": len(differences),
        "permutations": 1 << len(columns) if exact else permutations,
        "exact": exact,
        "resamples": resamples,
        "confidence": confidence,
        "seed": seed,
        "tests": "two-sided, paired by query",
    }
    return Comparison(
        names,
        tuple(map(str, measures)),
        found[0].queries,
        values,
        reports,
        tuple(differences),
        method,
        tuple(run.heads for run in found),
    )


def _named(runs: Mapping[str, AnyRun] | Sequence[AnyRun]) -> dict[str, AnyRun]:
    if not isinstance(runs, Mapping):
        listed = list(runs)
        names = [getattr(run, "name", "") or f"run {i}" for i, run in enumerate(listed, 1)]
        if len(set(names)) < len(names):
            names = [f"{name} ({i})" for i, name in enumerate(names, 1)]
        runs = dict(zip(names, listed, strict=True))
    if len(runs) < 2:
        raise UsageError(f"A comparison takes two runs or more, got {len(runs)}.")
    return dict(runs)


def _check(
    measures: Sequence[Measure],
    pairs: str,
    family: str,
    permutations: int,
    resamples: int,
    confidence: float,
) -> None:
    from ir_measures import SumAgg

    for measure in measures:
        if isinstance(measure.aggregator(), SumAgg):
            raise UsageError(f"{measure} is a sum, not a mean; there is nothing to test.")
    if pairs not in ("baseline", "all"):
        raise UsageError(f"pairs must be 'baseline' or 'all', got {pairs!r}.")
    if family not in ("table", "measure"):
        raise UsageError(f"family must be 'table' or 'measure', got {family!r}.")
    if permutations < 1 or resamples < 1:
        raise UsageError("permutations and resamples must be at least 1.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence lies between 0 and 1, got {confidence}.")


def _within(family: str, measures: int, by: Any, p: Doubles) -> Doubles:  # noqa: ANN401
    """Correct p-values [P * M] over all of them, or over those of each measure."""
    if family == "table":
        corrected: Doubles = by(p)
        return corrected
    rows = p.reshape(-1, measures)
    return np.stack([by(column) for column in rows.T], axis=1).ravel()


def _plain(difference: Difference) -> dict[str, Any]:
    out = {**vars(difference)}
    for key in ("p", "holm", "bh"):
        out[key] = dict(out[key])
    if not math.isfinite(difference.effect):
        out["effect"] = None
    return out
