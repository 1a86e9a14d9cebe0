"""Decode residual codes and scan them, in one pass, on the device.

Does: a byte of codes becomes its levels by one look-up in a table of 256; the dimensions
    that stand at the same place of a byte meet theirs of the query in one integer product,
    so codes are never put in order. The best of each passage stays in registers.
Costs: H * bits / 8 + 4 bytes a token and 4 * Q of centroid scores, which stay in the cache
    as long as there are few thousand cells; 2 * Q * T * H int8 operations.
Departs: nothing; the answer has the reference's bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import ArrayLike, NDArray

from tokret.kernels.gpu.device import choose, on, power_of_two, upload
from tokret.kernels.gpu.ragged import Tiling, query_tile
from tokret.kernels.reference import check_threads
from tokret.kernels.residual import Residuals, check_start, checked_rows, query_parts
from tokret.types import Floats

WIDE = 64  # bytes of a code at a time: their levels take four times as much shared memory


@dataclass(frozen=True, eq=False)
class DeviceResiduals:
    """A collection's ``Residuals`` on the device: upload an index once, ask it often.

    ``table`` int32 [256] holds, for each byte of codes, its levels, a byte each.
    """

    codes: torch.Tensor
    cells: torch.Tensor
    offsets: torch.Tensor
    table: torch.Tensor
    scale: float
    bits: int
    cell_count: int

    @classmethod
    def of(cls, docs: DeviceResiduals | Residuals, device: str | None = None) -> DeviceResiduals:
        """Copy ``docs`` to the device; what is there passes through.

        Raises ResourceError where there is no device or no room on it.
        """
        if isinstance(docs, DeviceResiduals):
            return docs
        where = choose(device)
        arrays = (docs.codes, docs.cells, docs.offsets, table(docs.levels, docs.bits))
        codes, cells, offsets, levels = (upload(array, where) for array in arrays)
        return cls(codes, cells, offsets, levels, docs.scale, docs.bits, docs.cell_count)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """H, the width of a vector."""
        return int(self.codes.shape[1]) * 8 // self.bits


def table(levels: NDArray[np.int8], bits: int) -> NDArray[np.int32]:
    """Levels of every byte, the lowest code's in the lowest byte -> int32 [256]."""
    places = np.arange(0, 8, bits)
    codes = np.arange(256)[:, None] >> places & (2**bits - 1)
    packed = np.zeros((256, 4), np.int8)
    packed[:, : len(places)] = levels[codes]
    return np.asarray(packed.view("<i4")[:, 0].astype(np.int32))


def residual_maxsim(
    query: ArrayLike,
    start: Floats | torch.Tensor,
    docs: DeviceResiduals | Residuals,
    *,
    threads: int = 1,
) -> Floats:
    """Find best similarities as tokret.kernels.residual.residual_maxsim does, to the bit.

    ``start`` may be a tensor on the device. ``threads`` is checked and not used. Raises
    InputError as that does, ResourceError where there is no device or no room on it.
    """
    docs = DeviceResiduals.of(docs)
    rows = checked_rows(query, docs.width)
    if not isinstance(start, torch.Tensor):
        start = upload(start, docs.codes.device)
    check_start(start.shape, start.dtype == torch.float32, docs.cell_count, len(rows))
    check_threads(threads)
    codes, factors = query_parts(rows, docs.scale)
    planes = upload(query_planes(codes, docs.bits), docs.codes.device)
    weights = upload(factors, docs.codes.device)
    best: Floats = device_residual(planes, weights, start.contiguous(), docs).cpu().numpy()
    return best


def query_planes(codes: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Part the dimensions by their place in a byte: [Q, H] -> [8 / bits, Q, bytes]."""
    parted = codes.reshape(len(codes), codes.shape[1] * bits // 8, 8 // bits)
    return np.ascontiguousarray(parted.transpose(2, 0, 1))


def device_residual(
    planes: torch.Tensor,
    factors: torch.Tensor,
    start: torch.Tensor,
    docs: DeviceResiduals,
    tiling: Tiling | None = None,
) -> torch.Tensor:
    """Find best similarities on the device: no copy, no wait -> [N, Q] float32."""
    count, width = planes.shape[1:]
    best = torch.empty((len(docs), count), dtype=torch.float32, device=planes.device)
    tiling = tiling or Tiling(block_q=power_of_two(count, 16, 64), block_t=64)
    blocks = triton.cdiv(count, tiling.block_q)
    if best.numel():
        with on(planes.device):
            _residual_matches[(len(docs) * blocks,)](
                docs.codes,
                docs.cells,
                docs.offsets,
                docs.table,
                start,
                planes,
                factors,
                best,
                count,
                blocks,
                PLANES=8 // docs.bits,
                WIDTH=width,
                BLOCK_H=power_of_two(width, 32, WIDE),
                BLOCK_Q=tiling.block_q,
                BLOCK_T=tiling.block_t,
                num_warps=tiling.warps,
                num_stages=tiling.stages,
                enable_fp_fusion=False,  # the product is rounded before it is added
            )
    return best


@triton.jit
def add_levels(
    sums,
    codes,
    row,
    there,
    table,
    planes,
    q,
    asked,
    first,
    count,
    PLANES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Add to ``sums`` [BLOCK_T, BLOCK_Q] the products of BLOCK_H bytes from ``first`` on."""
    h = first + tl.arange(0, BLOCK_H)
    inside = there[:, None] & (h < WIDTH)[None, :]
    packed = tl.load(codes + row[:, None] * WIDTH + h[None, :], mask=inside, other=0)
    levels = tl.load(table + packed.to(tl.int32))
    for plane in tl.static_range(PLANES):
        level = ((levels >> (8 * plane)) & 255).to(tl.uint8).to(tl.int8, bitcast=True)
        # Bytes past the code meet zeros of the query, whatever level they stand for.
        asks = query_tile(planes + plane * count * WIDTH, q, asked, first, WIDTH, BLOCK_H)
        sums = tl.dot(level, asks, sums, out_dtype=tl.int32)
    return sums


@triton.jit
def _residual_matches(
    codes,
    cells,
    offsets,
    table,
    start,
    planes,
    factors,
    best,
    count,
    blocks,
    PLANES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    passage = (tl.program_id(0) // blocks).to(tl.int64)
    q = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    asked = q < count
    factor = tl.load(factors + q, mask=asked, other=0)
    first = tl.load(offsets + passage)
    length = tl.load(offsets + passage + 1) - first
    held = tl.full([BLOCK_T, BLOCK_Q], float("-inf"), tl.float32)
    for begin in range(0, length, BLOCK_T):
        t = begin + tl.arange(0, BLOCK_T)
        there = t < length
        row = first + t
        sums = tl.zeros([BLOCK_T, BLOCK_Q], tl.int32)
        if WIDTH <= BLOCK_H:  # without a loop the query stays in shared memory from tile to tile
            sums = add_levels(
                sums, codes, row, there, table, planes, q, asked, 0, count, PLANES, WIDTH, BLOCK_H
            )
        else:
            for low in range(0, WIDTH, BLOCK_H):
                sums = add_levels(
                    sums, codes, row, there, table, planes, q, asked, low, count,
                    PLANES, WIDTH, BLOCK_H,
                )  # fmt: skip
        cell = tl.load(cells + row, mask=there, other=0).to(tl.int64)
        near = there[:, None] & asked[None, :]
        base = tl.load(start + cell[:, None] * count + q[None, :], mask=near, other=0)
        sims = base + sums.to(tl.float32) * factor[None, :]
        held = tl.where(near, tl.maximum(held, sims), held)
    tl.store(best + passage * count + q, tl.max(held, axis=0), mask=asked)
