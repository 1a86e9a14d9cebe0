"""Measures of a run against judgements, with the policy beside the number.

The usual measures are computed here (``rank_measures``), the rarer ones by the providers of
ir_measures. What tools disagree on is settled before either sees the run: ties are broken by
document id, every judged query counts, one without results as 0, and the mean does not depend
on any order. What ties could have made of a number stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.collections.run import Run
from tokret.collections.run_stream import RunFile, ScatteredError
from tokret.collections.runs import read_run
from tokret.evaluation import rank_measures, ties
from tokret.evaluation.graded import UNJUDGED, Graded, as_run, checked_qrels, graded
from tokret.evaluation.graded import Qrels as Qrels
from tokret.evaluation.names import measures_named, provider
from tokret.types import Hit

if TYPE_CHECKING:
    from ir_measures import Measure

AnyRun = Run | RunFile | Mapping[str, Mapping[str, float] | Iterable[Hit | tuple[str, float]]]

DEFAULT_MEASURES = ("nDCG@10", "R@100")
SCHEMA_VERSION = 1
WIDE = 0.005  # a range over tie orders that is worth a word


class Range(NamedTuple):
    """A mean over the judged queries, over all orders of tied documents."""

    least: float
    expected: float
    most: float


@dataclass(frozen=True)
class Report:
    """Values of measures, and what they stand on.

    ``values`` maps a measure to its mean over the judged queries; ``per_query`` a
    measure to each query's value, and is empty unless asked for. ``policy`` says how
    the numbers were made and counts what was met; ``notes`` are sentences for a reader.
    ``ties`` maps a measure to what it may be over all orders of tied documents, None where
    that is not known; ``judged`` to the share of the documents it looked at that are judged.
    """

    values: dict[str, float]
    policy: dict[str, Any]
    per_query: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ties: dict[str, Range | None] = field(default_factory=dict)
    judged: dict[str, float | None] = field(default_factory=dict)

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
            "ties": {m: r and dict(r._asdict()) for m, r in self.ties.items()},
            "judged": dict(self.judged),
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
    return report_of(
        joined(run, qrels, remove_self=remove_self, check_ids=check_ids),
        wanted,
        per_query=per_query,
    )


def joined(
    run: AnyRun,
    qrels: Qrels,
    *,
    remove_self: bool = False,
    check_ids: bool = True,
    keep: int | Mapping[str, int] = 0,
) -> Graded:
    """Join a run of any form with judgements, both checked.

    The first ``keep`` documents of a query, or of those queries named, stay by name. A file
    is streamed, unless its queries do not stand together. Raises what ``evaluate`` and
    ``read_run`` raise.
    """
    judged = checked_qrels(qrels)
    options: dict[str, Any] = {"remove_self": remove_self, "check_ids": check_ids, "keep": keep}
    if isinstance(run, RunFile):
        try:
            return graded(run, judged, **options)
        except ScatteredError:
            if str(run.source) == "-":
                raise  # what was read of a pipe is gone
            run = read_run(run.source)
    return graded(as_run(run).ranking.items(), judged, **options)


def report_of(run: Graded, measures: Sequence[Measure], *, per_query: bool = False) -> Report:
    """Measure a run that was joined with its judgements."""
    computed = values_of(run, measures)
    n_hits = np.diff(run.offsets)
    n_ties = int(run.tied.sum())
    policy: dict[str, Any] = {
        "gain": "the grade, discounted by log2(rank + 1)",
        "ties": "score descending, then document id ascending",
        "missing_queries": "count 0",
        "self_matches": "removed" if run.remove_self else "kept",
        "n_queries": len(run.queries),
        "n_missing": int((n_hits == 0).sum()),
        "n_unjudged": run.n_unjudged,
        "n_no_relevant": int((rank_measures.relevant_of(run, 1) == 0).sum()),
        "n_ties": n_ties,
        "n_tied_queries": len(np.unique(run.query[run.tied])) if n_ties else 0,
        "n_self": run.n_self,
    }
    ranges = {str(m): _range(m, run, computed[i]) for i, m in enumerate(measures)}
    shares = {str(m): _judged_share(m, run) for m in measures}
    by_query = (
        {
            str(m): dict(zip(run.queries, row.tolist(), strict=True))
            for m, row in zip(measures, computed, strict=True)
        }
        if per_query
        else {}
    )
    return Report(
        values={str(m): _total(m, row.tolist()) for m, row in zip(measures, computed, strict=True)},
        policy=policy,
        per_query=by_query,
        notes=_notes(policy, ranges),
        ties=ranges,
        judged=shares,
    )


def values_of(run: Graded, measures: Sequence[Measure]) -> NDArray[np.float64]:
    """Value of each measure for each judged query [M, Q]."""
    out = np.zeros((len(measures), len(run.queries)))
    others = [m for m in measures if not rank_measures.supports(m)]
    provided = _provided(run, others) if others else {}
    for i, measure in enumerate(measures):
        if rank_measures.supports(measure):
            out[i] = rank_measures.values(measure, run)
        else:
            by_query = provided[str(measure)]
            out[i] = [by_query[query_id] for query_id in run.queries]
    return out


def _provided(run: Graded, wanted: Sequence[Measure]) -> dict[str, dict[str, float]]:
    """Values by the providers of ir_measures, which are given ranks for document ids.

    No measure of one ranking depends on what its documents are called.
    """
    qrels: dict[str, dict[str, int]] = {}
    strict: dict[str, dict[str, int]] = {}
    for q, query_id in enumerate(run.queries):
        grades = run.grades[run.offsets[q] : run.offsets[q + 1]].tolist()
        # trec_eval keeps scores in float32, where close doubles tie: whole numbers do not.
        strict[query_id] = {f"r{i}": len(grades) - i for i in range(len(grades))}
        found = {f"r{i}": grade for i, grade in enumerate(grades) if grade != UNJUDGED}
        left = run.ideal[run.ideal_offsets[q] : run.ideal_offsets[q + 1]].tolist()
        for grade in found.values():
            left.remove(grade)
        qrels[query_id] = {**found, **{f"x{i}": grade for i, grade in enumerate(left)}}
    answered = {query_id: docs for query_id, docs in strict.items() if docs}
    means = [m for m in wanted if not _is_sum(m)]
    sums = [m for m in wanted if _is_sum(m)]
    values: dict[str, dict[str, float]] = {str(m): {} for m in wanted}
    for measures, given in ((means, answered), (sums, strict)):
        if measures:
            for metric in provider().iter_calc(measures, qrels, given):
                values[str(metric.measure)][metric.query_id] = float(metric.value)
    return values


def _is_sum(measure: Measure) -> bool:
    """Tell a count such as NumRel: it is added up, and owes a value to empty queries too."""
    import ir_measures

    return isinstance(measure.aggregator(), ir_measures.SumAgg)


def _total(measure: Measure, values: Collection[float]) -> float:
    total = math.fsum(values)  # exactly rounded, so that no order of queries changes a digit
    return total if _is_sum(measure) else total / len(values)


def _range(measure: Measure, run: Graded, values: NDArray[np.float64]) -> Range | None:
    if not run.tied.any():
        exact = _total(measure, values.tolist())
        return Range(exact, exact, exact)
    if not rank_measures.supports(measure):
        return None
    return Range(*(_total(measure, row.tolist()) for row in ties.spread(measure, run)))


def _judged_share(measure: Measure, run: Graded) -> float | None:
    """Share of judged documents among those above the cutoff; None where there are none."""
    seen = run.rank < rank_measures.cutoff_of(measure)
    judged = run.grades != UNJUDGED
    return float(judged[seen].mean()) if seen.any() else None


def _notes(policy: Mapping[str, Any], ranges: Mapping[str, Range | None]) -> tuple[str, ...]:
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
    for measure, found in ranges.items():
        if found is not None and found.most - found.least > WIDE:
            notes.append(
                f"Ties decide {measure}: in other orders of equal scores it lies between "
                f"{found.least:.4f} and {found.most:.4f}, {found.expected:.4f} to be expected."
            )
    if policy["n_no_relevant"]:
        notes.append(
            f"{policy['n_no_relevant']} judged queries have no relevant document; each counts 0."
        )
    return tuple(notes)
