"""A run joined with its judgements: all that a rank measure sees, in flat arrays.

Rankings lie end to end, those of all judged queries in the order of their ids. What a
measure needs of a ranked document is its grade and whether its score ties with the one
before, 5 bytes in all; document ids are kept only as far as asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.collections.run import Run
from tokret.errors import InputError, UsageError
from tokret.types import Ints, Mask

Doubles = NDArray[np.float64]
Grades = NDArray[np.int32]
Qrels = Mapping[str, Mapping[str, int]]

UNJUDGED = int(np.iinfo(np.int32).min)  # stands for the grade of a document without one
MAX_GRADE = 10**6  # trec_eval makes a table as long as the highest grade
EXAMPLES = 3  # ids that an error shows


@dataclass(frozen=True, eq=False)
class Graded:
    """Grades of ranked documents [D], best first within each of the judged queries [Q].

    Query ``q`` owns ``grades[offsets[q]:offsets[q + 1]]``; ``tied`` [D] says that the score
    is that of the document before. ``ideal`` holds all grades of a query's judgements, the
    highest first, between its own offsets. ``heads`` are the first documents of a query with
    their scores, as many as were asked for.
    """

    queries: tuple[str, ...]
    grades: Grades
    tied: Mask
    offsets: Ints
    ideal: Grades
    ideal_offsets: Ints
    heads: Mapping[str, list[tuple[str, float]]] = field(default_factory=dict)
    n_self: int = 0
    n_unjudged: int = 0
    remove_self: bool = False

    @property
    def query(self) -> Ints:
        """The number of the query that each ranked document [D] belongs to."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.offsets))

    @property
    def rank(self) -> Ints:
        """Ranks [D], from 0 in every query."""
        return np.arange(len(self.grades)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    def one(self, query_id: str) -> Graded:
        """Leave one query alone. Raises UsageError where it is not judged."""
        if query_id not in self.queries:
            raise UsageError(
                f"No judged query {query_id!r}; judged are {_some(self.queries)}"
                f"{', ...' if len(self.queries) > EXAMPLES else ''}."
            )
        q = self.queries.index(query_id)
        hits = slice(*self.offsets[q : q + 2].tolist())
        judged = slice(*self.ideal_offsets[q : q + 2].tolist())
        return replace(
            self,
            queries=(query_id,),
            grades=self.grades[hits],
            tied=self.tied[hits],
            offsets=self.offsets[q : q + 2] - self.offsets[q],
            ideal=self.ideal[judged],
            ideal_offsets=self.ideal_offsets[q : q + 2] - self.ideal_offsets[q],
        )


def graded(
    found: Iterable[tuple[str, Mapping[str, float]]],
    judged: Mapping[str, Mapping[str, int]],
    *,
    remove_self: bool = False,
    check_ids: bool = True,
    keep: int | Mapping[str, int] = 0,
) -> Graded:
    """Join rankings, each query once and best first, with judgements that were checked.

    One query is held at a time. ``keep`` is the length of the heads, of every query or by
    query. Raises InputError for a
    run that is empty or shares no query or no document with the judgements, unless
    ``check_ids`` is False.
    """
    rows: dict[str, tuple[Grades, Mask]] = {}
    heads: dict[str, list[tuple[str, float]]] = {}
    strangers: list[str] = []
    unknown: list[str] = []
    known: set[str] = set()
    met = not check_ids
    n_self = n_unjudged = 0
    for query_id, scores in found:
        grades = judged.get(query_id)
        if grades is None:
            n_unjudged += 1
            if len(strangers) < EXAMPLES:
                strangers.append(query_id)
            continue
        if remove_self and query_id in scores:
            n_self += 1
            scores = {doc_id: s for doc_id, s in scores.items() if doc_id != query_id}
        row = np.fromiter(map(grades.get, scores, repeat(UNJUDGED)), np.int32, len(scores))
        values = np.fromiter(scores.values(), np.float64, len(scores))
        tied = np.zeros(len(row), np.bool_)
        np.equal(values[1:], values[:-1], out=tied[1:])
        rows[query_id] = row, tied
        met = met or bool((row != UNJUDGED).any())
        if not met:  # perhaps its documents are judged for other queries
            known = known or {doc_id for other in judged.values() for doc_id in other}
            met = not known.isdisjoint(scores)
            unknown += islice(scores, EXAMPLES - len(unknown))
        length = keep if isinstance(keep, int) else keep.get(query_id, 0)
        if length:
            heads[query_id] = list(islice(scores.items(), length))
    if check_ids:
        _refuse_strangers(rows, strangers, () if met else unknown, known, judged)
    queries = tuple(sorted(judged))
    nothing = np.empty(0, np.int32), np.empty(0, np.bool_)
    parts = [rows.get(query_id, nothing) for query_id in queries]
    ideals = [-np.sort(-np.fromiter(judged[q].values(), np.int32, len(judged[q]))) for q in queries]
    return Graded(
        queries,
        np.concatenate([row for row, _ in parts]),
        np.concatenate([tied for _, tied in parts]),
        _offsets([len(row) for row, _ in parts]),
        np.concatenate(ideals),
        _offsets([len(ideal) for ideal in ideals]),
        heads,
        n_self,
        n_unjudged,
        remove_self,
    )


def as_run(run: Any) -> Run:  # noqa: ANN401
    """Order results of any form; InputError for NaN, infinity or a document twice."""
    return Run.of(run.ranking if isinstance(run, Run) else run)  # a Run may be made by hand


def checked_qrels(qrels: Qrels) -> dict[str, Mapping[str, int]]:
    """Leave out queries without judgements; refuse what no measure could be taken against."""
    if not isinstance(qrels, Mapping):
        raise UsageError(
            f"Qrels map query ids to grades, got {type(qrels).__name__}; read_qrels reads a file."
        )
    judged = {str(query_id): grades for query_id, grades in qrels.items() if grades}
    relevant = False
    for query_id, grades in judged.items():
        for doc_id, grade in grades.items():
            if type(grade) is not int or abs(grade) > MAX_GRADE:
                raise InputError(
                    f"The grade of document {doc_id!r} for query {query_id!r} is {grade!r}; "
                    f"grades are whole numbers of at most {MAX_GRADE:,}."
                )
            relevant = relevant or grade >= 1
    if not judged:
        raise InputError("The qrels hold no judgement; there is nothing to measure against.")
    if not relevant:
        raise InputError(
            f"None of the {len(judged)} judged queries has a document of grade 1 or more: "
            "every run would get 0."
        )
    return judged


def _refuse_strangers(
    rows: Collection[str],
    strangers: Collection[str],
    unknown: Collection[str],
    known: Collection[str],
    judged: Qrels,
) -> None:
    """Refuse a run of other ids: its 0 would say nothing about the system."""
    if not rows and not strangers:
        raise InputError("The run is empty.")
    if not rows:
        raise InputError(
            "The run and the qrels share no query: the run has "
            f"{_some(strangers)}, the qrels {_some(judged)}. Are they of one collection and split?"
        )
    if unknown:
        raise InputError(
            "No document of the run is judged for any query: the run has "
            f"{_some(unknown)}, the qrels {_some(known)}. Are the ids of one collection?"
        )


def _some(ids: Iterable[str]) -> str:
    first = sorted(ids)[:EXAMPLES]
    return ", ".join(repr(i if len(i) <= 40 else i[:37] + "...") for i in first)


def _offsets(lengths: list[int]) -> Ints:
    return np.cumsum([0, *lengths], dtype=np.int64)
