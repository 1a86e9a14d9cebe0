"""What a measure is, in words: tools disagree on the definition before they do on the number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokret.evaluation import rank_measures

if TYPE_CHECKING:
    from ir_measures import Measure

_FORMULAS = {
    "nDCG": "DCG / ideal DCG; DCG = sum of gain / log2(rank + 1) over ranks{upto}",
    "AP": "sum of the precision at each relevant document{upto} / all relevant documents",
    "RR": "1 / rank of the first relevant document{upto}; 0 without one",
    "P": "relevant documents{upto} / {cutoff}",
    "R": "relevant documents{upto} / all relevant documents",
    "Success": "1 with a relevant document{upto}, else 0",
    "Rprec": "relevant documents up to rank R / R; R = number of relevant documents",
    "Judged": "judged documents{upto} / documents{upto}",
    "NumQ": "1",
    "NumRel": "relevant documents, retrieved or not",
    "NumRet": "documents retrieved",
}


def definition(measure: Measure) -> dict[str, Any]:
    """Say how a measure is defined: formula, gain, cutoff, ideal, relevance; for JSON.

    A measure that a provider of ir_measures computes is named with its parameters alone.
    """
    params = dict(measure.params)
    cutoff = params.get("cutoff")
    out: dict[str, Any] = {
        "name": measure.NAME,
        "parameters": params,
        "cutoff": cutoff,
        "aggregate": "sum over judged queries"
        if measure.NAME in rank_measures.COUNTS
        else "mean over judged queries, one without results counts 0",
        "computed_by": "tokret" if rank_measures.supports(measure) else "ir_measures",
    }
    if not rank_measures.supports(measure):
        return out
    upto = f" up to rank {cutoff}" if cutoff else ""
    out["formula"] = _FORMULAS[measure.NAME].format(upto=upto or " of all", cutoff=cutoff)
    if not cutoff:
        out["formula"] = out["formula"].replace(" of all", "")
    if measure.NAME == "nDCG":
        exponential = params.get("dcg") == "exp-log2"
        out["gain"] = "2^grade - 1" if exponential else "grade"
        out["gain"] += "; 0 for a grade below 1 and for unjudged documents"
        out["discount"] = "log2(rank + 1), ranks from 1"
        out["ideal"] = f"all judged documents, retrieved or not, best first{upto}"
    elif measure.NAME not in ("Judged", "NumQ"):
        out["relevant"] = f"grade {params.get('rel', 1)} or more; unjudged documents are not"
    return out
