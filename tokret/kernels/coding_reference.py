"""Passages as bytes in plain Python: the definition that the compiled coder is held to.

    heads     back [T], kind << 4 | size [T], slot [T] (2 bytes where there are over 256 cells)
    escapes   u32 how many; for each u16 row modulo 65,536, u16 dimension, residual modulo 256
    states    u16, u32 size, u16, u32 size, u16, u32 size, u16
    streams   four, each of a quarter of the dimensions of all rows, lowest bits first

Values of rows and centroids are -127 .. 127. A passage without rows has no bytes.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.kernels.coding import CONTEXTS, STATES, SYMBOLS, Batch, Rows, band_ends
from tokret.types import Ints

CENTROID, ROW, BETWEEN, SHIFTED = range(4)  # what a row is predicted from
STREAMS = 4
CLASSES = 16  # of the size of a row's residual
ESCAPE = SYMBOLS - 1
LARGEST = 31  # residual that has a symbol
MOST_BACK = 255
MOST_APART = 65_535  # rows from one escape to the next, so that 16 bits name a row
SPREAD_STEP = (STATES >> 1) + (STATES >> 3) + 3  # odd, so that it visits every state
BROKEN = "a passage is not what was coded"

Wide = NDArray[np.int64]


class Plan(NamedTuple):
    """How a row is predicted, from how many rows back, and the class of what is left."""

    back: int
    kind: int
    size: int


class Coding:
    """What ``coding.Coding`` is, and the same bytes; threads are for the signature alone.

    Every table must give the escape a state at least, or some residuals could not be written.
    """

    def __init__(
        self,
        centroids: Rows,
        shifts: NDArray[np.int32],
        weights: NDArray[np.int32],
        shares: NDArray[np.uint16],
    ) -> None:
        self.centroids = centroids
        self.shifts, self.weights, self.shares = shifts, weights, shares
        self.width = int(centroids.shape[1])
        self.bands = np.searchsorted(band_ends(self.width), np.arange(self.width), side="right")
        self.symbols = np.stack([spread(row) for row in shares])  # [CONTEXTS, STATES]

    @cached_property
    def steps(self) -> list[list[tuple[int, int, int]]]:
        """By context and state: a symbol, how many bits come next, and what they are added to."""
        out = []
        for shares, symbols in zip(self.shares, self.symbols.tolist(), strict=True):
            seen, steps = shares.tolist(), []
            for symbol in symbols:
                bits = STATES.bit_length() - seen[symbol].bit_length()
                steps.append((symbol, bits, (seen[symbol] << bits) - STATES))
                seen[symbol] += 1
            out.append(steps)
        return out

    def contexts(self, size: int) -> Ints:
        """The context of each dimension [W] of a row of a class."""
        middle = (CONTEXTS - CLASSES) // 2
        found: Ints = np.clip(size + self.shifts[self.bands] + middle, 0, CONTEXTS - 1)
        return found

    def count(self, batch: Batch, *, threads: int = 1) -> Ints:
        """How often each residual comes up in each context [CONTEXTS, SYMBOLS]."""
        del threads
        counts = np.zeros((CONTEXTS, SYMBOLS), np.int64)
        for n in range(len(batch.token_offsets) - 1):
            plans, left = planned(self, *passage_of(batch, n))
            for plan, row in zip(plans, left, strict=True):
                np.add.at(counts, (self.contexts(plan.size), symbols_of(row)), 1)
        return counts

    def encode(self, batch: Batch, *, threads: int = 1) -> tuple[NDArray[np.uint8], Ints]:
        """Bytes of the passages, end to end, and where each ends [N]."""
        del threads
        codes = [
            encode_passage(self, *passage_of(batch, n)) for n in range(len(batch.token_offsets) - 1)
        ]
        ends = np.cumsum([len(code) for code in codes], dtype=np.int64)
        return np.frombuffer(b"".join(codes), np.uint8), ends


def passage_of(batch: Batch, n: int) -> tuple[Rows, NDArray[np.uint16], NDArray[np.uint16]]:
    """Rows [T, W], slots [T] and cells [S] of one passage."""
    first, last = batch.token_offsets[n : n + 2]
    cells = batch.cells[batch.cell_offsets[n] : batch.cell_offsets[n + 1]]
    return batch.rows[first:last], batch.slots[first:last], cells


def spread(shares: NDArray[np.uint16]) -> Ints:
    """Which symbol each state stands for [STATES]: every share, strewn over the table."""
    symbols = np.full(STATES, ESCAPE)
    strewn = np.repeat(np.arange(SYMBOLS), shares)
    symbols[np.arange(len(strewn)) * SPREAD_STEP % STATES] = strewn
    return symbols


def predict(kind: int, centroid: Wide, earlier: Wide, other: Wide) -> Wide:
    """What a row is expected to be; ``other`` is the centroid of the ``earlier`` row."""
    if kind == CENTROID:
        return centroid
    if kind == ROW:
        return earlier
    if kind == BETWEEN:
        return (centroid + earlier) >> 1
    return np.clip(centroid + ((earlier - other) >> 1), -127, 127)


def symbols_of(residuals: Wide) -> Wide:
    """The symbol of each residual; ESCAPE for those that have none."""
    return np.where(np.abs(residuals) <= LARGEST, residuals + LARGEST, ESCAPE)


def planned(
    coding: Coding, rows: Rows, slots: NDArray[np.uint16], cells: NDArray[np.uint16]
) -> tuple[list[Plan], list[Wide]]:
    """Predict each row from what is nearest to it, and what is left of it [W].

    Nearest before rounding; of equals the centroid, then the row furthest back, then the
    first kind.
    """
    n, c = rows.astype(np.int64), coding.centroids[cells[slots]].astype(np.int64)
    plans, left = [], []
    for t in range(len(n)):
        back, kind = 0, CENTROID
        first = max(0, t - MOST_BACK)
        if t:
            p, o = n[first:t], c[first:t]
            twice = np.stack([2 * p, c[t] + p, 2 * c[t] + p - o], axis=1)  # [rows, 3, W]
            away = np.square(2 * n[t] - twice).sum(axis=2).reshape(-1)
            best = int(away.argmin())
            if away[best] < np.square(2 * n[t] - 2 * c[t]).sum():
                back, kind = t - first - best // 3, 1 + best % 3
        residual = n[t] - predict(kind, c[t], n[t - back], c[t - back])
        plans.append(Plan(back, kind, size_of(coding, residual)))
        left.append(residual)
    return plans, left


def size_of(coding: Coding, residual: Wide) -> int:
    """The class by the weighted mean square, in units of 1/256: a factor of 2 for each."""
    energy = int((np.square(residual) * coding.weights[coding.bands]).sum()) // coding.width
    return min(max(energy.bit_length() - 5, 0), CLASSES - 1)


def encode_passage(
    coding: Coding, rows: Rows, slots: NDArray[np.uint16], cells: NDArray[np.uint16]
) -> bytes:
    """Write a passage whose rows lie in ``cells[slots]``."""
    if not len(rows):
        return b""
    plans, left = planned(coding, rows, slots, cells)
    out = bytes(plan.back for plan in plans)
    out += bytes(plan.kind << 4 | plan.size for plan in plans)
    out += slots.astype("<u2" if len(cells) > 256 else "|u1").tobytes()
    contexts = np.stack([coding.contexts(plan.size) for plan in plans])
    symbols = np.stack([symbols_of(row) for row in left])
    symbols[coding.shares[contexts, symbols] == 0] = ESCAPE
    escapes, last = [], -1
    for t in range(len(rows)):
        if t - last == MOST_APART:
            symbols[t, 0] = ESCAPE
        for h in np.flatnonzero(symbols[t] == ESCAPE).tolist():
            escapes.append(bytes([t & 255, t >> 8 & 255, h & 255, h >> 8, int(left[t][h]) & 255]))
            last = t
    out += len(escapes).to_bytes(4, "little") + b"".join(escapes)
    quarter = coding.width // STREAMS
    streams = []
    for k in range(STREAMS):
        part = np.s_[:, k * quarter : (k + 1) * quarter]
        streams.append(_write(coding, contexts[part].reshape(-1), symbols[part].reshape(-1)))
    for k, (state, stream) in enumerate(streams):
        out += state.to_bytes(2, "little")
        if k + 1 < STREAMS:
            out += len(stream).to_bytes(4, "little")
    return out + b"".join(stream for _, stream in streams)


def _write(coding: Coding, contexts: Ints, symbols: Ints) -> tuple[int, bytes]:
    """Write a stream from its last symbol to its first: the state a reader starts in, and bytes."""
    state, value, held = 0, 0, 0
    for c, s in zip(contexts[::-1].tolist(), symbols[::-1].tolist(), strict=True):
        share = int(coding.shares[c, s])
        from_state, bits = state + STATES, 0
        while from_state >> bits >= 2 * share:
            bits += 1
        value = value << bits | from_state & ((1 << bits) - 1)
        held += bits
        places = np.flatnonzero(coding.symbols[c] == s)
        state = int(places[(from_state >> bits) - share])
    return state, value.to_bytes(-(-held // 8), "little")


def decode_passage(coding: Coding, code: bytes, cells: NDArray[np.uint16], count: int) -> Rows:
    """Read rows [T, W] of a passage. Raises ValueError for what no encoder writes."""
    rows = np.zeros((count, coding.width), np.int64)
    if not count:
        return rows.astype(np.int8)
    slot_bytes = 2 if len(cells) > 256 else 1
    fixed = 2 * STREAMS + 4 * (STREAMS - 1)
    at = count * (2 + slot_bytes)
    _expect(len(code) >= at + 4 + fixed)
    slots = np.frombuffer(code, f"<u{slot_bytes}", count, 2 * count)
    escaped = int.from_bytes(code[at : at + 4], "little")
    at += 4
    _expect(escaped <= (len(code) - at - fixed) // 5)
    escapes = [code[i : i + 5] for i in range(at, at + 5 * escaped, 5)]
    at += 5 * escaped
    states, places, sizes = [], [], []
    for k in range(STREAMS):
        states.append(int.from_bytes(code[at : at + 2], "little"))
        sizes.append(int.from_bytes(code[at + 2 : at + 6], "little") if k + 1 < STREAMS else 0)
        at += 2 if k + 1 == STREAMS else 6
    for size in sizes:
        _expect(size <= len(code) - at)
        places.append(8 * at)
        at += size
    _expect(max(states) < STATES)
    bits = int.from_bytes(code, "little")

    quarter = coding.width // STREAMS
    for t in range(count):
        back, kind, size = code[t], code[count + t] >> 4, code[count + t] & 15
        _expect(back <= t and kind <= SHIFTED and (kind != CENTROID) == (back != 0))
        _expect(slots[t] < len(cells) and cells[slots[t]] < len(coding.centroids))
        for h, c in enumerate(coding.contexts(size).tolist()):
            k = h // quarter
            symbol, taken, base = coding.steps[c][states[k]]
            rows[t, h] = 0 if symbol == ESCAPE else symbol - LARGEST
            states[k] = base + (bits >> places[k] & ((1 << taken) - 1))
            places[k] += taken
        _expect(max(places) <= 8 * len(code))
        while escapes and int.from_bytes(escapes[0][:2], "little") == t & 0xFFFF:
            escape = escapes.pop(0)
            h = int.from_bytes(escape[2:4], "little")
            _expect(h < coding.width)
            rows[t, h] = escape[4]
        c, o = coding.centroids[cells[slots[[t, t - back]]]].astype(np.int64)
        sums = rows[t] + predict(kind, c, rows[t - back], o)
        rows[t] = (sums + 128 & 255) - 128
    _expect(not escapes)
    return rows.astype(np.int8)


def _expect(good: bool) -> None:
    if not good:
        raise ValueError(BROKEN)
