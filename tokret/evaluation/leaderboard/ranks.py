"""Ranks with ties shared, pairwise wins, and the distance between two orders."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.evaluation.leaderboard.scores import Doubles


def average_ranks(scores: ArrayLike) -> Doubles:
    """Rank along the first axis: scores [n, ...] -> [n, ...], 0 the worst, n - 1 the best.

    A rank is the number of systems beaten, half of one for each tie: the points of a Borda
    vote. NaN has none; among ``m`` that are present, ranks are stretched by
    (n - 1) / (m - 1) to the same range, and are all NaN where m is 1.
    """
    x = np.asarray(scores, np.float64)
    n = len(x)
    order = np.argsort(x, axis=0, kind="stable")  # NaN comes last
    ordered = np.take_along_axis(x, order, axis=0)
    place = np.arange(n).reshape(-1, *(1,) * (x.ndim - 1))
    opens = np.ones(x.shape, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=opens[1:])
    closes = np.roll(opens, -1, axis=0)
    first = np.maximum.accumulate(np.where(opens, place, 0), axis=0)
    last = np.minimum.accumulate(np.where(closes, place, n - 1)[::-1], axis=0)[::-1]
    ranks = np.empty(x.shape)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=0)
    absent = np.isnan(x)
    if absent.any():
        present = n - absent.sum(axis=0)
        stretch = np.divide(n - 1, present - 1, out=np.full(present.shape, np.nan),
                            where=present > 1)  # fmt: skip
        ranks = np.where(absent, np.nan, ranks * stretch)
    return ranks


def places(points: ArrayLike) -> Doubles:
    """Positions on a leaderboard [n]: 1 the best, the mean of their places for equals."""
    ranks = average_ranks(points)
    return len(ranks) - ranks


def wins(ballots: Doubles, weights: Doubles | None = None) -> Doubles:
    """Weight of the ballots [n, V] that have i above j, half of it for a tie: [n, n].

    A ballot counts for the pairs of which it knows both.
    """
    n, votes = ballots.shape
    weights = np.ones(votes) if weights is None else weights
    out = np.empty((n, n))
    with np.errstate(invalid="ignore"):
        for i in range(n):
            above = (ballots[i] > ballots) + 0.5 * (ballots[i] == ballots)
            out[i] = above @ weights
    np.fill_diagonal(out, 0)
    return out


def kendall_distance(one: ArrayLike, other: ArrayLike) -> float:
    """Count the pairs that two rankings [n] order differently; half for a tie in one alone."""
    signs = []
    for ranking in (one, other):
        x = np.asarray(ranking, np.float64)
        signs.append(np.sign(x[:, None] - x[None, :]))
    return float(np.abs(signs[0] - signs[1]).sum() / 4)


def kendall_tau(one: ArrayLike, other: ArrayLike) -> float:
    """Return Kendall's tau-b of two rankings [n]; 1 - 4 d / (n (n - 1)) without ties.

    NaN where one of the two ties all.
    """
    x, y = (np.asarray(r, np.float64) for r in (one, other))
    a, b = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale else float("nan")


def order_of(points: Doubles) -> NDArray[np.int64]:
    """Systems best first [n]; equals in the order in which they were given."""
    return np.argsort(-points, kind="stable").astype(np.int64)
