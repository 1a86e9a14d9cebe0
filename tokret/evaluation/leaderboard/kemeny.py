"""Kemeny's consensus: the order with the fewest pairs that voters see the other way round.

Paper   Kemeny: Mathematics without numbers. Daedalus 88(4), 1959. The split: Truchon: An
        extension of the Condorcet criterion and Kemeny orders. 1998.
Does    Splits the systems into groups of which each wins all duels against the next, then
        orders each group: by dynamic programming over its subsets, or, where it is too
        large, by local search (the best move of one system to another place, until none
        helps), held to the bound of kemeny_program.py, which often proves it best.
Costs   2^m m time and 8 m 2^m bytes for the largest group of m; local search O(n^2) a move.
Departs A tie costs half a vote whichever way it is broken. Of several best orders, one is
        given and ``optima`` counts them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.evaluation.leaderboard.kemeny_program import MOST_SYSTEMS, relaxed
from tokret.evaluation.leaderboard.scores import Doubles

Order = NDArray[np.int64]
NEAR = 1e-6  # of costs


class Consensus(NamedTuple):
    """An order, best first [n]; its cost, and a cost that no order is below.

    ``exact`` is whether no order is better; ``optima`` counts the orders that are as good,
    None where that is not known.
    """

    order: Order
    cost: float
    bound: float
    exact: bool
    optima: int | None


def cost_of(order: Order, won: Doubles) -> float:
    """Votes against the order: ``won[j, i]`` for each pair with i above j."""
    return float(np.triu(won.T[np.ix_(order, order)], 1).sum())


def condorcet_winner(won: Doubles) -> int | None:
    """Find the system that wins its duel against every other, if there is one."""
    beats = (won > won.T).sum(axis=1)
    best = int(np.argmax(beats))
    return best if beats[best] == len(won) - 1 else None


def consensus(won: Doubles, *, exact_max: int = 18, restarts: int = 20, seed: int = 0) -> Consensus:
    """Find Kemeny's order from the weight of votes with i above j, [n, n]."""
    won = np.round(won, 9)
    rng = np.random.default_rng(seed)
    parts: list[Order] = []
    bound, optima, exact = 0.0, 1, True
    lesser = np.minimum(won, won.T)
    for group in groups(won):
        group = group[np.argsort(-won[group].sum(axis=1), kind="stable")]  # in Borda's order
        inner = won[np.ix_(group, group)]
        least = float(np.triu(lesser[np.ix_(group, group)], 1).sum())
        if len(group) <= exact_max:
            order, ways = _by_subsets(inner)
            optima *= ways
            least = cost_of(order, inner)
        else:
            order, least = _by_search(inner, least, restarts, rng)
            exact = exact and cost_of(order, inner) <= least + NEAR
            optima = 0
        bound += least
        parts.append(group[order])
    order = np.concatenate(parts)
    within = sum(cost_of(part, won) for part in parts)
    between = cost_of(order, won) - within
    return Consensus(order, within + between, bound + between, exact, optima or None)


def groups(won: Doubles) -> list[Order]:
    """Split systems so that each group wins every duel against those after it; best first.

    These are the strongly connected parts of "does not lose against": every Kemeny order
    keeps them apart.
    """
    reach = (won >= won.T) | np.eye(len(won), dtype=np.bool_)
    for k in range(len(won)):  # Warshall
        reach |= reach[:, k, None] & reach[None, k]
    left = np.arange(len(won))
    parts = []
    while len(left):
        first = left[np.argmax(reach[np.ix_(left, left)].sum(axis=1))]
        same = reach[first, left] & reach[left, first]
        parts.append(left[same])
        left = left[~same]
    return parts


def local_search(won: Doubles, restarts: int, rng: np.random.Generator) -> Order:
    """Better the given order and random ones by moves of one system; return the best found."""
    starts = [np.arange(len(won)), *(rng.permutation(len(won)) for _ in range(restarts))]
    return min((improved(start, won) for start in starts), key=lambda o: cost_of(o, won))


def improved(order: Order, won: Doubles) -> Order:
    """Move single systems, the most helpful move first, until none lowers the cost."""
    order = order.copy()
    while True:
        there = won[np.ix_(order, order)]
        gain = np.triu(there - there.T, 1)
        up = np.cumsum(gain[::-1], axis=0)[::-1]  # [q, p]: what it costs to move p up to q
        down = np.cumsum(gain, axis=1)  # [p, q]: what it costs to move p down to q
        best_up, best_down = (np.triu(m, 1).min() for m in (up, down))
        if min(best_up, best_down) >= -NEAR:
            return order
        if best_up <= best_down:
            q, p = np.unravel_index(np.argmin(np.triu(up, 1)), up.shape)
        else:
            p, q = np.unravel_index(np.argmin(np.triu(down, 1)), down.shape)
        moved = order[p]
        order = np.insert(np.delete(order, p), q, moved)


def _by_search(
    won: Doubles, least: float, restarts: int, rng: np.random.Generator
) -> tuple[Order, float]:
    """Order a large group, and say which cost no order is below."""
    order = local_search(won, restarts, rng)
    if len(won) > MOST_SYSTEMS or cost_of(order, won) <= least + NEAR:
        return order, least
    bound, best = relaxed(won)
    if best is not None and cost_of(best, won) < cost_of(order, won) - NEAR:
        order = best
    if (2 * won == np.round(2 * won)).all():  # costs are whole or half votes
        bound = np.ceil(2 * (bound - NEAR)) / 2
    return order, max(least, float(bound))


def _by_subsets(won: Doubles) -> tuple[Order, int]:
    """Return the cheapest order and how many there are, from the best order of each subset."""
    m = len(won)
    behind = np.zeros((m, 1 << m))  # [j, set]: votes that have j above members of the set
    for i in range(m):
        behind[:, 1 << i : 2 << i] = behind[:, : 1 << i] + won[:, i, None]
    cost = np.full(1 << m, np.inf)
    ways = np.zeros(1 << m, np.int64)
    last = np.zeros(1 << m, np.int8)
    cost[0], ways[0] = 0, 1
    sizes = np.bitwise_count(np.arange(1 << m, dtype=np.uint32))
    layers = np.split(np.argsort(sizes, kind="stable"), np.cumsum(np.bincount(sizes))[:-1])
    for sets in layers[1:]:
        for j in reversed(range(m)):
            mine = sets[(sets >> j) & 1 == 1]
            before = mine ^ (1 << j)
            total = np.round(cost[before] + behind[j, before], 6)
            better = total < cost[mine]
            equal = total == cost[mine]
            ways[mine] = np.where(better, 0, ways[mine]) + (better | equal) * ways[before]
            cost[mine] = np.where(better, total, cost[mine])
            last[mine] = np.where(better, j, last[mine])
    left, order = (1 << m) - 1, []
    while left:
        order.append(int(last[left]))
        left ^= 1 << order[-1]
    return np.array(order[::-1], np.int64), int(ways[-1])
