"""Fused MaxSim over ragged passages: no similarity matrix is written.

Does: one program for a passage and a block of query tokens goes through the passage's
    tokens, a tile at a time, and keeps the best of each query token in registers; a second
    kernel adds the best ones [N, Q] up in float64, in the order of query tokens.
Costs: T * H elements read for each block of query tokens, N * Q floats written;
    2 * Q * T * H operations on tensor cores (int8, float16) or in float32.
Departs: float16 passages meet a float16 query, or, where a query does not fit float16,
    the sum of two that hold 22 bits of it: twice the operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import ArrayLike

from tokret.kernels.gpu.device import DeviceTokens, on, power_of_two, query_rows, upload
from tokret.kernels.reference import check_threads
from tokret.types import Floats, Tokens, Vectors, quantise_rows

ADDED = 128  # passages that one program of the last sum adds up
WIDE = 256  # bytes of a vector at a time: what a tile of 64 rows may take of shared memory


@dataclass(frozen=True)
class Tiling:
    """How a launch is cut: query tokens and passage tokens of a tile, warps, stages."""

    block_q: int
    block_t: int
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class DeviceQuery:
    """A query [Q, H] as the passages' type wants it, and the factor of each row.

    ``low`` is what float16 leaves over of ``rows``; None where nothing is.
    """

    rows: torch.Tensor
    low: torch.Tensor | None
    factors: torch.Tensor

    @classmethod
    def of(cls, query: Floats, docs: DeviceTokens) -> DeviceQuery:
        """Round a checked query as ``docs`` are stored, and upload it."""
        low: torch.Tensor | None = None
        rows: Vectors
        if docs.scales is not None:
            rows, factors = quantise_rows(query)
        elif docs.vectors.dtype == torch.float16:
            # A power of two takes each row's largest value below 2, so that float16 holds it.
            power = np.frexp(np.abs(query).max(axis=1, initial=0))[1].clip(-125, 127)
            scaled = np.ldexp(query, -power[:, None])
            rows = scaled.astype(np.float16)
            rest = (scaled - rows.astype(np.float32)).astype(np.float16)
            if rest.any():
                low = upload(rest, docs.device)
            factors = np.ldexp(np.float32(1), power)
        else:
            rows, factors = query, np.ones(len(query), np.float32)
        return cls(upload(rows, docs.device), low, upload(factors, docs.device))


def maxsim(
    query: ArrayLike, docs: DeviceTokens | Tokens | Sequence[ArrayLike], *, threads: int = 1
) -> Floats:
    """Score as reference.maxsim does: int8 to the bit, others to float32 rounding.

    ``threads`` is checked and not used. Raises InputError as the reference does,
    ResourceError where there is no device or no room on it.
    """
    docs = DeviceTokens.of(docs)
    rows = query_rows(query, docs)
    check_threads(threads)
    scores: Floats = device_maxsim(DeviceQuery.of(rows, docs), docs).cpu().numpy()
    return scores


def device_maxsim(
    query: DeviceQuery, docs: DeviceTokens, tiling: Tiling | None = None
) -> torch.Tensor:
    """Score on the device: no copy, no wait -> [N] float32."""
    best = best_matches(query, docs, tiling)
    return sum_in_order(best, docs.offsets)


def best_matches(
    query: DeviceQuery, docs: DeviceTokens, tiling: Tiling | None = None
) -> torch.Tensor:
    """Each passage's best similarity with each query token -> [N, Q] float32."""
    count, width = query.rows.shape
    best = torch.empty((len(docs), count), dtype=torch.float32, device=docs.device)
    tiling = tiling or tiling_for(query)
    blocks = triton.cdiv(count, tiling.block_q)
    if best.numel():
        with on(docs.device):
            _best_matches[(len(docs) * blocks,)](
                *operands(query, docs),
                docs.offsets,
                best,
                count,
                blocks,
                **shape_of(width, query, docs),
                BLOCK_Q=tiling.block_q,
                BLOCK_T=tiling.block_t,
                num_warps=tiling.warps,
                num_stages=tiling.stages,
            )
    return best


def sum_in_order(best: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Sum best matches [N, Q] over query tokens, in float64 and in order -> [N] float32."""
    passages, count = best.shape
    scores = torch.empty(passages, dtype=torch.float32, device=best.device)
    if passages:
        with on(best.device):
            _sum_in_order[(triton.cdiv(passages, ADDED),)](
                best, offsets, scores, passages, count, ADDED
            )
    return scores


def tiling_for(query: DeviceQuery) -> Tiling:
    """Choose tiles by reasoning: nobody has measured them yet.

    64 rows are the least that a warp group of Hopper multiplies, and two tiles of 64 x 64
    float32, the sums and the best so far, fit the registers of four warps; where float32 is
    multiplied without tensor cores, those of eight.
    """
    warps = 8 if query.rows.dtype == torch.float32 else 4
    return Tiling(block_q=power_of_two(len(query.rows), 16, 64), block_t=64, warps=warps)


def operands(
    query: DeviceQuery, docs: DeviceTokens
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """What every kernel of similarities reads: passages, then query."""
    return docs.vectors, docs.scales, query.rows, query.low, query.factors


def shape_of(width: int, query: DeviceQuery, docs: DeviceTokens) -> dict[str, object]:
    """What every kernel of similarities is compiled for."""
    return {
        "WIDTH": width,
        "BLOCK_H": power_of_two(width, 32, WIDE // docs.vectors.element_size()),
        "INT8": docs.scales is not None,
        "SPLIT": query.low is not None,
    }


@triton.jit
def query_tile(query, q, asked, first, WIDTH: tl.constexpr, BLOCK_H: tl.constexpr):
    """Load dimensions from ``first`` on of query tokens q -> [BLOCK_H, BLOCK_Q]."""
    h = first + tl.arange(0, BLOCK_H)
    inside = (h < WIDTH)[:, None] & asked[None, :]
    return tl.load(query + q[None, :] * WIDTH + h[:, None], mask=inside, other=0)


@triton.jit
def add_products(
    sums,
    vectors,
    rows,
    there,
    query,
    low,
    q,
    asked,
    first,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Add to ``sums`` [BLOCK_T, BLOCK_Q] the products in BLOCK_H dimensions from ``first`` on."""
    h = first + tl.arange(0, BLOCK_H)
    inside = there[:, None] & (h < WIDTH)[None, :]
    tile = tl.load(vectors + rows[:, None] * WIDTH + h[None, :], mask=inside, other=0)
    asks = query_tile(query, q, asked, first, WIDTH, BLOCK_H)
    sums = tl.dot(tile, asks, sums, input_precision="ieee", out_dtype=sums.dtype)
    if SPLIT:
        asks = query_tile(low, q, asked, first, WIDTH, BLOCK_H)
        sums = tl.dot(tile, asks, sums, input_precision="ieee", out_dtype=sums.dtype)
    return sums


@triton.jit
def products(
    vectors,
    rows,
    there,
    query,
    low,
    q,
    asked,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
    INT8: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Sum products of passage tokens ``rows`` and query tokens ``q`` -> [BLOCK_T, BLOCK_Q]."""
    if INT8:
        sums = tl.zeros([rows.shape[0], q.shape[0]], tl.int32)
    else:
        sums = tl.zeros([rows.shape[0], q.shape[0]], tl.float32)
    if WIDTH <= BLOCK_H:  # without a loop the query stays in shared memory from tile to tile
        sums = add_products(
            sums, vectors, rows, there, query, low, q, asked, 0, WIDTH, BLOCK_H, SPLIT
        )
    else:
        for first in range(0, WIDTH, BLOCK_H):
            sums = add_products(
                sums, vectors, rows, there, query, low, q, asked, first, WIDTH, BLOCK_H, SPLIT
            )
    return sums


@triton.jit
def _best_matches(
    vectors,
    scales,
    query,
    low,
    factors,
    offsets,
    best,
    count,
    blocks,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
    INT8: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    passage = (tl.program_id(0) // blocks).to(tl.int64)
    q = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    asked = q < count
    first = tl.load(offsets + passage)
    length = tl.load(offsets + passage + 1) - first
    held = tl.full([BLOCK_T, BLOCK_Q], float("-inf"), tl.float32)
    for start in range(0, length, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        there = t < length
        sums = products(
            vectors, first + t, there, query, low, q, asked, WIDTH, BLOCK_H, INT8, SPLIT
        )
        sims = sums.to(tl.float32)
        if INT8:
            scale = tl.load(scales + first + t, mask=there, other=0)
            sims = sims * scale[:, None]
        held = tl.where(there[:, None], tl.maximum(held, sims), held)
    # Rounding keeps order and no factor is negative, so the best may be scaled in place of all.
    top = tl.max(held, axis=0)
    scaled = q < tl.where(length > 0, count, 0)  # -inf * 0 would be no number
    factor = tl.load(factors + q, mask=scaled, other=1)
    tl.store(best + passage * count + q, top * factor, mask=asked)


@triton.jit
def _sum_in_order(best, offsets, scores, passages, count, BLOCK_N: tl.constexpr):
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = n < passages
    total = tl.zeros([BLOCK_N], tl.float64)
    for q in range(count):
        total += tl.load(best + n * count + q, mask=there, other=0).to(tl.float64)
    length = tl.load(offsets + n + 1, mask=there) - tl.load(offsets + n, mask=there)
    score = tl.where(length > 0, total, float("-inf")).to(tl.float32)
    tl.store(scores + n, score, mask=there)
