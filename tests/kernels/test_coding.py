"""The coder of passages: by hand, to the reference's bytes, and whatever bytes it is given."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError
from tokret.kernels import coding as compiled_coding
from tokret.kernels import coding_reference as reference
from tokret.kernels import stages, stages_reference
from tokret.kernels.coding import (
    CONTEXTS,
    FINE,
    FORMS,
    HEAD_BYTES,
    SIZES,
    STATES,
    SYMBOLS,
    TABLES,
    UNIT,
)

WIDTHS = [32, 64, 128, 160]
ESCAPE_SYMBOL = SYMBOLS - 1

cases = {
    "width": st.sampled_from(WIDTHS),
    "cells": st.sampled_from([1, 2, 40]),
    "lengths": st.lists(st.sampled_from([0, 1, 2, 3, 8, 21]), max_size=4),
    "noise": st.sampled_from([0.0, 1.0, 8.0, 100.0]),
    "sparse": st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
}


def one_symbol_alone(symbol):
    """Tables whose only residual is one; every other escapes."""
    shares = np.zeros((TABLES, SYMBOLS), np.uint8)
    shares[:CONTEXTS, -1] = 1
    shares[:CONTEXTS, symbol] += STATES - 1
    shares[CONTEXTS:, :41] = 1
    shares[CONTEXTS:, 0] += STATES - 41
    return shares


def flat_tables(width, *, cells=1, shares=None):
    return (
        np.zeros((cells, width), np.int8),
        np.zeros(width // UNIT, np.int32),
        np.full(width // UNIT, 256, np.int32),
        one_symbol_alone(31) if shares is None else shares,
    )


def decoded(module, coding, block, batch):
    """Rows of all passages, end to end."""
    rows = [
        module.decode(coding, block, n, int(length))
        for n, length in enumerate(np.diff(batch.token_offsets))
    ]
    return np.concatenate([np.empty((0, batch.fine.shape[1]), np.int8), *rows])


def read_by_all(lattices, codings, batch):
    """Rows that the reference and each build read from what the compiled coder writes."""
    columns = lattices.columns(batch, *codings[1].encode(batch), 0)
    plain, compiled = lattices.blocks(codings, columns)
    yield "reference", decoded(stages_reference, codings[0], plain, batch)
    for isa in lattices.every_isa():
        yield isa, decoded(stages, codings[1], compiled, batch)


def coded(rows, *, cells=1):
    """A batch of one passage, all of whose rows lie in cell 0 of as many cells as it has."""
    count = len(rows)
    offsets = np.array([0, count], np.int64)
    numbers = np.zeros(count, np.int32)
    numbers[count - cells + 1 :] = np.arange(1, cells)
    fine = np.asarray(rows).astype(np.int16) * FINE
    return compiled_coding.batch(fine, np.zeros_like(fine), numbers, offsets)


def test_bytes_of_one_row_are_as_they_were_worked_out_by_hand():
    # Symbols 31 and 63 have half of the states each; of the heads' tables the first symbol has all.
    shares = np.zeros((TABLES, SYMBOLS), np.uint8)
    shares[:CONTEXTS, [31, 63]] = STATES // 2
    shares[CONTEXTS:, 0] = STATES
    centroids, shifts, weights, _ = flat_tables(64)
    coding = reference.Coding(centroids, shifts, 0 * weights, shares)  # no energy: class 0
    rows = np.zeros((1, 64))
    rows[0, [0, 33]] = 2, -2  # both are listed: lane 0 first, lane 1 in the second step
    codes, ends, said = coding.encode(coded(rows))
    # From 256 a lane writes its second step and then its first: a zero makes of x the state
    # (x // 64) * 128 + x % 64, an escape 64 more. Heads leave a state as it is.
    zeros = 512 // 64 * 128
    lane_0 = 512 // 64 * 128 + 64
    lane_1 = (512 + 64) // 64 * 128
    states = [lane_0, lane_1, *[zeros] * 30]
    want = np.array(states, "<u2").tobytes() + bytes([0, 0, 0, 0, 2, 254])
    assert codes.tobytes() == want and ends.tolist() == [len(want)]
    assert said.tolist() == rows.tolist()


def test_a_lane_that_runs_short_takes_the_next_byte():
    shares = np.zeros((TABLES, SYMBOLS), np.uint8)
    shares[:CONTEXTS, [0, 31, 63]] = 1, STATES - 2, 1  # residual -31 takes 7 bits
    shares[CONTEXTS:, 0] = STATES
    centroids, shifts, weights, _ = flat_tables(96)
    coding = reference.Coding(centroids, shifts, 0 * weights, shares)
    rows = np.zeros((1, 96))
    rows[0, 5::32] = -31
    codes, _, _ = coding.encode(coded(rows))
    # 256 -> 256 * 128; then the low byte goes out: 128 -> 128 * 128, and again 64 -> 64 * 128
    assert np.frombuffer(codes[:64].tobytes(), "<u2")[5] == 64 * 128
    assert codes[64:].tolist() == [2, 0, 0, 0, 0, 0]


def test_a_table_that_lacks_a_symbol_is_refused_when_it_is_needed(lattices):
    shares = one_symbol_alone(31)
    shares[SIZES] = 0
    shares[SIZES, 31] = STATES
    for coding in lattices.both(flat_tables(32, shares=shares)):
        with pytest.raises(ValueError, match="lacks a symbol"):
            coding.encode(coded(np.ones((1, 32))))


@pytest.mark.parametrize(
    ("form", "want"),
    [
        ((0, 0, 0, 0), 10),
        ((1, 1, 0, 0), 2),  # 10 + 1/4 (-21 - 10) = 2.25
        ((4, 1, 0, 0), -21),
        ((5, 1, 0, 0), 3),  # 10 + 1/4 (-21 - 7)
        ((8, 1, 0, 0), -18),
        ((4, 1, 2, 1), 10),  # -21 + 1/2 (40 + 21) = 9.5, upwards
        ((4, 1, 1, 1), -6),  # -21 + 1/4 (61) = -5.75
        ((8, 1, 3, 1), -17),  # -18 + 1/4 (40 - 35)
        ((6, 1, 4, 1), -1),  # 10 + 1/2 (-28) + 1/2 (5) = -1.5, upwards
    ],
)
def test_the_forms_of_prediction_are_what_they_say(form, want):
    c, p, o, p2, o2 = (np.array([x]) for x in (10, -21, 7, 40, 35))
    assert reference.predict(reference.Form(*form), c, p, o, p2, o2) == want


def test_what_is_expected_is_cut_to_the_range_of_rows():
    c, p, o = (np.array([x]) for x in (120, 127, 7))
    none = np.array([0])
    assert reference.predict(reference.Form(8, 1, 0, 0), c, p, o, none, none) == 127
    assert reference.predict(reference.Form(8, 1, 0, 0), -c, -p, -o, none, none) == -127


@pytest.mark.parametrize(
    ("mean", "size"), [(0, 0), (21, 0), (22, 1), (31, 1), (32, 2), (44, 2), (45, 3), (64, 4)]
)
def test_a_class_is_the_root_of_twice_the_energy_of_the_one_below(mean, size):
    tables = list(flat_tables(32))
    tables[2] = np.full(1, mean, np.int32)  # of whole steps: the mean square is the weight
    coding = reference.Coding(*tables)
    assert reference.size_of(coding, np.full(32, FINE)) == size


def test_a_row_says_the_nearest_steps_where_all_cost_alike(lattices):
    rng = np.random.default_rng(0)
    tables = list(lattices.tables(rng, 32, 9))
    tables[3] = np.full((TABLES, SYMBOLS), STATES // SYMBOLS, np.uint8)
    fine = rng.integers(-20 * FINE, 20 * FINE, (40, 32)).astype(np.int16)
    fine[fine % FINE == FINE // 2] += 1
    numbers = rng.integers(0, 9, 40).astype(np.int32)
    tables[0] = np.zeros_like(tables[0])
    offsets = np.array([0, 40], np.int64)
    batch = compiled_coding.batch(fine, np.zeros_like(fine), numbers, offsets)
    _, _, rows = reference.Coding(*tables).encode(batch)
    far = np.abs(compiled_coding.rounded(fine).astype(int) - rows) > 0
    assert far.mean() < 0.01  # but where a residual would have to be listed


def test_bits_and_length_decide_between_the_two_nearest_steps():
    shares = one_symbol_alone(31)
    coding = reference.Coding(*flat_tables(32, shares=shares))
    listed = coding.penalties[0, ESCAPE_SYMBOL] - coding.penalties[0, 31]
    near = int(np.ceil((FINE**2 + listed) / (2 * FINE)))  # the first that pays to be listed
    away = np.zeros(32, np.int64)
    away[:2] = near - 1, near
    flat = np.zeros(32, np.int64)
    assert reference.chosen(coding, 0, away, flat)[:2].tolist() == [0, 1]
    along = flat.copy()
    along[0] = 16 * 400  # 400 / 64 of a part for each part: that row is short by far
    assert reference.chosen(coding, 0, away, along)[:2].tolist() == [1, 1]


@settings(max_examples=40)
@given(**cases)
def test_the_compiled_coder_writes_the_bytes_of_the_reference(
    lattices, width, cells, lengths, noise, sparse, seed
):
    rng = np.random.default_rng(seed)
    tables = lattices.tables(rng, width, cells, sparse=sparse)
    batch = lattices.batch(rng, tables[0], lengths, noise=noise)
    plain, compiled = lattices.both(tables)
    want, counts = plain.encode(batch), plain.count(batch)
    for isa in lattices.every_isa():
        for got, wanted in zip(compiled.encode(batch), want, strict=True):
            assert np.array_equal(got, wanted), isa
        assert np.array_equal(compiled.count(batch), counts), isa


@settings(max_examples=40)
@given(**cases)
def test_every_build_reads_back_what_was_written(
    lattices, width, cells, lengths, noise, sparse, seed
):
    rng = np.random.default_rng(seed)
    tables = lattices.tables(rng, width, cells, sparse=sparse)
    batch = lattices.batch(rng, tables[0], lengths, noise=noise)
    codings = lattices.both(tables)
    said = codings[1].encode(batch)[2]
    assert (np.abs(FINE * said.astype(int) - batch.fine) <= FINE).all()
    for build, rows in read_by_all(lattices, codings, batch):
        assert np.array_equal(rows, said), build


@pytest.mark.parametrize("cells", [255, 256, 257, 300])
def test_slots_take_two_bytes_where_a_passage_has_more_than_256_cells(lattices, cells):
    rng = np.random.default_rng(cells)
    tables = lattices.tables(rng, 32, 300)
    some = rng.permutation(300)[:cells]
    numbers = np.concatenate([some, rng.permutation(some)]).astype(np.int32)
    fine = rng.integers(-127, 128, (2 * cells, 32)).astype(np.int16) * FINE  # far from all others
    offsets = np.array([0, 2 * cells], np.int64)
    batch = compiled_coding.batch(fine, np.zeros_like(fine), numbers, offsets)
    assert np.array_equal(batch.cells, some)  # in the order in which rows need them
    codings = lattices.both(tables)
    codes, _, said = codings[1].encode(batch)
    assert np.array_equal(codes, codings[0].encode(batch)[0])
    fine_of = reference.passage_of(batch, 0)
    rows = reference.planned(codings[0], *fine_of)
    listed = list(reference.places(rows, batch.slots)).count(reference.LISTED)
    assert listed > cells / 2
    asides = len(codes) - HEAD_BYTES - int.from_bytes(codes[64:68].tobytes(), "little")
    backs = sum((row.form.back > 0) + (row.form.back2 > 0) for row in rows)
    escapes = sum(escaped(codings[0], row) for row in rows)
    assert asides == listed * (2 if cells > 256 else 1) + backs + escapes
    for build, got in read_by_all(lattices, codings, batch):
        assert np.array_equal(got, said), build


def escaped(coding, row):
    contexts = np.repeat(coding.contexts(row.size), UNIT)
    symbols = reference.symbols_of(row.residuals)
    return int(((coding.shares[contexts, symbols] == 0) | (symbols == ESCAPE_SYMBOL)).sum())


def test_residuals_that_no_symbol_stands_for_are_listed(lattices):
    rng = np.random.default_rng(5)
    rows = rng.choice(np.array([-127, -32, -31, 0, 31, 32, 127], np.int8), (9, 64))
    batch = coded(rows)
    codings = lattices.both(flat_tables(64))  # residual 0 alone has a symbol
    codes, _, said = codings[1].encode(batch)
    assert np.array_equal(codes, codings[0].encode(batch)[0])
    assert sum(escaped(codings[0], row) for row in planned_of(codings[0], batch)) > 9
    for build, got in read_by_all(lattices, codings, batch):
        assert np.array_equal(got, said), build


def planned_of(coding, batch):
    return reference.planned(coding, *reference.passage_of(batch, 0))


def test_a_row_is_predicted_from_255_rows_before_and_from_none_further(lattices):
    rng = np.random.default_rng(6)
    rows = rng.choice(np.array([-100, 100], np.int8), (257, 32))
    rows[[255, 256]] = rows[0]
    rows[256, 0] += 1
    codings = lattices.both(flat_tables(32))
    codes, _, _ = codings[1].encode(coded(rows))
    plans = planned_of(codings[0], coded(rows))
    assert plans[255].form == (4, 255, 0, 0) and plans[256].form == (4, 1, 0, 0)
    assert np.array_equal(codes, codings[0].encode(coded(rows))[0])
    rows[255] = rows[254]
    codes, _, _ = codings[1].encode(coded(rows))
    plans = planned_of(codings[0], coded(rows))
    assert 0 <= plans[256].form.back < 256 and plans[255].form == (4, 1, 0, 0)
    assert np.array_equal(codes, codings[0].encode(coded(rows))[0])


def test_a_row_between_two_others_is_predicted_from_both(lattices):
    rng = np.random.default_rng(7)
    rows = rng.integers(-60, 61, (9, 64))
    rows[8] = (rows[2] + rows[5]) // 2
    codings = lattices.both(flat_tables(64))
    form = planned_of(codings[0], coded(rows))[8].form
    assert {form.back, form.back2} == {6, 3}
    said = codings[1].encode(coded(rows))[2]
    for build, got in read_by_all(lattices, codings, coded(rows)):
        assert np.array_equal(got, said), build


def test_long_passages_are_read_back(lattices):
    rows = np.zeros((70_000, 32), np.int8)
    rows[[5, 255, 256, 69_000], [3, 15, 16, 31]] = 100
    batch = coded(rows)
    codings = lattices.both(flat_tables(32))
    written = codings[1].encode(batch)
    held = stages.block(codings[1], *lattices.columns(batch, *written, 0))
    assert np.array_equal(decoded(stages, codings[1], held, batch), written[2])


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_change_no_byte_and_no_count(lattices, threads):
    rng = np.random.default_rng(threads)
    tables = lattices.tables(rng, 32, 20)
    for lengths in [[], [3], [1, 0], [4, 0, 9, 1, 1, 7, 30]]:
        batch = lattices.batch(rng, tables[0], lengths, noise=4.0)
        _, compiled = lattices.both(tables)
        want = compiled.encode(batch)
        for got, wanted in zip(compiled.encode(batch, threads=threads), want, strict=True):
            assert np.array_equal(got, wanted)
        assert np.array_equal(compiled.count(batch, threads=threads), compiled.count(batch))


def test_expected_bits_are_about_those_that_are_written(lattices):
    rng = np.random.default_rng(8)
    tables = lattices.tables(rng, 128, 50)
    batch = lattices.batch(rng, tables[0], [60] * 20, noise=3.0)
    _, compiled = lattices.both(tables)
    bits = compiled_coding.expected_bits(compiled.count(batch), tables[3], 20)
    assert 8 * len(compiled.encode(batch)[0]) == pytest.approx(bits, rel=0.01)


def test_cells_rows_and_tables_that_do_not_fit_each_other_are_refused(lattices):
    _, compiled = lattices.both(flat_tables(32))
    with pytest.raises(InputError, match="W a multiple of 32"):
        compiled_coding.Coding(*flat_tables(48))
    centroids, shifts, weights, shares = flat_tables(32)
    with pytest.raises(InputError, match=r"weights must be \[1\]"):
        compiled_coding.Coding(centroids, shifts, weights[:0], shares)
    with pytest.raises(InputError, match="rows of sum 128"):
        compiled_coding.Coding(centroids, shifts, weights, shares // 2)
    with pytest.raises(InputError, match=r"Rows must be \[T, 32\]"):
        compiled.encode(coded(np.zeros((1, 64))))
    with pytest.raises(InputError, match="names a cell that there is not"):
        compiled.encode(coded(np.zeros((2, 32)), cells=2))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ({1: 0}, "a state below the least"),
        ({67: 1}, "a stream beyond the end"),
        ({64: 1}, "a stream that is an aside"),
        ({0: 5}, "a class that needs a symbol that there is not"),
        ({4: 127}, "a form and no row before"),
    ],
)
def test_bytes_that_no_coder_writes_are_refused(lattices, damage, what):
    shares = one_symbol_alone(31)
    shares[[SIZES, FORMS]] = 2  # symbols that no head has, too
    codings = lattices.both(flat_tables(32, shares=shares))
    numbers, fine = np.zeros(2, np.int32), np.zeros((2, 32), np.int16)
    batch = compiled_coding.batch(fine, fine, numbers, np.array([0, 1, 2]))  # the second is whole
    codes, ends, rows = codings[1].encode(batch)
    codes = codes.copy()
    for at, byte in damage.items():
        codes[at] = byte
    plain, compiled = lattices.blocks(codings, lattices.columns(batch, codes, ends, rows, 0))
    reads = {}
    for isa in lattices.every_isa():
        reads[isa] = outcome(stages, codings[1], compiled)
    assert set(reads.values()) == {outcome(stages_reference, codings[0], plain)}, what
    if what.startswith(("a state", "a stream beyond")):
        assert set(reads.values()) == {None}


def outcome(module, coding, block):
    """Rows of the first passage as bytes; None where it is refused."""
    try:
        return module.decode(coding, block, 0, 1).tobytes()
    except ValueError as error:
        assert "not what was coded" in str(error)
        return None


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded as POSIX does it")
@pytest.mark.parametrize("width", [32, 128, 160, 768])
def test_whatever_the_bytes_nothing_beyond_them_is_touched(width):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    script = Path(__file__).with_name("mutated_codes.py")
    command = [sys.executable, str(script), str(width), "1", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows, refused = map(int, done.stdout.split())
    assert rows > 50 and refused > 1000  # both happen


def test_rows_that_are_their_cells_take_less_than_a_byte_each(lattices):
    rng = np.random.default_rng(0)
    shares = np.zeros((TABLES, SYMBOLS), np.int64)
    for table, (symbols, likely) in enumerate([(64, 31)] * CONTEXTS + [(32, 0), (41, 0), (3, 0)]):
        shares[table, :symbols] = symbols < 64
        shares[table, -1] += symbols == 64
        shares[table, likely] += STATES - shares[table].sum()
    centroids = rng.integers(-127, 128, (300, 32)).astype(np.int8)
    band = np.zeros(1, np.int32)
    compiled = lattices.both((centroids, band, band + 256, shares.astype(np.uint8)))[1]
    fine, ends = centroids.astype(np.int16) * 64, np.array([0, 300])
    one = compiled_coding.batch(fine, np.zeros_like(fine), np.arange(300, dtype=np.int32), ends)
    codes = compiled.encode(one)[0]
    assert len(codes) < 300
    columns = (np.zeros(1, np.int64), one.cells[:0], one.cell_offsets, one.cells)
    for rows in (300, 1 << 40):
        cuts = np.array([0, len(codes)])
        held = stages.block(compiled, *columns, np.array([0, rows]), codes, cuts)
        query = np.ones((1, 32), np.int8), np.ones(1, np.float32)
        asked = (np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32), 1, 0.0, 1)
        if rows == 300:
            assert np.array_equal(stages.decode(compiled, held, 0, 300), centroids)
            best = stages.refine(compiled, [held], *query, *asked)
            assert best == centroids.sum(axis=1, dtype=int).max()
        else:  # more than its bytes can say, and more than there is memory for
            with pytest.raises(ValueError, match="not what was coded"):
                stages.refine(compiled, [held], *query, *asked)
