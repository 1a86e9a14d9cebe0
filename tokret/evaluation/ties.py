"""What a measure may be over all orders of tied documents: least, expected, most.

Documents of one score have no order of their own; whatever a tool does with them is a
choice. Expectations over all orders are those of McSherry and Najork, Computing Information
Retrieval Performance Measures Efficiently in the Presence of Tied Scores (ECIR 2008).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tokret.evaluation import rank_measures
from tokret.evaluation.graded import UNJUDGED, Doubles, Graded
from tokret.evaluation.rank_measures import NO_CUTOFF
from tokret.types import Ints, Mask

if TYPE_CHECKING:
    from ir_measures import Measure


class Spread(NamedTuple):
    """Values of each query [Q] over all orders of tied documents."""

    least: Doubles
    expected: Doubles
    most: Doubles


def spread(measure: Measure, run: Graded) -> Spread:
    """Bound a measure of ``rank_measures`` over tie orders, and take its expectation.

    The least has the worst of equals first, the most the best; each measure there can only
    gain when a better document moves up.
    """
    if not run.tied.any() or measure.NAME in rank_measures.COUNTS:
        value = rank_measures.values(measure, run)
        return Spread(value, value, value)
    group = np.cumsum(~run.tied)
    least = replace(run, grades=run.grades[np.lexsort((run.grades, group))])
    # Negated in 64 bits: the grade of an unjudged document has no opposite in 32.
    most = replace(run, grades=run.grades[np.lexsort((-run.grades.astype(np.int64), group))])
    return Spread(
        rank_measures.values(measure, least),
        _expected(measure, run),
        rank_measures.values(measure, most),
    )


def _expected(measure: Measure, run: Graded) -> Doubles:
    name, params = measure.NAME, dict(measure.params)
    cutoff, rel = params.get("cutoff", NO_CUTOFF), params.get("rel", 1)
    if name == "nDCG":
        dcg = params.get("dcg", "log2")
        worth = rank_measures.gains(run.grades, dcg)
        ideal = replace(run, grades=run.ideal, offsets=run.ideal_offsets)
        below = _discounted(ideal, rank_measures.gains(run.ideal, dcg), cutoff)
        return rank_measures.ratio(_discounted(run, _shared(run, worth), cutoff), below)
    relevant = rank_measures.relevant_of(run, rel)
    if name == "AP":
        return _ap(run, rel, cutoff, relevant)
    if name in ("RR", "Success"):
        return _first(run, rel, cutoff, reciprocal=name == "RR")
    if name == "Judged":
        found = _summed(run, _shared(run, run.grades != UNJUDGED), run.rank < cutoff)
        return rank_measures.ratio(found, np.minimum(np.diff(run.offsets), cutoff))
    share = _shared(run, run.grades >= rel)
    if name == "Rprec":
        return rank_measures.ratio(_summed(run, share, run.rank < relevant[run.query]), relevant)
    counted = np.full_like(relevant, cutoff) if name == "P" else relevant
    return rank_measures.ratio(_summed(run, share, run.rank < cutoff), counted)


def _ap(run: Graded, rel: int, cutoff: int, relevant: Ints) -> Doubles:
    """Expected average precision: at each rank of a group, its document is relevant or not."""
    hit = run.grades >= rel
    group = np.cumsum(~run.tied) - 1
    starts = np.flatnonzero(~run.tied)
    size = np.bincount(group)[group]
    inside = np.bincount(group, hit)[group]
    total = np.concatenate([[0], np.cumsum(hit)])
    before = total[starts][group] - total[run.offsets[:-1]][run.query]
    place = np.arange(len(hit)) - starts[group]  # from 0 within the group
    others = np.divide(inside - 1, size - 1, out=np.zeros(len(hit)), where=size > 1)
    precision = (before + 1 + place * others) / (run.rank + 1)
    return rank_measures.ratio(_summed(run, inside / size * precision, run.rank < cutoff), relevant)


def _first(run: Graded, rel: int, cutoff: int, *, reciprocal: bool) -> Doubles:
    """Expected 1 / rank of the first relevant document, or the chance that there is one."""
    out = np.zeros(len(run.queries))
    hit = run.grades >= rel
    bounds = np.append(np.flatnonzero(~run.tied), len(run.grades))
    for q, (start, end) in enumerate(zip(run.offsets[:-1], run.offsets[1:], strict=True)):
        found = np.flatnonzero(hit[start:end])
        if len(found) == 0:
            continue
        g = int(np.searchsorted(bounds, start + found[0], side="right")) - 1
        low, high = int(bounds[g]), int(bounds[g + 1])
        size, inside, rank = high - low, int(hit[low:high].sum()), low - int(start)
        chance = inside / size  # that the first relevant one stands at this place
        for place in range(min(size - inside + 1, cutoff - rank)):
            out[q] += chance / (rank + place + 1) if reciprocal else chance
            chance *= (size - place - inside) / max(size - place - 1, 1)
    return out


def _shared(run: Graded, worth: Any) -> Doubles:  # noqa: ANN401
    """Give each of a group of equals the mean of the group."""
    group = np.cumsum(~run.tied) - 1
    mean: Doubles = np.bincount(group, worth) / np.bincount(group)
    shared: Doubles = mean[group]
    return shared


def _discounted(run: Graded, worth: Doubles, cutoff: int) -> Doubles:
    return _summed(run, worth / np.log2(run.rank + 2), run.rank < cutoff)


def _summed(run: Graded, terms: Doubles, kept: Mask) -> Doubles:
    summed = np.bincount(run.query[kept], terms[kept], minlength=len(run.queries))
    return summed.astype(np.float64)
