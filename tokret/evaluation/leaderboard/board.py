"""A leaderboard: the order, its points and places, how sure they are, and who beats whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from tokret.errors import UsageError
from tokret.evaluation.leaderboard.bootstrap import (
    Resample,
    Resampled,
    bootstrap,
    check_share,
    tiers,
)
from tokret.evaluation.leaderboard.kemeny import Consensus, condorcet_winner, consensus
from tokret.evaluation.leaderboard.ranks import kendall_tau, order_of, places, wins
from tokret.evaluation.leaderboard.rules import Borda, Kemeny, Mean, Rule, Tallied, rules
from tokret.evaluation.leaderboard.scores import Doubles, Missing, Scores, some_of
from tokret.evaluation.leaderboard.votes import Voters, Votes

SCHEMA_VERSION = 1
FEW_TASKS = 5  # fewer give few points to tell systems apart by
FEW_COLLECTIONS = 10  # fewer give few different samples


@dataclass(frozen=True, eq=False)
class Standing:
    """One rule's points [n] and places [n], 1 the best, equals sharing the mean of theirs."""

    rule: str
    points: Doubles
    places: Doubles
    tau: float  # Kendall's, to the first rule's order


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Systems ranked by one rule, others beside it; ``order`` is best first.

    ``won`` [n, n] is the share of ballots with i above j, half of one for a tie; ballots are
    ``voters``' votes. ``interval`` [n, 2], ``above`` [n, n] and ``tier`` [n] are there where
    places were resampled. ``left_out`` names systems that miss scores and are not ranked.
    """

    scores: Scores
    standings: tuple[Standing, ...]
    order: tuple[str, ...]
    won: Doubles
    voters: Voters
    winner: str | None
    consensus: Consensus
    missing: Missing
    left_out: tuple[str, ...] = ()
    confidence: float = 0.95
    resampled: Resampled | None = None
    interval: Doubles | None = None
    above: Doubles | None = None
    tier: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def first(self) -> Standing:
        """The rule that orders the board."""
        return self.standings[0]

    @property
    def drawn_from(self) -> str:
        """What was resampled, in the words of a reader: a column is a task to him."""
        if self.resampled is None:
            return ""
        scores = self.scores
        tasks = "collections" if len(scores.collections) < len(scores.tasks) else "tasks"
        words = {"queries": "queries", "collections": tasks, "both": f"queries and {tasks}"}
        return words[self.resampled.resample]

    def rows(self) -> list[dict[str, Any]]:
        """One mapping a system, best first, ready for ``json.dumps``."""
        at = {system: i for i, system in enumerate(self.scores.systems)}
        out = []
        for system in self.order:
            i = at[system]
            row: dict[str, Any] = {"system": system, "place": float(self.first.places[i])}
            if self.interval is not None and self.tier is not None:
                row["interval"] = [float(x) for x in self.interval[i]]
                row["tier"] = int(self.tier[i])
            row["rules"] = {
                s.rule: {"place": float(s.places[i]), "points": float(s.points[i])}
                for s in self.standings
            }
            out.append(row)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``; matrices in the order of ``systems``."""
        scores, drawn = self.scores, self.resampled
        at = [scores.systems.index(system) for system in self.order]
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "tokret.leaderboard",
            "systems": list(self.order),
            "rows": self.rows(),
            "tasks": [
                {**task._asdict(), "queries": int(scores.offsets[t + 1] - scores.offsets[t])}
                for t, task in enumerate(scores.tasks)
            ],
            "rules": [{"rule": s.rule, "tau": _finite(s.tau)} for s in self.standings],
            "voters": self.voters,
            "won": self.won[np.ix_(at, at)].tolist(),
            "condorcet_winner": self.winner,
            "kemeny": {
                "order": [scores.systems[i] for i in self.consensus.order],
                "cost": self.consensus.cost,
                "bound": self.consensus.bound,
                "exact": self.consensus.exact,
                "optima": self.consensus.optima,
            },
            "missing": self.missing,
            "left_out": list(self.left_out),
            "bootstrap": None
            if drawn is None or self.above is None
            else {
                "samples": drawn.places.shape[1],
                "resample": drawn.resample,
                "confidence": self.confidence,
                "seed": drawn.seed,
                "above": self.above[np.ix_(at, at)].tolist(),
            },
            "notes": list(self.notes),
        }


def rank_systems(
    scores: Scores,
    rule_names: Sequence[str | Rule] | None = None,
    *,
    missing: Missing = "refuse",
    voters: Voters = "collections",
    samples: int = 1000,
    resample: Resample | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Leaderboard:
    """Rank by the first rule, with the others beside it; ``samples=0`` gives no intervals.

    By default ``borda``, beside it ``borda(levels=1)`` where there are queries, ``kemeny`` and
    ``mean``.

    ``voters`` are who votes in the duels and for Kemeny's order: each query, or each task by
    the order that its queries give. Raises UsageError for an unknown rule or policy, and
    where nothing can be resampled as asked; InputError for scores that the policy refuses.
    """
    if voters not in get_args(Voters):
        raise UsageError(f"No voters {voters!r}; known: {', '.join(get_args(Voters))}.")
    pooled: tuple[Rule, ...] = (Borda(levels=1),) if scores.by_query else ()  # else the same
    usual: tuple[Rule, ...] = (Borda(), *pooled, Kemeny(voters), Mean())
    chosen = usual if rule_names is None else tuple(rules.build(rule) for rule in rule_names)
    if not chosen:
        raise UsageError(f"Name at least one rule; known: {', '.join(rules.names())}.")
    check_share("confidence", confidence)
    whole, left = scores.complete(missing)
    votes = Votes(whole)
    ranks = [rule.ranks(votes) for rule in chosen]
    standings = tuple(
        Standing(str(rule), rule.points(votes), places(rank), kendall_tau(ranks[0], rank))
        for rule, rank in zip(chosen, ranks, strict=True)
    )
    won = wins(votes.ballots(voters))
    best = condorcet_winner(np.round(won, 9))
    order = order_of(ranks[0])
    drawn = interval = above = tier = None
    can = chosen[0].resampled and (whole.by_query or len(whole.collections) > 1)
    if samples and (can or resample is not None):
        rule = cast(Tallied, chosen[0])
        drawn = bootstrap(votes, rule, samples=samples, resample=resample, seed=seed)
        interval, above = drawn.intervals(confidence), drawn.above()
        tier = tiers(order, above, confidence)
    return Leaderboard(
        scores=whole,
        standings=standings,
        order=tuple(whole.systems[i] for i in order),
        won=_share(won),
        voters=voters,
        winner=None if best is None else whole.systems[best],
        consensus=_consensus(chosen, won, voters),
        missing=missing,
        left_out=left,
        confidence=confidence,
        resampled=drawn,
        interval=interval,
        above=above,
        tier=tier,
        notes=(
            *_policy_notes(whole, left, missing),
            *_tie_notes(whole, standings[0]),
            *_sample_notes(whole, chosen[0], drawn, samples),
        ),
    )


def _consensus(chosen: Sequence[Rule], won: Doubles, voters: Voters) -> Consensus:
    for rule in chosen:
        if isinstance(rule, Kemeny) and rule.voters == voters:
            return consensus(won, exact_max=rule.exact_max, restarts=rule.restarts, seed=rule.seed)
    return consensus(won)


def _share(won: Doubles) -> Doubles:
    total = won + won.T
    share: Doubles = np.divide(won, total, out=np.full(won.shape, 0.5), where=total > 0)
    return share


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _policy_notes(scores: Scores, left: tuple[str, ...], missing: Missing) -> Iterator[str]:
    if left:
        yield f"Not ranked, for they lack scores: {some_of(left)}."
    gaps = scores.gaps()
    if gaps and missing == "partial":
        yield (
            f"{len(gaps)} systems lack scores ({some_of(list(gaps))}): each vote counts among the "
            "systems that it knows, and means are over other tasks for each of them."
        )


def _tie_notes(scores: Scores, first: Standing) -> Iterator[str]:
    shared = len(first.places) - len(np.unique(first.places))
    told = len(first.points) - len(np.unique(first.points)) - shared
    if told > 0:
        ties = "1 tie" if told == 1 else f"{told} ties"
        yield f"{first.rule} has {ties} that borda(levels=1) broke."
    if shared:
        some = "1 system shares its" if shared == 1 else f"{shared} systems share their"
        yield f"{some} place with the one before."
    tasks = len(scores.tasks)
    if first.rule == "borda" and 1 < tasks < FEW_TASKS:
        beside = "; see borda(levels=1) beside it" if scores.by_query else ""
        yield f"{tasks} tasks give few points to tell systems apart by{beside}."


def _sample_notes(
    scores: Scores, rule: Rule, drawn: Resampled | None, samples: int
) -> Iterator[str]:
    if drawn is None and samples:
        reason = "there is one task, and one score in it for each system"
        if not rule.resampled:
            reason = f"{rule} is too slow to be resampled"
        yield f"No intervals: {reason}."
    collections = len(scores.collections)
    if drawn is not None and drawn.resample != "queries" and collections < FEW_COLLECTIONS:
        yield (
            f"{collections} collections are few to draw from: the intervals say little about "
            "other collections."
        )
