"""The GPU kernels: in Triton's interpreter, or on a GPU with TRITON_INTERPRET=0.

And lattices: cells, tables and passages for the coder and for the stages of a search.
"""

import os
from unittest import mock

import numpy as np
import pytest

from tokret.errors import ResourceError
from tokret.kernels import coding as compiled_coding
from tokret.kernels import coding_reference, stages_reference
from tokret.kernels.coding import CONTEXTS, FINE, HEAD_SYMBOLS, STATES, SYMBOLS, TABLES, UNIT


@pytest.fixture(scope="session")
def gpu():
    module = pytest.importorskip("tokret.kernels.gpu", exc_type=ImportError)
    try:
        module.choose()
    except ResourceError as error:
        pytest.skip(str(error))
    return module


class Lattices:
    """Makes them from a random generator."""

    @staticmethod
    def shares(rng, sparse):
        """Tables of shares; some symbols are in none of their codes where they are sparse."""
        likely = np.exp(-np.abs(np.arange(SYMBOLS) - 31) / rng.uniform(0.5, 40, (TABLES, 1)))
        if sparse:
            likely *= rng.random(likely.shape) < rng.choice([0.02, 0.5])
        likely[:, -1] += rng.choice([1e-9, 0.3])
        for table, symbols in enumerate(HEAD_SYMBOLS, CONTEXTS):
            likely[table] = np.where(np.arange(SYMBOLS) < symbols, rng.random(SYMBOLS) + 0.01, 0)
        shares = np.where(likely > 0, 1, 0)
        for row, chances in zip(shares, likely, strict=True):
            row += rng.multinomial(STATES - row.sum(), chances / chances.sum())
        return shares.astype(np.uint8)

    @staticmethod
    def tables(rng, width, cells, *, most=127, sparse=False):
        """What both Codings take: centroids, shifts, weights, shares."""
        return (
            rng.integers(-most, most + 1, (cells, width)).astype(np.int8),
            rng.integers(-9, 10, width // UNIT).astype(np.int32),
            rng.choice([1, 256, 1 << 16], width // UNIT).astype(np.int32),
            Lattices.shares(rng, sparse),
        )

    @staticmethod
    def batch(rng, centroids, lengths, *, noise, drawn=None):
        """Passages of rows near their cells, some of them near earlier rows; and extremes."""
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        numbers = rng.integers(0, drawn or len(centroids), offsets[-1]).astype(np.int32)
        rows = centroids[numbers].astype(np.int64)
        for t in np.flatnonzero(rng.random(len(rows)) < 0.5):
            p, q = (max(0, t - int(rng.integers(1, 6))) for _ in range(2))
            ways = [rows[p], (rows[p] + rows[t]) // 2, 2 * rows[t] - rows[p]]
            rows[t] = rng.choice([*ways, (rows[p] + rows[q]) // 2])
        fine = rows * FINE + np.rint(rng.normal(0, noise * FINE, rows.shape)).astype(np.int64)
        wild = rng.random(rows.shape) < 0.01
        fine[wild] = rng.choice([-127, 127], wild.sum()) * FINE
        along = np.rint(rng.normal(0, rng.choice([0, 700]), rows.shape))
        return compiled_coding.batch(
            fine.clip(-127 * FINE, 127 * FINE).astype(np.int16),
            along.astype(np.int16),
            numbers,
            offsets,
        )

    @staticmethod
    def both(tables):
        """The reference's coding and the compiled one."""
        pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
        return coding_reference.Coding(*tables), compiled_coding.Coding(*tables)

    @staticmethod
    def columns(batch, codes, ends, _, known):
        """What a block is laid out from, with the postings of so many cells."""
        mine = batch.cells
        owners = np.repeat(np.arange(len(batch.cell_offsets) - 1), np.diff(batch.cell_offsets))
        order = np.argsort(mine, kind="stable")
        order = order[mine[order] < known]
        counts = np.bincount(mine[order], minlength=known)
        return (
            np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            owners[order].astype(np.uint16),
            batch.cell_offsets,
            batch.cells,
            batch.token_offsets,
            codes,
            np.concatenate([[0], ends]).astype(np.int64),
        )

    @staticmethod
    def blocks(codings, columns):
        """The reference's block and the compiled one."""
        from tokret.kernels import stages

        plain, compiled = codings
        return stages_reference.block(plain, *columns), stages.block(compiled, *columns)

    @staticmethod
    def every_isa():
        """Each instruction set of this machine, in use while it is given."""
        native = pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
        for isa in native.cpu_features():
            with mock.patch.dict(os.environ, TOKRET_SIMD=isa):
                yield isa


@pytest.fixture(scope="session")
def lattices():
    return Lattices
