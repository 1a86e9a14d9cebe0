"""Every kernel in plain NumPy: the definition the fast ones are held to.

Similarity is the inner product. With int8 passages the query is rounded to int8 rows
too (``quantise_rows``), the products are summed in integers, and the sum, as float32,
is multiplied by the passage token's scale and then by the query token's: every
build gives the same bits. With float16 and float32 passages the sums are float32, in
an order that a build may choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.errors import InputError, UsageError
from tokret.types import Floats, Ints, Mask, Tokens, quantise_rows, rising

Codes = NDArray[np.int8]
Ints32 = NDArray[np.int32]

MOST_CODES = 1024  # of a row: a sum of so many products of int8 is exact in float32
MOST_WIDTH = 2**16  # of an int8 row: its products add up within int32
MOST_ROWS = 2**24  # of one cell_sums: so many int8 add up within int32


class Groups(NamedTuple):
    """Centroids that stand in groups: ``offsets[g]:offsets[g + 1]`` is group g's range.

    offsets [G + 1] and centres [G, H], the point that stands for each group.
    """

    offsets: Ints
    centres: Codes


def maxsim(query: ArrayLike, docs: Tokens | Sequence[ArrayLike], *, threads: int = 1) -> Floats:
    """Sum, over the query's tokens, of the best similarity in each passage.

    query [Q, H], N passages -> [N]. A passage without tokens scores -inf: there is
    nothing to match, and 0 would outrank every negative match. The sum over query
    tokens is taken in float64, in their order.
    Raises InputError for a query of another width or with values that are not finite, and
    for int8 rows wider than 65,536.
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


def nearest(
    rows: Codes,
    centroids: Codes,
    *,
    groups: Groups | None = None,
    probes: int = 1,
    threads: int = 1,
) -> tuple[Ints32, Ints32]:
    """Find the nearest of centroids [C, H] to each of rows [T, H], exactly.

    -> its number [T] and the squared distance to it [T]; of equals, the lower number.
    With ``groups``, each row looks only among the centroids of the ``probes`` groups
    whose centres are nearest to it (of equals, the lower); empty groups are passed over.
    Raises InputError for other types or shapes and for no centroids, UsageError where
    ``probes`` or ``threads`` is below one.
    """
    check_cells(rows, centroids, groups, probes)
    check_threads(threads)
    numbers, distances = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    for first in range(0, len(rows), 1024):
        some = slice(first, first + 1024)
        all_distances = squared_distances(rows[some], centroids)
        if groups is not None:
            open_groups = np.flatnonzero(np.diff(groups.offsets))
            to_centres = squared_distances(rows[some], groups.centres[open_groups])
            probed = open_groups[np.argsort(to_centres, axis=1, kind="stable")[:, :probes]]
            owner = np.repeat(np.arange(len(groups.centres)), np.diff(groups.offsets))
            looked = np.zeros((len(probed), len(groups.centres)), np.bool_)
            np.put_along_axis(looked, probed, True, axis=1)
            all_distances[~looked[:, owner]] = np.iinfo(np.int32).max
        numbers[some] = all_distances.argmin(axis=1)
        distances[some] = all_distances.min(axis=1)
    return numbers, distances


def cell_sums(rows: Codes, numbers: Ints32, cells: int, *, threads: int = 1) -> Ints32:
    """Add up the rows [T, H] of each number [T], 0 to ``cells`` - 1 -> [cells, H].

    Raises InputError for other types or shapes, for a number that is none of a cell's,
    and for more than 2**24 rows, whose sums might not fit.
    """
    check_numbers(rows, numbers, cells)
    check_threads(threads)
    sums = np.zeros((cells, rows.shape[1]), np.int32)
    np.add.at(sums, numbers, rows.astype(np.int32))
    return sums


def squared_distances(rows: Codes, points: Codes) -> Ints32:
    """Squared distances of rows [T, H] to points [C, H] -> [T, C], exact."""
    products = (rows.astype(np.float32) @ points.astype(np.float32).T).astype(np.int32)
    return squared_norms(rows)[:, None] + squared_norms(points) - 2 * products


def squared_norms(rows: Codes) -> Ints32:
    """Squared lengths of rows [T, H] -> [T], exact."""
    norms: Ints32 = np.einsum("th,th->t", rows, rows, dtype=np.int32)
    return norms


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
    if docs.scales is not None and docs.width > MOST_WIDTH:
        raise InputError(
            f"int8 vectors may be up to {MOST_WIDTH} wide, got {docs.width}; wider ones need "
            "dtype='fp16'."
        )
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


def check_cells(rows: Codes, centroids: Codes, groups: Groups | None, probes: int) -> None:
    """Refuse rows and centroids that are not int8 of one width, and groups that do not fit."""
    for name, codes in [("rows", rows), ("centroids", centroids)]:
        if codes.ndim != 2 or codes.dtype != np.int8:
            raise InputError(f"{name} must be int8 [., H], got {codes.dtype} {list(codes.shape)}.")
    width = rows.shape[1]
    if centroids.shape[1] != width or not 0 < width <= MOST_CODES or not len(centroids):
        raise InputError(
            f"centroids must be one or more of the rows' width, 1 to {MOST_CODES}; got "
            f"{list(centroids.shape)} for rows {list(rows.shape)}."
        )
    if probes < 1:
        raise UsageError(f"probes must be at least 1, got {probes}.")
    if groups is None:
        return
    offsets, centres = groups
    if centres.shape != (len(offsets) - 1, width) or centres.dtype != np.int8:
        raise InputError(
            f"centres must be int8 [{len(offsets) - 1}, {width}], got {centres.dtype} "
            f"{list(centres.shape)}."
        )
    if offsets[0] != 0 or offsets[-1] != len(centroids) or not rising(offsets):
        raise InputError(f"offsets of groups must rise from 0 to {len(centroids)}.")


def check_numbers(rows: Codes, numbers: Ints32, cells: int) -> None:
    """Refuse rows that are not int8, and numbers that are not one cell's for each."""
    if rows.ndim != 2 or rows.dtype != np.int8 or len(rows) > MOST_ROWS:
        raise InputError(
            f"rows must be int8 [T, H], T at most {MOST_ROWS}; got {rows.dtype} {list(rows.shape)}."
        )
    if numbers.shape != (len(rows),) or numbers.dtype != np.int32:
        raise InputError(
            f"numbers must be int32 [{len(rows)}], got {numbers.dtype} {list(numbers.shape)}."
        )
    if numbers.size and (numbers.min() < 0 or numbers.max() >= cells):
        raise InputError(
            f"numbers must be 0 to {cells - 1}, got {numbers.min()} to {numbers.max()}."
        )


def check_retrieved(tokens: Ints, sims: Floats, offsets: Ints, missing: Floats) -> None:
    """Refuse retrieved tokens that are not tokens of the passages, or of other shapes."""
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or not rising(offsets):
        raise InputError("Offsets of passages must be [N + 1] and rise from 0.")
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
