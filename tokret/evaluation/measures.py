"""Measures of a run against judgements, with the policy beside the number.

ir_measures computes each query's value. What tools disagree on is settled here,
before it sees the run: ties are broken by document id and the scores replaced by
falling whole numbers, so every provider reads the same order; every judged query
counts, one without results as 0; the mean does not depend on any order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokret.collections.runs import Run
from tokret.errors import InputError, UsageError
from tokret.evaluation.names import measures_named, provider
from tokret.types import Hit

if TYPE_CHECKING:
    from ir_measures import Measure

AnyRun = Run | Mapping[str, Mapping[str, float] | Iterable[Hit | tuple[str, float]]]
Qrels = Mapping[str, Mapping[str, int]]

DEFAULT_MEASURES = ("nDCG@10", "R@100")
MAX_GRADE = 10**6  # trec_eval makes a table as long as the highest grade
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """Values of measures, and what they stand on.

    ``values`` maps a measure to its mean over the judged queries; ``per_query`` a
    measure to each query's value, and is empty unless asked for. ``policy`` says how
    the numbers were made and counts what was met; ``notes`` are sentences for a reader.
    """

    values: dict[str, float]
    policy: dict[str, Any]
    per_query: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, measure: str) -> float:
        return self.values[measure]

    @property
    def policy_line(self) -> str:
        """The policy in one line, to print beside the numbers."""
        p = self.policy
        removed = f" ({p['n_self']} removed)" if p["self_matches"] == "removed" else ""
        return (
            f"{p['n_queries']} judged queries, {p['n_missing']} of them without results (count 0); "
            f"ties by document id ({p['n_ties']}); "
            f"self-matches {p['self_matches']}{removed}; gain = grade; "
            f"unjudged queries ignored ({p['n_unjudged']})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        out: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "values": dict(self.values),
            "policy": dict(self.policy),
            "notes": list(self.notes),
        }
        if self.per_query:
            out["per_query"] = {m: dict(values) for m, values in self.per_query.items()}
        return out


def evaluate(
    run: AnyRun,
    qrels: Qrels,
    measures: str | Measure | Iterable[str | Measure] = DEFAULT_MEASURES,
    *,
    remove_self: bool = False,
    per_query: bool = False,
    check_ids: bool = True,
) -> Report:
    """Measure ``run`` (query -> documents with scores) against ``qrels`` (query -> grades).

    A query's results are a mapping from document to score, or hits, or pairs; a higher
    score is better and the order they come in means nothing. ``remove_self`` drops a
    document whose id is the query's. ``check_ids=False`` lets a run pass that shares no
    id with the qrels, where both are known to name the same collection.

    Raises UsageError for a measure that is unknown, InputError for a score that is not
    finite, a document given twice, a grade that is not a whole number, qrels without a
    relevant document, and a run that shares no query or no document with the qrels.
    """
    wanted = measures_named(measures)
    judged = _checked_qrels(qrels)
    found = as_run(run).ranking
    rankings = {query_id: list(found.get(query_id, ())) for query_id in sorted(judged)}
    scores = {query_id: found[query_id] for query_id in judged if query_id in found}
    n_self = 0
    if remove_self:
        n_self = sum(query_id in ranking for query_id, ranking in rankings.items())
        rankings = {q: [d for d in ranking if d != q] for q, ranking in rankings.items()}
    if check_ids:
        _refuse_strangers(found, rankings, judged)
    tied = [len(by_doc) - len(set(by_doc.values())) for by_doc in scores.values()]
    computed = _values(wanted, judged, rankings)
    values = {m: {q: by_query[q] for q in rankings} for m, by_query in computed.items()}
    policy: dict[str, Any] = {
        "gain": "the grade, discounted by log2(rank + 1)",
        "ties": "score descending, then document id ascending",
        "missing_queries": "count 0",
        "self_matches": "removed" if remove_self else "kept",
        "n_queries": len(judged),
        "n_missing": sum(not ranking for ranking in rankings.values()),
        "n_unjudged": sum(query_id not in judged for query_id in found),
        "n_no_relevant": sum(max(grades.values()) < 1 for grades in judged.values()),
        "n_ties": sum(tied),
        "n_tied_queries": sum(n > 0 for n in tied),
        "n_self": n_self,
    }
    return Report(
        values={str(m): _total(m, values[str(m)].values()) for m in wanted},
        policy=policy,
        per_query=values if per_query else {},
        notes=_notes(policy),
    )


def as_run(run: AnyRun) -> Run:
    """Order results of any form; InputError for NaN, infinity or a document twice."""
    return Run.of(run.ranking if isinstance(run, Run) else run)  # a Run may be made by hand


def _checked_qrels(qrels: Qrels) -> dict[str, dict[str, int]]:
    if not isinstance(qrels, Mapping):
        raise UsageError(
            f"Qrels map query ids to grades, got {type(qrels).__name__}; read_qrels reads a file."
        )
    judged = {str(query_id): dict(grades) for query_id, grades in qrels.items() if grades}
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
    run: Collection[str], rankings: Mapping[str, Sequence[str]], judged: Qrels
) -> None:
    """Refuse a run of other ids: its 0 would say nothing about the system."""
    if not run:
        raise InputError("The run is empty.")
    if not any(query_id in judged for query_id in run):
        raise InputError(
            "The run and the qrels share no query: the run has "
            f"{_some(run)}, the qrels {_some(judged)}. Are they of one collection and split?"
        )
    known = {doc_id for grades in judged.values() for doc_id in grades}
    found = {doc_id for ranking in rankings.values() for doc_id in ranking}
    if found and known.isdisjoint(found):
        raise InputError(
            "No document of the run is judged for any query: the run has "
            f"{_some(found)}, the qrels {_some(known)}. Are the ids of one collection?"
        )


def _some(ids: Iterable[str]) -> str:
    first = sorted(ids)[:3]
    return ", ".join(repr(i if len(i) <= 40 else i[:37] + "...") for i in first)


def _values(
    wanted: Sequence[Measure],
    judged: dict[str, dict[str, int]],
    rankings: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, float]]:
    """Each measure's value for each judged query."""
    # trec_eval keeps scores in float32, where close doubles tie: whole numbers do not.
    strict = {
        query_id: {doc_id: len(ranking) - i for i, doc_id in enumerate(ranking)}
        for query_id, ranking in rankings.items()
    }
    answered = {query_id: docs for query_id, docs in strict.items() if docs}
    means = [m for m in wanted if not _is_sum(m)]
    sums = [m for m in wanted if _is_sum(m)]
    values: dict[str, dict[str, float]] = {str(m): {} for m in wanted}
    for measures, given in ((means, answered), (sums, strict)):
        if measures:
            for metric in provider().iter_calc(measures, judged, given):
                values[str(metric.measure)][metric.query_id] = float(metric.value)
    return values


def _is_sum(measure: Measure) -> bool:
    """Tell a count such as NumRel: it is added up, and owes a value to empty queries too."""
    import ir_measures

    return isinstance(measure.aggregator(), ir_measures.SumAgg)


def _total(measure: Measure, values: Collection[float]) -> float:
    total = math.fsum(values)  # exactly rounded, so that no order of queries changes a digit
    return total if _is_sum(measure) else total / len(values)


def _notes(policy: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if policy["n_missing"]:
        notes.append(
            f"{policy['n_missing']} of {policy['n_queries']} judged queries have no results; "
            "each counts 0."
        )
    if policy["n_ties"]:
        notes.append(
            f"{policy['n_ties']} results in {policy['n_tied_queries']} queries share the score of "
            "the one before; they were put in the order of document ids. Other tools may differ."
        )
    if policy["n_no_relevant"]:
        notes.append(
            f"{policy['n_no_relevant']} judged queries have no relevant document; each counts 0."
        )
    return tuple(notes)
