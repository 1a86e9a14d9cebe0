"""The invariants of ranking by votes, and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokret.errors import InputError, UsageError
from tokret.evaluation.leaderboard import Scores, Task, Votes, rules
from tokret.evaluation.leaderboard.kemeny import condorcet_winner, consensus, cost_of
from tokret.evaluation.leaderboard.ranks import average_ranks, kendall_distance, order_of, wins

BY_RANK = ["borda", "borda(levels=1)", "copeland", "kemeny"]
BY_SCORE = ["mean", "zscore", "median", "geometric", "min"]
eighths = st.integers(0, 16).map(lambda i: i / 8)  # added up without rounding, in any order


def scores_of(*tasks):
    """Scores of tasks given as [n, K] each."""
    tasks = [np.asarray(task, float).reshape(len(task), -1) for task in tasks]
    offsets = np.cumsum([0, *(task.shape[1] for task in tasks)])
    return Scores(
        tuple(f"s{i}" for i in range(len(tasks[0]))),
        tuple(Task(f"t{i}", f"t{i}") for i in range(len(tasks))),
        np.concatenate(tasks, axis=1),
        offsets,
    )


def points(rule, scores):
    return rules.build(rule).points(Votes(scores))


def ranks(rule, scores):
    return rules.build(rule).ranks(Votes(scores))


@st.composite
def boards(draw, elements=eighths, min_tasks=1):
    n = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(1, 4), min_size=min_tasks, max_size=4))
    return [draw(arrays(float, (n, k), elements=elements)) for k in sizes]


# By hand


def test_two_levels_count_a_task_once_however_many_queries_it_has():
    many = [[1] * 100, [0] * 100]  # s0 first, a hundred times
    few = [[0], [1]]
    scores = scores_of(many, few, few)
    assert points("borda(levels=1)", scores).tolist() == [100, 2]
    assert points("borda", scores).tolist() == [1, 2]


def test_each_mean_is_what_it_says():
    scores = scores_of([1.0, 2.0], [4.0, 8.0], [16.0, 2.0])
    assert points("mean", scores).tolist() == [7, 4]
    assert points("median", scores).tolist() == [4, 2]
    assert points("geometric", scores) == pytest.approx([4, 32 ** (1 / 3)])
    assert points("min", scores).tolist() == [1, 2]
    assert points("zscore", scores) == pytest.approx([-1 / 3, 1 / 3])


def test_a_median_of_an_even_number_is_between_the_two_in_the_middle():
    assert points("median", scores_of([1.0, 0], [2.0, 0], [4.0, 0], [8.0, 0])).tolist() == [3, 0]


def test_copeland_counts_duels_and_half_for_a_draw():
    scores = scores_of([3, 2, 1], [3, 1, 2])
    assert points("copeland", scores).tolist() == [2, 0.5, 0.5]


def test_what_two_levels_leave_equal_one_level_tells_apart():
    scores = scores_of([[2, 2, 0], [1, 1, 1], [0, 0, 2]], [[0], [1], [2]])
    assert points("borda", scores).tolist() == [2, 2, 2]
    assert points("borda(levels=1)", scores).tolist() == [4, 4, 4]
    other = scores_of([[2, 2, 2], [1, 1, 1], [0, 0, 0]], [[0], [1], [2]])
    assert points("borda", other).tolist() == [2, 2, 2]
    assert ranks("borda", other).tolist() == [2, 1, 0]


def test_a_missing_task_is_not_counted_as_a_lost_one():
    scores = scores_of([3, 2, 1], [3, np.nan, 1], [1, 2, 3])
    assert points("borda", scores).tolist() == [4, 3, 2]  # s1: second of three in both it has
    assert points("mean", scores) == pytest.approx([7 / 3, 2, 5 / 3])


def test_a_geometric_mean_refuses_a_negative_score():
    with pytest.raises(InputError, match="no negative score"):
        points("geometric", scores_of([1.0, -1.0]))


@pytest.mark.parametrize("spec", ["borda(levels=3)", "kemeny(exact_max=21)", "kemny"])
def test_a_wrong_rule_is_refused(spec):
    with pytest.raises(UsageError):
        rules.build(spec)


# Properties


@given(st.permutations(range(6)))
def test_one_vote_is_the_order_of_all_rules(order):
    scores = scores_of([x + 1.0 for x in order])
    for rule in BY_RANK + BY_SCORE:
        assert ranks(rule, scores).tolist() == list(order), rule


@given(st.permutations(range(5)), st.integers(1, 4), st.integers(1, 3))
def test_identical_voters_have_their_order(order, tasks, queries):
    vote = np.repeat(np.array(order, float)[:, None] + 1, queries, axis=1)
    scores = scores_of(*[vote] * tasks)
    for rule in BY_RANK + BY_SCORE:
        assert ranks(rule, scores).tolist() == list(order), rule


@given(boards(), st.integers(0, 3))
def test_another_scale_of_one_task_changes_no_rule_of_ranks(tasks, which):
    stretched = list(tasks)
    which %= len(tasks)
    stretched[which] = 1000 * np.exp(tasks[which])
    for rule in BY_RANK:
        before, after = (points(rule, scores_of(*t)) for t in (tasks, stretched))
        np.testing.assert_array_equal(before, after, rule)


def test_another_scale_of_one_task_changes_the_mean():
    a, b = [0.9, 0.5], [0.1, 0.4]
    assert ranks("mean", scores_of(a, b)).tolist() == [1, 0]
    assert ranks("mean", scores_of(a, [100 * x for x in b])).tolist() == [0, 1]


@given(boards(), st.integers(0, 3), st.integers(2, 5))
def test_repeating_all_queries_of_a_task_does_not_change_two_levels(tasks, which, times):
    repeated = list(tasks)
    repeated[which % len(tasks)] = np.tile(tasks[which % len(tasks)], (1, times))
    before, after = (points("borda", scores_of(*t)) for t in (tasks, repeated))
    np.testing.assert_array_equal(before, after)


def test_repeating_all_queries_of_a_task_may_change_one_level():
    a, b = [[1], [0]], [[0, 0], [1, 1]]
    assert ranks("borda(levels=1)", scores_of(a, b)).tolist() == [0, 1]
    assert ranks("borda(levels=1)", scores_of(np.tile(a, (1, 100)), b)).tolist() == [1, 0]


@given(boards(), st.randoms(use_true_random=False))
def test_names_do_not_matter(tasks, random):
    order = list(range(len(tasks[0])))
    random.shuffle(order)
    for rule in ["borda", "borda(levels=1)", "copeland", *BY_SCORE]:
        before = points(rule, scores_of(*tasks))
        after = points(rule, scores_of(*[task[order] for task in tasks]))
        np.testing.assert_allclose(after, before[order], atol=1e-12, err_msg=rule)
    votes = wins(Votes(scores_of(*tasks)).ballots("collections"))
    one, other = consensus(votes), consensus(votes[np.ix_(order, order)])
    assert (one.cost, one.optima) == (other.cost, other.optima)
    if one.optima == 1:
        assert [order[i] for i in other.order] == one.order.tolist()


@given(boards(), st.randoms(use_true_random=False))
def test_the_order_of_voters_does_not_matter(tasks, random):
    shuffled = [task[:, random.sample(range(task.shape[1]), task.shape[1])] for task in tasks]
    random.shuffle(shuffled)
    for rule in BY_RANK + BY_SCORE:
        before, after = (ranks(rule, scores_of(*t)) for t in (tasks, shuffled))
        np.testing.assert_array_equal(before, after, rule)


@given(boards())
def test_points_add_up_to_all_pairs_of_all_votes(tasks):
    n, queries = len(tasks[0]), sum(task.shape[1] for task in tasks)
    assert points("borda(levels=1)", scores_of(*tasks)).sum() == queries * n * (n - 1) / 2
    assert points("borda", scores_of(*tasks)).sum() == len(tasks) * n * (n - 1) / 2


@given(st.lists(st.permutations(range(5)), min_size=1, max_size=6))
def test_kemeny_costs_no_more_than_borda_and_borda_no_more_than_five_times_it(votes):
    won = wins(np.array(votes, float).T)
    borda = cost_of(order_of(won.sum(axis=1)), won)
    assert consensus(won).cost <= borda <= 5 * consensus(won).cost


@given(boards())
def test_a_winner_of_all_duels_is_first_in_kemeny_and_not_last_in_borda(tasks):
    votes = Votes(scores_of(*tasks))
    won = wins(votes.ballots("queries"))
    winner = condorcet_winner(won)
    if winner is not None:
        assert consensus(won).order[0] == winner
        assert rules.build("borda(levels=1)").points(votes)[winner] > won.sum(axis=1).min()


@given(boards().map(lambda tasks: tasks[:1]))
def test_with_one_task_two_levels_are_one(tasks):
    scores = scores_of(*tasks)
    np.testing.assert_array_equal(ranks("borda", scores), ranks("borda(levels=1)", scores))


@given(boards())
def test_turning_all_scores_round_turns_borda_round(tasks):
    n = len(tasks[0])
    for rule in ("borda", "borda(levels=1)"):
        before, after = (ranks(rule, scores_of(*t)) for t in (tasks, [-task for task in tasks]))
        np.testing.assert_array_equal(after, n - 1 - before, rule)


@given(arrays(float, (5, 4), elements=eighths))
def test_a_tournament_with_average_ranks_orders_as_borda_does(table):
    # As MTEB ranks models: on each task, points from a ranking with the best as 1.
    places = np.stack([5 - average_ranks(column) for column in table.T])
    tournament = (5 - places).sum(axis=0)
    np.testing.assert_array_equal(
        average_ranks(tournament), ranks("borda", scores_of(*table.T[:, :, None]))
    )


@given(boards())
def test_kemeny_is_at_least_as_near_to_the_votes_as_any_other_rule(tasks):
    votes = Votes(scores_of(*tasks))
    ballots = votes.ballots("collections")

    def distance(order):
        return sum(kendall_distance(order, ballot) for ballot in ballots.T)

    best = distance(rules.build("kemeny").points(votes))
    for rule in ("borda", "mean", "copeland"):
        strict = np.empty(len(ballots))
        strict[order_of(rules.build(rule).points(votes))] = np.arange(len(ballots))[::-1]
        assert best <= distance(strict) + 1e-9
