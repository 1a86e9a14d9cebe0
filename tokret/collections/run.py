"""A run: ranked lists of many queries, in one order for every tool.

The order is score, then document id. trec_eval keeps scores in float32 and breaks ties
against the alphabet, others break them by file order; so tools are given scores that fall
strictly even in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokret.errors import InputError, UsageError
from tokret.types import Hit

Ranking = dict[str, dict[str, float]]  # query id -> document id -> score, best first

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Run:
    """Scores of retrieved documents by query; within a query best first, ties by id.

    ``ties`` counts the hits whose score another hit of the same query has too, less one for
    each such score: 0 means that the scores alone give the order.
    """

    ranking: Ranking
    name: str = "run"
    ties: int = 0

    @classmethod
    def of(
        cls,
        hits: Mapping[str, Mapping[str, float] | Iterable[Hit | tuple[str, float]]],
        name: str = "run",
    ) -> Run:
        """Order the hits of each query.

        Raises UsageError for what is no mapping; InputError for hits without scores, ids that
        are no strings, NaN, infinity, or a document twice.
        """
        if not isinstance(hits, Mapping):
            raise UsageError(
                f"A run maps query ids to hits, got {type(hits).__name__}; read_run reads a file."
            )
        ranking = {
            query_id: ranked(_sound(query_id, found) or _checked(query_id, found))
            for query_id, found in hits.items()
        }
        return cls(ranking, name, sum(ties_of(scores) for scores in ranking.values()))

    def hits(self, query_id: str) -> list[Hit]:
        """List the ranked documents of one query; none for a query that is not in the run."""
        return [Hit(doc_id, score) for doc_id, score in self.ranking.get(query_id, {}).items()]

    def without_ties(self) -> Ranking:
        """Return the same order in scores that fall strictly, for tools that sort again."""
        return {query_id: falling(scores) for query_id, scores in self.ranking.items()}


def _sound(query_id: Any, found: Any) -> dict[str, float] | None:  # noqa: ANN401
    """Pass a mapping that is, at a glance, from strings to finite floats, as most are."""
    sound = (
        type(query_id) is str
        and type(found) is dict
        and set(map(type, found)) <= {str}
        and set(map(type, found.values())) <= {float}
        and all(map(math.isfinite, found.values()))
    )
    return found if sound else None


def _checked(query_id: Any, found: Any) -> dict[str, float]:  # noqa: ANN401
    """Take hits of any form one by one, and tell what is wrong with the first bad one."""
    scores: dict[str, float] = {}
    for doc_id, score in _pairs(query_id, found):
        if not isinstance(doc_id, str) or not isinstance(query_id, str):
            raise InputError(f"Query {query_id!r}, document {doc_id!r}: both ids must be strings.")
        if doc_id in scores:
            raise InputError(f"Query {query_id!r} has document {doc_id!r} twice.")
        if not math.isfinite(score):
            raise InputError(f"Query {query_id!r}, document {doc_id!r}: score {score}.")
        scores[doc_id] = float(score)
    return scores


def _pairs(query_id: str, found: Any) -> Iterable[tuple[str, float]]:  # noqa: ANN401
    """Documents with scores, from a mapping, hits or pairs."""
    try:
        pairs = found.items() if isinstance(found, Mapping) else [hit[:2] for hit in found]
        for doc_id, score in pairs:
            math.isfinite(score)  # raises for what is no number
            yield doc_id, score
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"Query {query_id!r}: wanted {{doc_id: score}}, hits or pairs (doc_id, score)."
        ) from error


def ranked(scores: Mapping[str, float]) -> dict[str, float]:
    """Order by falling score, ties by rising document id."""
    values = np.fromiter(scores.values(), np.float64, len(scores))
    order = np.argsort(-values)
    values = values[order]
    if (values[1:] == values[:-1]).any():
        return dict(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0])))
    ids = list(scores)
    return dict(zip([ids[i] for i in order], values.tolist(), strict=True))


def falling(scores: Mapping[str, float]) -> dict[str, float]:
    """Lower scores, given best first, as little as makes them fall strictly in float32.

    A score that already falls stays exactly as it is. Raises InputError for a score beyond
    float32, which trec_eval would read as infinite.
    """
    out: dict[str, float] = {}
    last = math.inf
    for doc_id, score in scores.items():
        score = float(score)
        if not abs(score) <= _LARGEST:
            raise InputError(
                f"Document {doc_id!r} has score {score}; wanted a number within float32, "
                "which trec_eval computes in."
            )
        short = float(np.float32(score))
        if short >= last:
            score = short = float(np.nextafter(np.float32(last), np.float32(-np.inf)))
            if score < -_LARGEST:
                raise InputError(f"Document {doc_id!r}: no score is left below {last}.")
        out[doc_id] = score
        last = short
    return out


def ties_of(scores: Mapping[str, float]) -> int:
    """Count the scores that repeat an earlier one."""
    return len(scores) - len(set(scores.values()))
