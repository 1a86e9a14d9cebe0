import json

import numpy as np
import pytest

from tokret.collections import Run
from tokret.errors import InputError, UsageError
from tokret.evaluation import assert_no_regression, compare, evaluate
from tokret.evaluation.regression import RegressionError

pytest_plugins = ["pytester"]

QRELS = {f"q{i:02}": {"a": 1} for i in range(20)}
GOOD = {q: {"a": 2.0, "b": 1.0} for q in QRELS}
BAD = {q: {"b": 2.0, "a": 1.0} for q in QRELS}
MIXED = {q: (GOOD if i % 2 else BAD)[q] for i, q in enumerate(QRELS)}


def test_a_difference_is_that_of_the_reports_and_counts_the_queries():
    found = compare({"good": GOOD, "mixed": MIXED}, QRELS, ["RR", "R@1"])
    d = found.find("mixed")
    assert (d.a, d.b, d.measure, d.wins, d.ties, d.losses) == ("good", "mixed", "RR", 0, 10, 10)
    assert d.difference == pytest.approx(evaluate(MIXED, QRELS, "RR")["RR"] - 1) == -0.25
    assert d.low < -0.25 < d.high < 0
    assert d.significant() and d.holm["t"] >= d.p["t"]
    assert list(found.by_query("mixed", "RR").items())[:2] == [("q00", -0.5), ("q02", -0.5)]


def test_runs_that_are_alike_do_not_differ():
    d = compare({"x": GOOD, "y": GOOD}, QRELS).find("y")
    assert (d.difference, d.low, d.high, d.effect, d.ties) == (0, 0, 0, 0, 20)
    assert set(d.p.values()) == {1}


def test_the_other_order_turns_every_sign():
    forth = compare({"x": GOOD, "y": MIXED}, QRELS).find("y")
    back = compare({"y": MIXED, "x": GOOD}, QRELS).find("x")
    assert back.difference == -forth.difference and back.wins == forth.losses
    assert back.p == pytest.approx(forth.p)


def test_all_pairs_are_compared_and_corrected_together_when_asked():
    runs = {"x": GOOD, "y": MIXED, "z": BAD}
    assert len(compare(runs, QRELS, "RR").differences) == 2
    found = compare(runs, QRELS, ["RR", "AP"], pairs="all")
    assert [(d.a, d.b) for d in found.differences][::2] == [("x", "y"), ("x", "z"), ("y", "z")]
    each = compare(runs, QRELS, ["RR", "AP"], pairs="all", family="measure")
    assert each.find("y").p == found.find("y").p
    assert each.find("y").holm["t"] < found.find("y").holm["t"]


def test_a_comparison_goes_through_json():
    found = compare({"x": GOOD, "y": BAD}, QRELS).to_dict(per_query=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["per_query"]["nDCG@10"]["q00"]["x"] == 1


def test_runs_of_a_list_take_their_names_or_numbers():
    assert compare([Run.of(GOOD, "one"), Run.of(BAD, "two")], QRELS).names == ("one", "two")
    assert compare([GOOD, BAD], QRELS).names == ("run 1", "run 2")


def test_a_bad_run_is_named():
    with pytest.raises(InputError, match="share no query") as caught:
        compare({"fine": GOOD, "foreign": {"zz": {"a": 1.0}}}, QRELS)
    assert "foreign" in str(caught.value.__notes__)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"measures": "NumRet"}, "is a sum"),
        ({"pairs": "some"}, "pairs must be"),
        ({"family": "none"}, "family must be"),
        ({"permutations": 0}, "at least 1"),
        ({"confidence": 1}, "between 0 and 1"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(options, says):
    with pytest.raises(UsageError, match=says):
        compare({"x": GOOD, "y": BAD}, QRELS, **options)


def test_one_run_is_no_comparison():
    with pytest.raises(UsageError, match="two runs"):
        compare({"x": GOOD}, QRELS)


# Regressions


def test_a_run_that_lost_is_a_regression_with_its_worst_queries():
    with pytest.raises(RegressionError) as caught:
        assert_no_regression(GOOD, MIXED, QRELS)
    message = str(caught.value)
    assert "nDCG@10: 1.0000 -> 0.8155 (-0.1845" in message
    assert "10 queries lost, 0 won, 10 alike, of 20" in message
    assert "q00: 1.0000 -> 0.6309 (-0.3691)" in message


def test_a_run_that_won_or_is_alike_is_none():
    assert assert_no_regression(MIXED, GOOD, QRELS).find("b").difference > 0
    assert_no_regression(GOOD, GOOD, QRELS, margin=0.0)


def test_one_query_lost_is_chance_unless_a_margin_is_asked_for():
    once = GOOD | {"q00": BAD["q00"]}
    assert_no_regression(GOOD, once, QRELS)
    with pytest.raises(RegressionError, match="cannot be excluded"):
        assert_no_regression(GOOD, once, QRELS, margin=0.01)


def test_files_are_read(tmp_path):
    for name, run in (("a", GOOD), ("b", BAD)):
        rows = [f"{q} Q0 {d} 1 {s} x\n" for q, docs in run.items() for d, s in docs.items()]
        (tmp_path / name).write_text("".join(rows))
    (tmp_path / "qrels").write_text("".join(f"{q} 0 a 1\n" for q in QRELS))
    with pytest.raises(AssertionError, match="RR"):
        assert_no_regression(tmp_path / "a", tmp_path / "b", str(tmp_path / "qrels"), "RR")


@pytest.mark.parametrize("alpha", [0, 0.5, float("nan")])
def test_alpha_is_a_small_share(alpha):
    with pytest.raises(UsageError, match="alpha"):
        assert_no_regression(GOOD, BAD, QRELS, alpha=alpha)


def test_the_plug_in_gives_a_fixture_and_a_summary(pytester):
    pytester.makeconftest('pytest_plugins = ["tokret.evaluation.pytest_plugin"]')
    pytester.makepyfile(
        """
        QRELS = {f"q{i}": {"a": 1} for i in range(9)}
        GOOD = {q: {"a": 2.0, "b": 1.0} for q in QRELS}
        BAD = {q: {"b": 2.0, "a": 1.0} for q in QRELS}

        def test_better(assert_no_regression):
            assert_no_regression(BAD, GOOD, QRELS, "RR")

        def test_worse(assert_no_regression):
            assert_no_regression(GOOD, BAD, QRELS, "RR")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*Regression between a and b*", "*retrieval quality*", "*test_better*RR 0.5000 -> 1.0000*"]
    )


def test_values_are_of_runs_measures_and_queries():
    found = compare({"x": GOOD, "y": BAD}, QRELS, ["RR", "P@1"])
    assert found.values.shape == (2, 2, 20)
    assert np.array_equal(found.values[:, 0, 0], [1.0, 0.5])
