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
from tokret.kernels.coding import BANDS, CONTEXTS, STATES, SYMBOLS

WIDTHS = [16, 32, 128, 144]

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
    shares = np.zeros((CONTEXTS, SYMBOLS), np.uint16)
    shares[:, -1] = 1
    shares[:, symbol] += STATES - 1
    return shares


def flat_tables(width, *, cells=1, shares=None):
    return (
        np.zeros((cells, width), np.int8),
        np.zeros(BANDS, np.int32),
        np.full(BANDS, 256, np.int32),
        one_symbol_alone(31) if shares is None else shares,
    )


def decoded(module, coding, block, batch):
    """Rows of all passages, end to end."""
    rows = [
        module.decode(coding, block, n, int(length))
        for n, length in enumerate(np.diff(batch.token_offsets))
    ]
    return np.concatenate([np.empty((0, batch.rows.shape[1]), np.int8), *rows])


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
    return compiled_coding.batch(np.asarray(rows, np.int8), numbers, offsets)


def test_bytes_of_one_row_are_as_they_were_worked_out_by_hand():
    # Symbols 31 and 63 have 512 states each: an even state of the spread is one or the other,
    # and each residual takes one bit. From state 0 (1024 = 2 * 512) the writer leaves bit 0.
    shares = np.zeros((CONTEXTS, SYMBOLS), np.uint16)
    shares[:, [31, 63]] = STATES // 2
    coding = reference.Coding(*flat_tables(16, shares=shares))
    zero = reference.spread(shares[0])[0]
    assert zero == 31  # the first share begins at state 0
    codes, _ = coding.encode(coded(np.zeros((1, 16))))
    # 4 zero bits a stream, and state 0 leads to itself: 1024 >> 1 is the first of 512.
    stream = [0, 0, 1, 0, 0, 0]
    assert codes.tolist() == [0, 0, 0, *[0] * 4, *stream * 3, 0, 0, *[0] * 4]


def test_the_kinds_of_prediction_are_what_they_say():
    c, p, o = (np.array([x]) for x in (10, -21, 7))
    assert reference.predict(reference.CENTROID, c, p, o) == 10
    assert reference.predict(reference.ROW, c, p, o) == -21
    assert reference.predict(reference.BETWEEN, c, p, o) == -6  # -5.5, downwards
    assert reference.predict(reference.SHIFTED, c, p, o) == -4
    assert reference.predict(reference.SHIFTED, np.array([120]), np.array([127]), o) == 127


@pytest.mark.parametrize(("mean", "size"), [(0, 0), (31, 0), (32, 1), (63, 1), (64, 2)])
def test_a_class_is_twice_the_energy_of_the_one_below(mean, size):
    tables = list(flat_tables(16))
    tables[2] = np.full(BANDS, mean, np.int32)  # of ones: the mean square is the weight
    coding = reference.Coding(*tables)
    assert reference.size_of(coding, np.ones(16, np.int64)) == size


def test_every_share_has_its_states():
    rng = np.random.default_rng(0)
    shares = rng.multinomial(STATES, np.ones(SYMBOLS) / SYMBOLS).astype(np.uint16)
    assert np.array_equal(np.bincount(reference.spread(shares), minlength=SYMBOLS), shares)


@settings(max_examples=40)
@given(**cases)
def test_the_compiled_coder_writes_the_bytes_of_the_reference(
    lattices, width, cells, lengths, noise, sparse, seed
):
    rng = np.random.default_rng(seed)
    tables = lattices.tables(rng, width, cells, sparse=sparse)
    batch = lattices.batch(rng, tables[0], lengths, noise=noise)
    plain, compiled = lattices.both(tables)
    codes, ends = plain.encode(batch)
    got, got_ends = compiled.encode(batch)
    assert np.array_equal(got_ends, ends) and np.array_equal(got, codes)
    assert np.array_equal(compiled.count(batch), plain.count(batch))


@settings(max_examples=40)
@given(**cases)
def test_every_build_reads_back_what_was_written(
    lattices, width, cells, lengths, noise, sparse, seed
):
    rng = np.random.default_rng(seed)
    tables = lattices.tables(rng, width, cells, sparse=sparse)
    batch = lattices.batch(rng, tables[0], lengths, noise=noise)
    for build, rows in read_by_all(lattices, lattices.both(tables), batch):
        assert np.array_equal(rows, batch.rows), build


@pytest.mark.parametrize("cells", [255, 256, 257, 300])
def test_slots_take_two_bytes_where_a_passage_has_more_than_256_cells(lattices, cells):
    rng = np.random.default_rng(cells)
    tables = lattices.tables(rng, 16, 300)
    numbers = rng.permutation(300)[:cells].astype(np.int32)
    rows = tables[0][numbers] // 2
    batch = compiled_coding.batch(rows, numbers, np.array([0, cells], np.int64))
    codings = lattices.both(tables)
    codes, _ = codings[1].encode(batch)
    assert np.array_equal(codes, codings[0].encode(batch)[0])
    slots = (
        codes[2 * cells : 4 * cells].view("<u2") if cells > 256 else codes[2 * cells : 3 * cells]
    )
    assert np.array_equal(batch.cells[slots], numbers)
    for build, got in read_by_all(lattices, codings, batch):
        assert np.array_equal(got, rows), build


def test_residuals_that_no_symbol_stands_for_are_listed(lattices):
    rng = np.random.default_rng(5)
    rows = rng.choice(np.array([-127, -32, -31, 0, 31, 32, 127], np.int8), (9, 32))
    batch = coded(rows)
    codings = lattices.both(flat_tables(32))  # residual 0 alone has a symbol
    codes, _ = codings[1].encode(batch)
    assert np.array_equal(codes, codings[0].encode(batch)[0])
    plans, left = reference.planned(codings[0], *reference.passage_of(batch, 0))
    assert int.from_bytes(codes[27:31].tobytes(), "little") == sum((row != 0).sum() for row in left)
    assert any(plan.kind for plan in plans)
    for build, got in read_by_all(lattices, codings, batch):
        assert np.array_equal(got, rows), build


def test_a_row_is_predicted_from_255_rows_before_and_from_none_further(lattices):
    rng = np.random.default_rng(6)
    rows = rng.choice(np.array([-100, 100], np.int8), (257, 32))
    rows[[255, 256]] = rows[0]
    rows[256, 0] += 1
    codings = lattices.both(flat_tables(32))
    batch = coded(rows)
    codes, _ = codings[1].encode(batch)
    assert codes[255] == 255 and codes[256] == 1
    assert np.array_equal(codes, codings[0].encode(batch)[0])
    rows[255] = rows[254]
    codes, _ = codings[1].encode(coded(rows))
    assert 0 < codes[256] < 256 and codes[255] == 1


def test_escapes_of_a_long_passage_go_to_their_own_rows(lattices):
    rows = np.zeros((140_000, 16), np.int8)
    rows[[70_005, 139_000], [3, 15]] = 100  # rows 4469 and 7928 are the same modulo 65,536
    batch = coded(rows)
    codings = lattices.both(flat_tables(16))
    columns = lattices.columns(batch, *codings[1].encode(batch), 0)
    held = stages.block(codings[1], *columns)
    assert np.array_equal(decoded(stages, codings[1], held, batch), rows)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_change_no_byte_and_no_count(lattices, threads):
    rng = np.random.default_rng(threads)
    tables = lattices.tables(rng, 32, 20)
    for lengths in [[], [3], [1, 0], [4, 0, 9, 1, 1, 7, 30]]:
        batch = lattices.batch(rng, tables[0], lengths, noise=4.0)
        _, compiled = lattices.both(tables)
        codes, ends = compiled.encode(batch)
        got, got_ends = compiled.encode(batch, threads=threads)
        assert np.array_equal(got, codes) and np.array_equal(got_ends, ends)
        assert np.array_equal(compiled.count(batch, threads=threads), compiled.count(batch))


def test_expected_bits_are_about_those_that_are_written(lattices):
    rng = np.random.default_rng(8)
    tables = lattices.tables(rng, 128, 50)
    batch = lattices.batch(rng, tables[0], [60] * 20, noise=3.0)
    _, compiled = lattices.both(tables)
    bits = compiled_coding.expected_bits(compiled.count(batch), tables[3]) + batch.head_bits
    assert 8 * len(compiled.encode(batch)[0]) == pytest.approx(bits, rel=0.01)


def test_cells_and_rows_that_do_not_fit_the_centroids_are_refused(lattices):
    _, compiled = lattices.both(flat_tables(16))
    with pytest.raises(InputError, match="W a multiple of 16"):
        compiled_coding.Coding(*flat_tables(24))
    with pytest.raises(InputError, match=r"Rows must be \[T, 16\]"):
        compiled.encode(coded(np.zeros((1, 32))))
    with pytest.raises(InputError, match="names a cell that there is not"):
        compiled.encode(coded(np.zeros((2, 16)), cells=2))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ((0, 1), "a row before the first"),
        ((1, 0x40), "a fifth kind"),
        ((1, 0x10), "a kind that needs an earlier row"),
        ((2, 1), "a cell beyond the passage's"),
        ((3, 1), "an escape that is not there"),
        ((6, 255), "more escapes than bytes"),
        ((8, 4), "a state beyond the last"),
        ((9, 200), "a stream beyond the end"),
    ],
)
def test_bytes_that_no_coder_writes_are_refused(lattices, damage, what):
    codings = lattices.both(flat_tables(16))
    rows, numbers = np.zeros((2, 16), np.int8), np.zeros(2, np.int32)
    batch = compiled_coding.batch(rows, numbers, np.array([0, 1, 2]))  # the second is whole
    codes, ends = codings[1].encode(batch)
    codes = codes.copy()
    codes[damage[0]] = damage[1]
    plain, compiled = lattices.blocks(codings, lattices.columns(batch, codes, ends, 0))
    with pytest.raises(ValueError, match="not what was coded"):
        stages_reference.decode(codings[0], plain, 0, 1)
    for isa in lattices.every_isa():
        with pytest.raises(ValueError, match="not what was coded"):
            stages.decode(codings[1], compiled, 0, 1)
            pytest.fail(f"{isa} read {what}")


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded as POSIX does it")
@pytest.mark.parametrize("width", [16, 128, 144, 768])
def test_whatever_the_bytes_nothing_beyond_them_is_touched(width):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    script = Path(__file__).with_name("mutated_codes.py")
    command = [sys.executable, str(script), str(width), "1", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows, refused = map(int, done.stdout.split())
    assert rows > 100 and refused > 1000  # both happen
