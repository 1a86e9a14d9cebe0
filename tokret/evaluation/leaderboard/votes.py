"""Scores as votes: what each query thinks of the systems, summed up for every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tokret.evaluation.leaderboard.ranks import average_ranks
from tokret.evaluation.leaderboard.scores import Doubles, Scores

Voters = Literal["queries", "collections"]
DIGITS = 12  # of a mean; what differs beyond them is the order of adding up


@dataclass(frozen=True, eq=False)
class Sums:
    """What rules read, each [n, T, B], for B resampled leaderboards at once.

    ``means`` are mean scores, ``points`` Borda points added up over queries, ``votes`` the
    number of queries that know the system; a task counts ``weights`` [T, B] times and has
    ``sizes`` [T, B] queries.
    """

    means: Doubles
    points: Doubles
    votes: Doubles
    weights: Doubles
    sizes: Doubles

    @cached_property
    def task_ranks(self) -> Doubles:
        """Ranks within each task, by its queries' Borda points [n, T, B]; 0 the worst."""
        with np.errstate(invalid="ignore"):
            return average_ranks(np.round(self.points / self.votes, 9))

    def over_tasks(self, values: Doubles) -> Doubles:
        """Weighted mean over the tasks that have a value: [n, T, B] -> [n, B]."""
        present = ~np.isnan(values)
        weights = present * self.weights
        with np.errstate(invalid="ignore"):
            mean: Doubles = (np.where(present, values, 0) * weights).sum(1) / weights.sum(1)
        return mean


class Votes:
    """Scores and the ranks of each query's vote [n, V]; both stay as they are."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.ranks = average_ranks(scores.values)
        self._seen = ~np.isnan(scores.values)
        self._voted = ~np.isnan(self.ranks)
        self._values = np.where(self._seen, scores.values, 0)
        self._points = np.where(self._voted, self.ranks, 0)
        self._complete = bool(self._seen.all())

    def sums(
        self, draws: Mapping[str, Doubles] | None = None, weights: Doubles | None = None
    ) -> Sums:
        """Sum up every task, its queries counted ``draws[collection]`` [K, B] times.

        Without draws each query counts once, without weights each task: B is 1.
        """
        n, tasks = len(self.scores.systems), len(self.scores.tasks)
        if draws is None:
            sizes = np.diff(self.scores.offsets)
            batch = 1 if weights is None else weights.shape[1]
            each = [np.ones((int(k), 1)) for k in sizes]
        else:
            each = [draws[task.collection] for task in self.scores.tasks]
            batch = each[0].shape[1]
        means, points, votes = (np.empty((n, tasks, batch)) for _ in range(3))
        for t, counts in enumerate(each):
            at = self.scores.columns(t)
            total = counts.sum(axis=0)
            points[:, t] = self._points[:, at] @ counts
            if self._complete:
                seen = total
                votes[:, t] = total
            else:
                seen = self._seen[:, at] @ counts
                votes[:, t] = self._voted[:, at] @ counts
            with np.errstate(invalid="ignore"):
                means[:, t] = steady((self._values[:, at] @ counts) / seen)
        if weights is None:
            weights = np.ones((tasks, batch))
        return Sums(means, points, votes, weights, np.stack([c.sum(axis=0) for c in each]))

    @cached_property
    def whole(self) -> Sums:
        """The sums of the scores as they are: B is 1."""
        return self.sums()

    def ballots(self, voters: Voters) -> Doubles:
        """Ranks that voters give [n, voters]: one vote a query, or one a task."""
        return self.ranks if voters == "queries" else self.whole.task_ranks[:, :, 0]


def steady(values: Doubles) -> Doubles:
    """Round away what the order of adding up leaves, so that equal systems are equal."""
    top = np.nanmax(np.abs(values), initial=0)
    if not top:
        return values
    scale = 2.0 ** np.ceil(np.log2(top))
    rounded: Doubles = np.round(values / scale, DIGITS) * scale
    return rounded
