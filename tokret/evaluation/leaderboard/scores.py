"""Scores of systems on tasks, query by query: what a leaderboard is made from.

A task is a measure on a collection, or a column of somebody's table. Axes of this folder:
``n`` systems, ``T`` tasks, ``V`` votes (the queries of all tasks, laid end to end), ``B``
bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tokret.errors import InputError, UsageError
from tokret.registry import did_you_mean

Doubles = NDArray[np.float64]
Missing = Literal["refuse", "drop", "partial"]
SHOWN = 5  # names in a message


class Task(NamedTuple):
    """A column of a leaderboard. Tasks of one collection have its queries in common."""

    name: str
    collection: str


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores [n, V], a higher one better, NaN where a system has none.

    Task ``t`` owns columns ``offsets[t]:offsets[t + 1]``, one a query; a task that is known
    by one number a system has one column. Raises InputError for an infinite score, a name
    that comes twice, a task or a system without a score, and fewer than two systems.
    """

    systems: tuple[str, ...]
    tasks: tuple[Task, ...]
    values: Doubles
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        n, columns = self.values.shape
        if n != len(self.systems) or columns != self.offsets[-1] or len(self.tasks) == 0:
            raise InputError(
                f"Scores must be [systems, votes] = [{len(self.systems)}, {self.offsets[-1]}] "
                f"of at least one task, got {list(self.values.shape)}."
            )
        if n < 2:
            raise InputError(
                f"One system ({self.systems[0]!r}) cannot be ranked; wanted two or more."
                if n
                else "There are no scores; wanted two or more systems."
            )
        _refuse_twice("system", self.systems)
        _refuse_twice("task", [task.name for task in self.tasks])
        if np.isinf(self.values).any():
            i, column = np.argwhere(np.isinf(self.values))[0]
            raise InputError(
                f"{self.systems[i]!r} has an infinite score on {self._task_of(column)!r}; "
                "wanted finite numbers, or nothing where there is no score."
            )
        seen = ~np.isnan(self.values)
        for t, task in enumerate(self.tasks):
            if not seen[:, self.columns(t)].any():
                raise InputError(f"No system has a score on {task.name!r}; leave the task out.")
        silent = [s for s, row in zip(self.systems, seen, strict=True) if not row.any()]
        if silent:
            raise InputError(f"No scores at all: {some_of(silent)}; leave these systems out.")
        if not (seen.sum(axis=0) > 1).any():
            raise InputError(
                "No two systems have a score on the same task and query: there is nothing to "
                "compare. Are the names of tasks and the ids of queries the same for all?"
            )
        sizes: dict[str, int] = {}
        for t, task in enumerate(self.tasks):
            size = int(self.offsets[t + 1] - self.offsets[t])
            if sizes.setdefault(task.collection, size) != size:
                raise InputError(
                    f"Tasks of {task.collection!r} have {sizes[task.collection]} and {size} "
                    "queries; tasks of one collection have the same."
                )

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, object]]) -> Scores:
        """Read ``{system: {task: score}}`` or ``{system: {task: {query: score}}}``.

        A score that is absent or None is missing. Each task is a collection of its own.
        Raises InputError for a score that is not a finite number.
        """
        cells: dict[tuple[str, str, str], float] = {}
        for system, by_task in table.items():
            if not isinstance(by_task, Mapping):
                raise InputError(
                    f"{system!r} holds {by_task!r}; wanted tasks with scores: "
                    '{"system": {"task": 0.5}}.'
                )
            for task, score in by_task.items():
                by_query = score if isinstance(score, Mapping) else {"": score}
                for query, value in by_query.items():
                    where = f"{system!r} on {task!r}" + (f", query {query!r}" if query else "")
                    cells[str(system), str(task), str(query)] = number(value, where)
        return gathered(cells, {task: task for _, task, _ in cells}, table)

    def columns(self, task: int) -> slice:
        """Where the votes of a task stand."""
        return slice(int(self.offsets[task]), int(self.offsets[task + 1]))

    @property
    def queries(self) -> int:
        """How many votes there are in all tasks together."""
        return int(self.offsets[-1])

    @property
    def by_query(self) -> bool:
        """Whether some task is known query by query."""
        return self.queries > len(self.tasks)

    @property
    def collections(self) -> tuple[str, ...]:
        """Names of collections, in the order of their first task."""
        return tuple(dict.fromkeys(task.collection for task in self.tasks))

    def gaps(self) -> dict[str, list[str]]:
        """Name the tasks on which each incomplete system misses a score."""
        empty = np.isnan(self.values)
        return {
            system: [task.name for t, task in enumerate(self.tasks) if row[self.columns(t)].any()]
            for system, row in zip(self.systems, empty, strict=True)
            if row.any()
        }

    def complete(self, missing: Missing) -> tuple[Scores, tuple[str, ...]]:
        """Apply the policy for missing scores; also name the systems that it leaves out.

        ``refuse`` raises InputError where one is missing, ``drop`` leaves out systems that
        miss one, ``partial`` lets each vote count among the systems that it knows.
        """
        if missing not in get_args(Missing):
            known = ", ".join(get_args(Missing))
            raise UsageError(f"No policy {missing!r} for missing scores; known: {known}.")
        gaps = self.gaps()
        if not gaps or missing == "partial":
            return self, ()
        if missing == "refuse":
            system, tasks = next(iter(gaps.items()))
            count = "1 system lacks" if len(gaps) == 1 else f"{len(gaps)} systems lack"
            raise InputError(
                f"{count} scores, first {system!r} on {some_of(tasks)}. "
                "missing='drop' leaves such systems out, missing='partial' counts each task and "
                "query among the systems that have it."
            )
        kept = [s for s in self.systems if s not in gaps]
        if len(kept) < 2:
            raise InputError(
                f"{len(gaps)} of {len(self.systems)} systems lack scores, so that dropping them "
                f"leaves {len(kept)}; wanted two or more. missing='partial' keeps all."
            )
        return self.select(systems=kept), tuple(gaps)

    def select(
        self, systems: Iterable[str] | None = None, tasks: Iterable[str] | None = None
    ) -> Scores:
        """Keep some systems and tasks, in the order given; UsageError for an unknown name."""
        rows = _places("system", self.systems, systems)
        chosen = _places("task", [task.name for task in self.tasks], tasks)
        parts = [self.values[rows, self.columns(t)] for t in chosen]
        sizes = [part.shape[1] for part in parts]
        return Scores(
            tuple(self.systems[i] for i in rows),
            tuple(self.tasks[t] for t in chosen),
            np.concatenate(parts, axis=1) if parts else np.empty((len(rows), 0)),
            np.cumsum([0, *sizes], dtype=np.int64),
        )

    def negated(self, tasks: Iterable[str]) -> Scores:
        """Turn tasks round of which a lower score is better; UsageError for an unknown name."""
        values = self.values.copy()
        for t in _places("task", [task.name for task in self.tasks], list(tasks)):
            values[:, self.columns(t)] *= -1
        return Scores(self.systems, self.tasks, values, self.offsets)

    def _task_of(self, column: int) -> str:
        return self.tasks[int(np.searchsorted(self.offsets, column, side="right")) - 1].name


def gathered(
    cells: Mapping[tuple[str, str, str], float],
    collections: Mapping[str, str],
    systems: Iterable[str] = (),
) -> Scores:
    """Lay out scores by system, task and query; ``collections`` holds each task's.

    Queries of a collection are those that any system has on any of its tasks.
    """
    rows = {s: i for i, s in enumerate(dict.fromkeys([*systems, *(s for s, _, _ in cells)]))}
    queries: dict[str, dict[str, int]] = {collection: {} for collection in collections.values()}
    for _, task, query in cells:
        known = queries[collections[task]]
        known.setdefault(query, len(known))
    sizes = [len(queries[collection]) for collection in collections.values()]
    offsets = np.cumsum([0, *sizes], dtype=np.int64)
    start = dict(zip(collections, offsets.tolist(), strict=False))
    values = np.full((len(rows), int(offsets[-1])), np.nan)
    for (system, task, query), score in cells.items():
        values[rows[system], start[task] + queries[collections[task]][query]] = score
    tasks = tuple(Task(name, collection) for name, collection in collections.items())
    return Scores(tuple(rows), tasks, values, offsets)


def number(value: object, where: str) -> float:
    """Read a score; None is a missing one. Raises InputError for what is no finite number."""
    if value is None:
        return float("nan")
    numeric = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    score = float(value) if numeric else float("nan")  # type: ignore[arg-type]
    if not np.isfinite(score):
        raise InputError(
            f"{where}: the score is {value!r}; wanted a finite number, "
            "or nothing where there is no score."
        )
    return score


def some_of(names: Sequence[str]) -> str:
    """Write out the first names of many."""
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _places(kind: str, names: Sequence[str], wanted: Iterable[str] | None) -> list[int]:
    if wanted is None:
        return list(range(len(names)))
    places = {name: i for i, name in enumerate(names)}
    chosen = list(wanted)
    for name in chosen:
        if name not in places:
            raise UsageError(
                f"No {kind} {name!r}.{did_you_mean(name, names)} There are: {some_of(names)}."
            )
    return [places[name] for name in chosen]


def _refuse_twice(kind: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"The {kind} {name!r} comes twice; wanted each {kind} once.")
        seen.add(name)
