"""Rules that make one order of many scores or votes.

Paper   Colombo, Noiry, Irurozki, Clémençon: What are the best systems? New perspectives on
        NLP benchmarking. NeurIPS 2022. arXiv:2202.03799.
Does    ``borda(levels=1)`` adds up, over all queries of all tasks, how many systems each
        system beats; ``borda`` (two levels) does so within each task, and once more over
        the tasks' orders, so that a task counts once however many queries it has. ``kemeny``
        is the order nearest to all votes, ``copeland`` counts duels won. ``mean`` and its
        kin read the scores themselves.
Costs   Borda and means O(V n log n), duels O(V n^2); Kemeny: see kemeny.py.
Departs Equals share their rank (the paper's code ranks them by position). What two levels
        leave equal is told apart by one level, then shares its place. A vote that does not
        know all systems counts among those that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from tokret.errors import InputError, UsageError
from tokret.evaluation.leaderboard.kemeny import consensus
from tokret.evaluation.leaderboard.ranks import average_ranks, wins
from tokret.evaluation.leaderboard.scores import Doubles
from tokret.evaluation.leaderboard.votes import Sums, Voters, Votes, steady
from tokret.registry import Registry, Spec


class Rule(Protocol):
    """An order of systems; ``resampled`` says whether it is fast enough for a bootstrap."""

    name: ClassVar[str]
    resampled: ClassVar[bool]

    def points(self, votes: Votes) -> Doubles:
        """Points of the systems [n], more for the better."""
        ...

    def ranks(self, votes: Votes) -> Doubles:
        """Ranks of the systems [n], n - 1 the best, equals sharing theirs."""
        ...


class Tallied(Rule, Protocol):
    """A rule that reads sums alone, and so many resampled leaderboards at once."""

    def tally(self, sums: Sums) -> Doubles:
        """Points [n, B]."""
        ...

    def standing(self, sums: Sums) -> Doubles:
        """Ranks [n, B]."""
        ...


rules: Registry[Rule] = Registry("rule")


class _Tallied(Spec):
    resampled: ClassVar[bool] = True

    def tally(self, sums: Sums) -> Doubles:
        """Points [n, B] of B resampled leaderboards."""
        raise NotImplementedError

    def standing(self, sums: Sums) -> Doubles:
        """Ranks [n, B] of B resampled leaderboards."""
        return average_ranks(self.tally(sums))

    def points(self, votes: Votes) -> Doubles:
        """Points of the systems [n]."""
        return self.tally(votes.whole)[:, 0]

    def ranks(self, votes: Votes) -> Doubles:
        """Ranks of the systems [n]."""
        return self.standing(votes.whole)[:, 0]


@rules.register("borda")
@dataclass(frozen=True)
class Borda(_Tallied):
    """Systems beaten, in each query and then in each task; one level counts all queries."""

    levels: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if self.levels not in (1, 2):
            raise UsageError(f"borda has levels=1 or levels=2, got {self.levels!r}.")

    def tally(self, sums: Sums) -> Doubles:
        """Points: what each vote gives; without gaps their sum over systems is V n (n-1) / 2."""
        points, votes, sizes = sums.points, sums.votes, sums.sizes
        if self.levels == 2:
            points = sums.task_ranks
            votes = (~np.isnan(points)).astype(np.float64)
            points, sizes = np.where(votes > 0, points, 0), np.ones_like(sizes)
        with np.errstate(invalid="ignore", divide="ignore"):  # a system that no vote knows
            share = (sizes * sums.weights).sum(axis=0) / (votes * sums.weights).sum(axis=1)
            out: Doubles = (points * sums.weights).sum(axis=1) * share
        return np.round(out, 9)

    def standing(self, sums: Sums) -> Doubles:
        """Ranks; what two levels leave equal, one level tells apart."""
        ranks = average_ranks(self.tally(sums))
        if self.levels == 1:
            return ranks
        below = average_ranks(Borda(levels=1).tally(sums))
        return average_ranks(ranks * (4 * len(ranks)) + below)  # half steps: no overlap


@rules.register("mean")
@dataclass(frozen=True)
class Mean(_Tallied):
    """The mean over tasks of the mean over queries."""

    def tally(self, sums: Sums) -> Doubles:
        """Mean scores."""
        return steady(sums.over_tasks(sums.means))


@rules.register("zscore")
@dataclass(frozen=True)
class ZScore(_Tallied):
    """The mean over tasks of how many standard deviations a system is above the others."""

    def tally(self, sums: Sums) -> Doubles:
        """Mean z-scores; a task where all are equal gives 0."""
        present = ~np.isnan(sums.means)
        known = np.maximum(present.sum(axis=0), 1)
        centred = sums.means - np.where(present, sums.means, 0).sum(axis=0) / known
        spread = np.sqrt((np.where(present, centred, 0) ** 2).sum(axis=0) / known)
        flat = spread <= 1e-12 * np.where(present, np.abs(sums.means), 0).max(axis=0)
        scaled = np.where(flat, centred * 0, centred / np.where(flat, 1, spread))
        return steady(sums.over_tasks(scaled))


@rules.register("median")
@dataclass(frozen=True)
class Median(_Tallied):
    """The median over tasks of the mean over queries."""

    def tally(self, sums: Sums) -> Doubles:
        """Median scores; the mean of the two in the middle of an even number."""
        order = np.argsort(sums.means, axis=1)
        values = np.take_along_axis(sums.means, order, axis=1)
        weights = (~np.isnan(sums.means)) * sums.weights
        upto = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
        half = upto[:, -1:] / 2
        lower = np.take_along_axis(values, (upto < half).sum(1, keepdims=True), axis=1)
        above = np.minimum((upto <= half).sum(1, keepdims=True), values.shape[1] - 1)
        return steady((lower + np.take_along_axis(values, above, axis=1))[:, 0] / 2)


@rules.register("geometric")
@dataclass(frozen=True)
class Geometric(_Tallied):
    """The geometric mean over tasks of the mean over queries; no score may be below 0."""

    def tally(self, sums: Sums) -> Doubles:
        """Geometric means. Raises InputError for a negative mean."""
        if (sums.means < 0).any():
            raise InputError(
                "A geometric mean takes no negative score, and some task has one; "
                "use zscore, or a rule of ranks such as borda."
            )
        with np.errstate(divide="ignore"):
            return steady(np.exp(sums.over_tasks(np.log(sums.means))))


@rules.register("min")
@dataclass(frozen=True)
class Min(_Tallied):
    """The worst task's mean over queries."""

    def tally(self, sums: Sums) -> Doubles:
        """Lowest mean scores, of the tasks that count."""
        counted = np.where(sums.weights > 0, sums.means, np.nan)
        lowest: Doubles = np.where(np.isnan(counted), np.inf, counted).min(axis=1)
        return lowest


class _Voted(Spec):
    resampled: ClassVar[bool] = False

    def points(self, votes: Votes) -> Doubles:
        """Points of the systems [n]."""
        raise NotImplementedError

    def ranks(self, votes: Votes) -> Doubles:
        """Ranks of the systems [n]."""
        return average_ranks(self.points(votes))


@rules.register("copeland")
@dataclass(frozen=True)
class Copeland(_Voted):
    """Duels won against the other systems, by the majority of votes; half for a draw."""

    voters: Voters = "collections"

    def points(self, votes: Votes) -> Doubles:
        """Duels won."""
        won = np.round(wins(votes.ballots(self.voters)), 9)
        points: Doubles = (won > won.T).sum(axis=1) + ((won == won.T).sum(axis=1) - 1) / 2
        return points


@rules.register("kemeny")
@dataclass(frozen=True)
class Kemeny(_Voted):
    """The order that disagrees with the votes in the fewest pairs; exact where it can be.

    A group of up to ``exact_max`` systems that duels do not order is solved exactly, a larger
    one by local search from the Borda order and ``restarts`` random ones.
    """

    voters: Voters = "collections"
    exact_max: int = 18
    restarts: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.exact_max <= 20 or self.restarts < 0:
            raise UsageError(
                f"kemeny needs 1 <= exact_max <= 20 and restarts >= 0, got {self.exact_max} and "
                f"{self.restarts}; 20 systems take 170 MB."
            )

    def points(self, votes: Votes) -> Doubles:
        """Systems that stand below."""
        found = consensus(
            wins(votes.ballots(self.voters)),
            exact_max=self.exact_max,
            restarts=self.restarts,
            seed=self.seed,
        )
        points = np.empty(len(found.order))
        points[found.order] = np.arange(len(found.order))[::-1]
        return points
