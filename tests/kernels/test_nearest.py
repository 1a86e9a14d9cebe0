"""The nearest centroid: by hand, and each instruction set against the reference to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.kernels import cell_sums, nearest, reference
from tokret.kernels.reference import Groups

ROWS = [0, 1, 2, 7, 8, 9, 23, 24, 47, 49, 63, 64, 65, 129, 1100]
WIDTHS = [1, 2, 3, 7, 16, 63, 64, 65, 128, 1024]
CELLS = [1, 2, 3, 5, 6, 7, 8, 11, 47, 48, 49, 53, 97, 200]


def codes(rng, count, width, most):
    return rng.integers(-most, most + 1, (count, width)).astype(np.int8)


def extremes(rng, count, width):
    return rng.choice(np.array([-128, 127], np.int8), (count, width))


def on_every_build(rows, centroids, groups=None, probes=1, threads=1):
    native = pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    for isa in native.cpu_features():
        yield isa, native._nearest(isa, rows, centroids, groups, probes, threads)


def same(got, want):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_the_nearest_of_three_points_on_a_line():
    rows = np.array([[0], [4], [5], [6], [127], [-128]], np.int8)
    centroids = np.array([[10], [0], [10]], np.int8)
    numbers, distances = nearest(rows, centroids)
    assert numbers.tolist() == [1, 1, 0, 0, 0, 1]  # 5 is as near to both: the lower
    assert distances.tolist() == [0, 16, 25, 16, 117**2, 128**2]


def test_a_row_looks_only_in_the_groups_that_it_probes():
    centroids = np.array([[1], [50], [-1]], np.int8)
    groups = Groups(np.array([0, 2, 2, 3]), np.array([[25], [0], [-1]], np.int8))
    rows = np.array([[1], [40]], np.int8)
    numbers, distances = nearest(rows, centroids, groups=groups, probes=1)
    assert numbers.tolist() == [2, 1] and distances.tolist() == [4, 100]
    numbers, _ = nearest(rows, centroids, groups=groups, probes=2)
    assert numbers.tolist() == [0, 1]


def test_sums_are_of_the_rows_of_a_number():
    rows = np.array([[1, 127], [2, 127], [3, -128]], np.int8)
    sums = cell_sums(rows, np.array([2, 2, 0], np.int32), 4)
    assert sums.tolist() == [[3, -128], [0, 0], [3, 254], [0, 0]]


def test_the_reference_finds_the_least_of_all_squared_differences():
    rng = np.random.default_rng(1)
    rows, centroids = extremes(rng, 50, 1024), codes(rng, 30, 1024, 127)
    apart = rows[:, None].astype(np.int64) - centroids
    want = (apart**2).sum(axis=2)
    numbers, distances = reference.nearest(rows, centroids)
    assert np.array_equal(numbers, want.argmin(axis=1))
    assert np.array_equal(distances, want.min(axis=1))


@settings(max_examples=80, deadline=None)
@given(
    count=st.sampled_from(ROWS),
    width=st.sampled_from(WIDTHS),
    cells=st.sampled_from(CELLS),
    most=st.sampled_from([0, 1, 127]),  # few values: many ties
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_build_finds_what_the_reference_finds(count, width, cells, most, threads, seed):
    rng = np.random.default_rng(seed)
    rows, centroids = codes(rng, count, width, most), codes(rng, cells, width, most)
    want = reference.nearest(rows, centroids)
    for isa, got in on_every_build(rows, centroids, threads=threads):
        assert same(got, want), isa


@settings(max_examples=80, deadline=None)
@given(
    count=st.sampled_from(ROWS),
    width=st.sampled_from(WIDTHS),
    sizes=st.lists(st.sampled_from([0, 0, 1, 5, 47, 50]), min_size=1, max_size=12),
    probes=st.integers(1, 13),
    most=st.sampled_from([0, 1, 127]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_build_looks_in_the_groups_that_the_reference_looks_in(
    count, width, sizes, probes, most, threads, seed
):
    rng = np.random.default_rng(seed)
    sizes = [*sizes, 3]
    offsets = np.cumsum([0, *sizes])
    rows, centroids = codes(rng, count, width, most), codes(rng, sum(sizes), width, most)
    groups = Groups(offsets, codes(rng, len(sizes), width, most))
    want = reference.nearest(rows, centroids, groups=groups, probes=probes)
    for isa, got in on_every_build(rows, centroids, groups, probes, threads):
        assert same(got, want), isa


def test_the_widest_and_greatest_codes_are_compared_exactly():
    rng = np.random.default_rng(2)
    rows, centroids = extremes(rng, 70, 1024), extremes(rng, 60, 1024)
    rows[:60] = centroids  # at distance 0, 2 n.c is as great as it can be
    groups = Groups(np.array([0, 20, 40, 60]), ~centroids[::20])
    for isa, got in on_every_build(rows, centroids):
        assert same(got, reference.nearest(rows, centroids)), isa
    want = reference.nearest(rows, centroids, groups=groups, probes=2)
    for isa, got in on_every_build(rows, centroids, groups, 2):
        assert same(got, want), isa


def test_more_rows_than_are_sorted_by_group_at_once():
    rng = np.random.default_rng(3)
    rows, centroids = codes(rng, 70_000, 8, 127), codes(rng, 30, 8, 127)
    groups = Groups(np.array([0, 10, 20, 30]), centroids[::10])
    want = reference.nearest(rows, centroids, groups=groups, probes=2)
    for isa, got in on_every_build(rows, centroids, groups, 2, 2):
        assert same(got, want), isa


@settings(max_examples=30, deadline=None)
@given(
    count=st.sampled_from(ROWS),
    width=st.sampled_from(WIDTHS),
    cells=st.sampled_from(CELLS),
    threads=st.sampled_from([1, 3]),
)
def test_every_build_adds_up_as_the_reference_does(count, width, cells, threads):
    rng = np.random.default_rng(count + width + cells)
    rows = codes(rng, count, width, 127)
    numbers = rng.integers(0, cells, count, np.int32)
    want = reference.cell_sums(rows, numbers, cells)
    assert same([cell_sums(rows, numbers, cells, threads=threads)], [want])


GOOD = np.zeros((3, 4), np.int8)


@pytest.mark.parametrize("module", ["reference", "native"])
@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"rows": GOOD.astype(np.int16)}, InputError, r"rows must be int8 .* got int16 \[3, 4\]"),
        ({"centroids": GOOD[0]}, InputError, r"centroids must be int8 .* \[4\]"),
        ({"centroids": GOOD[:0]}, InputError, r"one or more .* got \[0, 4\] for rows \[3, 4\]"),
        ({"centroids": np.zeros((3, 5), np.int8)}, InputError, r"got \[3, 5\]"),
        ({"probes": 0}, UsageError, "probes must be at least 1, got 0"),
        ({"threads": 0}, UsageError, "threads must be at least 1, got 0"),
        ({"groups": Groups(np.array([0, 3]), GOOD)}, InputError, r"centres must be int8 \[1, 4\]"),
        ({"groups": Groups(np.array([0, 2]), GOOD[:1])}, InputError, "rise from 0 to 3"),
        ({"groups": Groups(np.array([0, 4, 2, 3]), GOOD)}, InputError, "rise from 0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(module, changed, error, words):
    module = pytest.importorskip(f"tokret.kernels.{module}", exc_type=ImportError)
    with pytest.raises(error, match=words):
        module.nearest(**{"rows": GOOD, "centroids": GOOD, **changed})


@pytest.mark.parametrize(
    ("rows", "numbers", "words"),
    [
        (GOOD.astype(np.int64), [0, 1, 2], "rows must be int8"),
        (GOOD, [0, 1], r"numbers must be int32 \[3\]"),
        (GOOD, [0, 1, 3], "numbers must be 0 to 2, got 0 to 3"),
        (GOOD, [0, -1, 2], "got -1 to 2"),
    ],
)
def test_numbers_of_no_cell_are_refused(rows, numbers, words):
    with pytest.raises(InputError, match=words):
        cell_sums(rows, np.array(numbers, np.int32), 3)
