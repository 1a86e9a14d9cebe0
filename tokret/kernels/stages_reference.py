"""The stages of a search by cells in NumPy: the definition of those in ``stages``.

Sums of products are integers, so every build gives the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.kernels.coding import Rows
from tokret.kernels.coding_reference import Coding, decode_passage
from tokret.kernels.stages import ZERO, CellScores
from tokret.types import Floats, Ints, Mask

CHUNK = 8  # passages between two looks at what is expected


class Block(NamedTuple):
    """Postings by cell, and the cells, tokens and codes of each passage."""

    posting_offsets: Ints
    postings: NDArray[np.uint16]
    cell_offsets: Ints
    cells: NDArray[np.uint16]
    token_offsets: Ints
    codes: NDArray[np.uint8]
    code_offsets: Ints

    @property
    def passages(self) -> int:
        """How many."""
        return len(self.token_offsets) - 1

    def cells_of(self, passage: int) -> NDArray[np.uint16]:
        """The different cells of a passage."""
        return self.cells[self.cell_offsets[passage] : self.cell_offsets[passage + 1]]


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
    """Lay out a block, as ``stages.block`` does."""
    del coding
    return Block(posting_offsets, postings, cell_offsets, cells, token_offsets, codes, code_offsets)


def similarities(query: Rows, scales: Floats, rows: Rows) -> Floats:
    """Inner products of query codes [Q, W] times scales [Q] with rows [T, W] -> [Q, T]."""
    sums = (query.astype(np.int32) @ rows.astype(np.int32).T).astype(np.float32)
    products: Floats = sums * scales[:, None]
    return products


def score_cells(
    coding: Coding, query: Rows, scales: Floats, nprobe: int, reach: float
) -> CellScores:
    """Score the cells; of those as near, the lower number is nearer."""
    sims = similarities(query, scales, coding.centroids)
    unit = (255 - ZERO) / max(reach, 1e-30)
    table = np.clip(sims.T * np.float32(unit) + np.float32(ZERO + 0.5), 0, 255)
    order = np.argsort(-sims, axis=1, kind="stable")[:, :nprobe]
    return CellScores(
        table.astype(np.uint8),
        order.astype(np.int32),
        np.take_along_axis(sims, order, axis=1),
        unit,
    )


def probe(
    coding: Coding,
    block: Block,
    scores: CellScores,
    missing: Floats,
    allowed: Mask | None,
    most: int,
) -> tuple[Ints, Floats]:
    """The ``most`` best passages of the nearest cells, rising, and what each gains [C].

    A query token adds to a passage what its nearest cell there has over ``missing`` [Q],
    in float32 and in the order of query tokens. Of equals, the lower numbers are taken. A
    cell beyond those of the postings was made later, and has none.
    """
    del coding
    gains = np.zeros(block.passages, np.float32)
    reached = np.zeros(block.passages, np.bool_)
    known = len(block.posting_offsets) - 1
    for cells, sims, least in zip(scores.nearest, scores.sims, missing, strict=True):
        seen = np.zeros(block.passages, np.bool_)
        for cell, sim in zip(cells.tolist(), sims, strict=True):
            if cell < known:
                first, last = block.posting_offsets[cell : cell + 2]
                new = block.postings[first:last]
                new = new[~seen[new]]
                gains[new] += sim - least
                seen[new] = True
        reached |= seen
    if allowed is not None:
        reached &= allowed
    found = np.flatnonzero(reached)
    best = np.sort(found[np.argsort(-gains[found], kind="stable")[:most]])
    return best, gains[best]


def interact(
    coding: Coding, block: Block, scores: CellScores, tokens: int, passages: Ints | None
) -> Floats:
    """Sum over query tokens of the nearest cell of passages (None: of all) -> [C].

    Of the bytes of the table; a passage without cells has a 0 for each query token.
    """
    del coding
    chosen = np.arange(block.passages) if passages is None else passages
    sums = [
        int(scores.table[block.cells_of(n), :tokens].max(axis=0, initial=0).astype(int).sum())
        for n in chosen
    ]
    out = (np.array(sums, np.int64) - ZERO * tokens) / scores.unit
    found: Floats = out.astype(np.float32)
    return found


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

    Before every CHUNK passages it is looked whether the ``keep``-th best sum so far, in
    float64, is above what the next is ``expected`` [C] to have and ``margin``.
    """
    del threads
    sims = np.full((len(passages), len(query)), -np.inf, np.float32)
    sums: list[float] = []
    for i, (owner, n) in enumerate(zip(owners.tolist(), passages.tolist(), strict=True)):
        if i % CHUNK == 0 and i >= keep:
            worst = sorted(sums, reverse=True)[keep - 1]
            if float(expected[i]) + float(np.float32(margin)) < worst:
                return sims[:i]
        first, last = blocks[owner].token_offsets[n : n + 2]
        rows = decode(coding, blocks[owner], n, int(last - first))
        if len(rows):
            sims[i] = similarities(query, scales, rows).max(axis=1)
        sums.append(float(np.add.accumulate(sims[i], dtype=np.float64)[-1]))
    return sims


def decode(coding: Coding, block: Block, passage: int, tokens: int) -> Rows:
    """Rows [T, W] of one passage. Raises ValueError where it cannot be read."""
    code = block.codes[block.code_offsets[passage] : block.code_offsets[passage + 1]]
    return decode_passage(coding, code.tobytes(), block.cells_of(passage), tokens)
