"""What XTR's tokens retrieve, and what scoring them costs.

Paper   Lee et al.: Rethinking the Role of Token Retrieval in Multi-Vector Retrieval.
        NeurIPS 2023, arXiv:2304.01982, table 1 and the analysis of token retrieval.
Does    P_gold(r) and P_lex(r): the share of query tokens whose r-th retrieved token lies in
        a relevant passage, or is the same word piece; operation counts of both scorers.
Costs   O(Q K') a query.
Departs Nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tokret.errors import InputError
from tokret.types import Floats, Ints, Mask


def gold_hits(tokens: Ints, offsets: Ints, relevant: Iterable[int]) -> Mask:
    """Mark retrieved tokens [Q, K'] that lie in a relevant passage; offsets are [N + 1]."""
    owner = np.searchsorted(offsets, tokens, side="right") - 1
    return np.isin(owner, np.fromiter(relevant, np.int64))


def lexical_hits(tokens: Ints, token_ids: NDArray[np.int32], query_ids: Ints) -> Mask:
    """Mark retrieved tokens [Q, K'] with the id of the query token that retrieved them.

    ``token_ids`` [T] are the collection's, ``query_ids`` [Q] the query's.
    """
    return np.asarray(token_ids[tokens] == query_ids[:, None])


def share_by_rank(hits: Sequence[Mask]) -> Floats:
    """Average the marks of several queries ([Q_i, K'] each) over query tokens -> [K'].

    Raises InputError where there is no query token, or K' differs between queries.
    """
    widths = {marks.shape[1] for marks in hits}
    if len(widths) != 1 or not sum(map(len, hits)):
        raise InputError(f"Needs query tokens with one number of ranks, got {sorted(widths)}.")
    return np.asarray(np.concatenate(list(hits)).mean(axis=0), np.float32)


def maxsim_operations(q: int, k_prime: int, length: float, width: int) -> float:
    """Count operations to gather and score Q k_prime passages by MaxSim.

    ``length`` is the mean number of tokens of a passage, ``width`` is H. The worst case:
    every retrieved token lies in another passage.
    """
    return q**2 * k_prime * (2 * length * width + length + 1)


def xtr_operations(q: int, k_prime: int, per_candidate: float) -> float:
    """Count operations to score Q k_prime passages from retrieved similarities alone.

    ``per_candidate`` is the mean number of tokens retrieved from a candidate.
    """
    return q**2 * k_prime * (per_candidate + 1)
