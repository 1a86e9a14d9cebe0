from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.evaluation.leaderboard.kemeny import (
    condorcet_winner,
    consensus,
    cost_of,
    groups,
    improved,
    local_search,
)
from tokret.evaluation.leaderboard.kemeny_program import relaxed
from tokret.evaluation.leaderboard.ranks import wins


@st.composite
def duels(draw, max_systems=6):
    n = draw(st.integers(2, max_systems))
    votes = draw(st.lists(st.permutations(range(n)), min_size=1, max_size=5))
    return wins(np.array(votes, float).T)


def cycle(n, seed=0):
    """Duels without any order: each system beats the next, and half of the others."""
    rng = np.random.default_rng(seed)
    won = np.triu(rng.integers(0, 11, (n, n)), 1).astype(float)
    won += np.tril(10 - won.T, -1)
    for i in range(n):
        won[i, (i + 1) % n], won[(i + 1) % n, i] = 9, 1
    return won


def test_condorcet_s_paradox_has_three_best_orders():
    won = wins(np.array([[2, 1, 0], [1, 0, 2], [0, 2, 1]], float))
    found = consensus(won)
    assert (found.cost, found.exact, found.optima) == (4, True, 3)
    assert condorcet_winner(won) is None


def test_the_cost_is_the_votes_that_see_a_pair_the_other_way_round():
    won = np.array([[0.0, 3.0], [1.0, 0.0]])
    assert cost_of(np.array([0, 1]), won) == 1
    assert cost_of(np.array([1, 0]), won) == 3
    assert condorcet_winner(won) == 0


def test_of_orders_as_good_the_one_nearer_to_borda_is_given():
    won = np.array([[0, 2, 3], [2, 0, 4], [1, 0, 0]], float)  # 0 and 1 draw, 1 beats 2 by more
    found = consensus(won)
    assert (found.order.tolist(), found.optima) == ([1, 0, 2], 2)


@given(duels())
def test_no_order_is_better_and_all_that_are_as_good_are_counted(won):
    costs = [cost_of(np.array(order), won) for order in permutations(range(len(won)))]
    found = consensus(won)
    assert found.exact
    assert found.cost == found.bound == cost_of(found.order, won) == min(costs)
    assert found.optima == costs.count(min(costs))


@given(duels(8))
def test_groups_win_every_duel_against_those_after_them(won):
    parts = groups(won)
    assert sorted(np.concatenate(parts)) == list(range(len(won)))
    for i, part in enumerate(parts):
        for later in parts[i + 1 :]:
            assert (won[np.ix_(part, later)] > won[np.ix_(later, part)].T).all()


@given(duels(8), st.integers(0, 5))
def test_local_search_never_makes_it_worse_and_bounds_hold(won, seed):
    start = np.random.default_rng(seed).permutation(len(won))
    better = improved(start, won)
    assert sorted(better) == list(range(len(won)))
    assert cost_of(better, won) <= cost_of(start, won)
    found = consensus(won, exact_max=1, restarts=3)
    exact = consensus(won)
    assert found.bound <= exact.cost <= found.cost
    assert not found.exact or found.cost == exact.cost


def test_no_single_move_betters_what_local_search_found():
    won = cycle(9)
    order = local_search(won, 0, np.random.default_rng(0))
    for p in range(9):
        for q in range(9):
            moved = np.insert(np.delete(order, p), q, order[p])
            assert cost_of(moved, won) >= cost_of(order, won)


def test_a_large_knot_is_solved_exactly_up_to_the_limit_and_honestly_beyond():
    won = cycle(14)
    assert [len(group) for group in groups(won)] == [14]
    exact, searched = consensus(won), consensus(won, exact_max=13)
    assert exact.exact and exact.optima
    assert searched.optima is None
    assert searched.bound <= exact.cost == pytest.approx(searched.cost)


def test_a_linear_program_proves_an_order_best_that_is_too_large_for_subsets():
    votes = np.random.default_rng(1).normal(size=(40, 25)) + np.linspace(0, 0.4, 40)[:, None]
    won = wins(votes)
    assert max(map(len, groups(won))) > 18
    found = consensus(won)
    assert found.exact and found.cost == found.bound == cost_of(found.order, won)
    assert found.bound > np.triu(np.minimum(won, won.T), 1).sum()


@given(duels(8))
def test_the_bound_of_the_program_is_below_every_order(won):
    bound, order = relaxed(won)
    best = consensus(won).cost
    assert bound <= best + 1e-6
    if order is not None:
        assert cost_of(order, won) == pytest.approx(best)


def test_the_same_seed_gives_the_same_order():
    won = cycle(24)
    one, other = (consensus(won, restarts=5, seed=3) for _ in range(2))
    assert one.order.tolist() == other.order.tolist()
