"""Cells of int8 token vectors: k-means in two levels, in whole numbers.

Does: G ~ sqrt(C) centres on a subsample; a share of the C cells for the rows nearest to each, in
proportion to them; k-means inside each group; Lloyd's iterations over all rows, each of which looks
in the groups whose centres are nearest, and after each the centroids are grouped anew. A centroid
is the mean of its rows, a half rounded up, so that the cells do not depend on threads, batches or
the instruction set.
Costs: a row is compared with about ``PROBES`` * sqrt(C) centroids in an iteration, not with C.
Departs: a row may miss its nearest cell for one that is almost as near (``PROBES``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt, log2, sqrt

import numpy as np

from tokret.errors import UsageError
from tokret.kernels import cell_sums, nearest
from tokret.kernels.reference import Codes, Groups, Ints32
from tokret.types import Ints

LEAST_CELLS, MOST_CELLS = 16, 65_536
PROBES = 12  # groups: 99.5 % of SciFact's tokens find their cell, or one within 1 % of it
ITERATIONS = 6  # over all rows
ITERATION_PROBES = 6  # less than in the end: the next iteration mends what is missed
GROUP_ITERATIONS = 8  # inside each group
CENTRE_ITERATIONS = 10
CENTRE_ROWS = 256  # of the subsample, for each centre
FAR = 0.9  # of the rows of training are not farther from their cells than ``Cells.far``
FAR_ROWS = 65_536  # at most twice as many say how far that is
MEANS = 8192  # centroids moved at a time
NEW_ROWS = 32  # far rows that found one new cell: about the square root law of cells_for
NEW_SHARE = 1.0  # new cells at most, of those that there are


@dataclass(frozen=True, eq=False)
class Cells:
    """Centroids [C, H], the group of each [C], and the groups' centres [G, H].

    ``far`` is the squared distance to its cell that one row of training in ten exceeded.
    Cells keep their numbers when others are added, so those of one group need not follow
    each other.
    """

    centroids: Codes
    groups: Ints32
    centres: Codes
    far: int

    def __len__(self) -> int:
        return len(self.centroids)

    @cached_property
    def order(self) -> Ints32:
        """The cells' numbers, group after group [C]."""
        return np.argsort(self.groups, kind="stable").astype(np.int32)

    @cached_property
    def offsets(self) -> Ints:
        """Where each group's cells are in ``order`` [G + 1]."""
        return _starts(self.groups[self.order], len(self.centres))


def cells_for(tokens: int) -> int:
    """Say how many cells so many tokens want: a power of two near 16 * sqrt(tokens)."""
    wanted = 1 << round(log2(16 * sqrt(max(tokens, 1))))
    return min(max(wanted, LEAST_CELLS), MOST_CELLS)


def train(
    rows: Codes, cells: int, *, seed: int = 0, iterations: int = ITERATIONS, threads: int = 1
) -> Cells:
    """Find ``cells`` centroids of rows [n, H]; cells of one group follow each other.

    The same for a seed, whatever the threads. About 64 rows a cell are enough; where
    fewer rows than cells differ, some cells are at the same place.
    Raises UsageError for no cells or fewer rows than cells, InputError for rows that are
    not int8.
    """
    if not 1 <= cells <= len(rows):
        raise UsageError(f"train got {len(rows)} rows for {cells} cells; it needs a row for each.")
    rng = np.random.default_rng(seed)
    centres = _centres(rows, isqrt(cells), rng, threads)
    centroids, groups = _split(rows, centres, cells, rng, threads)
    for _ in range(iterations):
        numbers, distances = nearest(
            rows,
            centroids,
            groups=Groups(_starts(groups, len(centres)), centres),
            probes=ITERATION_PROBES,
            threads=threads,
        )
        centroids = _moved(rows, numbers, distances, centroids, groups, threads)
        centres = _means(rows, groups[numbers], centres, threads)
        groups = nearest(centroids, centres, threads=threads)[0]
        order = np.argsort(groups, kind="stable")
        centroids, groups = centroids[order], groups[order]
    done = Cells(centroids, groups, centres, far=0)
    some = rows[:: max(1, len(rows) // FAR_ROWS)]
    far = np.quantile(assign(done, some, threads=threads)[1], FAR, method="lower")
    return replace(done, far=int(far))


def assign(
    cells: Cells, rows: Codes, *, probes: int = PROBES, threads: int = 1
) -> tuple[Ints32, Ints32]:
    """Find the cell of each of rows [T, H] -> its number [T], the squared distance to it [T].

    A row looks in the ``probes`` groups whose centres are nearest; of cells that are
    equally near, the one of the earlier group and then of the lower number is taken.
    """
    places, distances = nearest(
        rows,
        cells.centroids[cells.order],
        groups=Groups(cells.offsets, cells.centres),
        probes=probes,
        threads=threads,
    )
    return cells.order[places], distances


def grow(cells: Cells, rows: Codes, distances: Ints32, *, seed: int = 0, threads: int = 1) -> Cells:
    """Add cells, in groups of their own, for those of new rows [T, H] that are far.

    ``distances`` [T] are those of ``assign``. The cells that there are keep their numbers
    and places; as long as few rows are far, none is added, and never more than
    ``NEW_SHARE`` of those that there are or than ``MOST_CELLS`` in all.
    """
    far = rows[distances > cells.far]
    new = min(len(far) // NEW_ROWS, int(len(cells) * NEW_SHARE), MOST_CELLS - len(cells))
    if new < 1:
        return cells
    added = train(far, new, seed=seed, threads=threads)
    return Cells(
        np.concatenate([cells.centroids, added.centroids]),
        np.concatenate([cells.groups, added.groups + np.int32(len(cells.centres))]),
        np.concatenate([cells.centres, added.centres]),
        cells.far,
    )


def _centres(rows: Codes, count: int, rng: np.random.Generator, threads: int) -> Codes:
    some = _drawn(rows, min(len(rows), count * CENTRE_ROWS), rng)
    return _lloyd(some, _drawn(some, count, rng), CENTRE_ITERATIONS, threads)


def _split(
    rows: Codes, centres: Codes, cells: int, rng: np.random.Generator, threads: int
) -> tuple[Codes, Ints32]:
    """Find centroids among the rows nearest to each centre -> them [C, H], their groups [C]."""
    nearest_centre = nearest(rows, centres, threads=threads)[0]
    order = np.argsort(nearest_centre, kind="stable")
    starts = _starts(nearest_centre[order], len(centres))
    shares = _shares(np.diff(starts), cells)
    found = []
    for g in np.flatnonzero(shares):
        mine = rows[order[starts[g] : starts[g + 1]]]
        found.append(_lloyd(mine, _drawn(mine, shares[g], rng), GROUP_ITERATIONS, threads))
    return np.concatenate(found), np.repeat(np.arange(len(centres), dtype=np.int32), shares)


def _drawn(rows: Codes, count: int, rng: np.random.Generator) -> Codes:
    """Draw so many of rows [n, H], in their order."""
    return rows[np.sort(rng.permutation(len(rows))[:count])]


def _starts(groups: Ints32, count: int) -> Ints:
    """Where each of ``count`` groups begins in a rising column of groups [C] -> [count + 1]."""
    return np.searchsorted(groups, np.arange(count + 1)).astype(np.int64)


def _shares(counts: Ints, cells: int) -> Ints:
    """Deal out cells to groups of ``counts`` [G] rows, in proportion; one at least, if it has any.

    What is left by rounding down goes to the greatest remainders, the lower group first.
    """
    shares = np.minimum(counts, 1)
    left = cells - int(shares.sum())
    room = counts - shares
    more, remainders = np.divmod(room * left, max(int(room.sum()), 1))
    last = np.argsort(-remainders, kind="stable")[: left - int(more.sum())]
    more[last] += 1
    return shares + more


def _lloyd(rows: Codes, centroids: Codes, iterations: int, threads: int) -> Codes:
    """Move centroids [C, H] to the means of the rows that are nearest, again and again."""
    one_group = np.zeros(len(centroids), np.int32)
    for _ in range(iterations):
        numbers, distances = nearest(rows, centroids, threads=threads)
        centroids = _moved(rows, numbers, distances, centroids, one_group, threads)
    return centroids


def _moved(
    rows: Codes,
    numbers: Ints32,
    distances: Ints32,
    centroids: Codes,
    groups: Ints32,
    threads: int,
) -> Codes:
    """Centroids [C, H] at the means of their rows; an empty one where the error is greatest.

    It goes to the farthest row of the cell of its group with the greatest sum of squared
    distances, the next one to that of the next.
    """
    moved = _means(rows, numbers, centroids, threads)
    empty = np.flatnonzero(np.bincount(numbers, minlength=len(centroids)) == 0)
    if not len(empty):
        return moved
    errors = np.bincount(numbers, distances, len(centroids))  # whole numbers: exact in any order
    by_error = np.lexsort((-errors, groups))
    by_error = by_error[errors[by_error] > 0]
    for g in np.unique(groups[empty]):
        takers = empty[groups[empty] == g]
        givers = by_error[groups[by_error] == g]
        for taker, giver in zip(takers, givers, strict=False):
            of_giver = np.flatnonzero(numbers == giver)
            moved[taker] = rows[of_giver[distances[of_giver].argmax()]]
    return moved


def _means(rows: Codes, numbers: Ints32, otherwise: Codes, threads: int) -> Codes:
    """Means of the rows of each number, a half rounded up; ``otherwise`` [C, H] of none."""
    sums = cell_sums(rows, numbers, len(otherwise), threads=threads)
    counts = np.bincount(numbers, minlength=len(otherwise))[:, None]
    means = otherwise.copy()
    for at in range(0, len(means), MEANS):
        some, of = sums[at : at + MEANS].astype(np.int64), counts[at : at + MEANS]
        found = (2 * some + of) // np.maximum(2 * of, 1)
        means[at : at + MEANS] = np.where(of > 0, found, means[at : at + MEANS])
    return means
