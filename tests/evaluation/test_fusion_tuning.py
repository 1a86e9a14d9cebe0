import numpy as np
import pytest

from tokret.errors import UsageError
from tokret.evaluation import evaluate, fusers
from tokret.evaluation.fusion_tuning import candidates, tune


def collection(queries=20, seed=0):
    """A good run and a bad one, and the judgements of their queries."""
    rng = np.random.default_rng(seed)
    qrels = {f"q{q}": {f"d{q % 7}": 1, f"d{(q + 3) % 7}": 1} for q in range(queries)}
    good, bad = (
        {
            q: {f"d{i}": float(lift * (f"d{i}" in grades) + rng.normal()) for i in range(7)}
            for q, grades in qrels.items()
        }
        for lift in (2.0, 0.0)
    )
    return good, bad, qrels


def test_the_better_run_weighs_more_and_its_value_is_that_of_the_fused_run():
    good, bad, qrels = collection(60)
    found = tune([good, bad], qrels, "nDCG@10")
    assert found.alone[0] > found.alone[1]
    method = fusers.build(found.method)
    assert method.name == "weighted" and method.weights[0] > method.weights[1]
    report = evaluate(method.fuse([good, bad]), qrels, "nDCG@10")
    assert found.value == report["nDCG@10"] == found.tried[0][1]
    values = [value for _, value in found.tried]
    assert values == sorted(values, reverse=True)


def test_what_is_held_out_is_not_above_what_was_chosen_on_all():
    for seed in range(5):
        good, bad, qrels = collection(seed=seed)
        found = tune([good, bad], qrels, "RR@10", seed=seed)
        assert found.held_out <= found.value + 1e-12


def test_with_one_method_nothing_is_chosen():
    good, bad, qrels = collection()
    found = tune([good, bad], qrels, "RR@10", ["combsum"])
    assert found.tried == (("combsum", found.value),)
    assert found.held_out == pytest.approx(found.value)


def test_of_equals_the_first_is_taken():
    qrels = {"1": {"a": 1}, "2": {"a": 1}}
    run = {"1": {"a": 1.0}, "2": {"a": 1.0}}
    assert tune([run, run], qrels).method == "rrf"


@pytest.mark.parametrize(("runs", "weighted"), [(2, 9), (3, 63), (4, 52), (6, 50), (15, 0)])
def test_weights_are_tried_in_as_fine_steps_as_are_few_enough(runs, weighted):
    tried = list(candidates(runs))
    assert len({str(method) for method in tried}) == len(tried)
    found = [method.weights for method in tried if method.name == "weighted"]
    assert len(found) == weighted
    assert all(len(w) == runs and sum(w) == pytest.approx(1) for w in found)


def test_too_little_to_tune_with_is_refused():
    good, bad, qrels = collection()
    with pytest.raises(UsageError, match="two runs or more, got 1"):
        tune([good], qrels)
    with pytest.raises(UsageError, match="two judged queries"):
        tune([good, bad], {"q0": qrels["q0"]})
    with pytest.raises(UsageError, match="at least one method"):
        tune([good, bad], qrels, methods=[])
