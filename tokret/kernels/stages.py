"""The stages of a search by cells, over one coded block of at most 65,536 passages each.

    score_cells   how near every cell is to every query token, and the nearest of them
    probe         passages of the nearest cells, by what their tokens gain over the rest
    interact      a passage's sum over query tokens of its nearest cell
    refine        a passage's best similarities, from its codes

Similarities of codes are sums of integers times a scale: the same on every machine.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.kernels.coding import Coding, Rows, simd
from tokret.types import Floats, Ints, Mask

ZERO = 128  # the byte of a similarity of 0
LANES = 16  # a row of the table is a multiple of it


class CellScores(NamedTuple):
    """Bytes of all cells [C, L], the nearest of them [Q, K] and their similarities [Q, K].

    A byte is 128 + ``unit`` * similarity, cut to 0 .. 255.
    """

    table: NDArray[np.uint8]
    nearest: NDArray[np.int32]
    sims: Floats
    unit: float


class Block(NamedTuple):
    """Coded passages as the compiled stages take them; ``held`` keeps the arrays alive."""

    held: Any
    passages: int


def block(
    coding: Coding,
    posting_offsets: Ints,
    postings: NDArray[np.uint16],
    cell_offsets: Ints,
    cells: NDArray[np.uint16],
    token_offsets: Ints,
    codes: NDArray[np.uint8],
    code_offsets: Ints,
) -> Block:
    """Lay out a block: postings by cell, and cells, tokens and codes by passage."""
    arrays = (posting_offsets, postings, cell_offsets, cells, token_offsets, codes, code_offsets)
    held = coding.native.CodedSegment(*map(np.ascontiguousarray, arrays))
    return Block(held, len(token_offsets) - 1)


def score_cells(
    coding: Coding, query: Rows, scales: Floats, nprobe: int, reach: float
) -> CellScores:
    """Score the cells for query codes [Q, W] and scales [Q]; ``reach`` is the greatest sim.

    The table is this thread's: it is good until the thread scores cells again.
    """
    cells = len(coding.centroids)
    table = _table(cells, -(-max(len(query), 1) // LANES) * LANES)
    nearest = np.empty((len(query), min(nprobe, cells)), np.int32)
    sims = np.empty(nearest.shape, np.float32)
    unit = (255 - ZERO) / max(reach, 1e-30)
    coding.native.score_cells(
        simd(), query, scales, coding.centroids, coding.ones, unit, table, nearest, sims
    )
    return CellScores(table, nearest, sims, unit)


def probe(
    coding: Coding,
    block: Block,
    scores: CellScores,
    missing: Floats,
    allowed: Mask | None,
    most: int,
) -> tuple[Ints, Floats]:
    """The ``most`` best passages of the nearest cells, rising, and what each gains [C]."""
    found: tuple[Ints, Floats] = coding.native.probe(
        block.held,
        scores.nearest,
        scores.sims,
        missing,
        None if allowed is None else np.ascontiguousarray(allowed),
        most,
    )
    return found


def interact(
    coding: Coding, block: Block, scores: CellScores, tokens: int, passages: Ints | None
) -> Floats:
    """Sum over query tokens of the nearest cell of passages (None: of all) -> [C]."""
    sums = np.empty(block.passages if passages is None else len(passages), np.int32)
    coding.native.interact(simd(), block.held, scores.table, tokens, passages, sums)
    return ((sums - ZERO * tokens) / scores.unit).astype(np.float32)


def refine(
    coding: Coding,
    blocks: list[Block],
    query: Rows,
    scales: Floats,
    owners: Ints,
    passages: Ints,
    expected: Floats,
    keep: int,
    margin: float,
    threads: int,
) -> Floats:
    """Best similarities [n, Q] of the first n passages, from their codes.

    ``expected`` [C] falls; reading ends where it is more than ``margin`` below the sum of
    the ``keep`` best found. Raises ValueError for a passage that cannot be read.
    """
    sims = np.empty((len(passages), len(query)), np.float32)
    done = coding.native.refine(
        simd(),
        coding.held,
        query,
        scales,
        [block.held for block in blocks],
        owners,
        passages,
        expected,
        keep,
        margin,
        threads,
        sims,
    )
    if done < 0:
        raise ValueError("a passage is not what was coded")
    return sims[:done]


def decode(coding: Coding, block: Block, passage: int, tokens: int) -> Rows:
    """Rows [T, W] of one passage. Raises ValueError where it cannot be read."""
    rows = np.empty((tokens, coding.centroids.shape[1]), np.int8)
    if not coding.native.decode_passage(simd(), coding.held, block.held, passage, rows):
        raise ValueError("a passage is not what was coded")
    return rows


_tables = threading.local()  # new memory costs more than what is written to it


def _table(cells: int, lanes: int) -> NDArray[np.uint8]:
    held: NDArray[np.uint8] | None = getattr(_tables, "held", None)
    if held is None or len(held) < cells * lanes:
        held = _tables.held = np.empty(cells * lanes, np.uint8)
    return held[: cells * lanes].reshape(cells, lanes)
