"""A measure taken apart adds up to the measure."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.errors import UsageError
from tokret.evaluation import evaluate, explain_measure
from tokret.evaluation.record import file_digest, numbers_of

NAMES = (
    *("nDCG@3", "nDCG", "nDCG(dcg='exp-log2')@5", "AP", "AP(rel=2)@4", "RR", "P@3", "R@2"),
    *("Success@2", "Rprec", "Judged@3"),
)


@given(
    scores=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3).map(float)),
    grades=st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 3), min_size=1),
    name=st.sampled_from(NAMES),
)
def test_the_terms_add_up_to_the_measure(scores, grades, name):
    qrels, run = {"q": grades, "other": {"a": 1}}, {"q": scores, "other": {"a": 1.0}}
    found = explain_measure(run, qrels, name, "q")
    value = evaluate(run, qrels, name, per_query=True).per_query[found.measure]["q"]
    total = sum(term.term for term in found.terms)
    assert found.value == value
    assert value == pytest.approx(total / found.divisor if found.divisor else 0, abs=1e-12)
    assert found.ties.least <= found.ties.expected + 1e-12 <= found.ties.most + 2e-12
    assert found.ties.least - 1e-12 <= value <= found.ties.most + 1e-12
    if found.ideal:
        assert found.divisor == pytest.approx(sum(term.term for term in found.ideal))


def test_ndcg_is_shown_as_one_would_write_it():
    run = {"q": {"x": 3.0, "a": 2.0, "b": 2.0}}
    found = explain_measure(run, {"q": {"a": 1, "b": 3, "z": 2}}, "nDCG@2", "q")
    assert [(t.doc_id, t.grade, t.text, t.tied) for t in found.terms] == [
        ("x", None, "0 / log2(2)", False),
        ("a", 1, "1 / log2(3)", False),
    ]
    assert [t.text for t in found.ideal] == ["3 / log2(2)", "2 / log2(3)"]
    ideal = 3 + 2 / math.log2(3)
    assert found.value == pytest.approx(1 / math.log2(3) / ideal)
    assert found.ties == pytest.approx(
        (1 / math.log2(3) / ideal, 2 / math.log2(3) / ideal, 3 / math.log2(3) / ideal)
    )
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_the_ideal_is_of_all_judged_documents_and_not_of_those_found():
    found = explain_measure({"q": {"a": 1.0}}, {"q": {"a": 1, "z": 3}}, "nDCG@10", "q")
    assert [t.grade for t in found.ideal] == [3, 1]


def test_what_cannot_be_taken_apart_is_refused_with_what_can():
    with pytest.raises(UsageError, match="Bpref cannot be taken apart; these can: nDCG"):
        explain_measure({"q": {"a": 1.0}}, {"q": {"a": 1}}, "Bpref", "q")
    with pytest.raises(UsageError, match="No judged query 'p'; judged are 'q'"):
        explain_measure({"q": {"a": 1.0}}, {"q": {"a": 1}}, "RR", "p")


def test_a_judged_query_without_results_is_nothing_over_something():
    run, qrels = {"q": {"a": 1.0}}, {"q": {"a": 1}, "p": {"a": 1}}
    found = explain_measure(run, qrels, "AP", "p")
    assert (found.value, found.terms, found.divisor, found.documents) == (0, (), 1, 0)


def test_every_number_carries_what_it_stands_on(tmp_path):
    (tmp_path / "x").write_text("abc")
    run, qrels = {"q": {"b": 1.0, "a": 1.0}}, {"q": {"a": 1}, "p": {"a": 1}}
    report = evaluate(run, qrels, ["nDCG@10", "Bpref"])
    number, other = numbers_of(report, model=None, run={"sha256": file_digest(tmp_path / "x")})
    assert json.loads(json.dumps(number)) == number
    assert number["definition"]["gain"].startswith("grade")
    assert number["definition"]["cutoff"] == 10
    assert number["queries"] == 2 and number["missing_queries"] == {"policy": "count 0", "count": 1}
    assert number["ties"]["count"] == 1 and number["ties"]["range"]["most"] == 0.5
    assert number["self_matches"] == {"policy": "kept", "count": 0}
    assert number["judged_share"] == 0.5
    assert number["run"]["sha256"].startswith("ba7816bf")
    assert other["definition"]["computed_by"] == "ir_measures" and other["ties"]["range"] is None
    assert file_digest("-") is None
