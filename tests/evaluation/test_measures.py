import json
import math

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.collections.runs import Run
from tokret.errors import InputError, UsageError
from tokret.evaluation import evaluate, fusers
from tokret.types import Hit

QRELS = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 1}}
PERFECT = {"q1": {"a": 1.0}, "q2": {"b": 1.0}, "q3": {"c": 1.0}}


# By hand


def test_ndcg_of_a_relevant_document_in_second_place_is_one_over_log2_of_three():
    report = evaluate({"q": {"x": 2.0, "a": 1.0}}, {"q": {"a": 1}}, "nDCG@10")
    assert report["nDCG@10"] == pytest.approx(1 / math.log2(3))


def test_gain_is_the_grade_itself():
    # gains 1 then 3 against the ideal 3 then 1
    report = evaluate({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 1, "b": 3}}, "nDCG@10")
    assert report["nDCG@10"] == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_the_measures_of_one_small_run_are_those_of_the_hand():
    run = {"q": {"a": 5.0, "x": 4.0, "b": 3.0, "y": 2.0}}
    qrels = {"q": {"a": 1, "b": 1, "z": 1, "y": 0}}
    names = ("P@2", "R@3", "AP", "RR@10", "Success@1", "Judged@4")
    report = evaluate(run, qrels, names)
    assert list(report.values) == list(names)
    expected = [1 / 2, 2 / 3, (1 + 2 / 3) / 3, 1, 1, 3 / 4]
    assert list(report.values.values()) == pytest.approx(expected)


def test_hits_pairs_and_mappings_give_the_same_numbers():
    hits = {"q": [Hit("x", 2.0), Hit("a", 1.0)]}
    pairs = {"q": (pair for pair in [("a", 1.0), ("x", 2.0)])}
    mapping = {"q": {"a": 1, "x": 2}}
    reports = [evaluate(r, {"q": {"a": 1}}) for r in (hits, pairs, mapping, Run.of(mapping))]
    assert all(report == reports[0] for report in reports)


def test_a_run_made_by_hand_is_put_in_order_first():
    run = Run({"q": {"a": 1.0, "x": 2.0}})
    assert evaluate(run, {"q": {"a": 1}}, "RR@10")["RR@10"] == 0.5
    assert list(fusers.build("rrf").fuse([run]).ranking["q"]) == ["x", "a"]


# The traps


def test_a_judged_query_missing_from_the_run_counts_zero():
    run = {"q1": {"a": 1.0}, "q2": {"b": 1.0}}
    report = evaluate(run, QRELS, ("nDCG@10", "RR@10", "R@100", "Judged@10"), per_query=True)
    assert set(report.values.values()) == {2 / 3}
    assert report.policy["n_missing"] == 1
    assert report.per_query["nDCG@10"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0}
    assert "1 of 3 judged queries have no results" in report.notes[0]


@pytest.mark.parametrize("empty", [{}, [], ()])
def test_a_query_present_without_results_counts_as_a_missing_one(empty):
    report = evaluate(
        {"q1": {"a": 1.0}, "q2": {"b": 1.0}, "q3": empty}, QRELS, ("nDCG@10", "Judged@10")
    )
    assert report["nDCG@10"] == report["Judged@10"] == 2 / 3
    assert report.policy["n_missing"] == 1


def test_counts_are_sums_that_include_the_missing_queries():
    report = evaluate({"q1": {"a": 1.0, "x": 0.5}}, QRELS, ("NumQ", "NumRel", "NumRet"))
    assert report.values == {"NumQ": 3, "NumRel": 3, "NumRet": 2}


def test_tied_scores_are_ordered_by_document_id_in_every_provider():
    # nDCG is trec_eval's, RR@10 comes from another provider with the opposite tie rule.
    for relevant, place in (("a", 1), ("z", 2)):
        report = evaluate({"q": {"z": 1.0, "a": 1.0}}, {"q": {relevant: 1}}, ("nDCG@10", "RR@10"))
        assert report["nDCG@10"] == pytest.approx(1 / math.log2(place + 1))
        assert report["RR@10"] == 1 / place
    assert report.policy["n_ties"] == report.policy["n_tied_queries"] == 1
    assert "share the score" in report.notes[0]


def test_scores_that_tie_only_in_float32_keep_their_order():
    run = {"q": {"a": 1.0, "z": 1.0 + 1e-12}}
    report = evaluate(run, {"q": {"z": 1}}, ("nDCG@10", "RR", "RR@10"))
    assert set(report.values.values()) == {1.0}
    assert report.policy["n_ties"] == 0


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused(score):
    with pytest.raises(InputError, match=r"'q1', document 'x': score -?(nan|inf)"):
        evaluate({"q1": {"a": 1.0, "x": score}}, QRELS)


def test_a_document_given_twice_is_refused():
    with pytest.raises(InputError, match="'q1' has document 'a' twice"):
        evaluate({"q1": [("a", 2.0), ("b", 1.5), ("a", 1.0)]}, QRELS)


def test_a_document_with_the_id_of_its_query_is_dropped_only_when_asked():
    run = {"q": {"q": 9.0, "a": 1.0}}
    kept = evaluate(run, {"q": {"a": 1}}, "RR@10")
    removed = evaluate(run, {"q": {"a": 1}}, "RR@10", remove_self=True)
    assert (kept["RR@10"], removed["RR@10"]) == (0.5, 1.0)
    assert (kept.policy["self_matches"], kept.policy["n_self"]) == ("kept", 0)
    assert (removed.policy["self_matches"], removed.policy["n_self"]) == ("removed", 1)
    assert "self-matches removed (1 removed)" in removed.policy_line


def test_a_query_whose_only_result_is_itself_counts_as_missing_once_that_is_removed():
    report = evaluate({"q": {"q": 1.0}, "p": {"a": 1.0}}, {"q": {"a": 1}}, remove_self=True)
    assert report.policy["n_missing"] == 1 and report["nDCG@10"] == 0


def test_queries_without_judgements_are_ignored_and_counted():
    report = evaluate(PERFECT | {"q8": {"a": 1.0}, "q9": {"a": 1.0}}, QRELS, "nDCG@10")
    assert report["nDCG@10"] == 1.0
    assert report.policy["n_unjudged"] == 2


def test_a_run_of_other_queries_is_refused_instead_of_given_zero():
    with pytest.raises(InputError, match=r"share no query: the run has '1', '2', the qrels 'q1'"):
        evaluate({"1": {"a": 1.0}, "2": {"b": 1.0}}, QRELS)


def test_a_run_of_other_documents_is_refused_instead_of_given_zero():
    with pytest.raises(InputError, match=r"No document of the run is judged .*'doc-a'.*'a', 'b'"):
        evaluate({"q1": {"doc-a": 1.0}, "q2": {"doc-b": 1.0}}, QRELS)


def test_a_run_known_to_be_of_the_collection_may_find_nothing():
    report = evaluate({"q1": {"x": 1.0}}, QRELS, "nDCG@10", check_ids=False)
    assert report["nDCG@10"] == 0
    assert evaluate({}, QRELS, "nDCG@10", check_ids=False)["nDCG@10"] == 0


def test_an_empty_run_is_refused():
    with pytest.raises(InputError, match="The run is empty"):
        evaluate({}, QRELS)


def test_a_query_with_only_zero_grades_counts_zero_and_is_told():
    report = evaluate({"q": {"a": 1.0}, "p": {"a": 1.0}}, {"q": {"a": 1}, "p": {"a": 0}}, "nDCG@10")
    assert report["nDCG@10"] == 0.5
    assert report.policy["n_no_relevant"] == 1
    assert "no relevant document" in report.notes[0]


def test_qrels_without_any_relevant_document_are_refused():
    with pytest.raises(InputError, match="None of the 2 judged queries"):
        evaluate(PERFECT, {"q1": {"a": 0}, "q2": {"b": -1}})


@pytest.mark.parametrize("qrels", [{}, {"q1": {}}])
def test_qrels_without_judgements_are_refused(qrels):
    with pytest.raises(InputError, match="no judgement"):
        evaluate(PERFECT, qrels)


def test_a_query_listed_without_judgements_is_no_judged_query():
    assert evaluate(PERFECT, QRELS | {"q4": {}}).policy["n_queries"] == 3


@pytest.mark.parametrize("grade", [1.5, "1", True, None, 10**12])
def test_a_grade_that_is_no_small_whole_number_is_refused(grade):
    with pytest.raises(InputError, match="grades are whole numbers"):
        evaluate(PERFECT, QRELS | {"q4": {"a": grade}})


def test_an_unknown_measure_is_refused_before_anything_is_computed():
    with pytest.raises(UsageError, match="Did you mean"):
        evaluate({}, {}, ("nDGC@10",))


# What it prints


def test_the_policy_is_one_line_with_every_count():
    run = {"q1": {"a": 1.0, "b": 1.0}, "other": {"a": 1.0}}
    line = evaluate(run, QRELS).policy_line
    assert line == (
        "3 judged queries, 2 of them without results (count 0); ties by document id (1); "
        "self-matches kept; gain = grade; unjudged queries ignored (1)"
    )


def test_a_report_goes_through_json_unchanged():
    report = evaluate({"q1": {"a": 1.0}}, QRELS, per_query=True)
    record = report.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert list(record) == [
        *("schema_version", "values", "policy", "notes", "ties", "judged", "per_query"),
    ]
    assert record["schema_version"] == 1
    assert "per_query" not in evaluate({"q1": {"a": 1.0}}, QRELS).to_dict()


# Properties

IDS = [f"d{i}" for i in range(12)]
RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]),
    st.dictionaries(st.sampled_from(IDS), st.floats(-100, 100), max_size=12),
    max_size=4,
)
GRADES = st.fixed_dictionaries(
    {
        q: st.dictionaries(st.sampled_from(IDS), st.integers(0, 3), min_size=1)
        for q in ("q1", "q2", "q3")
    }
).filter(lambda qrels: any(max(grades.values()) for grades in qrels.values()))
TREC = {"nDCG@10": "ndcg_cut_10", "AP": "map", "R@5": "recall_5", "P@3": "P_3", "RR": "recip_rank"}


@settings(max_examples=60, deadline=None)
@given(run=RUNS, qrels=GRADES)
def test_numbers_equal_those_of_trec_eval_with_all_queries_counted(run, qrels):
    report = evaluate(run, qrels, tuple(TREC), per_query=True, check_ids=False)
    order = {
        q: sorted(docs, key=lambda d: (-docs[d], d))
        for q, docs in run.items()
        if docs and q in qrels
    }
    strict = {q: {d: -float(i) for i, d in enumerate(docs)} for q, docs in order.items()}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC.values())).evaluate(strict)
    for name, trec in TREC.items():
        for query_id in qrels:
            value = theirs.get(query_id, {}).get(trec, 0.0)
            assert report.per_query[name][query_id] == pytest.approx(value, abs=1e-10)
        mean = sum(theirs.get(q, {}).get(trec, 0.0) for q in qrels) / len(qrels)
        assert report[name] == pytest.approx(mean, abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(run=RUNS, qrels=GRADES, data=st.data())
def test_no_order_of_queries_or_documents_changes_a_bit(run, qrels, data):
    def shuffled(mapping):
        keys = data.draw(st.permutations(list(mapping)))
        return {key: mapping[key] for key in keys}

    other = shuffled({q: shuffled(docs) for q, docs in run.items()})
    names = ("nDCG@10", "AP", "RR@10", "Judged@5")
    first = evaluate(run, qrels, names, check_ids=False, per_query=True)
    assert evaluate(other, shuffled(qrels), names, check_ids=False, per_query=True) == first


@settings(max_examples=40, deadline=None)
@given(run=RUNS, qrels=GRADES)
def test_scaling_all_scores_changes_nothing(run, qrels):
    doubled = {q: {d: 2 * s for d, s in docs.items()} for q, docs in run.items()}
    assert evaluate(run, qrels, check_ids=False) == evaluate(doubled, qrels, check_ids=False)


def test_qrels_that_are_a_path_are_refused_with_the_reader_to_use():
    with pytest.raises(UsageError, match="read_qrels"):
        evaluate({"q": {"d": 1.0}}, "qrels.tsv")
