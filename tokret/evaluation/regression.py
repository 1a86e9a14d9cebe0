"""For tests: a run must not be worse than another.

from tokret.evaluation.regression import assert_no_regression
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokret.collections.qrels import read_qrels
from tokret.collections.run import Run
from tokret.collections.run_stream import RunFile
from tokret.errors import UsageError
from tokret.evaluation import significance
from tokret.evaluation.comparison import PERMUTATIONS, Comparison, Difference, compare
from tokret.evaluation.graded import Qrels
from tokret.evaluation.measures import AnyRun

if TYPE_CHECKING:
    from ir_measures import Measure

SHOWN = 5  # queries that a message names


class RegressionError(AssertionError):
    """A run that is worse than the one before; ``comparison`` has all numbers."""

    def __init__(self, message: str, comparison: Comparison) -> None:
        self.comparison = comparison
        super().__init__(message)


def assert_no_regression(
    run_a: AnyRun | str | Path,
    run_b: AnyRun | str | Path,
    qrels: Qrels | str | Path,
    measure: str | Measure | Iterable[str | Measure] = "nDCG@10",
    alpha: float = 0.05,
    *,
    margin: float | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    remove_self: bool = False,
) -> Comparison:
    """Raise RegressionError where ``run_b`` is worse than ``run_a`` by more than chance.

    Runs and judgements are values or files. The test is a one-sided randomisation test,
    paired by query, corrected by Holm where there are several measures. A test that sees no
    regression does not show that there is none: ``margin`` also refuses a run for which a
    loss of more than ``margin`` cannot be excluded, at confidence 1 - 2 alpha. Gives the
    comparison, with its interval, to look at.
    """
    __tracebackhide__ = True
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha lies between 0 and 0.5, got {alpha}.")
    if margin is not None and margin < 0:
        raise UsageError(f"margin is 0 or more, got {margin}.")
    judged = read_qrels(qrels) if isinstance(qrels, str | Path) else qrels
    runs: dict[str, AnyRun] = {}
    for letter, run in (("a", run_a), ("b", run_b)):
        if isinstance(run, str | Path):
            runs[f"{letter}: {run}"] = RunFile(run)
        else:
            runs[f"{letter}: {run.name}" if isinstance(run, Run) else letter] = run
    found = compare(
        runs,
        judged,
        measure,
        permutations=permutations,
        confidence=1 - 2 * alpha,
        seed=seed,
        remove_self=remove_self,
    )
    gaps = (found.values[1] - found.values[0]).T  # [Q, M]
    worse = significance.holm(significance.randomisation(gaps, permutations, seed, side="less"))
    lines = []
    for difference, p in zip(found.differences, worse.tolist(), strict=True):
        if difference.difference < 0 and p < alpha:
            lines += _message(difference, found, f"worse, p = {p:.4g} < {alpha:g}")
        elif margin is not None and difference.low < -margin:
            why = f"a loss of more than {margin:g} cannot be excluded"
            lines += _message(difference, found, why)
    if lines:
        names = " and ".join(found.names)
        raise RegressionError("\n".join([f"Regression between {names}", *lines]), found)
    return found


def _message(difference: Difference, found: Comparison, why: str) -> list[str]:
    confidence = found.method["confidence"]
    gaps = found.by_query(difference.b, difference.measure, difference.a)
    worst = [(query, gap) for query, gap in gaps.items() if gap < 0][:SHOWN]
    m = found.measures.index(difference.measure)
    at = {query: q for q, query in enumerate(found.queries)}
    lines = [
        f"{difference.measure}: {difference.value_a:.4f} -> {difference.value_b:.4f} "
        f"({difference.difference:+.4f}; {confidence:.0%} interval {difference.low:+.4f} to "
        f"{difference.high:+.4f}): {why}.",
        f"  {difference.losses} queries lost, {difference.wins} won, {difference.ties} alike, of "
        f"{len(found.queries)}. The greatest losses:",
    ]
    for query, gap in worst:
        before, after = np.round(found.values[:, m, at[query]], 4).tolist()
        lines.append(f"    {query}: {before:.4f} -> {after:.4f} ({gap:+.4f})")
    return [*lines, "  For pictures: tokret compare A.run B.run --qrels FILE --html page.html"]
