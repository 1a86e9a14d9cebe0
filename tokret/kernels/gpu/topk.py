"""The most similar tokens of a whole collection, tile by tile on the device.

Does: similarities of a tile of tokens by a Triton kernel, then torch.topk over them and the
    best so far. It sorts integers that hold the similarity above and the place below, so
    that equal similarities keep the order of tokens, which torch.topk alone does not.
Costs: Q similarities a token written and read again; about Q * 2**24 / Q of them at a time.
Departs: nothing; int8 answers have the reference's bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import ArrayLike

from tokret.errors import InputError
from tokret.kernels.gpu.device import DeviceTokens, on, query_rows, upload
from tokret.kernels.gpu.ragged import (
    DeviceQuery,
    Tiling,
    operands,
    products,
    shape_of,
    tiling_for,
)
from tokret.kernels.reference import check_k_prime, check_threads
from tokret.types import Floats, Ints, Mask, Tokens

HELD = 2**24  # similarities held at a time: 64 MiB of them, 128 MiB of sorted integers
LOW = 2**32 - 1  # the bits of a place


def token_topk(
    query: ArrayLike,
    docs: DeviceTokens | Tokens | Sequence[ArrayLike],
    k_prime: int,
    *,
    alive: Mask | None = None,
    threads: int = 1,
) -> tuple[Ints, Floats]:
    """Find tokens as reference.token_topk does: int8 to the bit, others to rounding.

    ``threads`` is checked and not used. Raises as the reference does, and ResourceError
    where there is no device or no room on it.
    """
    docs = DeviceTokens.of(docs)
    rows = query_rows(query, docs)
    check_k_prime(k_prime)
    check_threads(threads)
    tokens, sims = device_topk(DeviceQuery.of(rows, docs), docs, k_prime, live_rows(docs, alive))
    return tokens.cpu().numpy(), sims.cpu().numpy()


def live_rows(docs: DeviceTokens, alive: Mask | None) -> torch.Tensor | None:
    """Token numbers of the passages that count, rising; None where all do."""
    if alive is None:
        return None
    if alive.shape != (len(docs),) or alive.dtype != np.bool_:
        raise InputError(f"alive must be bool [{len(docs)}], got {list(alive.shape)}.")
    chosen = upload(alive, docs.device).repeat_interleave(docs.offsets.diff())
    return chosen.nonzero().flatten()


def device_topk(
    query: DeviceQuery,
    docs: DeviceTokens,
    k_prime: int,
    rows: torch.Tensor | None = None,
    *,
    held: int = HELD,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the best of ``rows`` (None: of all) -> tokens [Q, K'] int64, sims [Q, K']."""
    count, live = len(query.rows), len(docs.vectors) if rows is None else len(rows)
    keep, step = min(k_prime, live), max(1, held // max(1, count))
    tokens = torch.empty((count, 0), dtype=torch.int64, device=docs.device)
    sims = torch.empty((count, 0), dtype=torch.float32, device=docs.device)
    for first in range(0, live if count else 0, step):
        last = min(first + step, live)
        place = torch.arange(first, last, device=docs.device)
        number = place if rows is None else rows[first:last]
        # The best so far stand first: all of their tokens come before those of this tile.
        sims = torch.cat([sims, similarities(query, docs, number)], dim=1)
        tokens = torch.cat([tokens, number.expand(count, -1)], dim=1)
        places = best_places(sims, min(keep, sims.shape[1]))
        tokens, sims = tokens.gather(1, places), sims.gather(1, places)
    if not count:
        tokens, sims = tokens.new_empty((0, keep)), sims.new_empty((0, keep))
    return tokens, sims


def best_places(sims: torch.Tensor, keep: int) -> torch.Tensor:
    """Places of the ``keep`` largest of each row, largest first, ties by place, NaN last."""
    bits = (sims + 0.0).view(torch.int32)  # + 0.0 makes the two zeros one
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    rising = torch.where(sims.isnan(), torch.iinfo(torch.int32).min, rising).to(torch.int64)
    backwards = LOW - torch.arange(sims.shape[1], device=sims.device)
    best = torch.topk((rising << 32) | backwards, keep, dim=1).values
    return LOW - (best & LOW)


def similarities(
    query: DeviceQuery, docs: DeviceTokens, rows: torch.Tensor, tiling: Tiling | None = None
) -> torch.Tensor:
    """Similarities of the query with tokens ``rows`` [T] -> [Q, T] float32."""
    count, width = query.rows.shape
    sims = torch.empty((count, len(rows)), dtype=torch.float32, device=docs.device)
    tiling = tiling or tiling_for(query)
    blocks = triton.cdiv(count, tiling.block_q)
    if sims.numel():
        with on(docs.device):
            _similarities[(triton.cdiv(len(rows), tiling.block_t) * blocks,)](
                *operands(query, docs),
                rows,
                sims,
                len(rows),
                count,
                blocks,
                **shape_of(width, query, docs),
                BLOCK_Q=tiling.block_q,
                BLOCK_T=tiling.block_t,
                num_warps=tiling.warps,
                num_stages=tiling.stages,
            )
    return sims


@triton.jit
def _similarities(
    vectors,
    scales,
    query,
    low,
    factors,
    rows,
    sims,
    tokens,
    count,
    blocks,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
    INT8: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    t = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    q = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    there, asked = t < tokens, q < count
    row = tl.load(rows + t, mask=there, other=0)
    sums = products(vectors, row, there, query, low, q, asked, WIDTH, BLOCK_H, INT8, SPLIT)
    out = sums.to(tl.float32)
    if INT8:
        out = out * tl.load(scales + row, mask=there, other=0)[:, None]
    out = out * tl.load(factors + q, mask=asked, other=0)[None, :]
    place = q.to(tl.int64)[None, :] * tokens + t[:, None]
    tl.store(sims + place, out, mask=there[:, None] & asked[None, :])
