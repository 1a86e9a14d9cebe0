"""Whether paired differences are more than chance: tests, corrections, intervals.

Differences are [Q, C]: of Q queries, in C comparisons that share resamplings, so that many
comparisons cost little more than one. Smucker, Allan and Carterette, A Comparison of
Statistical Significance Tests for Information Retrieval Evaluation (CIKM 2007), is why the
randomisation test comes first.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.errors import UsageError

Doubles = NDArray[np.float64]

EXACT = 12  # queries up to which all 2^Q signs are tried, not a sample
AT_ONCE = 1 << 22  # signs or draws held at a time
ROUNDING = 1e-12  # differences no larger than this come from the last digits of a sum


def randomisation(
    differences: ArrayLike, permutations: int = 20_000, seed: int = 0, *, side: str = "two"
) -> Doubles:
    """P-value [C] of a paired randomisation test: signs of differences [Q, C] flipped.

    Every assignment of signs is tried up to 12 queries, else ``permutations`` drawn ones and
    the one observed. ``side`` is ``two``, or ``less``: against the mean being below 0.
    """
    d = _columns(differences)
    n, columns = d.shape
    observed = d.sum(axis=0)
    slack = ROUNDING * np.abs(d).sum(axis=0)
    extreme = np.zeros(columns, np.int64)
    exact = n <= EXACT
    total = 1 << n if exact else permutations
    rng = np.random.default_rng(seed)
    step = max(AT_ONCE // max(n, 1), 1)
    for start in range(0, total, step):
        rows = min(step, total - start)
        if exact:
            numbers = np.arange(start, start + rows)[:, None]
            signs = 2.0 * ((numbers >> np.arange(n)) & 1) - 1
        else:
            packed = rng.integers(0, 256, (rows, -(-n // 8)), np.uint8)
            signs = 2.0 * np.unpackbits(packed, axis=1, count=n) - 1
        sums = signs @ d
        if side == "less":
            extreme += (sums <= observed + slack).sum(axis=0)
        else:
            extreme += (np.abs(sums) >= np.abs(observed) - slack).sum(axis=0)
    p: Doubles = extreme / total if exact else (extreme + 1) / (total + 1)
    return p


def t_test(differences: ArrayLike) -> Doubles:
    """P-value [C] of the paired t-test, two-sided; 1 where all differences are 0."""
    from scipy.special import stdtr

    d = _columns(differences)
    n = len(d)
    out = np.ones(d.shape[1])
    if n < 2:
        return out
    mean, deviation = d.mean(axis=0), d.std(axis=0, ddof=1)
    alike = deviation <= ROUNDING * np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) * np.sqrt(n) / deviation
    varied: Doubles = 2 * stdtr(n - 1, -t)
    return np.where(alike, np.where(np.abs(mean) > ROUNDING, 0.0, 1.0), varied)


def wilcoxon(differences: ArrayLike) -> Doubles:
    """P-value [C] of Wilcoxon's signed-rank test, two-sided, without the zeros."""
    from scipy.stats import wilcoxon as test

    d = _columns(differences)
    out = np.ones(d.shape[1])
    for c, column in enumerate(d.T):
        # Rounded, for ranks of differences that are equal but for their last digits.
        kept = np.round(column[np.abs(column) > ROUNDING], 12)
        if len(kept):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # few queries: its own table is exact
                out[c] = float(test(kept).pvalue)
    return out


def bootstrap(
    differences: ArrayLike, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[Doubles, Doubles]:
    """Ends [C] of the percentile bootstrap interval of the mean over queries."""
    d = _columns(differences)
    n = len(d)
    rng = np.random.default_rng(seed)
    step = max(AT_ONCE // max(n, 1), 1)
    means = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, (rows, n), np.int64) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(times @ d / n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


def effect_size(differences: ArrayLike) -> Doubles:
    """Cohen's d of paired differences [C]: their mean over their standard deviation.

    0 where all are 0; infinite where all are the same and not 0.
    """
    d = _columns(differences)
    if len(d) < 2:
        return np.full(d.shape[1], np.nan)
    mean, deviation = d.mean(axis=0), d.std(axis=0, ddof=1)
    alike = deviation <= ROUNDING * np.abs(mean)
    same = np.where(np.abs(mean) > ROUNDING, np.copysign(np.inf, mean), 0.0)
    size = np.divide(mean, deviation, out=np.zeros_like(mean), where=~alike)
    return np.where(alike, same, size)


def holm(p: ArrayLike) -> Doubles:
    """P-values [C] adjusted by Holm: below alpha, one false alarm in the family is that rare."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    out = np.empty(len(values))
    out[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return out


def benjamini_hochberg(p: ArrayLike) -> Doubles:
    """P-values [C] adjusted by Benjamini and Hochberg: the share of false alarms is bounded."""
    values = np.asarray(p, np.float64)
    n = len(values)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * n / np.arange(1, n + 1)
    out = np.empty(n)
    out[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1)
    return out


def _columns(differences: ArrayLike) -> Doubles:
    d = np.asarray(differences, np.float64)
    d = d[:, None] if d.ndim == 1 else d
    if d.ndim != 2 or len(d) == 0:
        raise UsageError(f"Differences are [Q, C] of at least one query, got {list(d.shape)}.")
    return d
