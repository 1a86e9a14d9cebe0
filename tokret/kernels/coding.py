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

UNIT = 32  # the width of a row is a multiple of it
LANES = 32  # that are read side by side
SYMBOLS = 64  # residuals -31 .. 31, and one for all others
STATES = 128  # of a lane's 16 bits, those that say a symbol
FINE = 64  # parts of a step of the lattice in which rows are given
ALONG = 16  # parts of these in which it is given what lies along a row
CLASSES = 32  # of the size of a row's residual
CONTEXTS = 48  # of residuals
SIZES, FORMS, PLACES = range(CONTEXTS, CONTEXTS + 3)  # tables of what heads of rows hold
TABLES = CONTEXTS + 3
SECONDS = 5  # ways in which a second row has a part in what is expected of a row, or none
HEAD_SYMBOLS = (CLASSES, 1 + 8 * SECONDS, 3)  # of these tables
ESCAPE_BITS = 8  # of a residual that is listed beside
HEAD_BYTES = 2 * LANES + 4  # of a passage, whatever it holds
# Bits are worth so many squares of a step: half the slope of distortion at a high rate, 2 ln 2
# / 12, as what bits save in length a match pays for.
BIT = 0.06

Rows = NDArray[np.int8]
Fine = NDArray[np.int16]


def band_ends(width: int) -> list[int]:
    """Where each band of a row's dimensions ends."""
    return list(range(UNIT, width + 1, UNIT))


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows [T, W] of passages in parts of a step, with the different cells of each passage.

    ``along`` [T, W] is what a step of each dimension is worth along the row, in ALONG of a
    part: a writer chooses codes that are not too short or too long, as every query sees that.
    A row's cell is ``cells[cell_offsets[n] + slots[t]]``, for passage n; slots are in the
    order in which a passage's rows need them.
    """

    fine: Fine
    along: Fine
    slots: NDArray[np.uint16]
    token_offsets: Ints
    cells: NDArray[np.uint16]
    cell_offsets: Ints


def batch(fine: Fine, along: Fine, numbers: NDArray[np.int32], offsets: Ints) -> Batch:
    """Lay out rows [T, W] in cells [T] for coding; passages by token offsets [N + 1]."""
    passages = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = passages << 16 | numbers
    unique, first, places = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # by passage, then by the row that needs it first
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    starts = np.searchsorted(unique >> 16, np.arange(len(offsets)))
    slots = (rank[places] - starts[passages]).astype(np.uint16)
    cells = (unique[order] & 0xFFFF).astype(np.uint16)
    return Batch(fine, along, slots, offsets, cells, starts.astype(np.int64))


def rounded(fine: Fine) -> Rows:
    """The rows of the lattice nearest to rows in parts of a step."""
    return ((fine.astype(np.int32) + FINE // 2) // FINE).clip(-127, 127).astype(np.int8)


def penalties(shares: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What each symbol costs a writer [TABLES, SYMBOLS], in squares of a part of a step."""
    share = np.where(shares > 0, shares, np.maximum(shares[:, -1:], 1)).astype(np.float64)
    bits = np.log2(STATES / share) + ESCAPE_BITS * (shares == 0)
    bits[:, -1] += ESCAPE_BITS * (shares[:, -1] > 0)
    worth: NDArray[np.int32] = np.rint(BIT * FINE**2 * bits).astype(np.int32)
    return worth


class Coding:
    """Writes and reads passages with one set of tables.

    centroids int8 [C, W], shifts and weights int32 [W / UNIT], shares uint8 [TABLES, SYMBOLS],
    each row of which sums to STATES. Raises UsageError without the compiled kernels.
    """

    def __init__(
        self,
        centroids: Rows,
        shifts: NDArray[np.int32],
        weights: NDArray[np.int32],
        shares: NDArray[np.uint8],
    ) -> None:
        self.native = native()
        self.centroids = np.ascontiguousarray(centroids)
        if centroids.ndim != 2 or centroids.shape[1] % UNIT or not len(centroids):
            raise InputError(f"Centroids must be [C, W], W a multiple of {UNIT}.")
        bands = centroids.shape[1] // UNIT
        if shifts.shape != (bands,) or weights.shape != (bands,):
            raise InputError(f"Shifts and weights must be [{bands}].")
        if shares.shape != (TABLES, SYMBOLS) or (shares.sum(axis=1, dtype=int) != STATES).any():
            raise InputError(f"Shares must be [{TABLES}, {SYMBOLS}], rows of sum {STATES}.")
        self._tables = (
            np.ascontiguousarray(shifts, np.int32),
            np.ascontiguousarray(weights, np.int32),
            np.ascontiguousarray(shares, np.uint8),
            penalties(shares),
        )
        self.held = self.native.Lattice(self.centroids, *self._tables)
        self.ones = np.ones(len(self.centroids), np.float32)  # scales of the centroids

    def count(self, batch: Batch, *, threads: int = 1) -> Ints:
        """How often each symbol comes up in each table [TABLES, SYMBOLS].

        A residual that has a symbol counts as that, be there a share for it or not.
        """
        counts = np.zeros((TABLES, SYMBOLS), np.int64)
        self.native.count_symbols(simd(), self.held, *self._arrays(batch), threads, counts)
        return counts

    def encode(self, batch: Batch, *, threads: int = 1) -> tuple[NDArray[np.uint8], Ints, Rows]:
        """Bytes of the passages, end to end; where each ends [N]; rows that they say [T, W]."""
        ends = np.zeros(len(batch.token_offsets) - 1, np.int64)
        rows = np.zeros(batch.fine.shape, np.int8)
        codes = self.native.encode_passages(
            simd(), self.held, *self._arrays(batch), threads, ends, rows
        )
        return codes, ends, rows

    def _arrays(self, batch: Batch) -> tuple[Any, ...]:
        if {batch.fine.shape[1], batch.along.shape[1]} != {self.centroids.shape[1]}:
            raise InputError(f"Rows must be [T, {self.centroids.shape[1]}].")
        if len(batch.cells) and batch.cells.max() >= len(self.centroids):
            raise InputError("A row names a cell that there is not.")
        return tuple(
            np.ascontiguousarray(array)
            for array in (
                batch.fine,
                batch.along,
                batch.slots,
                batch.token_offsets,
                batch.cells,
                batch.cell_offsets,
            )
        )


def expected_bits(counts: Ints, shares: NDArray[np.uint8], passages: int) -> float:
    """Bits of so many passages whose symbols come up so often, by tables of such shares."""
    share = shares / STATES
    cost = -np.log2(np.where(shares > 0, share, np.maximum(share[:, -1:], 0.5 / STATES)))
    escapes = counts[:CONTEXTS, -1].sum() + counts[:CONTEXTS][shares[:CONTEXTS] == 0].sum()
    forms = counts[FORMS, : HEAD_SYMBOLS[1]]
    parents = forms[1:].sum() + (forms[1:].reshape(-1, SECONDS).sum(axis=0)[1:]).sum()
    asides = escapes + parents + counts[PLACES, 2]
    return float((counts * cost).sum() + 8 * asides + 8 * HEAD_BYTES * passages)


def simd() -> str:
    """The instruction set to use."""
    # Imported here so that a build without compiled kernels can import this module.
    from tokret.kernels.native import simd as chosen

    return chosen()


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
