"""What ties could make of a number is exactly what trying every order makes of it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.evaluation import evaluate
from tokret.evaluation.graded import checked_qrels, graded
from tokret.evaluation.measures import values_of
from tokret.evaluation.names import measures_named
from tokret.evaluation.ties import spread

NAMES = (
    *("nDCG@2", "nDCG", "nDCG(dcg='exp-log2')@3", "AP", "AP@3", "AP(rel=2)", "RR", "RR@2"),
    *("P@2", "R@3", "R(rel=2)@2", "Success@2", "Rprec", "Judged@2", "NumRet", "NumRel"),
)


def join(run, qrels):
    ranked = {q: dict(sorted(s.items(), key=lambda p: (-p[1], p[0]))) for q, s in run.items()}
    return graded(ranked.items(), checked_qrels(qrels), check_ids=False)


def every_order(scores):
    """All rankings of documents in which only equal scores change places."""
    levels = sorted(set(scores.values()), reverse=True)
    groups = [[d for d in scores if scores[d] == level] for level in levels]
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        docs = [doc for order in orders for doc in order]
        yield {doc: float(-i) for i, doc in enumerate(docs)}


@settings(max_examples=60)
@given(
    scores=st.dictionaries(
        st.sampled_from("abcdefg"), st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=6
    ),
    grades=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-1, 3), min_size=1).filter(
        lambda grades: max(grades.values()) > 0
    ),
)
def test_least_expected_and_most_are_those_of_all_orders(scores, grades):
    measures = measures_named(NAMES)
    tried = np.array(
        [values_of(join({"q": o}, {"q": grades}), measures)[:, 0] for o in every_order(scores)]
    )
    for i, measure in enumerate(measures):
        least, expected, most = (x[0] for x in spread(measure, join({"q": scores}, {"q": grades})))
        assert least == pytest.approx(tried[:, i].min(), abs=1e-12), measure
        assert expected == pytest.approx(tried[:, i].mean(), abs=1e-12), measure
        assert most == pytest.approx(tried[:, i].max(), abs=1e-12), measure


def test_ties_of_one_query_do_not_touch_another():
    run = {"p": {"a": 1.0, "b": 1.0}, "q": {"a": 2.0, "b": 1.0}, "r": {}}
    found = join(run, {"p": {"b": 1}, "q": {"b": 1}, "r": {"b": 1}})
    for name in ("RR", "AP"):
        least, expected, most = spread(measures_named(name)[0], found)
        assert least.tolist() == [0.5, 0.5, 0]
        assert expected.tolist() == [0.75, 0.5, 0]
        assert most.tolist() == [1.0, 0.5, 0]


def test_a_report_shows_the_range_and_warns_where_it_is_wide():
    report = evaluate({"q": {"x": 1.0, "a": 1.0}}, {"q": {"x": 1}}, ("nDCG@10", "R@2"))
    low = 1 / math.log2(3)
    assert report["nDCG@10"] == pytest.approx(low)  # a stands before x
    assert report.ties["nDCG@10"] == pytest.approx((low, (1 + low) / 2, 1))
    assert report.ties["R@2"] == (1, 1, 1)
    wide = [note for note in report.notes if note.startswith("Ties decide")]
    assert wide == [
        "Ties decide nDCG@10: in other orders of equal scores it lies between 0.6309 and 1.0000, "
        "0.8155 to be expected."
    ]


def test_where_there_are_no_ties_the_range_is_the_number():
    report = evaluate({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}}, ("RR", "Bpref"))
    assert report.ties == {m: (v, v, v) for m, v in report.values.items()}


def test_a_measure_whose_ties_are_not_known_says_so():
    assert evaluate({"q": {"a": 1.0, "b": 1.0}}, {"q": {"b": 1}}, "Bpref").ties == {"Bpref": None}


def test_a_large_group_of_equals_is_no_trouble():
    scores = {f"d{i:04}": 1.0 for i in range(3000)}
    report = evaluate({"q": scores}, {"q": {"d0000": 1}}, ("RR", "Success@30"))
    harmonic = sum(1 / i for i in range(1, 3001)) / 3000
    assert report.ties["RR"].expected == pytest.approx(harmonic, rel=1e-9)
    assert report.ties["Success@30"].expected == pytest.approx(0.01, rel=1e-9)
