import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from tokret.evaluation.leaderboard.ranks import (
    average_ranks,
    kendall_distance,
    kendall_tau,
    order_of,
    places,
    wins,
)

few = st.integers(0, 4).map(float)  # many ties
tables = arrays(float, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7), elements=few)
permutations = st.integers(2, 9).flatmap(
    lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n)))
)


def test_the_best_beats_all_others_and_equals_share():
    assert average_ranks([0.2, 0.9, 0.5, 0.5]).tolist() == [0, 3, 1.5, 1.5]
    assert places([0.2, 0.9, 0.5, 0.5]).tolist() == [4, 1, 2.5, 2.5]


def test_a_vote_that_knows_two_of_three_is_stretched_to_the_same_range():
    ranks = average_ranks([[0.1], [np.nan], [0.7]])
    np.testing.assert_array_equal(ranks, [[0], [np.nan], [2]])


def test_a_vote_that_knows_one_system_says_nothing():
    assert np.isnan(average_ranks([[0.1], [np.nan]])).all()


@given(tables)
def test_ranks_are_those_of_scipy(table):
    np.testing.assert_array_equal(average_ranks(table), stats.rankdata(table, axis=0) - 1)


@given(tables)
def test_a_rank_is_the_duels_won_in_that_vote(table):
    np.testing.assert_array_equal(average_ranks(table).sum(axis=1), wins(table).sum(axis=1))


@given(permutations)
def test_tau_is_one_minus_four_distances_by_the_pairs(orders):
    one, other = orders
    n = len(one)
    tau = kendall_tau(one, other)
    assert tau == pytest.approx(1 - 4 * kendall_distance(one, other) / (n * (n - 1)), abs=1e-12)
    assert tau == pytest.approx(stats.kendalltau(one, other).statistic, abs=1e-12)


@given(arrays(float, 6, elements=few), arrays(float, 6, elements=few))
def test_tau_with_ties_is_that_of_scipy(one, other):
    ours = kendall_tau(one, other)
    with np.errstate(all="ignore"):
        assert ours == pytest.approx(stats.kendalltau(one, other).statistic, nan_ok=True)


def test_the_distance_counts_pairs_and_half_for_a_tie_in_one():
    assert kendall_distance([0, 1, 2], [2, 1, 0]) == 3
    assert kendall_distance([0, 1, 2], [0, 2, 1]) == 1
    assert kendall_distance([0, 1, 2], [0, 1, 1]) == 0.5


def test_wins_count_only_ballots_that_know_both():
    ballots = np.array([[2.0, 1.0, np.nan], [1.0, 1.0, 5.0]])
    assert wins(ballots).tolist() == [[0, 1.5], [0.5, 0]]
    assert order_of(np.array([1.0, 3.0, 1.0])).tolist() == [1, 0, 2]
