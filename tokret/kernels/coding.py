"""Passages of int8 rows as bytes, and back; the compiled coder behind arrays.

What the bytes are stands in indexes/FORMAT.md; ``coding_reference`` reads them in plain
Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.errors import InputError, UsageError
from tokret.types import Ints

UNIT = 16  # the width of a row is a multiple of it
SYMBOLS = 64  # residuals -31 .. 31, and one for all others
STATES = 1024
BANDS = 6  # of dimensions, each with contexts of its own
CONTEXTS = 24
ESCAPE_BITS = 40  # of a residual that is listed beside
HEAD_BYTES = 24  # of a passage, whatever it holds

Rows = NDArray[np.int8]


def band_ends(width: int) -> list[int]:
    """Where each band of a row's dimensions ends."""
    return [width // UNIT * part for part in (1, 4, 8, 12, 14, 16)]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows [T, W] of passages, with the different cells of each passage.

    A row's cell is ``cells[cell_offsets[n] + slots[t]]``, for passage n.
    """

    rows: Rows
    slots: NDArray[np.uint16]
    token_offsets: Ints
    cells: NDArray[np.uint16]
    cell_offsets: Ints

    @property
    def head_bits(self) -> int:
        """What codes take beside the entropy of residuals."""
        counts = np.diff(self.token_offsets)
        wide = np.diff(self.cell_offsets) > 256
        heads = counts * np.where(wide, 4, 3) + np.where(counts > 0, HEAD_BYTES, 0)
        return int(heads.sum()) * 8


def batch(rows: Rows, numbers: NDArray[np.int32], offsets: Ints) -> Batch:
    """Lay out rows [T, W] in cells [T] for coding; passages by token offsets [N + 1]."""
    passages = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = passages << 16 | numbers
    unique, places = np.unique(keys, return_inverse=True)
    starts = np.searchsorted(unique >> 16, np.arange(len(offsets)))
    slots = (places - starts[passages]).astype(np.uint16)
    return Batch(rows, slots, offsets, (unique & 0xFFFF).astype(np.uint16), starts.astype(np.int64))


class Coding:
    """Writes and reads passages with one set of tables.

    centroids int8 [C, W], shifts and weights int32 [BANDS], shares uint16 [CONTEXTS,
    SYMBOLS], each row of which sums to STATES. Raises UsageError without the compiled
    kernels.
    """

    def __init__(
        self,
        centroids: Rows,
        shifts: NDArray[np.int32],
        weights: NDArray[np.int32],
        shares: NDArray[np.uint16],
    ) -> None:
        self.native = native()
        self.centroids = np.ascontiguousarray(centroids)
        if centroids.ndim != 2 or centroids.shape[1] % UNIT or not len(centroids):
            raise InputError(f"Centroids must be [C, W], W a multiple of {UNIT}.")
        self._tables = (
            np.ascontiguousarray(shifts, np.int32),
            np.ascontiguousarray(weights, np.int32),
            np.ascontiguousarray(shares, np.uint16),
        )
        self.held = self.native.Lattice(self.centroids, *self._tables)
        self.ones = np.ones(len(self.centroids), np.float32)  # scales of the centroids

    def count(self, batch: Batch, *, threads: int = 1) -> Ints:
        """How often each residual comes up in each context [CONTEXTS, SYMBOLS]."""
        counts = np.zeros((CONTEXTS, SYMBOLS), np.int64)
        self.native.count_symbols(self.held, *self._arrays(batch), threads, counts)
        return counts

    def encode(self, batch: Batch, *, threads: int = 1) -> tuple[NDArray[np.uint8], Ints]:
        """Bytes of the passages, end to end, and where each ends [N]."""
        ends = np.zeros(len(batch.token_offsets) - 1, np.int64)
        codes = self.native.encode_passages(self.held, *self._arrays(batch), threads, ends)
        return codes, ends

    def _arrays(self, batch: Batch) -> tuple[Any, ...]:
        if batch.rows.shape[1] != self.centroids.shape[1]:
            raise InputError(f"Rows must be [T, {self.centroids.shape[1]}].")
        if len(batch.cells) and batch.cells.max() >= len(self.centroids):
            raise InputError("A row names a cell that there is not.")
        return tuple(
            np.ascontiguousarray(array)
            for array in (
                batch.rows,
                batch.slots,
                batch.token_offsets,
                batch.cells,
                batch.cell_offsets,
            )
        )


def expected_bits(counts: Ints, shares: NDArray[np.uint16]) -> float:
    """Bits that residuals take which come up so often, by tables of so many shares."""
    share = shares / STATES
    escapes = np.where(shares == 0, counts, 0).sum() + counts[:, -1].sum()
    cost = -np.log2(np.where(shares > 0, share, share[:, -1:]))
    return float((counts * cost).sum() + ESCAPE_BITS * escapes)


def native() -> Any:  # noqa: ANN401
    """The compiled module. Raises UsageError where tokret was installed without it."""
    try:
        from tokret.kernels import _native
    except ImportError as error:
        raise UsageError(
            "The ivf backend needs tokret's compiled kernels, which are not installed; install "
            "tokret where there is a C++17 compiler, or use backend 'exact'."
        ) from error
    return _native
