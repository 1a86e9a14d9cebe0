"""Scores from run files: every system's measures on every collection, query by query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tokret.collections import Qrels, self_matches
from tokret.errors import InputError, UsageError
from tokret.evaluation.leaderboard.scores import Scores, gathered, some_of
from tokret.evaluation.measures import AnyRun, evaluate

DEFAULT_MEASURES = ("nDCG@10",)


def score_runs(
    runs: Mapping[str, Mapping[str, AnyRun]],
    qrels: Mapping[str, Qrels],
    measures: str | Iterable[str] = DEFAULT_MEASURES,
) -> tuple[Scores, tuple[str, ...]]:
    """Measure ``{collection: {system: run}}`` against ``{collection: qrels}``.

    A task is a measure on a collection. A system without a run on a collection misses its
    scores there; a judged query without results counts 0. Also returns notes for a reader.
    Raises UsageError for a collection without qrels, and what ``evaluate`` raises.
    """
    cells: dict[tuple[str, str, str], float] = {}
    collections: dict[str, str] = {}
    notes = []
    for collection, by_system in runs.items():
        if collection not in qrels:
            raise UsageError(
                f"No qrels for the collection {collection!r}; there are: {some_of(list(qrels))}."
            )
        policy = self_matches(collection, None)
        for system, run in by_system.items():
            try:
                report = evaluate(
                    run, qrels[collection], measures, remove_self=policy.drop, per_query=True
                )
            except InputError as error:
                raise InputError(f"{system} on {collection}: {error}") from error
            notes += [f"{system} on {collection}: {note}" for note in report.notes]
            for measure, by_query in report.per_query.items():
                task = f"{collection} {measure}"
                collections[task] = collection
                for query, value in by_query.items():
                    cells[system, task, query] = value
        if policy.drop:
            notes.append(policy.reason)
    return gathered(cells, collections), tuple(notes)
