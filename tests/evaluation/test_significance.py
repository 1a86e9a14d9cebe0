"""Tests and corrections by hand, and beside scipy's."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokret.errors import UsageError
from tokret.evaluation import significance as s

GAPS = np.random.default_rng(5).normal(0.02, 0.1, (200, 3))


def test_three_queries_won_alike_are_extreme_in_two_of_eight_assignments():
    assert s.randomisation([0.1, 0.1, 0.1]) == pytest.approx([2 / 8])
    assert s.randomisation([-0.1, -0.1, -0.1], side="less") == pytest.approx([1 / 8])
    assert s.randomisation([0.1, 0.1, 0.1], side="less") == pytest.approx([1])


def test_queries_without_a_difference_do_not_change_the_exact_test():
    assert s.randomisation([0.1, 0.1, 0.1, 0.0]) == pytest.approx([2 / 8])
    assert s.randomisation([0.0, 0.0]) == pytest.approx([1])


def test_a_few_queries_are_tried_in_all_assignments_of_signs():
    gaps = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.2])
    sums = [abs(np.dot(signs, gaps)) for signs in itertools.product([-1, 1], repeat=6)]
    expected = np.mean(np.array(sums) >= abs(gaps.sum()) - 1e-12)
    assert s.randomisation(gaps) == pytest.approx([expected])


def test_many_queries_are_sampled_close_to_the_t_test_and_the_same_each_time():
    p = s.randomisation(GAPS, 20_000)
    assert p == pytest.approx(s.t_test(GAPS), abs=0.02)
    assert s.randomisation(GAPS, 20_000).tolist() == p.tolist()


def test_a_comparison_beside_others_has_the_p_value_it_has_alone():
    together = s.randomisation(GAPS, 500)
    alone = [s.randomisation(column, 500)[0] for column in GAPS.T]
    assert together.tolist() == alone


def test_no_p_value_is_zero_however_large_the_difference():
    assert s.randomisation(np.ones(100), 999) == pytest.approx([1 / 1000])


def test_the_t_test_and_wilcoxons_are_scipys():
    zeros = np.zeros_like(GAPS)
    assert s.t_test(GAPS) == pytest.approx(stats.ttest_rel(GAPS, zeros).pvalue)
    ours = [stats.wilcoxon(np.round(column, 12)).pvalue for column in GAPS.T]
    assert s.wilcoxon(GAPS) == pytest.approx(ours)


@pytest.mark.parametrize("gaps", [[0.0, 0.0, 0.0], [0.1], [0.0]])
def test_where_nothing_can_be_told_p_is_one(gaps):
    assert s.t_test(gaps).tolist() == s.randomisation(gaps).tolist() == [1]
    assert s.wilcoxon(gaps).tolist() == [1]


def test_the_effect_size_is_the_mean_over_the_deviation():
    assert s.effect_size([1.0, 2.0, 3.0]) == pytest.approx([2.0])
    assert s.effect_size([0.0, 0.0]).tolist() == [0]
    assert s.effect_size([0.5, 0.5]).tolist() == [np.inf]


def test_the_bootstrap_interval_is_about_two_standard_errors_wide():
    low, high = s.bootstrap(GAPS, 5000)
    error = GAPS.std(axis=0, ddof=1) / np.sqrt(len(GAPS))
    assert low == pytest.approx(GAPS.mean(axis=0) - 1.96 * error, abs=0.15 * error.max())
    assert high == pytest.approx(GAPS.mean(axis=0) + 1.96 * error, abs=0.15 * error.max())


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_fewer():
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_benjamini_hochberg_divides_by_the_place():
    assert s.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_are_never_below_the_p_value_and_holm_is_the_stricter(p):
    holm, bh = s.holm(p), s.benjamini_hochberg(p)
    assert (holm >= bh - 1e-12).all() and (bh >= np.array(p) - 1e-12).all()
    assert bh == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


def test_no_query_is_no_test():
    with pytest.raises(UsageError, match="at least one query"):
        s.randomisation([])
