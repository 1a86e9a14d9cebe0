"""Cells: training, assignment and growth, in whole numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.indexes import kmeans
from tokret.indexes.kmeans import Cells, assign, cells_for, grow, train
from tokret.kernels import nearest, reference

FIELDS = ["centroids", "groups", "centres"]


def clouds(seed, count, rows, width=16, around=0):
    """Rows near so many points, which are far from each other."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-90, 91, (count, width)) // 2 + around
    near = points[rng.integers(0, count, rows)] + rng.normal(0, 4, (rows, width))
    return np.rint(near).clip(-127, 127).astype(np.int8)


def same(one, other):
    return one.far == other.far and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS
    )


@pytest.fixture(scope="module")
def rows():
    return clouds(0, 300, 20_000)


@pytest.fixture(scope="module")
def cells(rows):
    return train(rows, 256, seed=1)


@pytest.mark.parametrize(
    ("tokens", "cells"),
    [(0, 16), (1, 16), (100, 128), (10_000, 2048), (1_386_294, 16_384), (10**9, 65_536)],
)
def test_the_number_of_cells_is_a_power_of_two_near_16_roots(tokens, cells):
    assert cells_for(tokens) == cells


def test_two_clouds_have_their_means_as_cells():
    rows = np.array([[0], [1], [100], [101], [103]], np.int8)
    cells = train(rows, 2, seed=0)
    assert sorted(cells.centroids.ravel().tolist()) == [1, 101]  # 0.5 is rounded up, 101.3 down
    numbers, distances = assign(cells, rows)
    assert cells.centroids[numbers].ravel().tolist() == [1, 1, 101, 101, 101]
    assert distances.tolist() == [1, 0, 1, 0, 4]


def test_means_round_a_half_up_on_both_sides_of_zero():
    rows = np.array([[1], [2], [-1], [-2], [-1], [-1], [-2]], np.int8)
    numbers = np.array([0, 0, 1, 1, 2, 2, 2], np.int32)
    means = kmeans._means(rows, numbers, np.array([[9], [9], [9], [9]], np.int8), 1)
    assert means.ravel().tolist() == [2, -1, -1, 9]


def test_an_empty_cell_goes_to_the_farthest_row_of_the_worst_cell_of_its_group():
    rows = np.array([[0], [30], [60], [61], [90], [-120]], np.int8)
    centroids = np.array([[20], [-1], [60], [127], [-90]], np.int8)
    groups = np.array([0, 0, 0, 0, 1], np.int32)
    numbers = np.array([0, 0, 2, 2, 2, 4], np.int32)
    distances = ((rows - centroids[numbers].astype(np.int32)) ** 2).sum(axis=1, dtype=np.int32)
    moved = kmeans._moved(rows, numbers, distances, centroids, groups, 1)
    # Cell 2 has the greatest error, 901 of one row, and cell 0 the next, 500 of two.
    assert moved.ravel().tolist() == [15, 90, 70, 0, -120]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any),
    share=st.floats(0, 1),
)
def test_shares_add_up_and_no_group_gets_more_cells_than_rows(counts, share):
    counts = np.array(counts)
    least = int((counts > 0).sum())
    cells = least + int(share * (counts.sum() - least))
    shares = kmeans._shares(counts, cells)
    assert shares.sum() == cells
    assert (shares <= counts).all() and ((shares > 0) == (counts > 0)).all()


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 200),
    share=st.floats(0, 1),
    width=st.sampled_from([1, 3, 16]),
    most=st.sampled_from([0, 1, 127]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows_give_as_many_cells_as_asked_for(count, share, width, most, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-most, most + 1, (count, width)).astype(np.int8)
    wanted = max(1, int(count * share))
    cells = train(rows, wanted, seed=seed, iterations=2)
    assert cells.centroids.shape == (wanted, width) and cells.centroids.dtype == np.int8
    assert len(cells) == wanted == cells.offsets[-1]
    assert (np.diff(cells.groups) >= 0).all() and cells.groups.max() < len(cells.centres)
    numbers, distances = assign(cells, rows)
    apart = rows - cells.centroids[numbers].astype(np.int32)
    assert np.array_equal(distances, (apart**2).sum(axis=1))


def test_the_cells_do_not_depend_on_the_number_of_threads(rows, cells):
    assert same(train(rows, 256, seed=1, threads=3), cells)
    assert not same(train(rows, 256, seed=2), cells)


def test_the_cells_do_not_depend_on_the_build(rows, cells, monkeypatch):
    some = rows[:2000]
    want = train(some, 64, seed=1)
    native = pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    for isa in native.cpu_features():
        monkeypatch.setenv("TOKRET_SIMD", isa)
        assert same(train(some, 64, seed=1), want)
    monkeypatch.setattr(kmeans, "nearest", reference.nearest)
    monkeypatch.setattr(kmeans, "cell_sums", reference.cell_sums)
    assert same(train(some, 64, seed=1), want)


def test_a_row_is_assigned_alone_as_it_is_among_others(rows, cells):
    numbers, distances = assign(cells, rows, threads=2)
    for t in [0, 77, 19_999]:
        assert [int(a[0]) for a in assign(cells, rows[t : t + 1])] == [numbers[t], distances[t]]


def test_nearly_all_rows_find_their_nearest_cell_or_one_as_near(rows, cells):
    _, distances = assign(cells, rows)
    _, least = nearest(rows, cells.centroids)
    assert (distances <= 1.01 * least).mean() >= 0.995


def test_two_levels_lose_little_to_k_means_over_all(rows, cells):
    drawn = rows[np.sort(np.random.default_rng(1).permutation(len(rows))[:256])]
    flat = kmeans._lloyd(rows, drawn, kmeans.GROUP_ITERATIONS + kmeans.ITERATIONS, 1)
    assert assign(cells, rows)[1].mean() <= 1.02 * nearest(rows, flat)[1].mean()


def test_one_row_of_training_in_ten_is_far(rows, cells):
    _, distances = assign(cells, rows)
    assert 0.09 < (distances > cells.far).mean() < 0.11


def test_few_far_rows_add_no_cells(rows, cells):
    _, distances = assign(cells, rows[:200])
    assert 0 < (distances > cells.far).sum() < kmeans.NEW_ROWS
    assert grow(cells, rows[:200], distances) is cells


def test_far_rows_get_cells_and_the_others_keep_their_numbers_and_rows(rows, cells):
    new = clouds(9, 30, 3000, around=60)
    before = assign(cells, new)[1]
    assert (before > cells.far).mean() > 0.9
    grown = grow(cells, new, before, seed=4)
    assert len(cells) < len(grown) <= (1 + kmeans.NEW_SHARE) * len(cells)
    for name in FIELDS:
        old = getattr(cells, name)
        assert np.array_equal(getattr(grown, name)[: len(old)], old)
    assert grown.groups[len(cells) :].min() == len(cells.centres)
    assert grown.groups.max() < len(grown.centres)
    numbers, after = assign(grown, new)
    assert (numbers >= len(cells)).mean() > 0.9 and after.mean() < before.mean() / 4
    again, _ = assign(grown, rows)
    assert (again == assign(cells, rows)[0]).mean() > 0.99
    assert same(grow(cells, new, before, seed=4, threads=3), grown)


def test_cells_of_one_group_need_not_follow_each_other():
    cells = Cells(
        centroids=np.array([[0], [100], [10], [-128]], np.int8),
        groups=np.array([0, 2, 0, 2], np.int32),
        centres=np.array([[5], [77], [90]], np.int8),
        far=0,
    )
    assert cells.order.tolist() == [0, 2, 1, 3] and cells.offsets.tolist() == [0, 2, 2, 4]
    rows = np.array([[9], [78], [-127]], np.int8)
    assert assign(cells, rows, probes=1)[0].tolist() == [2, 1, 0]
    assert assign(cells, rows)[0].tolist() == [2, 1, 3]


@pytest.mark.parametrize("wanted", [0, -1, 4])
def test_more_cells_than_rows_or_none_are_refused(wanted):
    with pytest.raises(UsageError, match=f"got 3 rows for {wanted} cells"):
        train(np.zeros((3, 2), np.int8), wanted)


def test_rows_that_are_not_int8_are_refused():
    with pytest.raises(InputError, match="must be int8"):
        train(np.zeros((3, 2), np.float32), 2)
