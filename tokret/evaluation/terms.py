"""A measure of one query, term by term: where the number comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tokret.errors import UsageError
from tokret.evaluation import rank_measures, ties
from tokret.evaluation.definition import definition
from tokret.evaluation.graded import UNJUDGED, Graded, Qrels
from tokret.evaluation.measures import AnyRun, Range, joined
from tokret.evaluation.names import measure_named
from tokret.evaluation.rank_measures import NO_CUTOFF, cutoff_of

if TYPE_CHECKING:
    from ir_measures import Measure

EVERY_RANK = 1 << 31  # documents of one query that may be kept by name


class Term(NamedTuple):
    """What one rank adds. ``doc_id`` is None in the ideal ranking: grades make it, not names.

    ``grade`` is None for an unjudged document; ``sum`` is the sum of the terms so far;
    ``tied`` says that the score is that of the document before.
    """

    rank: int
    doc_id: str | None
    score: float | None
    grade: int | None
    text: str
    term: float
    sum: float
    tied: bool = False


@dataclass(frozen=True)
class Explained:
    """The value of a measure for a query, with the terms it is the sum of.

    ``value`` is ``sum of terms / divisor``, or 0 where the divisor is 0; ``divided_by`` says
    what the divisor is, and ``ideal`` its own terms where it has any. ``ties`` is the range
    of the value over all orders of tied documents.
    """

    measure: str
    query: str
    value: float
    definition: dict[str, Any]
    terms: tuple[Term, ...]
    divisor: float
    divided_by: str
    ideal: tuple[Term, ...]
    ties: Range
    documents: int
    relevant: int
    judged: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return {
            "measure": self.measure,
            "query": self.query,
            "value": self.value,
            "definition": self.definition,
            "terms": [dict(term._asdict()) for term in self.terms],
            "divisor": self.divisor,
            "divided_by": self.divided_by,
            "ideal": [dict(term._asdict()) for term in self.ideal],
            "ties": dict(self.ties._asdict()),
            "documents": self.documents,
            "relevant": self.relevant,
            "judged": self.judged,
        }


def explain_measure(
    run: AnyRun,
    qrels: Qrels,
    measure: str | Measure,
    query_id: str,
    *,
    remove_self: bool = False,
) -> Explained:
    """Take the measure of one query apart.

    Raises UsageError for a query that is not judged and for a measure that is not one of
    ``rank_measures``; else what ``evaluate`` raises.
    """
    wanted = measure_named(measure)
    if not rank_measures.supports(wanted) or wanted.NAME in rank_measures.COUNTS:
        known = ", ".join(n for n in rank_measures.TAKES if n not in rank_measures.COUNTS)
        raise UsageError(f"{wanted} cannot be taken apart; these can: {known}.")
    whole = joined(run, qrels, remove_self=remove_self, keep={query_id: EVERY_RANK})
    one = whole.one(query_id)
    head = whole.heads.get(query_id, [])
    terms, divisor, divided_by = _taken_apart(wanted, one, head)
    ideal = _ideal(wanted, one) if wanted.NAME == "nDCG" else ()
    rel = wanted.params.get("rel", 1)
    return Explained(
        measure=str(wanted),
        query=query_id,
        value=float(rank_measures.values(wanted, one)[0]),
        definition=definition(wanted),
        terms=terms,
        divisor=divisor,
        divided_by=divided_by,
        ideal=ideal,
        ties=Range(*(float(value[0]) for value in ties.spread(wanted, one))),
        documents=len(one.grades),
        relevant=int(rank_measures.relevant_of(one, rel)[0]),
        judged=len(one.ideal),
    )


def _taken_apart(
    measure: Measure, one: Graded, head: list[tuple[str, float]]
) -> tuple[tuple[Term, ...], float, str]:
    """Terms of every rank that counts, what their sum is divided by, and what that is."""
    name, rel = measure.NAME, measure.params.get("rel", 1)
    relevant = int(rank_measures.relevant_of(one, rel)[0])
    cutoff = relevant if name == "Rprec" else cutoff_of(measure)
    seen = min(cutoff, len(one.grades))
    met, out, total = 0, [], 0.0
    for i in range(seen):
        grade = int(one.grades[i])
        hit = grade >= rel
        met += hit
        text, term = _term(measure, grade, i + 1, hit, met)
        total += term
        doc_id, score = head[i]
        shown = None if grade == UNJUDGED else grade
        out.append(Term(i + 1, doc_id, score, shown, text, term, total, bool(one.tied[i])))
    divisors: dict[str, tuple[float, str]] = {
        "nDCG": (_dcg(measure, one), "the DCG of the ideal ranking"),
        "AP": (relevant, "relevant documents"),
        "R": (relevant, "relevant documents"),
        "Rprec": (relevant, "relevant documents"),
        "P": (cutoff, "the cutoff"),
        "Judged": (seen, "documents seen"),
    }
    return tuple(out), *divisors.get(name, (1.0, "nothing"))


def _term(measure: Measure, grade: int, rank: int, hit: bool, met: int) -> tuple[str, float]:
    name = measure.NAME
    if name == "nDCG":
        gain = _gain(measure, grade)
        return f"{gain:g} / log2({rank + 1})", gain / math.log2(rank + 1)
    if name == "Judged":
        return ("1", 1.0) if grade != UNJUDGED else ("0", 0.0)
    if not hit:
        return "0", 0.0
    if name == "AP":
        return f"{met} / {rank}", met / rank
    if name in ("RR", "Success") and met > 1:
        return "0, not the first", 0.0
    return (f"1 / {rank}", 1 / rank) if name == "RR" else ("1", 1.0)


def _ideal(measure: Measure, one: Graded) -> tuple[Term, ...]:
    out, total = [], 0.0
    for rank, grade in enumerate(one.ideal.tolist(), 1):
        if grade < 1 or rank > measure.params.get("cutoff", NO_CUTOFF):
            break
        text, term = _term(measure, grade, rank, True, rank)
        total += term
        out.append(Term(rank, None, None, grade, text, term, total))
    return tuple(out)


def _dcg(measure: Measure, one: Graded) -> float:
    ideal = _ideal(measure, one) if measure.NAME == "nDCG" else ()
    return ideal[-1].sum if ideal else 0.0


def _gain(measure: Measure, grade: int) -> float:
    return float(rank_measures.gains(np.array(grade), measure.params.get("dcg", "log2")))
