"""What a rule makes of noise and of tasks that lie.

Paper   Colombo et al. 2022 (see rules.py), the experiments on synthetic scores and on
        robustness.
Does    ``simulate``: scores of systems whose true order is known, some tasks replaced by the
        reversed order; the error is the share of pairs that a rule gets wrong. ``reversed_tasks``
        and ``left_out``: the same with a leaderboard of one's own, for its own order.
Costs   A ranking for each repetition.
Departs Utilities are ``phi`` apart and Gumbel noise of scale 1 is added, so a vote is drawn
        from Plackett and Luce's model; a corrupt task gives every query the scores n - 1, ..., 0
        of the reversed order, times ``scale``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tokret.errors import UsageError
from tokret.evaluation.leaderboard.ranks import kendall_distance, kendall_tau
from tokret.evaluation.leaderboard.rules import Rule
from tokret.evaluation.leaderboard.scores import Doubles, Scores, Task
from tokret.evaluation.leaderboard.votes import Votes

KEPT = 0.5  # share of queries, tasks or systems that `left_out` keeps


class Setting(NamedTuple):
    """A synthetic leaderboard: sizes, the step ``phi`` between systems' utilities."""

    systems: int = 10
    tasks: int = 11
    queries: int = 12
    phi: float = 0.3


SETTING = Setting()


class Stability(NamedTuple):
    """Kendall's tau to the whole leaderboard's order, and how often its first stays first."""

    what: str
    rule: str
    tau: float
    lowest: float
    first_stays: float


def simulate(
    rules: Sequence[Rule],
    corrupt: int,
    setting: Setting = SETTING,
    *,
    scale: float = 1.0,
    repetitions: int = 100,
    seed: int = 0,
) -> list[float]:
    """Mean error of each rule, 0 to 1, with ``corrupt`` of the tasks reversed.

    The same scores are given to all rules, and to every ``corrupt`` with the same seed.
    """
    n, tasks, queries, phi = setting
    if not 0 <= corrupt <= tasks:
        raise UsageError(f"{corrupt} of {tasks} tasks cannot be corrupt; 0 to {tasks}.")
    rng = np.random.default_rng(seed)
    truth = np.arange(n, dtype=np.float64)
    names = tuple(f"system {i}" for i in range(n))
    columns = tuple(Task(f"task {t}", f"task {t}") for t in range(tasks))
    errors = np.zeros(len(rules))
    for _ in range(repetitions):
        values = phi * truth[:, None, None] + rng.gumbel(size=(n, tasks, queries))
        values[:, :corrupt] = scale * truth[::-1, None, None]
        flat = values.reshape(n, -1)
        votes = Votes(Scores(names, columns, flat, np.arange(tasks + 1) * queries))
        errors += [kendall_distance(rule.ranks(votes), truth) for rule in rules]
    return [float(error) for error in errors / repetitions / (n * (n - 1) / 2)]


def reversed_tasks(
    scores: Scores, rules: Sequence[Rule], corrupt: int, *, repetitions: int = 50, seed: int = 0
) -> list[Stability]:
    """Turn the scores of ``corrupt`` random tasks upside down, and compare the orders."""
    if not 0 <= corrupt <= len(scores.tasks):
        raise UsageError(f"{corrupt} of {len(scores.tasks)} tasks cannot be reversed.")
    rng = np.random.default_rng(seed)

    def changed() -> Iterator[Scores]:
        names = [task.name for task in scores.tasks]
        for _ in range(repetitions):
            yield scores.negated(rng.choice(names, corrupt, replace=False).tolist())

    noun = "task" if corrupt == 1 else "tasks"
    return _compared(f"{corrupt} {noun} of {len(scores.tasks)} reversed", scores, rules, changed())


def left_out(
    scores: Scores,
    rules: Sequence[Rule],
    what: str,
    *,
    kept: float = KEPT,
    repetitions: int = 50,
    seed: int = 0,
) -> list[Stability]:
    """Keep a random share of the ``queries``, ``tasks`` or ``systems``, and compare orders.

    Of tasks at least one is kept, of systems at least two, of each collection's queries one.
    """
    makers = {"queries": _fewer_queries, "tasks": _fewer_tasks, "systems": _fewer_systems}
    if what not in makers:
        raise UsageError(f"Cannot leave out {what!r}; known: {', '.join(makers)}.")
    rng = np.random.default_rng(seed)
    changed = (makers[what](scores, kept, rng) for _ in range(repetitions))
    return _compared(f"{kept:.0%} of {what} kept", scores, rules, changed)


def _compared(
    what: str, scores: Scores, rules: Sequence[Rule], changed: Iterator[Scores]
) -> list[Stability]:
    whole = Votes(scores)
    before: list[Mapping[str, float]] = [
        dict(zip(scores.systems, rule.ranks(whole), strict=True)) for rule in rules
    ]
    taus: list[list[float]] = [[] for _ in rules]
    firsts: list[list[bool]] = [[] for _ in rules]
    for other in changed:
        votes = Votes(other)
        for i, rule in enumerate(rules):
            now = rule.ranks(votes)
            then = np.array([before[i][system] for system in other.systems])
            taus[i].append(kendall_tau(then, now))
            firsts[i].append(bool(now[np.argmax(then)] == now.max()))
    return [
        Stability(what, str(rule), float(np.nanmean(tau)), float(np.nanmin(tau)),
                  float(np.mean(first)))
        for rule, tau, first in zip(rules, taus, firsts, strict=True)
    ]  # fmt: skip


def _some(rng: np.random.Generator, size: int, kept: float, least: int) -> list[int]:
    many = min(max(round(size * kept), least), size)
    return sorted(rng.choice(size, many, replace=False).tolist())


def _fewer_systems(scores: Scores, kept: float, rng: np.random.Generator) -> Scores:
    chosen = _some(rng, len(scores.systems), kept, 2)
    return scores.select(systems=[scores.systems[i] for i in chosen])


def _fewer_tasks(scores: Scores, kept: float, rng: np.random.Generator) -> Scores:
    chosen = _some(rng, len(scores.tasks), kept, 1)
    return scores.select(tasks=[scores.tasks[t].name for t in chosen])


def _fewer_queries(scores: Scores, kept: float, rng: np.random.Generator) -> Scores:
    chosen: dict[str, list[int]] = {}
    parts: list[Doubles] = []
    for t, task in enumerate(scores.tasks):
        part = scores.values[:, scores.columns(t)]
        if task.collection not in chosen:
            chosen[task.collection] = _some(rng, part.shape[1], kept, 1)
        parts.append(part[:, chosen[task.collection]])
    sizes = [part.shape[1] for part in parts]
    offsets = np.cumsum([0, *sizes], dtype=np.int64)
    return Scores(scores.systems, scores.tasks, np.concatenate(parts, axis=1), offsets)
