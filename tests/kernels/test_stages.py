"""The stages of a search by cells: by hand, and each instruction set to the reference's bits."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.kernels import coding as compiled_coding
from tokret.kernels import coding_reference, stages
from tokret.kernels import stages_reference as reference
from tokret.kernels.coding import CONTEXTS, FINE, STATES, SYMBOLS, TABLES
from tokret.types import quantise_rows

QUERY_TOKENS = [1, 2, 15, 16, 17, 23, 32, 40, 48, 63, 64, 65, 70, 130]
CELLS = [1, 2, 15, 64, 65, 300]
NEVER = float(np.float32(1e30))  # a margin at which nothing is left out


class Case(NamedTuple):
    """The same cells and passages for the reference (0) and for the compiled stages (1)."""

    codings: tuple
    blocks: tuple
    batch: compiled_coding.Batch
    query: np.ndarray
    scales: np.ndarray


def case(lattices, rng, *, tokens=23, width=32, cells=65, lengths=(), known=None, most=127):
    tables = lattices.tables(rng, width, cells, most=most)
    codings = lattices.both(tables)
    batch = lattices.batch(rng, tables[0], lengths, noise=2.0)
    columns = lattices.columns(batch, *codings[1].encode(batch), cells if known is None else known)
    query, scales = quantise_rows(rng.standard_normal((tokens, width), dtype=np.float32))
    return Case(codings, lattices.blocks(codings, columns), batch, query, scales)


def same(got, want):
    return all(
        a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
        for a, b in zip(got, want, strict=True)
    )


def by_hand(rows_of_cells, passages, known=None):
    """Coding and block of the reference: cells that are whole rows, passages as lists of cells."""
    width = 32
    centroids = np.zeros((len(rows_of_cells), width), np.int8)
    centroids[:, : len(rows_of_cells[0])] = rows_of_cells
    shares = np.zeros((TABLES, SYMBOLS), np.uint8)
    shares[:CONTEXTS] = STATES // SYMBOLS
    shares[CONTEXTS:, :41] = 1
    shares[CONTEXTS:, 0] += STATES - 41
    tables = (centroids, np.zeros(1, np.int32), np.full(1, 256, np.int32), shares)
    numbers = np.array([cell for cells in passages for cell in cells], np.int32)
    offsets = np.cumsum([0, *map(len, passages)], dtype=np.int64)
    fine = centroids[numbers].astype(np.int16) * FINE
    batch = compiled_coding.batch(fine, np.zeros_like(fine), numbers, offsets)
    return tables, batch, len(centroids) if known is None else known


@pytest.fixture(params=["reference", "compiled"])
def built(request, lattices):
    """Module, coding and block of what ``by_hand`` says, for either build."""

    def make(tables, batch, known):
        if request.param == "reference":
            coding = coding_reference.Coding(*tables)
            columns = lattices.columns(batch, *coding.encode(batch), known)
            return reference, coding, reference.block(coding, *columns)
        pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
        coding = compiled_coding.Coding(*tables)
        columns = lattices.columns(batch, *coding.encode(batch), known)
        return stages, coding, stages.block(coding, *columns)

    return make


def query_of(*rows):
    codes = np.zeros((len(rows), 32), np.int8)
    codes[:, : len(rows[0])] = rows
    return codes, np.full(len(rows), 0.5, np.float32)


# -- by hand -----------------------------------------------------------------------------------


def test_cells_are_scored_nearest_first_and_of_equals_the_lower(built):
    module, coding, _ = built(*by_hand([[1, 0], [4, 0], [0, 9], [4, 0], [-4, 0]], [[0]]))
    scores = module.score_cells(coding, *query_of([2, 0]), 4, 4.0)
    assert scores.nearest.tolist() == [[1, 3, 0, 2]]
    assert scores.sims.tolist() == [[4, 4, 1, 0]]
    assert scores.unit == 127 / 4
    # 128 + 31.75 * similarity, rounded, half upwards
    assert scores.table[:, 0].tolist() == [160, 255, 128, 255, 1]


def test_bytes_of_cells_beyond_the_reach_are_cut(built):
    module, coding, _ = built(*by_hand([[1], [127], [-127]], [[0]]))
    scores = module.score_cells(coding, *query_of([127]), 3, 127.0)
    assert scores.table[:, 0].tolist() == [192, 255, 0]


def test_more_cells_than_there_are_cannot_be_probed(built):
    module, coding, _ = built(*by_hand([[1], [2]], [[0]]))
    assert module.score_cells(coding, *query_of([1]), 9, 1.0).nearest.tolist() == [[1, 0]]


def test_a_passage_gains_by_its_nearest_cell_for_each_query_token(built):
    tables = by_hand([[8], [4], [-2], [-8]], [[0, 1], [1], [3], [2], [3, 0]])
    module, coding, block = built(*tables)
    scores = module.score_cells(coding, *query_of([2], [-2]), 2, 8.0)
    assert scores.nearest.tolist() == [[0, 1], [3, 2]]
    missing = np.array([1, 2], np.float32)
    found, gains = module.probe(coding, block, scores, missing, None, 9)
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert gains.tolist() == [7, 3, 6, 0, 7 + 6]
    found, gains = module.probe(coding, block, scores, missing, None, 2)
    assert found.tolist() == [0, 4] and gains.tolist() == [7, 13]


def test_of_passages_that_gain_the_same_the_first_are_kept(built):
    module, coding, block = built(*by_hand([[8], [1]], [[1], [0], [0], [0], [1]]))
    scores = module.score_cells(coding, *query_of([2]), 2, 8.0)
    missing = np.zeros(1, np.float32)
    for most, want in [(1, [1]), (2, [1, 2]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3, 4])]:
        assert module.probe(coding, block, scores, missing, None, most)[0].tolist() == want


def test_a_filter_leaves_room_for_what_it_lets_through(built):
    module, coding, block = built(*by_hand([[8], [1]], [[0], [0], [1], [1]]))
    scores = module.score_cells(coding, *query_of([2]), 2, 8.0)
    allowed = np.array([False, True, False, True])
    found, gains = module.probe(coding, block, scores, np.zeros(1, np.float32), allowed, 2)
    assert found.tolist() == [1, 3] and gains.tolist() == [8, 1]
    none = module.probe(coding, block, scores, np.zeros(1, np.float32), np.zeros(4, np.bool_), 2)
    assert [part.tolist() for part in none] == [[], []]


def test_a_cell_made_after_the_postings_has_none(built):
    tables = by_hand([[1], [2], [8]], [[0], [1], [0, 1]], known=2)
    module, coding, block = built(*tables)
    scores = module.score_cells(coding, *query_of([2]), 3, 8.0)
    assert scores.nearest.tolist() == [[2, 1, 0]]
    found, gains = module.probe(coding, block, scores, np.zeros(1, np.float32), None, 9)
    assert found.tolist() == [0, 1, 2] and gains.tolist() == [1, 2, 2]


def test_a_sum_is_of_the_nearest_cell_of_each_query_token(built):
    module, coding, block = built(*by_hand([[8], [4], [-2]], [[0, 1], [1, 2], [], [2]]))
    scores = module.score_cells(coding, *query_of([2], [-2]), 1, 8.0)
    unit = 127 / 8
    bytes_ = {8: 255, 4: 192, -2: 96, -8: 1, -4: 65, 2: 160}  # 128.5 + 15.875 x, downwards
    sums = [bytes_[8] + bytes_[-4], bytes_[4] + bytes_[2], 0, bytes_[-2] + bytes_[2]]
    want = [(total - 256) / unit for total in sums]
    assert np.array_equal(module.interact(coding, block, scores, 2, None), np.float32(want))
    some = module.interact(coding, block, scores, 2, np.array([3, 0, 3]))
    assert np.array_equal(some, np.float32([want[3], want[0], want[3]]))


def read(built_by_hand, query, expected, keep, margin, threads=1, order=None):
    module, coding, block = built_by_hand
    passages = np.arange(len(expected)) if order is None else np.array(order, np.int64)
    return module.refine(
        coding,
        [block],
        *query,
        np.zeros(len(expected), np.int64),
        passages,
        np.array(expected, np.float32),
        keep,
        margin,
        threads,
    )


def test_reading_ends_before_the_eight_passages_that_cannot_be_among_the_best(built):
    made = built(*by_hand([[8], [4]], [[0]] + [[1]] * 30))
    query = query_of([2])  # 8 for the first passage and 4 for the others
    many = [9.0] * 8 + [6.0] * 8 + [5.0] * 15
    assert len(read(made, query, many, 1, 2.5)) == 16  # 5 and 2.5 are below 8
    assert len(read(made, query, many, 1, 3.0)) == 31  # as far below as the margin: read
    assert len(read(made, query, many, 1, 0.0)) == 8
    assert len(read(made, query, many, 2, 0.0)) == 31  # the second best has 4
    assert len(read(made, query, many[:7] + [0.0] * 9, 1, 0.0)) == 8  # looks at each eighth alone


def test_nothing_is_left_out_before_enough_was_found(built):
    made = built(*by_hand([[8], [4]], [[0]] + [[1]] * 30))
    assert len(read(made, query_of([2]), [0.0] * 31, 9, 0.0)) == 16
    assert len(read(made, query_of([2]), [0.0] * 31, 31, 0.0)) == 31
    assert len(read(made, query_of([2]), [0.0] * 31, 40, 0.0)) == 31


def test_similarities_stand_in_the_order_that_was_asked_for(built):
    made = built(*by_hand([[8], [4], [-2]], [[0, 2], [1], [2], []]))
    sims = read(made, query_of([2], [-2]), [0.0] * 5, 5, 0.0, order=[2, 0, 3, 1, 0])
    inf = np.inf
    assert sims.tolist() == [[-2, 2], [8, 2], [-inf, -inf], [4, -4], [8, 2]]


def test_nothing_is_read_of_nothing(built):
    made = built(*by_hand([[8]], [[0]]))
    assert read(made, query_of([2]), [], 1, 0.0).shape == (0, 1)


# -- every build -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    tokens=st.sampled_from(QUERY_TOKENS),
    width=st.sampled_from([32, 64, 128, 160]),
    cells=st.sampled_from(CELLS),
    nprobe=st.sampled_from([1, 2, 8, 33, 1000]),
    most=st.sampled_from([0, 1, 127]),  # few values: many ties
    reach=st.sampled_from([0.0, 0.01, 300.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_build_scores_cells_to_the_bit(
    lattices, tokens, width, cells, nprobe, most, reach, seed
):
    rng = np.random.default_rng(seed)
    c = case(lattices, rng, tokens=tokens, width=width, cells=cells, most=most)
    want = reference.score_cells(c.codings[0], c.query, c.scales, nprobe, reach)
    for isa in lattices.every_isa():
        got = stages.score_cells(c.codings[1], c.query, c.scales, nprobe, reach)
        assert same(got[1:3], want[1:3]), isa
        assert np.array_equal(got.table[:, :tokens], want.table), isa
        assert got.unit == want.unit and got.table.shape[1] % stages.LANES == 0


def test_the_nearest_of_many_cells_are_those_of_a_full_sort(lattices):
    rng = np.random.default_rng(3)
    c = case(lattices, rng, tokens=24, width=128, cells=5000, most=2)
    sums = c.query.astype(np.int64) @ c.codings[0].centroids.astype(np.int64).T
    order = np.argsort(-sums, axis=1, kind="stable")
    for nprobe in [1, 7, 64, 4999]:
        for isa in lattices.every_isa():
            got = stages.score_cells(c.codings[1], c.query, c.scales, nprobe, 1.0)
            assert np.array_equal(got.nearest, order[:, :nprobe]), isa


@settings(max_examples=40)
@given(
    tokens=st.sampled_from(QUERY_TOKENS),
    cells=st.sampled_from(CELLS),
    lengths=st.lists(st.integers(0, 30), max_size=40),
    nprobe=st.sampled_from([1, 3, 70]),
    kept=st.sampled_from([1, 3, 20, 1000]),
    known=st.sampled_from([0.0, 0.7, 1.0]),
    filtered=st.sampled_from([None, 0.0, 0.5, 1.0]),
    most=st.sampled_from([1, 127]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_build_finds_and_compares_passages_to_the_bit(
    lattices, tokens, cells, lengths, nprobe, kept, known, filtered, most, seed
):
    rng = np.random.default_rng(seed)
    count = int(known * cells)
    c = case(lattices, rng, tokens=tokens, cells=cells, lengths=lengths, known=count, most=most)
    allowed = None if filtered is None else rng.random(len(lengths)) < filtered
    want = reference.score_cells(c.codings[0], c.query, c.scales, nprobe, 300.0)
    missing = np.ascontiguousarray(want.sims[:, -1])
    found = reference.probe(c.codings[0], c.blocks[0], want, missing, allowed, kept)
    some = rng.integers(0, len(lengths), 5) if lengths else np.empty(0, np.int64)
    for isa in lattices.every_isa():
        scores = stages.score_cells(c.codings[1], c.query, c.scales, nprobe, 300.0)
        got = stages.probe(c.codings[1], c.blocks[1], scores, missing, allowed, kept)
        assert same(got, found), isa
        for passages in [None, some, found[0]]:
            assert same(
                [stages.interact(c.codings[1], c.blocks[1], scores, tokens, passages)],
                [reference.interact(c.codings[0], c.blocks[0], want, tokens, passages)],
            ), isa


@settings(max_examples=30)
@given(
    tokens=st.sampled_from(QUERY_TOKENS),
    width=st.sampled_from([32, 128, 160]),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    asked=st.integers(0, 40),
    keep=st.sampled_from([1, 3, 10, 50]),
    margin=st.sampled_from([0.0, 20.0, NEVER]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_build_reads_similarities_to_the_bit_with_any_threads(
    lattices, tokens, width, lengths, asked, keep, margin, seed
):
    rng = np.random.default_rng(seed)
    c = case(lattices, rng, tokens=tokens, width=width, cells=15, lengths=lengths)
    d = c.blocks, case_of_same_tables(lattices, rng, c)
    owners = rng.integers(0, 2, asked)
    passages = rng.integers(0, len(lengths), asked)
    expected = np.sort(rng.normal(0, 2000, asked).astype(np.float32))[::-1].copy()
    args = (c.query, c.scales, owners, passages, expected, keep, margin)
    plain, compiled = ([blocks[i] for blocks in d] for i in (0, 1))
    want = reference.refine(c.codings[0], plain, *args, 1)
    for isa in lattices.every_isa():
        for threads in [1, 2, 3]:
            got = stages.refine(c.codings[1], compiled, *args, threads)
            assert same([got], [want]), (isa, threads)


def case_of_same_tables(lattices, rng, c):
    """Blocks of other passages of as many rows, coded with the same tables."""
    lengths = np.diff(c.batch.token_offsets)[::-1]
    batch = lattices.batch(rng, c.codings[0].centroids, lengths, noise=9.0)
    return lattices.blocks(c.codings, lattices.columns(batch, *c.codings[1].encode(batch), 15))


@pytest.mark.parametrize("broken", [0, 3, 9])
def test_a_passage_that_cannot_be_read_is_an_error_whoever_reads_it(lattices, broken):
    rng = np.random.default_rng(broken)
    tables = lattices.tables(rng, 32, 15)
    codings = lattices.both(tables)
    batch = lattices.batch(rng, tables[0], [4] * 10, noise=2.0)
    codes, ends, rows = codings[1].encode(batch)
    codes[1 + (0 if broken == 0 else ends[broken - 1])] = 0  # the state of a lane, below the least
    blocks = lattices.blocks(codings, lattices.columns(batch, codes, ends, rows, 15))
    query, scales = query_of([2])
    nothing = np.zeros(10, np.float32)
    args = (query, scales, np.zeros(10, np.int64), np.arange(10), nothing, 20, 0.0)
    with pytest.raises(ValueError, match="not what was coded"):
        reference.refine(codings[0], [blocks[0]], *args, 1)
    for _ in lattices.every_isa():
        for threads in [1, 3]:
            with pytest.raises(ValueError, match="not what was coded"):
                stages.refine(codings[1], [blocks[1]], *args, threads)
