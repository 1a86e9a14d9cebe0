"""Passages as bytes in plain Python: the definition that the compiled coder is held to.

    states    u16 for each of 32 lanes
    stream    u32 how many bytes, and these: what lanes take, in the order in which they need it
    asides    of each row: how many rows back the rows are that it is predicted from, its slot
              where it is listed, and residuals modulo 256 that have no symbol

Values of rows and centroids are -127 .. 127. A passage without rows has no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.kernels.coding import (
    ALONG,
    CLASSES,
    CONTEXTS,
    FINE,
    FORMS,
    LANES,
    PLACES,
    SECONDS,
    SIZES,
    STATES,
    SYMBOLS,
    TABLES,
    UNIT,
    Batch,
    Fine,
    Rows,
    penalties,
    rounded,
)
from tokret.types import Ints

NEW, SAME, LISTED = range(3)  # where a row's cell is among those of the passage
ESCAPE = SYMBOLS - 1
LARGEST = 31  # residual that has a symbol
MOST_BACK = 255
LEAST = 1 << 8  # state of a lane
PARENT = (29, 32)  # what is left must be less than such a part for a byte more to pay
MOST_ENERGY = 1 << 20
BROKEN = "a passage is not what was coded"

Wide = NDArray[np.int64]


class Form(NamedTuple):
    """How a row is predicted from its centroid c and from earlier rows, in quarters.

    ``first`` 1 .. 4: c + first / 4 (p - c); 5 .. 8: c + (first - 4) / 4 (p - o), o the centroid
    of p. From that, b: ``second`` 1, 2: b + second / 4 (p - b); 3, 4: b + (second - 2) / 4
    (p - o), with another row p.
    """

    first: int
    back: int
    second: int
    back2: int

    @property
    def symbol(self) -> int:
        """What stands for it, but for how many rows back they are."""
        return 1 + (self.first - 1) * SECONDS + self.second if self.first else 0


class Planned(NamedTuple):
    """A row of a passage: how it is predicted, its class, its residuals [W] and itself [W]."""

    form: Form
    size: int
    residuals: Wide
    row: Wide


class Coding:
    """What ``coding.Coding`` is, and the same bytes; threads are for the signature alone."""

    def __init__(
        self,
        centroids: Rows,
        shifts: NDArray[np.int32],
        weights: NDArray[np.int32],
        shares: NDArray[np.uint8],
    ) -> None:
        self.centroids = centroids
        self.shifts, self.weights, self.shares = shifts, weights, shares.astype(int)
        self.penalties = penalties(shares)
        self.width = int(centroids.shape[1])
        self.starts = np.cumsum(self.shares, axis=1) - self.shares
        self.symbols = np.stack([np.repeat(np.arange(SYMBOLS), row) for row in self.shares])

    def contexts(self, size: int) -> Ints:
        """The context of each band [W / UNIT] of a row of a class."""
        middle = (CONTEXTS - CLASSES) // 2
        found: Ints = np.clip(size + self.shifts + middle, 0, CONTEXTS - 1)
        return found

    def count(self, batch: Batch, *, threads: int = 1) -> Ints:
        """How often each symbol comes up in each table [TABLES, SYMBOLS]."""
        del threads
        counts = np.zeros((TABLES, SYMBOLS), np.int64)
        for n in range(len(batch.token_offsets) - 1):
            fine, along, slots, cells = passage_of(batch, n)
            rows = planned(self, fine, along, slots, cells)
            for mine, place in zip(rows, places(rows, slots), strict=True):
                contexts = np.repeat(self.contexts(mine.size), UNIT)
                np.add.at(counts, (contexts, symbols_of(mine.residuals)), 1)
                counts[SIZES, mine.size] += 1
                counts[FORMS, mine.form.symbol] += 1
                counts[PLACES, place] += 1
        return counts

    def encode(self, batch: Batch, *, threads: int = 1) -> tuple[NDArray[np.uint8], Ints, Rows]:
        """Bytes of the passages, end to end; where each ends [N]; rows that they say [T, W]."""
        del threads
        written = [
            encode_passage(self, *passage_of(batch, n)) for n in range(len(batch.token_offsets) - 1)
        ]
        ends = np.cumsum([len(code) for code, _ in written], dtype=np.int64)
        rows = [np.empty((0, self.width), np.int8), *(rows for _, rows in written)]
        codes = np.frombuffer(b"".join(code for code, _ in written), np.uint8)
        return codes, ends, np.concatenate(rows)


def passage_of(batch: Batch, n: int) -> tuple[Fine, Fine, NDArray[np.uint16], NDArray[np.uint16]]:
    """Rows [T, W] in parts, what lies along them, slots [T] and cells [S] of one passage."""
    first, last = batch.token_offsets[n : n + 2]
    cells = batch.cells[batch.cell_offsets[n] : batch.cell_offsets[n + 1]]
    return batch.fine[first:last], batch.along[first:last], batch.slots[first:last], cells


def once(first: int, c: Wide, p: Wide, o: Wide) -> Wide:
    """What one row makes expected, in quarters."""
    return 4 * c + (first * (p - c) if first <= 4 else (first - 4) * (p - o))


def twice(second: int, base: Wide, p: Wide, o: Wide) -> Wide:
    """What a second row makes of that, in sixteenths."""
    if second <= 2:
        return 4 * base + second * (4 * p - base)
    return 4 * base + (second - 2) * 4 * (p - o)


def predict(form: Form, c: Wide, p: Wide, o: Wide, p2: Wide, o2: Wide) -> Wide:
    """What a row is expected to be, from its centroid and two rows and their centroids."""
    expected = twice(form.second, once(form.first, c, p, o), p2, o2)
    cut: Wide = np.clip((expected + 8) >> 4, -127, 127)
    return cut


def form_of(n: Wide, c: Wide, t: int) -> Form:
    """From which rows before t it is best predicted, by whole steps.

    Of equals the row furthest back, then the first way. A row more must pay for its byte.
    """
    before = np.arange(max(0, t - MOST_BACK), t)
    p, o = n[before], c[before]
    left = int(np.square(4 * (n[t] - c[t])).sum())
    tries = [np.square(4 * n[t] - once(first, c[t], p, o)).sum(axis=1) for first in range(1, 9)]
    away = np.stack(tries, axis=1).reshape(-1)
    if not len(away) or PARENT[1] * int(away.min()) >= PARENT[0] * left:
        return Form(0, 0, 0, 0)
    k, way = divmod(int(away.argmin()), 8)
    base, left = once(way + 1, c[t], p[k], o[k]), 16 * int(away.min())
    tries = [
        np.square(16 * n[t] - twice(second, base, p, o)).sum(axis=1) for second in range(1, SECONDS)
    ]
    away = np.stack(tries, axis=1).reshape(-1)
    if PARENT[1] * int(away.min()) >= PARENT[0] * left:
        return Form(way + 1, t - int(before[k]), 0, 0)
    k2, way2 = divmod(int(away.argmin()), SECONDS - 1)
    return Form(way + 1, t - int(before[k]), way2 + 1, t - int(before[k2]))


def planned(
    coding: Coding, fine: Fine, along: Fine, slots: NDArray[np.uint16], cells: NDArray[np.uint16]
) -> list[Planned]:
    """What is written of each row."""
    n, c = rounded(fine).astype(np.int64), coding.centroids[cells[slots]].astype(np.int64)
    out: list[Planned] = []
    for t in range(len(n)):
        form = form_of(n, c, t)
        p, p2 = (out[t - back].row if back else n[t] for back in (form.back, form.back2))
        expected = predict(form, c[t], p, c[t - form.back], p2, c[t - form.back2])
        away = fine[t].astype(np.int64) - FINE * expected
        size = size_of(coding, away)
        residuals = chosen(coding, size, away, along[t].astype(np.int64))
        out.append(Planned(form, size, residuals, expected + residuals))
    return out


def chosen(coding: Coding, size: int, away: Wide, along: Wide) -> Wide:
    """Residuals [W] of a row so far from what was expected, in parts of a step.

    Of the two steps around each, the one that costs less, distance and bits taken together;
    and then, one dimension after the other, the other one where it is worth what it costs to
    bring the row nearer to its length along itself.
    """
    contexts = np.repeat(coding.contexts(size), UNIT)

    def cost(k: Wide) -> Wide:
        found: Wide = np.square(away - FINE * k) + coding.penalties[contexts, symbols_of(k)]
        return found

    low = away // FINE
    high = low + (away % FINE != 0)
    upper = cost(high) < cost(low)
    residuals, others = np.where(upper, high, low), np.abs(cost(high) - cost(low))
    lost = int((along * (away - FINE * residuals)).sum())

    def squared(x: int) -> int:
        return (abs(x) // (ALONG * FINE)) ** 2

    for h in range(coding.width):
        to = residuals[h] + np.sign(away[h] - FINE * residuals[h])
        then = lost + int(along[h] * FINE * (residuals[h] - to))
        if squared(then) + others[h] < squared(lost):
            residuals[h], lost = to, then
    return residuals


def symbols_of(residuals: Wide) -> Wide:
    """The symbol of each residual; ESCAPE for those that have none."""
    return np.where(np.abs(residuals) <= LARGEST, residuals + LARGEST, ESCAPE)


def size_of(coding: Coding, away: Wide) -> int:
    """The class by the weighted mean square, in units of 1/256 of a step: sqrt(2) for each."""
    bands = np.square(away).reshape(-1, UNIT).sum(axis=1)
    energy = int((bands * coding.weights).sum()) // (coding.width * FINE**2)
    limits = [isqrt(256 << k) for k in range(1, CLASSES)]
    return sum(min(energy, MOST_ENERGY) >= limit for limit in limits)


def places(rows: list[Planned], slots: NDArray[np.uint16]) -> Iterator[int]:
    """Where each row's cell is: the passage's next, that of the first row, or listed."""
    used = 0
    for t, mine in enumerate(rows):
        if slots[t] == used:
            used += 1
            yield NEW
        else:
            yield SAME if mine.form.first and slots[t] == slots[t - mine.form.back] else LISTED


def encode_passage(
    coding: Coding, fine: Fine, along: Fine, slots: NDArray[np.uint16], cells: NDArray[np.uint16]
) -> tuple[bytes, Rows]:
    """Write a passage whose rows lie in ``cells[slots]``: its bytes, and the rows they say."""
    rows = planned(coding, fine, along, slots, cells)
    if not rows:
        return b"", np.empty((0, coding.width), np.int8)
    where = list(places(rows, slots))
    asides, steps = b"", []  # of a step: tables and symbols, a lane each
    for t, (form, size, residuals, _) in enumerate(rows):
        if t % LANES == 0:
            group = rows[t : t + LANES]
            steps.append([(SIZES, mine.size) for mine in group])
            steps.append([(FORMS, mine.form.symbol) for mine in group])
            steps.append([(PLACES, place) for place in where[t : t + LANES]])
        contexts = np.repeat(coding.contexts(size), UNIT)
        symbols = symbols_of(residuals)
        symbols[coding.shares[contexts, symbols] == 0] = ESCAPE
        asides += bytes(back for back in (form.back, form.back2) if back)
        if where[t] == LISTED:
            asides += int(slots[t]).to_bytes(2 if len(cells) > 256 else 1, "little")
        asides += bytes((residuals[symbols == ESCAPE] & 255).tolist())
        pairs = list(zip(contexts.tolist(), symbols.tolist(), strict=True))
        steps += [pairs[h : h + LANES] for h in range(0, len(pairs), LANES)]
    states, stream = [LEAST] * LANES, bytearray()
    for step in reversed(steps):
        for lane, (table, symbol) in reversed(list(enumerate(step))):
            share, state = int(coding.shares[table, symbol]), states[lane]
            if not share:
                raise ValueError("a table of the codes lacks a symbol that is needed")
            if state >= share * (1 << 16) // STATES:
                stream.append(state & 255)
                state >>= 8
            states[lane] = state // share * STATES + state % share
            states[lane] += int(coding.starts[table, symbol])
    code = np.array(states, "<u2").tobytes() + len(stream).to_bytes(4, "little")
    said = np.stack([mine.row for mine in rows]).astype(np.int8)
    return code + bytes(reversed(stream)) + asides, said


def decode_passage(coding: Coding, code: bytes, cells: NDArray[np.uint16], count: int) -> Rows:
    """Read rows [T, W] of a passage. Raises ValueError for what no encoder writes."""
    rows = np.zeros((count, coding.width), np.int64)
    if not count:
        return rows.astype(np.int8)
    _expect(len(code) >= 2 * LANES + 4)
    states = np.frombuffer(code, "<u2", LANES).tolist()
    _expect(min(states) >= LEAST)
    size = int.from_bytes(code[2 * LANES : 2 * LANES + 4], "little")
    rest = code[2 * LANES + 4 :]
    _expect(size <= len(rest))
    stream, asides = iter(rest[:size]), iter(rest[size:])

    def take(of: Iterator[int]) -> int:
        byte = next(of, None)
        _expect(byte is not None)
        return int(byte or 0)

    def step(table: int, lanes: int) -> list[int]:
        symbols = []
        for lane in range(lanes):
            high, low = divmod(states[lane], STATES)
            symbol = int(coding.symbols[table, low])
            state = int(coding.shares[table, symbol]) * high + low
            state -= int(coding.starts[table, symbol])
            states[lane] = state << 8 | take(stream) if state < LEAST else state
            symbols.append(symbol)
        return symbols

    slots: list[int] = []
    used, wide = 0, len(cells) > 256
    for t in range(count):
        if t % LANES == 0:
            group = min(LANES, count - t)
            heads = [step(table, group) for table in (SIZES, FORMS, PLACES)]
        size, symbol, place = (head[t % LANES] for head in heads)
        _expect(size < CLASSES and symbol <= 8 * SECONDS and place <= LISTED)
        first, second = divmod(symbol - 1, SECONDS) if symbol else (-1, 0)
        back = take(asides) if symbol else 0
        back2 = take(asides) if second else 0
        _expect(max(back, back2) <= t)
        _expect((back > 0) == (symbol > 0) and (back2 > 0) == (second > 0))
        if place == NEW:
            slot, used = used, used + 1
        elif place == SAME:
            _expect(back > 0)
            slot = slots[t - back]
        else:
            slot = take(asides) + (take(asides) << 8 if wide else 0)
        _expect(slot < len(cells) and cells[slot] < len(coding.centroids))
        slots.append(slot)
        symbols: list[int] = []
        for context in coding.contexts(size).tolist():
            symbols += step(context, LANES)
        residuals = np.array(symbols) - LARGEST
        for h in np.flatnonzero(residuals == ESCAPE - LARGEST).tolist():
            residuals[h] = take(asides)
        c, o, o2 = (
            coding.centroids[cells[slots[u]]].astype(np.int64) for u in (t, t - back, t - back2)
        )
        form = Form(first + 1, back, second, back2)
        sums = predict(form, c, rows[t - back], o, rows[t - back2], o2) + residuals
        rows[t] = (sums + 128 & 255) - 128
    return rows.astype(np.int8)


def _expect(good: bool) -> None:
    if not good:
        raise ValueError(BROKEN)
