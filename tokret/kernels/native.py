"""The compiled kernels, under the names and signatures of reference.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tokret.errors import UsageError
from tokret.kernels import _native
from tokret.kernels.reference import (
    Codes,
    Groups,
    Ints32,
    check_alive,
    check_cells,
    check_k_prime,
    check_numbers,
    check_retrieved,
    check_threads,
    checked_query,
)
from tokret.registry import did_you_mean
from tokret.types import DTYPES, Dtype, Floats, Ints, Mask, Tokens, Vectors, quantise_rows

LAID_OUT: tuple[Literal["C"], Literal["A"]] = ("C", "A")  # contiguous rows at whole addresses


def cpu_features() -> tuple[str, ...]:
    """Name the instruction sets that this build has and this machine runs, slowest first."""
    return tuple(_native.instruction_sets())


def simd() -> str:
    """Name the instruction set in use: the fastest, or what ``TOKRET_SIMD`` says.

    Raises UsageError where this build or this machine has no such set.
    """
    known = cpu_features()
    wanted = os.environ.get("TOKRET_SIMD", "") or known[-1]
    if wanted not in known:
        raise UsageError(
            f"TOKRET_SIMD={wanted!r} is not available.{did_you_mean(wanted, known)} "
            f"This machine runs {', '.join(known)}; unset it to take the last."
        )
    return wanted


def maxsim(query: ArrayLike, docs: Tokens | Sequence[ArrayLike], *, threads: int = 1) -> Floats:
    """Score as reference.maxsim does: int8 to the bit, others to float32 rounding."""
    return _maxsim(simd(), query, Tokens.of(docs), threads)


def token_topk(
    query: ArrayLike,
    docs: Tokens | Sequence[ArrayLike],
    k_prime: int,
    *,
    alive: Mask | None = None,
    threads: int = 1,
) -> tuple[Ints, Floats]:
    """Find tokens as reference.token_topk does: int8 to the bit, others to rounding."""
    return _token_topk(simd(), query, Tokens.of(docs), k_prime, alive, threads)


def xtr_aggregate(
    tokens: Ints, sims: Floats, offsets: Ints, missing: Floats
) -> tuple[Ints, Floats, Ints]:
    """Add up as reference.xtr_aggregate does, to the bit."""
    check_retrieved(tokens, sims, offsets, missing)
    return _native.xtr_aggregate(
        np.require(tokens, np.int64, LAID_OUT),
        np.require(sims, np.float32, LAID_OUT),
        np.require(offsets, np.int64, LAID_OUT),
        np.require(missing, np.float32, LAID_OUT),
    )


def nearest(
    rows: Codes,
    centroids: Codes,
    *,
    groups: Groups | None = None,
    probes: int = 1,
    threads: int = 1,
) -> tuple[Ints32, Ints32]:
    """Find centroids as reference.nearest does, to the bit."""
    return _nearest(simd(), rows, centroids, groups, probes, threads)


def cell_sums(rows: Codes, numbers: Ints32, cells: int, *, threads: int = 1) -> Ints32:
    """Add up as reference.cell_sums does."""
    check_numbers(rows, numbers, cells)
    check_threads(threads)
    sums = np.empty((cells, rows.shape[1]), np.int32)
    rows, numbers = np.require(rows, None, LAID_OUT), np.require(numbers, None, LAID_OUT)
    _native.cell_sums(rows, numbers, threads, sums)
    return sums


def multiply_add_peak(isa: str, dtype: Dtype, seconds: float) -> float:
    """Measure how many 1e9 multiply-adds a second one thread can do without memory.

    float16 is computed in float32. Raises UsageError for an unknown set or type.
    """
    if isa not in cpu_features() or dtype not in DTYPES:
        raise UsageError(
            f"No peak for isa={isa!r}, dtype={dtype!r}; "
            f"known: {', '.join(cpu_features())} and {', '.join(DTYPES)}."
        )
    return _native.multiply_add_peak(isa, dtype, seconds)


def _maxsim(isa: str, query: ArrayLike, docs: Tokens, threads: int) -> Floats:
    rows, row_scales = _query(checked_query(query, docs), docs)
    check_threads(threads)
    scores = np.empty(len(docs), np.float32)
    _native.maxsim(isa, rows, row_scales, *_arrays(docs), threads, scores)
    return scores


def _token_topk(
    isa: str, query: ArrayLike, docs: Tokens, k_prime: int, alive: Mask | None, threads: int
) -> tuple[Ints, Floats]:
    rows, row_scales = _query(checked_query(query, docs), docs)
    check_k_prime(k_prime)
    check_threads(threads)
    if alive is not None:
        check_alive(docs, alive)
        alive = np.require(alive, requirements=LAID_OUT)
    vectors, scales, offsets = _arrays(docs)
    keep = min(k_prime, _native.live_tokens(offsets, alive))
    tokens = np.empty((len(rows), keep), np.int64)
    sims = np.empty((len(rows), keep), np.float32)
    _native.token_topk(
        isa, rows, row_scales, vectors, scales, offsets, alive, threads, tokens, sims
    )
    return tokens, sims


def _nearest(
    isa: str, rows: Codes, centroids: Codes, groups: Groups | None, probes: int, threads: int
) -> tuple[Ints32, Ints32]:
    check_cells(rows, centroids, groups, probes)
    check_threads(threads)
    numbers, distances = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    _native.nearest(
        isa,
        np.require(rows, requirements=LAID_OUT),
        np.require(centroids, requirements=LAID_OUT),
        None if groups is None else np.require(groups.offsets, np.int64, LAID_OUT),
        None if groups is None else np.require(groups.centres, requirements=LAID_OUT),
        probes,
        threads,
        numbers,
        distances,
    )
    return numbers, distances


def _query(query: Floats, docs: Tokens) -> tuple[Vectors, Floats | None]:
    """Round the query as the passages are."""
    if docs.scales is None:
        return np.require(query, requirements=LAID_OUT), None
    return quantise_rows(query)


def _arrays(docs: Tokens) -> tuple[Vectors, Floats | None, Ints]:
    """Lay a view out in memory where it is not; else no copy."""
    scales = None if docs.scales is None else np.require(docs.scales, requirements=LAID_OUT)
    return (
        np.require(docs.vectors, requirements=LAID_OUT),
        scales,
        np.require(docs.offsets, requirements=LAID_OUT),
    )
