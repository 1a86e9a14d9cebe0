"""A bound for Kemeny's order by linear programming, and often the order itself.

Paper   Conitzer, Davenport, Kalagnanam: Improved bounds for computing Kemeny rankings.
        AAAI 2006.
Does    One number x[i, j] in 0..1 a pair, 1 for i above j; of any three systems x must not go
        round in a circle. Circles are forbidden as they show up, until none is left. Where all
        x are 0 or 1, they are the best order; else their cost is below every order's.
Costs   A linear program of n^2 / 2 numbers, solved some ten times (HiGHS, in scipy).
Departs Stops at MOST_ROUNDS or MOST_CIRCLES with the bound of the last program.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokret.evaluation.leaderboard.scores import Doubles

MOST_SYSTEMS = 120  # n^3 places for circles
MOST_ROUNDS = 50
MOST_CIRCLES = 200_000
NEAR = 1e-6


def relaxed(won: Doubles) -> tuple[float, NDArray[np.int64] | None]:
    """Cost that no order of ``won`` [n, n] is below, and the best order if it was found."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    n = len(won)
    above, below = np.triu_indices(n, 1)
    number = np.zeros((n, n), np.int64)
    number[above, below] = np.arange(len(above))
    price = won[below, above] - won[above, below]
    fixed = float(won[above, below].sum())
    i, j, k = np.meshgrid(*(np.arange(n),) * 3, indexing="ij")
    rising = (i < j) & (j < k)
    circles = np.empty((0, 4), np.int64)
    bound = -np.inf
    for _ in range(MOST_ROUNDS):
        rows = np.repeat(np.arange(len(circles)), 3)
        sign = circles[:, 3:]
        values = (sign * np.array([1, 1, -1])).ravel()
        left = csr_array((values, (rows, circles[:, :3].ravel())), shape=(len(circles), len(price)))
        found = linprog(price, left, (sign[:, 0] > 0).astype(float), bounds=(0, 1))
        if not found.success:
            return bound, None
        bound = float(found.fun) + fixed
        x = np.zeros((n, n))
        x[above, below] = found.x
        around = x[:, :, None] + x[None, :, :] - x[:, None, :]
        new = []
        for sign_of, broken in ((1, around > 1 + NEAR), (-1, around < -NEAR)):
            a, b, c = np.nonzero(rising & broken)
            signs = np.full(len(a), sign_of)
            new.append(np.stack([number[a, b], number[b, c], number[a, c], signs], axis=1))
        fresh = np.concatenate(new)
        if not len(fresh):
            whole = (np.minimum(found.x, 1 - found.x) < NEAR).all()
            x += np.tril(1 - x.T, -1)
            return bound, np.argsort(-x.sum(axis=1), kind="stable") if whole else None
        circles = np.concatenate([circles, fresh])
        if len(circles) > MOST_CIRCLES:
            break
    return bound, None
