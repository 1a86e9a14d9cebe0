"""Every kernel in plain NumPy: the definition the fast ones are held to.

Similarity is the inner product. With int8 passages the query is rounded to int8 rows
too (``quantise_rows``), the products are summed in integers, and the sum, as float32,
is multiplied by the passage token's scale and then by the query token's: every
build gives the same bits. With float16 and float32 passages the sums are float32, in
an order that a build may choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.errors import InputError, UsageError
from tokret.types import Floats, Ints, Mask, Tokens, quantise_rows


def maxsim(query: ArrayLike, docs: Tokens | Sequence[ArrayLike], *, threads: int = 1) -> Floats:
    """Sum, over the query's tokens, of the best similarity in each passage.

    query [Q, H], N passages -> [N]. A passage without tokens scores -inf: there is
    nothing to match, and 0 would outrank every negative match. The sum over query
    tokens is taken in float64, in their order.
    Raises InputError for a query of another width or with values that are not finite.
    """
    docs = Tokens.of(docs)
    query = checked_query(query, docs)
    check_threads(threads)
    best = np.full((len(query), len(docs)), -np.inf, np.float32)
    for i in np.flatnonzero(np.diff(docs.offsets)):
        first, last = int(docs.offsets[i]), int(docs.offsets[i + 1])
        best[:, i] = similarities(query, docs, first, last).max(axis=1)
    return np.where(np.diff(docs.offsets) > 0, sum_in_order(best), -np.inf).astype(np.float32)


def token_topk(
    query: ArrayLike,
    docs: Tokens | Sequence[ArrayLike],
    k_prime: int,
    *,
    alive: Mask | None = None,
    threads: int = 1,
) -> tuple[Ints, Floats]:
    """Find the ``k_prime`` most similar tokens of all passages for each query token.

    query [Q, H] -> token numbers [Q, K'] and similarities [Q, K'], best first, ties in
    the order of tokens; K' = min(k_prime, tokens of the passages that are ``alive`` [N]).
    Raises UsageError where k_prime < 1, InputError as ``maxsim`` does.
    """
    docs = Tokens.of(docs)
    query = checked_query(query, docs)
    check_k_prime(k_prime)
    check_threads(threads)
    rows = live_rows(docs, alive)
    sims = similarities(query, docs, 0, len(docs.vectors))[:, rows]
    keep = min(k_prime, len(rows))
    order = np.argsort(-sims, axis=1, kind="stable")[:, :keep]
    return rows[order], np.take_along_axis(sims, order, axis=1)


def xtr_aggregate(
    tokens: Ints, sims: Floats, offsets: Ints, missing: Floats
) -> tuple[Ints, Floats, Ints]:
    """Add up retrieved tokens by passage, each absent query token at its ``missing`` [Q].

    tokens [Q, K'] and sims [Q, K'] as ``token_topk`` gives them, offsets [N + 1]
    -> candidate passages [C], rising; sum over query tokens [C] of the passage's best
    retrieved similarity, or of ``missing`` where it has none; and how many query tokens
    retrieved from it [C]. Sums are taken in float64, in the order of query tokens.
    """
    check_retrieved(tokens, sims, offsets, missing)
    owner = np.searchsorted(offsets, tokens, side="right") - 1
    candidates = np.unique(owner)
    best = np.full((len(tokens), len(candidates)), -np.inf)
    for i, passages in enumerate(owner):
        np.maximum.at(best[i], np.searchsorted(candidates, passages), sims[i])
    present = np.isfinite(best)
    filled = np.where(present, best, missing[:, None].astype(np.float64))
    return candidates, sum_in_order(filled).astype(np.float32), present.sum(axis=0)


def sum_in_order(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Sum rows [Q, C] to [C] in float64, one after another; NumPy's own sum makes pairs."""
    total = np.zeros(rows.shape[1:])
    for row in rows:
        total += row
    return total


def similarities(query: Floats, docs: Tokens, first: int, last: int) -> Floats:
    """Inner products of query [Q, H] with token rows ``first:last`` -> [Q, last - first]."""
    rows = docs.vectors[first:last]
    if docs.scales is None:
        return query @ rows.astype(np.float32).T
    codes, scales = quantise_rows(query)
    sums = (codes.astype(np.int32) @ rows.astype(np.int32).T).astype(np.float32)
    return (sums * docs.scales[first:last]) * scales[:, None]


def live_rows(docs: Tokens, alive: Mask | None) -> Ints:
    """Token numbers of the passages that count."""
    if alive is None:
        return np.arange(len(docs.vectors), dtype=np.int64)
    check_alive(docs, alive)
    return np.flatnonzero(np.repeat(alive, np.diff(docs.offsets))).astype(np.int64)


def checked_query(query: ArrayLike, docs: Tokens) -> Floats:
    """Bring a query to float32 [Q, H], or refuse it."""
    out = np.ascontiguousarray(query, np.float32)
    if out.ndim != 2 or out.shape[1] != docs.width:
        raise InputError(f"The query must be [Q, {docs.width}], got {list(out.shape)}.")
    if not np.isfinite(out).all():
        raise InputError("The query holds NaN or infinity.")
    return out


def check_k_prime(k_prime: int) -> None:
    """Refuse a count of tokens below one."""
    if k_prime < 1:
        raise UsageError(f"k_prime must be at least 1, got {k_prime}.")


def check_alive(docs: Tokens, alive: Mask) -> None:
    """Refuse a mask that is not one bool a passage."""
    if alive.shape != (len(docs),) or alive.dtype != np.bool_:
        raise InputError(f"alive must be bool [{len(docs)}], got {list(alive.shape)}.")


def check_threads(threads: int) -> None:
    """Refuse a number of threads below one."""
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}.")


def check_retrieved(tokens: Ints, sims: Floats, offsets: Ints, missing: Floats) -> None:
    """Refuse retrieved tokens that are not tokens of the passages, or of other shapes."""
    if tokens.ndim != 2 or tokens.shape != sims.shape or missing.shape != (len(tokens),):
        raise InputError(
            "tokens and sims must be [Q, K'] and missing [Q], got "
            f"{list(tokens.shape)}, {list(sims.shape)} and {list(missing.shape)}."
        )
    if tokens.size and (tokens.min() < 0 or tokens.max() >= offsets[-1]):
        raise InputError(
            f"Retrieved tokens must be 0 to {offsets[-1] - 1}, "
            f"got {tokens.min()} to {tokens.max()}."
        )
