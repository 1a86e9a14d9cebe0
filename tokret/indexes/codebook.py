"""What all coded segments of an index share: the lattice, its cells, and the entropy codes.

Source  Reverse water-filling: Cover, Thomas: Elements of Information Theory, ch. 10.
        Asymmetric numeral systems: Duda, arXiv:1311.2540.
Does    Rotates token vectors into a space in which an error costs a query alike in every
        direction, and rounds them there to a lattice of one step: int8 rows. A row is coded
        as what is left of it after a prediction from its cell and from earlier rows of its
        passage, so that likeness inside a document costs no bytes. The step is the smallest
        for which the codes of a sample fit the bits asked for.
Costs   (H + 1.5 W) * 4 bytes a dimension and 1 byte a dimension of each cell, once an index.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes import kmeans
from tokret.indexes.cell_codes import pack, unpack
from tokret.indexes.effort import calibration_of
from tokret.indexes.files import parse_json
from tokret.indexes.kmeans import Cells
from tokret.indexes.segment import Layout, Segment, SegmentWriter
from tokret.kernels import coding
from tokret.kernels.coding import (
    CLASSES,
    CONTEXTS,
    FINE,
    HEAD_SYMBOLS,
    STATES,
    SYMBOLS,
    TABLES,
    UNIT,
    Batch,
    Coding,
    Fine,
    Rows,
)
from tokret.types import Floats, Ints, Mask, Tokens, Vectors, quantise_rows

LAYOUT: Layout = {
    "cell_code_ends": ("<i8", None),
    "cell_codes": ("|u1", None),  # of the centroids [C, W], see cell_codes.py
    "groups": ("<i4", None),  # of each cell
    "centres": ("|i1", None),  # [G, W], end to end
    "rotation": ("<f4", None),  # [H, W]: a vector to the lattice
    "inverse": ("<f4", None),  # [H, W]: a query to the lattice
    "shifts": ("<i4", None),
    "weights": ("<i4", None),
    "shares": ("|u1", None),  # [TABLES, SYMBOLS]
    "facts": ("|u1", None),  # JSON
}
MOMENTS = 100_000  # tokens that say in which directions queries lie
ROWS_A_CELL = 64  # tokens that k-means sees
COUNTED = 400  # passages whose residuals are counted
RIDGE = 0.1  # of the mean energy, so that no direction costs nothing
MOST_WEIGHT = 1 << 16  # of the squares of a band
STEPS = 9  # of the search for the lattice's step, at most
WIDEST = 64  # times the finest step
CLOSE = 0.99  # of the bits asked for are enough
BLOCK = 1 << 14  # rows rotated, or summed in float64, at a time
TAKEN = 128  # passages read at a time
LENGTH = 6.8  # steps that the length of a row is worth: sqrt(128 / cos^2) of a usual match
RARE = 0.18  # of a state: a symbol that comes up less often is listed beside

Take = Callable[[Ints], Tokens]  # passages by number -> their tokens, float32


@dataclass(frozen=True, eq=False)
class Codebook:
    """Rotation [H, W], inverse [H, W], cells and codes; W is H rounded up to a multiple of 16.

    ``n = round(v @ rotation)`` are the int8 rows of vectors v, and ``(q @ inverse) . n`` is
    about ``q . v``. ``reach`` is the length of the longest vector that training saw.
    """

    rotation: Floats
    inverse: Floats
    cells: Cells
    shifts: NDArray[np.int32]
    weights: NDArray[np.int32]
    shares: NDArray[np.uint8]
    reach: float
    facts: dict[str, Any]

    @cached_property
    def coding(self) -> Coding:
        """The tables of the compiled coder."""
        return Coding(self.cells.centroids, self.shifts, self.weights, self.shares)

    @cached_property
    def back(self) -> Floats:
        """Rows of the lattice to vectors [W, H]."""
        return np.ascontiguousarray(self.inverse.T)

    @cached_property
    def longest_row(self) -> float:
        """The length of the longest row that a vector can have."""
        stretch = float(np.linalg.norm(self.rotation.astype(np.float64), 2))
        return stretch * self.reach + 0.5 * float(np.sqrt(self.rotation.shape[1]))

    def fine(self, vectors: Floats) -> Fine:
        """Vectors [T, H] in parts of a step of the lattice [T, W]."""
        return _fine(vectors, self.rotation)

    def along(self, vectors: Floats) -> Fine:
        """What a step of each dimension is worth along vectors [T, H], as a coder takes it."""
        stretch = float(
            np.sqrt(np.square(self.inverse.astype(np.float64)).mean() * len(self.inverse))
        )
        squares = np.square(vectors).sum(axis=1, keepdims=True)
        worth = LENGTH * FINE * coding.ALONG / stretch / np.maximum(squares, 1e-30)
        most = np.iinfo(np.int16).max
        along: Fine = np.rint((vectors @ self.inverse) * worth).clip(-most, most).astype(np.int16)
        return along

    def rows(self, vectors: Floats) -> Rows:
        """Round vectors [T, H] to the lattice [T, W]."""
        return coding.rounded(self.fine(vectors))

    def vectors(self, rows: Rows) -> Floats:
        """Vectors [T, H] that rows [T, W] stand for."""
        return rows.astype(np.float32) @ self.back

    def query(self, vectors: Floats) -> tuple[NDArray[np.int8], Floats]:
        """Query tokens [Q, H] as int8 codes [Q, W] and their scales [Q]."""
        return quantise_rows(vectors @ self.inverse)

    def assign(self, rows: NDArray[np.int8], threads: int) -> NDArray[np.int32]:
        """Find the cell of each row [T, W] -> [T]."""
        return kmeans.assign(self.cells, rows, threads=threads)[0]

    def batch(self, tokens: Tokens, threads: int) -> Batch:
        """Passages laid out for coding."""
        vectors = tokens.vectors.astype(np.float32, copy=False)
        fine = self.fine(vectors)
        numbers = self.assign(coding.rounded(fine), threads)
        return coding.batch(fine, self.along(vectors), numbers, tokens.offsets)

    def grown(self, offsets: Ints, take: Take, *, seed: int, threads: int, memory: int) -> Codebook:
        """The same with cells for those of new passages that are far from any; itself if few are.

        Of passages with token ``offsets`` [N + 1] so many are looked at as training would.
        """
        most = max(memory // (4 * len(self.rotation)), 1 << 16)
        most = min(most, len(self.cells) * ROWS_A_CELL)
        sample = _drawn(offsets, most, np.random.default_rng(seed))
        parts, reach = [], self.reach
        for at in range(0, len(sample), TAKEN):
            some = take(sample[at : at + TAKEN]).vectors.astype(np.float32, copy=False)
            lengths = np.square(some.astype(np.float64)).sum(axis=1)
            reach = max(reach, float(np.sqrt(lengths.max(initial=0.0))))
            parts.append(self.rows(some))
        rows = np.concatenate(parts)
        distances = kmeans.assign(self.cells, rows, threads=threads)[1]
        cells = kmeans.grow(self.cells, rows, distances, seed=seed, threads=threads)
        if len(cells) == len(self.cells):
            return self
        return replace(self, cells=cells, reach=reach)

    def write(self, writer: SegmentWriter) -> None:
        """Append all of it to the columns of ``LAYOUT``."""
        facts = {**self.facts, "reach": self.reach, "far": self.cells.far}
        text = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
        coder = Coding(self.cells.centres, self.shifts, self.weights, self.shares)
        codes, ends = pack(coder, self.cells.centroids, self.cells.groups)
        writer.append(
            cell_code_ends=ends,
            cell_codes=codes,
            groups=self.cells.groups,
            centres=self.cells.centres.reshape(-1),
            rotation=self.rotation.reshape(-1),
            inverse=self.inverse.reshape(-1),
            shifts=self.shifts,
            weights=self.weights,
            shares=self.shares.reshape(-1),
            facts=np.frombuffer(text, np.uint8),
        )

    @classmethod
    def read(cls, segment: Segment) -> Codebook:
        """Read one, every digest checked. Raises IndexCorruptError for what none can be."""
        segment.expect(LAYOUT)
        held = {name: segment.read(name) for name in LAYOUT}
        try:
            facts = parse_json(held["facts"].tobytes())
            height = int(facts["height"])
            width = padded(height)
            groups, centres = held["groups"], held["centres"].reshape(-1, width)
            shares = held["shares"].reshape(TABLES, SYMBOLS)
            bands = width // UNIT
            if (
                not 1 <= len(groups) <= kmeans.MOST_CELLS
                or not 0 <= groups.min() <= groups.max() < len(centres)
                or centres.min() < -127
                or held["shifts"].shape != (bands,)
                or held["weights"].shape != (bands,)
                or np.abs(held["shifts"].astype(np.int64)).max() > CONTEXTS
                or not 1 <= held["weights"].min() <= held["weights"].max() <= MOST_WEIGHT
                or not np.isfinite(held["rotation"]).all()
                or not np.isfinite(held["inverse"]).all()
                or not 0 <= facts["reach"] < float("inf")
                or (shares.astype(np.int64).sum(axis=1) != STATES).any()
                or (shares[:CONTEXTS, -1] == 0).any()  # what has no share of its own escapes
                or any((shares[k, :n] == 0).any() for k, n in enumerate(HEAD_SYMBOLS, CONTEXTS))
            ):
                raise ValueError("its tables do not fit each other")
            coder = Coding(centres, held["shifts"], held["weights"], shares)
            centroids = unpack(coder, held["cell_codes"], held["cell_code_ends"], groups)
            if centroids.min() < -127:
                raise ValueError("a cell lies where none can")
            cells = Cells(centroids, groups, centres, int(facts.pop("far")))
            calibration_of(facts)
            return cls(
                held["rotation"].reshape(height, width),
                held["inverse"].reshape(height, width),
                cells,
                held["shifts"],
                held["weights"],
                shares,
                float(facts.pop("reach")),
                facts,
            )
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise IndexCorruptError(f"{segment.path}: not a codebook ({error}).") from error


def padded(height: int) -> int:
    """W for vectors of width H."""
    return -(-height // UNIT) * UNIT


def train(
    offsets: Ints,
    take: Take,
    *,
    bits: float,
    cells: int | None = None,
    seed: int = 0,
    threads: int = 1,
    memory: int = 1 << 30,
    report: Callable[[str, int, int], None] | None = None,
) -> Codebook:
    """Make a codebook for passages with token ``offsets`` [N + 1].

    ``bits`` a dimension is what codes may take on average, or half as many beside the heads
    of passages. ``take`` reads passages by
    number. The same for a seed, whatever the threads. Raises UsageError for bits that no
    lattice of 255 steps gives.
    """
    tell = report or (lambda step, done, total: None)
    rng = np.random.default_rng(seed)
    tokens = int(offsets[-1])
    count = cells or kmeans.cells_for(tokens)
    some = take(_drawn(offsets, MOMENTS, rng)).vectors
    height = some.shape[1]
    blocks = [some[at : at + BLOCK] for at in range(0, len(some), BLOCK)]
    squares = (np.square(part, dtype=np.float64).sum(axis=1).max() for part in blocks)
    reach = float(np.sqrt(max(squares)))
    root, unroot = _roots(blocks)
    fine = max(float(np.abs(part @ root).max()) for part in blocks) / 120 or 1.0
    del some, blocks

    most = min(tokens, count * ROWS_A_CELL, max(memory // (4 * height), 1 << 16))
    sample = _drawn(offsets, most, rng)
    to_fine = (root / fine).astype(np.float32)
    ends = np.diff(offsets)[sample].cumsum()
    rows = np.empty((int(ends[-1]), height), np.int8)
    for at in range(0, len(sample), TAKEN):
        part = coding.rounded(_fine(take(sample[at : at + TAKEN]).vectors, to_fine))
        last = min(at + TAKEN, len(sample))
        rows[ends[last - 1] - len(part) : ends[last - 1]] = part
        tell("sample", last, len(sample))
    count = min(count, len(rows))
    tell("cells", 0, 1)
    found = kmeans.train(rows, count, seed=seed, threads=threads)
    tell("cells", 1, 1)

    # The axes of what cells leave, the widest first.
    numbers = kmeans.assign(found, rows[: 2 * MOMENTS], threads=threads)[0]
    moment = np.zeros((height, height))
    for at in range(0, len(numbers), BLOCK):
        near = found.centroids[numbers[at : at + BLOCK]]
        left = (rows[at : at + len(near)].astype(np.float64) - near) * fine
        moment += left.T @ left
    spread, axes = np.linalg.eigh(moment / len(numbers))
    del rows
    spread, axes = np.maximum(spread[::-1], 1e-9), axes[:, ::-1]
    width = padded(height)
    rotation = np.zeros((height, width))
    rotation[:, :height] = root @ axes
    inverse = np.zeros((height, width))
    inverse[:, :height] = unroot @ axes
    shifts, weights = _bands(np.pad(spread, (0, width - height), mode="edge"))

    turn = np.zeros((height, width))
    turn[:, :height] = axes * fine
    draft = Codebook(
        rotation.astype(np.float32),
        inverse.astype(np.float32),
        found,
        shifts,
        weights,
        _shares(np.zeros((TABLES, SYMBOLS), np.int64)),
        reach,
        {"height": height},
    )
    picked = np.sort(rng.permutation(len(offsets) - 1)[:COUNTED])
    counted = take(picked)
    low = fine * 120 / 126
    high = low * WIDEST
    tell("step", 0, STEPS)
    book, most, heads = _at(draft, turn, low, counted, threads)
    least, step = most, low
    # Of short passages of narrow vectors, what no step makes smaller takes half at most.
    budget = max(bits * width, heads + bits * width / 2)
    if most > budget:
        book, least, heads = _at(draft, turn, high, counted, threads)
        budget = max(bits * width, heads + bits * width / 2)
        step = high
        if least > budget * 1.1:
            raise UsageError(
                f"bits={bits} a dimension are too few: at the widest step codes take "
                f"{least / width:.2f}."
            )
    for done in range(STEPS):
        tell("step", done + 1, STEPS)
        if most <= budget or least >= CLOSE * budget:
            break
        # A bit of every residual more or less for a factor of two, unless near the ends.
        share = np.clip((most - 0.5 * (1 + CLOSE) * budget) / (most - least), 0.1, 0.9)
        middle = float(low * (high / low) ** share)
        tried, needed, _ = _at(replace(draft, shares=book.shares), turn, middle, counted, threads)
        if needed > budget:
            low, most = middle, needed
        else:
            high, least, book, step = middle, needed, tried, middle
    facts = {"height": height, "step": step, "bits": least / width, "trained_on": tokens}
    return replace(book, facts=facts)


def _at(
    draft: Codebook, turn: NDArray[np.float64], step: float, counted: Tokens, threads: int
) -> tuple[Codebook, float, float]:
    """The codebook for a step of the lattice, the bits of a row of a sample, those of heads."""
    scale = (turn / step).astype(np.float32)
    cells = Cells(
        coding.rounded(_fine(draft.cells.centroids, scale)),
        draft.cells.groups,
        coding.rounded(_fine(draft.cells.centres, scale)),
        int(draft.cells.far * float(np.square(turn).sum(axis=0).max()) / step**2),
    )
    book = replace(
        draft,
        rotation=(draft.rotation.astype(np.float64) / step).astype(np.float32),
        inverse=(draft.inverse.astype(np.float64) * step).astype(np.float32),
        cells=cells,
    )
    batch = book.batch(counted, threads)
    counts = book.coding.count(batch, threads=threads)
    shares = _shares(counts)
    passages, rows = len(counted.offsets) - 1, max(len(batch.fine), 1)
    nothing = np.where(np.arange(TABLES)[:, None] < CONTEXTS, 0, counts)
    bits, heads = (
        coding.expected_bits(some, shares, passages) / rows for some in (counts, nothing)
    )
    return replace(book, shares=shares), bits, heads


def _drawn(offsets: Ints, tokens: int, rng: np.random.Generator) -> Ints:
    """Passages drawn until they hold about so many tokens, rising."""
    order = rng.permutation(len(offsets) - 1)
    held = np.diff(offsets)[order].cumsum()
    return np.sort(order[: int(np.searchsorted(held, tokens)) + 1])


def _roots(blocks: list[Vectors]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The root of how much queries like the tokens see of each direction, and its inverse."""
    moment = np.zeros((blocks[0].shape[1],) * 2)
    for part in blocks:
        wide = part.astype(np.float64)
        moment += wide.T @ wide
    moment /= sum(map(len, blocks))
    energy = np.trace(moment) / len(moment) or 1.0
    seen, axes = np.linalg.eigh(moment / energy + RIDGE * np.eye(len(moment)))
    return (axes * np.sqrt(seen)) @ axes.T, (axes / np.sqrt(seen)) @ axes.T


def _bands(spread: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How far the contexts of each band lie from a class, and the weights of its squares."""
    relative = spread.reshape(-1, UNIT).mean(axis=1) / spread.mean()
    most = CONTEXTS - CLASSES
    shifts = np.clip(np.rint(2 * np.log2(relative)), -most, most).astype(np.int32)
    return shifts, np.clip(np.rint(256 / relative), 1, MOST_WEIGHT).astype(np.int32)


def _shares(counts: Ints) -> NDArray[np.uint8]:
    """Deal out the states of every table to its symbols by counts [TABLES, SYMBOLS]."""
    out = np.zeros((TABLES, SYMBOLS), np.uint8)
    middle = (SYMBOLS - 1) // 2
    for table, row in enumerate(counts):
        want = row.astype(np.float64)
        if table >= CONTEXTS:
            needed = np.arange(SYMBOLS) < HEAD_SYMBOLS[table - CONTEXTS]
            want[needed] += 0.1
        else:
            if not want.sum():  # residuals as wide as those of the class
                size = table - (CONTEXTS - CLASSES) / 2
                want = np.exp(-np.abs(np.arange(SYMBOLS) - middle) * 4 * 2 ** (0.5 - size / 4))
            needed = want > RARE / STATES * want.sum()
            want[-1] += want[~needed].sum() + 1e-3 * want.sum() / STATES
            needed[-1] = True
        out[table] = _shared(want, needed)
    return out


def _shared(want: NDArray[np.float64], needed: Mask) -> NDArray[np.int64]:
    """As many states for each symbol as bring the fewest bits; one at least where needed."""
    want = np.where(needed, want, 0)
    share = np.where(needed, np.maximum(1, np.floor(want / want.sum() * STATES)), 0)
    while share.sum() > STATES:
        ratio = np.maximum(share, 1) / np.maximum(share - 1, 0.5)
        loss = np.where(share > 1, want * np.log2(ratio), np.inf)
        share[loss.argmin()] -= 1
    while share.sum() < STATES:
        gain = np.where(needed, want * np.log2((share + 1) / np.maximum(share, 1)), -1)
        share[gain.argmax()] += 1
    return share.astype(np.int64)


def _fine(vectors: NDArray[Any], matrix: Floats) -> Fine:
    out = np.empty((len(vectors), matrix.shape[1]), np.int16)
    for at in range(0, len(vectors), BLOCK):
        some = np.ascontiguousarray(vectors[at : at + BLOCK], np.float32)
        out[at : at + BLOCK] = np.rint(some @ matrix * FINE).clip(-127 * FINE, 127 * FINE)
    return out
