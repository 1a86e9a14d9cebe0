"""Tokens as a centroid and a residual code: their value, and its kernel in NumPy.

Does: a token is its centroid plus one level of a small table for each dimension, with 2, 4
    or 8 bits; several codes share a byte. A query meets the centroids once, and each token
    by a table, in integers.
Costs: H * bits / 8 bytes and a centroid's number a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.errors import InputError
from tokret.kernels.reference import check_threads
from tokret.types import Floats, Ints, quantise_rows, rising

BITS = (2, 4, 8)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Coded tokens of N passages, laid end to end.

    ``codes`` uint8 [T, H * bits / 8]: dimension 0 in the lowest bits of the first byte;
    ``levels`` int8 [2 ** bits]; ``cells`` int32 [T], the centroid of each token; passage
    ``i`` owns rows ``offsets[i]:offsets[i + 1]``. Dimension h of token t is
    ``centroid[cells[t], h] + scale * levels[code[t, h]]``.
    """

    codes: NDArray[np.uint8]
    cells: NDArray[np.int32]
    offsets: Ints
    levels: NDArray[np.int8]
    scale: float

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != np.uint8:
            raise InputError(f"Codes must be uint8 [T, bytes], got {list(self.codes.shape)}.")
        if self.levels.dtype != np.int8 or self.levels.shape not in [(2**b,) for b in BITS]:
            raise InputError(
                f"Levels must be int8 [4], [16] or [256], got {list(self.levels.shape)}."
            )
        if self.cells.dtype != np.int32 or self.cells.shape != (len(self.codes),):
            raise InputError(
                f"Cells must be int32 [{len(self.codes)}], got {list(self.cells.shape)}."
            )
        ends = self.offsets[[0, -1]].tolist() if self.offsets.size else []
        if self.offsets.dtype != np.int64 or ends != [0, len(self.codes)]:
            raise InputError(f"Offsets must be int64 and rise from 0 to {len(self.codes)}.")
        if not rising(self.offsets) or (self.cells < 0).any():
            raise InputError("Offsets must not fall, nor a cell be below 0.")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def bits(self) -> int:
        """Bits of one dimension."""
        return len(self.levels).bit_length() - 1

    @property
    def cell_count(self) -> int:
        """How many centroids there must be at least."""
        return int(self.cells.max(initial=-1)) + 1

    @property
    def width(self) -> int:
        """H, the width of a vector."""
        return int(self.codes.shape[1]) * 8 // self.bits


def residual_maxsim(
    query: ArrayLike, start: Floats, docs: Residuals, *, threads: int = 1
) -> Floats:
    """Find each passage's best similarity with each query token.

    query [Q, H], its similarities with the centroids ``start`` [cells, Q] -> [N, Q]; a
    passage without tokens has -inf. The query is rounded to int8 rows; the similarity of
    token t is ``start[cell] + sum * factor``, where the sum of products with levels is
    taken in integers and then float32, the factor is the codes' scale times the query
    row's in float32, and the product is rounded before it is added: every build gives the
    same bits. Raises InputError for a query or centroid scores of another shape.
    """
    rows = checked_rows(query, docs.width)
    check_start(start.shape, start.dtype == np.float32, docs.cell_count, len(rows))
    check_threads(threads)
    query_codes, factors = query_parts(rows, docs.scale)
    levels = unpack(docs).astype(np.int32)
    sums = (levels @ query_codes.T.astype(np.int32)).astype(np.float32)
    sims = start[docs.cells] + sums * factors
    best = np.full((len(docs), len(rows)), -np.inf, np.float32)
    for i in np.flatnonzero(np.diff(docs.offsets)):
        best[i] = sims[docs.offsets[i] : docs.offsets[i + 1]].max(axis=0)
    return best


def query_parts(query: Floats, scale: float) -> tuple[NDArray[np.int8], Floats]:
    """Round a query to int8 rows [Q, H]; the factor of each row's integer sums [Q]."""
    codes, scales = quantise_rows(query)
    return codes, np.float32(scale) * scales


def unpack(docs: Residuals) -> NDArray[np.int8]:
    """Give the level of each token and dimension -> [T, H]."""
    shifts = np.arange(0, 8, docs.bits, dtype=np.uint8)
    codes = (docs.codes[:, :, None] >> shifts) & np.uint8(2**docs.bits - 1)
    return np.take(docs.levels, codes.reshape(len(docs.codes), docs.width))


def checked_rows(query: ArrayLike, width: int) -> Floats:
    """Bring a query to float32 [Q, H], or refuse it."""
    rows = np.ascontiguousarray(query, np.float32)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InputError(f"The query must be [Q, {width}], got {list(rows.shape)}.")
    if not np.isfinite(rows).all():
        raise InputError("The query holds NaN or infinity.")
    return rows


def check_start(shape: tuple[int, ...], float32: bool, cells: int, count: int) -> None:
    """Refuse centroid scores that are not float32 [cells, Q], with a row for every cell."""
    if len(shape) != 2 or shape[0] < cells or shape[1] != count or not float32:
        raise InputError(
            f"Centroid scores must be float32 [{cells} or more, {count}], got {list(shape)}"
            f"{'' if float32 else ' of another type'}."
        )
