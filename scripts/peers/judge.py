"""Recall against the exact ranking, and nDCG where there are judgements."""

from __future__ import annotations

from typing import Any

import numpy as np

from peers.data import DEPTH, Data


def judged(data: Data, found: dict[str, list[int]], k: int) -> dict[str, Any]:
    """Measures of rankings ``found``, from a query's position to its documents' positions.

    What a ranking cut at ``k`` cannot tell is left out.
    """
    exact = data.array("exact")
    asked = sorted(found, key=int)

    def recall(first: int, within: int) -> float:
        shares = [
            len(set(exact[int(i), :first].tolist()) & set(found[i][:within])) / first for i in asked
        ]
        return round(float(np.mean(shares)), 4)

    out: dict[str, Any] = {"r10@10": recall(10, 10)}
    if k >= DEPTH:
        out |= {"r10@100": recall(10, DEPTH), "r100@100": recall(DEPTH, DEPTH)}
    qrels = data.qrels
    if qrels is not None:
        names, queries = data.names("documents"), data.names("queries")
        kept = {queries[int(i)]: qrels[queries[int(i)]] for i in asked}
        out["nDCG@10"] = _ndcg({queries[int(i)]: found[i] for i in asked}, kept, names)
        best = {queries[int(i)]: exact[int(i)].tolist() for i in asked}
        out["exact nDCG@10"] = _ndcg(best, kept, names)
    return out


def _ndcg(
    rankings: dict[str, list[int]], qrels: dict[str, dict[str, int]], names: list[str]
) -> float:
    from tokret.evaluation import evaluate

    run = {
        query: {names[p]: float(len(places) - rank) for rank, p in enumerate(places)}
        for query, places in rankings.items()
    }
    return round(evaluate(run, qrels, ["nDCG@10"])["nDCG@10"], 4)
