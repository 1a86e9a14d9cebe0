"""The usual rank measures over grades in order, as trec_eval defines them.

Each is a function of ``Graded`` that gives every judged query its value [Q]. ``supports``
says which measures are computed here; others are left to the providers of ir_measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tokret.evaluation.graded import UNJUDGED, Doubles, Graded
from tokret.types import Ints

if TYPE_CHECKING:
    from ir_measures import Measure

NO_CUTOFF = 1 << 62
TAKES = {  # measures computed here, and the parameters with which they are
    "nDCG": {"cutoff", "dcg"},
    "AP": {"cutoff", "rel"},
    "RR": {"cutoff", "rel"},
    "P": {"cutoff", "rel"},
    "R": {"cutoff", "rel"},
    "Success": {"cutoff", "rel"},
    "Rprec": {"rel"},
    "Judged": {"cutoff"},
    "NumQ": set(),
    "NumRel": {"rel"},
    "NumRet": {"rel"},
}
NEEDS_CUTOFF = {"P", "R", "Success", "Judged"}
COUNTS = {"NumQ", "NumRel", "NumRet"}  # added up over queries; others are averaged


def supports(measure: Measure) -> bool:
    """Tell whether ``values`` computes the measure."""
    return (
        measure.NAME in TAKES
        and set(measure.params) <= TAKES[measure.NAME]
        and (measure.NAME not in NEEDS_CUTOFF or "cutoff" in measure.params)
    )


def values(measure: Measure, run: Graded) -> Doubles:
    """Value of a supported measure for each query [Q]; 0 for one without results."""
    return _COMPUTED[measure.NAME](run, dict(measure.params))


def cutoff_of(measure: Measure) -> int:
    """The last rank that counts; beyond every ranking where the measure has no cutoff."""
    return int(measure.params.get("cutoff", NO_CUTOFF))


def gains(grades: Any, dcg: str) -> Doubles:  # noqa: ANN401
    """What a document of a grade is worth: the grade, or 2^grade - 1 for ``exp-log2``."""
    worth: Doubles = np.maximum(grades, 0).astype(np.float64)
    if dcg == "exp-log2":
        worth = np.exp2(worth) - 1
    return worth


def relevant_of(run: Graded, rel: int) -> Ints:
    """Documents judged at least ``rel``, retrieved or not, for each query [Q]."""
    return _counted(run.ideal >= rel, run.ideal_offsets)


def _ndcg(run: Graded, params: dict[str, Any]) -> Doubles:
    cutoff, dcg = params.get("cutoff", NO_CUTOFF), params.get("dcg", "log2")
    query, rank = _met(run, 1, cutoff)
    at = run.offsets[query] + rank
    found = gains(run.grades[at], dcg) / np.log2(rank + 2)
    best = np.arange(len(run.ideal)) - np.repeat(run.ideal_offsets[:-1], np.diff(run.ideal_offsets))
    owner = np.repeat(np.arange(len(run.queries)), np.diff(run.ideal_offsets))
    counted = (run.ideal > 0) & (best < cutoff)
    ideal = gains(run.ideal[counted], dcg) / np.log2(best[counted] + 2)
    return ratio(_summed(run, query, found), _summed(run, owner[counted], ideal))


def _ap(run: Graded, params: dict[str, Any]) -> Doubles:
    rel = params.get("rel", 1)
    query, rank = _met(run, rel, params.get("cutoff", NO_CUTOFF))
    first = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(run.queries)))[:-1]])
    before = np.arange(len(query)) - first[query].astype(np.int64)
    return ratio(_summed(run, query, (before + 1) / (rank + 1)), relevant_of(run, rel))


def _rr(run: Graded, params: dict[str, Any]) -> Doubles:
    query, rank = _met(run, params.get("rel", 1), params.get("cutoff", NO_CUTOFF))
    out = np.zeros(len(run.queries))
    first, at = np.unique(query, return_index=True)
    out[first] = 1 / (rank[at] + 1)
    return out


def _p(run: Graded, params: dict[str, Any]) -> Doubles:
    query, _ = _met(run, params.get("rel", 1), params["cutoff"])
    found: Doubles = _summed(run, query) / params["cutoff"]
    return found


def _r(run: Graded, params: dict[str, Any]) -> Doubles:
    rel = params.get("rel", 1)
    query, _ = _met(run, rel, params["cutoff"])
    return ratio(_summed(run, query), relevant_of(run, rel))


def _success(run: Graded, params: dict[str, Any]) -> Doubles:
    query, _ = _met(run, params.get("rel", 1), params["cutoff"])
    return (_summed(run, query) > 0).astype(np.float64)


def _rprec(run: Graded, params: dict[str, Any]) -> Doubles:
    rel = params.get("rel", 1)
    relevant = relevant_of(run, rel)
    query, rank = _met(run, rel, NO_CUTOFF)
    return ratio(_summed(run, query[rank < relevant[query]]), relevant)


def _judged(run: Graded, params: dict[str, Any]) -> Doubles:
    query, _ = _met(run, UNJUDGED + 1, params["cutoff"])
    return ratio(_summed(run, query), np.minimum(np.diff(run.offsets), params["cutoff"]))


def _num_q(run: Graded, params: dict[str, Any]) -> Doubles:
    return np.ones(len(run.queries))


def _num_rel(run: Graded, params: dict[str, Any]) -> Doubles:
    return relevant_of(run, params.get("rel", 1)).astype(np.float64)


def _num_ret(run: Graded, params: dict[str, Any]) -> Doubles:
    if "rel" not in params:
        return np.diff(run.offsets).astype(np.float64)
    return _summed(run, _met(run, params["rel"], NO_CUTOFF)[0])


_COMPUTED: dict[str, Callable[[Graded, dict[str, Any]], Doubles]] = {
    "nDCG": _ndcg,
    "AP": _ap,
    "RR": _rr,
    "P": _p,
    "R": _r,
    "Success": _success,
    "Rprec": _rprec,
    "Judged": _judged,
    "NumQ": _num_q,
    "NumRel": _num_rel,
    "NumRet": _num_ret,
}


def _met(run: Graded, at_least: int, cutoff: int) -> tuple[Ints, Ints]:
    """Query and rank, from 0, of the documents of a grade above the cutoff's rank."""
    at = np.flatnonzero(run.grades >= at_least)
    query = np.searchsorted(run.offsets, at, side="right") - 1
    rank = at - run.offsets[query]
    kept = rank < cutoff
    return query[kept], rank[kept]


def _summed(run: Graded, query: Ints, terms: Doubles | None = None) -> Doubles:
    """Add up terms by query, in the order of ranks; without terms, count."""
    return np.bincount(query, terms, minlength=len(run.queries)).astype(np.float64)


def _counted(which: Any, offsets: Ints) -> Ints:  # noqa: ANN401
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(which, dtype=np.int64)])
    counted: Ints = total[offsets[1:]] - total[offsets[:-1]]
    return counted


def ratio(above: Doubles, below: Any) -> Doubles:  # noqa: ANN401
    """Divide; 0 where there is nothing to divide by."""
    out: Doubles = np.zeros(len(above))
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out
