"""Score tables: CSV, TSV, JSON and JSONL, wide or long, and tokret's own records.

A table has a column of systems; it may have columns of queries and of tasks (collection,
measure); all others hold scores. ``Columns`` names them where their names do not tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tokret.errors import InputError, UsageError
from tokret.evaluation.leaderboard.rows import Row, read_rows
from tokret.evaluation.leaderboard.scores import Scores, gathered, number, some_of
from tokret.registry import did_you_mean

SYSTEM = ("system", "run", "model", "name")
QUERY = ("query", "query_id", "query-id", "qid", "instance", "topic")
TASK = ("collection", "dataset", "task")
MEASURE = ("measure", "metric")
ABSENT = frozenset(("", "-", "–", "—", "na", "n/a", "none", "null"))
AVERAGES = frozenset(("score", "average", "avg", "mean", "overall", "total"))


@dataclass(frozen=True)
class Columns:
    """Which columns are what, where their names do not tell.

    ``drop`` are left out. With ``measures``, only these count, be they columns or names in a
    column of measures. Of the tasks in ``lower`` a lower score is better.
    """

    system: str | None = None
    query: str | None = None
    task: Sequence[str] = ()
    drop: Sequence[str] = ()
    measures: Sequence[str] = ()
    lower: Sequence[str] = ()


class Read(NamedTuple):
    """Scores, and what a reader of them should know."""

    scores: Scores
    notes: tuple[str, ...]


class _Roles(NamedTuple):
    system: str
    query: str | None
    tasks: tuple[str, ...]
    measures: tuple[str, ...]  # those of `tasks` that name a measure, not a collection
    scores: tuple[str, ...]


USUAL = Columns()


def read_scores(sources: str | Path | Iterable[str | Path], columns: Columns = USUAL) -> Read:
    """Read one table or several; ``-`` is standard input, .gz and .zst are unpacked.

    Every row has the scores of one system: on all tasks (wide) or on one (long), for all
    queries or, with a column of queries, for one. An empty cell, ``-``, ``NA`` and null are
    missing scores. Raises InputError, with file and line, for NaN, text in place of a
    number, a score given twice and rows of another length; UsageError for a column that is
    not there.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    cells: dict[tuple[str, str, str], float] = {}
    seen: dict[tuple[str, str, str], str] = {}
    collections: dict[str, str] = {}
    notes: list[str] = []
    for source in sources:
        rows = read_rows(source)
        if not rows:
            raise InputError(f"{source}: no rows in it; wanted one or more for each system.")
        roles = _roles(str(source), rows, columns)
        stem = "table" if str(source) == "-" else Path(source).name.partition(".")[0]
        notes += _doubts(rows, roles)
        if columns.measures:
            rows, roles = _measured(str(source), rows, roles, columns.measures)
        notes += _several(rows, roles)
        for row in rows:
            for (system, task, query), collection, score in _cells(row, roles, stem):
                key = system, task, query
                if key in seen:
                    raise InputError(_twice(row, key, seen[key], roles))
                if not query and collections.get(task, collection) != collection:
                    raise InputError(f"{row.where}: the task {task!r} is of two collections.")
                seen[key] = row.where
                cells[key] = score
                collections[task] = collection
    scores = gathered(cells, collections)
    if columns.lower:
        scores = scores.negated(columns.lower)
    return Read(scores, tuple(notes))


def _roles(source: str, rows: Sequence[Row], columns: Columns) -> _Roles:
    """Find what each column is, from what was said and from the names."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    for given in (columns.system, columns.query, *columns.task, *columns.drop):
        if given is not None and given not in names:
            raise UsageError(
                f"{source}: no column {given!r}.{did_you_mean(given, names)} "
                f"There are: {some_of(names)}."
            )
    asked = {columns.system, columns.query, *columns.task, *columns.drop}
    free = {name.casefold().strip(): name for name in reversed(names) if name not in asked}
    system = columns.system or next((free[s] for s in SYSTEM if s in free), None)
    if system is None:
        system = next((name for name in names if name not in asked), "")
        if not system or all(_numeric(row.cells.get(system)) for row in rows):
            raise InputError(
                f"{source}: no column names the systems; wanted one called "
                f"{', '.join(SYSTEM)}, or its name as system=. There are: {some_of(names)}."
            )
    query = columns.query or next((free[q] for q in QUERY if q in free and free[q] != system), None)
    tasks = tuple(columns.task) or tuple(
        free[t] for t in (*TASK, *MEASURE) if t in free and free[t] != system
    )
    known = {system, query, *tasks, *columns.drop}
    scores = tuple(name for name in names if name not in known)
    if not scores:
        raise InputError(
            f"{source}: no column is left for scores beside {some_of([n for n in names if n])}."
        )
    measures = tuple(task for task in tasks if task.casefold().strip() in MEASURE)
    return _Roles(system, query, tasks, measures, scores)


def _measured(
    source: str, rows: Sequence[Row], roles: _Roles, wanted: Sequence[str]
) -> tuple[list[Row], _Roles]:
    """Keep the rows of some measures, or the columns, whichever names them."""
    if roles.measures:
        known = list(dict.fromkeys(_name(row, m) for row in rows for m in roles.measures))
        kept = [row for row in rows if any(_name(row, m) in wanted for m in roles.measures)]
    else:
        known, kept = list(roles.scores), list(rows)
        roles = roles._replace(scores=tuple(name for name in known if name in wanted))
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"{source}: no measure {name!r}.{did_you_mean(name, known)} "
                f"There are: {some_of(known)}."
            )
    return kept, roles


def _several(rows: Sequence[Row], roles: _Roles) -> list[str]:
    """Say that each measure votes, where somebody may have wanted one."""
    names = list(dict.fromkeys(_name(row, m) for row in rows for m in roles.measures))
    if len(names) < 2:
        return []
    return [f"{len(names)} measures count as tasks of their own: {some_of(names)}."]


def _cells(row: Row, roles: _Roles, stem: str) -> Iterable[tuple[tuple[str, str, str], str, float]]:
    """Yield system, task and query of each score in a row, its collection, the score."""
    system = _name(row, roles.system)
    query = _name(row, roles.query) if roles.query else ""
    parts = {task: _name(row, task) for task in roles.tasks}
    home = " ".join(v for k, v in parts.items() if k not in roles.measures)
    for column in roles.scores:
        if column not in row.cells:
            continue  # a JSON row may lack a score
        task = " ".join(parts.values())
        if len(roles.scores) > 1 or not task:
            task = f"{task} {column}".strip()
        score = _score(row, column)
        # Without queries or a collection's name, nothing says that two tasks share queries.
        yield (system, task, query), home or (stem if query else task), score


def _name(row: Row, column: str) -> str:
    value = row.cells.get(column)
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text:
        raise InputError(f"{row.where}: nothing in the column {column!r}; wanted a name.")
    return text


def _score(row: Row, column: str) -> float:
    value = row.cells[column]
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in ABSENT:
            return float("nan")
        try:
            if "_" in text:  # a number to Python alone
                raise ValueError
            value = float(text)
        except ValueError:
            raise InputError(
                f"{row.where}: {text!r} in the column {column!r}; wanted a number. A column of "
                "queries or tasks is named as query= or task=, one to leave out as drop=."
            ) from None
    return number(value, f"{row.where}: column {column!r}")


def _numeric(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return value is None or str(value).strip().casefold() in ABSENT
    return True


def _twice(row: Row, key: tuple[str, str, str], first: str, roles: _Roles) -> str:
    system, task, query = key
    what = f"{system!r} on {task!r}" + (f", query {query!r}" if query else "")
    hint = "" if roles.query else " If a row is a query's, name the column of queries as query=."
    return f"{row.where}: {what} comes twice, first in {first}; wanted one score.{hint}"


def _doubts(rows: Sequence[Row], roles: _Roles) -> list[str]:
    """Say what looks like a mistake, but may not be one."""
    notes = []
    if roles.query is not None:
        systems = {_name(row, roles.system) for row in rows}
        queries = {_name(row, roles.query) for row in rows}
        if all(map(str.isdecimal, systems)) and not any(map(str.isdecimal, queries)):
            notes.append(
                f"The {len(systems)} systems in {roles.system!r} are numbers and the "
                f"{len(queries)} queries in {roles.query!r} are not: are these columns swapped?"
            )
    mixed = [name for name in roles.scores if name.casefold().strip() in AVERAGES]
    if len(roles.scores) > 2 and mixed:
        notes.append(
            f"{mixed[0]!r} counts as a task of its own; leave that column out if it is the mean "
            "of the others."
        )
    return notes
