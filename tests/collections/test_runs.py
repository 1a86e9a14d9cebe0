"""Runs are read strictly, and written so that every tool reads our order."""

import gzip
import json
import math
import re

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from tokret.collections import Run, falling, ranked, read_run, write_run
from tokret.errors import InputError, UsageError
from tokret.types import Hit

words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=6,
)
# Few values, so that ties abound, some of them apart in float64 only; and any value at all.
close = st.sampled_from([1.0, np.nextafter(1.0, 0).item(), 1 - 1e-9, 0.0, -0.0, 1e-50, 5e-324])
scores = close | st.floats(-1e38, 1e38)
rankings = st.dictionaries(
    words, st.dictionaries(words, scores, min_size=1, max_size=9), min_size=1, max_size=4
)


def trec(*lines):
    return "".join(line + "\n" for line in lines)


def read(tmp_path, content, name="x.run"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_run(tmp_path / name)


def fault(tmp_path, content):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    return str(caught.value).replace(f"{tmp_path}/", "")


def trec_eval_order(ranking):
    """Documents of each query in the order that pytrec_eval sorts them into."""
    order = {}
    for query, found in ranking.items():
        ranks = {}
        for doc in found:
            judge = pytrec_eval.RelevanceEvaluator({query: {doc: 1}}, {"recip_rank"})
            ranks[doc] = 1 / judge.evaluate({query: dict(found)})[query]["recip_rank"]
        order[query] = sorted(ranks, key=ranks.__getitem__)
    return order


def order_of(ranking):
    return {query: list(found) for query, found in ranking.items()}


def test_ties_go_to_the_smaller_id_and_are_counted():
    run = Run.of({"q": {"b": 1.0, "c": 2.0, "a": 1.0, "d": 1.0}, "none": {}})
    assert list(run.ranking["q"]) == ["c", "a", "b", "d"]
    assert run.ties == 2
    assert run.hits("q")[0] == Hit("c", 2.0)
    assert run.hits("none") == run.hits("unknown") == []


def test_tools_break_ties_in_their_own_way_which_is_why_scores_must_fall():
    tied = {"q": {"a": 1.0, "b": 1.0}}
    assert trec_eval_order(tied) == {"q": ["b", "a"]}
    apart_in_float64 = {"q": {"a": 1.0, "b": float(np.nextafter(1.0, 0))}}
    assert trec_eval_order(apart_in_float64) == {"q": ["b", "a"]}
    assert trec_eval_order({"q": falling(ranked(tied["q"]))}) == {"q": ["a", "b"]}


def test_only_scores_that_do_not_fall_are_moved_and_least():
    below = float(np.nextafter(np.float32(2), np.float32(0)))
    assert falling({"a": 2.0, "b": 2.0, "c": 2.0, "d": 0.1}) == {
        "a": 2.0,
        "b": below,
        "c": float(np.nextafter(np.float32(below), np.float32(0))),
        "d": 0.1,
    }


@given(rankings)
def test_scores_fall_strictly_in_float32_and_keep_the_order(ranking):
    run = Run.of(ranking)
    for query, found in run.without_ties().items():
        assert list(found) == list(run.ranking[query])
        assert (np.diff(np.array(list(found.values()), np.float32)) < 0).all()
        for (doc, score), before in zip(found.items(), [math.inf, *found.values()], strict=False):
            was = run.ranking[query][doc]
            assert score == was or np.float32(was) >= np.float32(before)


@given(rankings, st.sampled_from(["x.run", "x.run.gz", "x.run.zst"]))
def test_every_reader_sees_our_order_in_a_written_trec_run(tmp_path_factory, ranking, name):
    path = tmp_path_factory.mktemp("r") / name
    run = Run.of(ranking, "tag")
    told = write_run(run, path)
    assert told.hits == sum(map(len, ranking.values())) and told.queries == len(ranking)
    back = read_run(path)
    assert order_of(back.ranking) == order_of(run.ranking)
    assert (back.ranking, back.name, back.ties) == (run.without_ties(), "tag", 0)
    plain = path.parent / "plain.run"
    write_run(run, plain)
    assert trec_eval_order(run.without_ties()) == order_of(run.ranking)
    seen = {}
    for row in ir_measures.read_trec_run(str(plain)):
        seen.setdefault(row.query_id, {})[row.doc_id] = row.score
    assert seen == run.without_ties()


def test_measures_of_a_written_run_do_not_depend_on_the_tool(tmp_path):
    tied = Run.of({"q": {"a": 1.0, "m": 1.0, "z": 1.0}})
    write_run(tied, tmp_path / "x.run")
    measures = [ir_measures.nDCG @ 10, ir_measures.RR @ 10]
    for relevant, rank in (("a", 1), ("m", 2), ("z", 3)):
        got = ir_measures.calc_aggregate(
            measures,
            {"q": {relevant: 1}},
            list(ir_measures.read_trec_run(str(tmp_path / "x.run"))),
        )
        assert got[measures[1]] == pytest.approx(1 / rank)
        assert got[measures[0]] == pytest.approx(1 / math.log2(rank + 1))


@given(rankings)
def test_msmarco_files_keep_the_order_as_ranks(tmp_path_factory, ranking):
    path = tmp_path_factory.mktemp("r") / "x.tsv"
    run = Run.of(ranking)
    write_run(run, path, format="msmarco")
    back = read_run(path)
    assert order_of(back.ranking) == order_of(run.ranking)
    for found in back.ranking.values():
        assert list(found.values()) == [-float(rank) for rank in range(1, len(found) + 1)]


anything = st.sampled_from(["%41", "50%"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6
)


@given(st.dictionaries(anything, st.dictionaries(anything, scores, max_size=5), min_size=1))
def test_jsonl_keeps_any_id_and_the_queries_without_hits(tmp_path_factory, ranking):
    path = tmp_path_factory.mktemp("r") / "x.jsonl"
    run = Run.of(ranking, "any name")
    told = write_run(run, path, format="jsonl")
    back = read_run(path)
    assert (back.ranking, back.name) == (run.without_ties(), "any name")
    assert order_of(back.ranking) == order_of(run.ranking)
    assert read_run(path, unescape=True) == back  # nothing was escaped
    assert set(told.empty) == {query for query, found in ranking.items() if not found}


@given(st.dictionaries(anything, st.dictionaries(anything, scores, min_size=1), min_size=1))
@pytest.mark.parametrize("layout", ["trec", "msmarco"])
def test_escaped_ids_come_back(tmp_path_factory, layout, ranking):
    path = tmp_path_factory.mktemp("r") / "x.run"
    run = Run.of(ranking)
    write_run(run, path, format=layout, escape=True)
    back = read_run(path, unescape=True)
    assert order_of(back.ranking) == order_of(run.ranking)
    for line in path.read_text().splitlines():
        assert len(line.split()) == (6 if layout == "trec" else 3)


@pytest.mark.parametrize(
    "bad", ["a b", "a\tb", "a\nb", "a\u00a0b", "a\u2028b", "", "a\0", "\ufeffa"]
)
@pytest.mark.parametrize("layout", ["trec", "msmarco"])
def test_ids_that_break_a_line_are_refused_with_advice(tmp_path, layout, bad):
    for ranking in ({"q": {bad: 1.0}}, {bad: {"d": 1.0}}):
        with pytest.raises(InputError, match=r"write JSONL, or escape ids \(escape=True\)"):
            write_run(ranking, tmp_path / "x.run", format=layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e39])
def test_scores_that_no_tool_can_sort_are_not_written(tmp_path, score):
    with pytest.raises(InputError):
        write_run({"q": [Hit("a", score)]}, tmp_path / "x.run")


def test_a_document_twice_in_a_query_is_not_a_run():
    with pytest.raises(InputError, match="'a' twice"):
        Run.of({"q": [("a", 1.0), ("a", 0.5)]})


@pytest.mark.parametrize(
    ("hits", "says"),
    [
        ({"q": ["d1", "d2"]}, "Query 'q': wanted {doc_id: score}, hits or pairs"),
        ({"q": {"d": "1.5"}}, "Query 'q': wanted {doc_id: score}"),
        ({"q": 3}, "Query 'q': wanted {doc_id: score}"),
        ({"q": {7: 1.0}}, "document 7: both ids must be strings"),
        ({7: {"d": 1.0}}, "Query 7, document 'd': both ids must be strings"),
        ("out.trec", "read_run reads a file"),
    ],
)
def test_what_is_no_run_is_refused_in_words(hits, says):
    with pytest.raises((InputError, UsageError), match=re.escape(says)):
        Run.of(hits)


def test_half_a_surrogate_pair_in_an_id_is_refused(tmp_path):
    with pytest.raises(InputError, match="surrogate"):
        write_run({"q": {"\ud800": 1.0}}, tmp_path / "x.run")


@pytest.mark.parametrize("name", ["two words", "", "tab\tbed", "line\n"])
def test_a_name_that_is_not_one_word_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="one word"):
        write_run({"q": {"a": 1.0}}, tmp_path / "x.run", name=name)


def test_an_unknown_format_is_refused_with_those_known(tmp_path):
    with pytest.raises(UsageError, match="known: trec, msmarco, jsonl"):
        write_run({"q": {"a": 1.0}}, tmp_path / "x.run", format="csv")


def test_queries_without_hits_are_told_where_the_file_cannot_name_them(tmp_path):
    told = write_run({"q": {"a": 1.0}, "none": {}}, tmp_path / "x.run")
    assert (told.queries, told.hits, told.empty, told.moved) == (2, 1, ("none",), 0)


def test_a_run_is_written_to_standard_output(capfdbinary):
    write_run({"q": [Hit("a", 0.1, 0, 3, "abc")]}, "-", name="me")
    assert capfdbinary.readouterr().out == b"q Q0 a 1 0.1 me\n"


def test_the_rank_column_is_not_believed(tmp_path):
    run = read(tmp_path, trec("q Q0 a 1 0.1 t", "q Q0 b 2 0.9 t"))
    assert list(run.ranking["q"]) == ["b", "a"]
    assert run.name == "t"


def test_foreign_layouts_of_trec_lines_are_read(tmp_path):
    content = "q\tQ0\ta\t1\t1e-3\tt\r\n\r\n  q   Q0 ü\u00a0b 2 -.5 t\nq2 Q0 a 1 7 t"
    run = read(tmp_path, gzip.compress(content.encode()))
    assert run.ranking == {"q": {"a": 0.001, "ü\u00a0b": -0.5}, "q2": {"a": 7.0}}


def test_ties_of_a_foreign_run_are_counted(tmp_path):
    run = read(tmp_path, trec("q Q0 z 1 1.5 t", "q Q0 a 2 1.5 t", "q Q0 b 3 1.0 t"))
    assert (list(run.ranking["q"]), run.ties) == (["a", "z", "b"], 1)


def test_equal_ranks_of_an_msmarco_file_are_ties(tmp_path):
    run = read(tmp_path, "q\tb\t1\nq\ta\t1\nq\tc c\t2\n", "mine.dev.tsv")
    assert (list(run.ranking["q"]), run.ties, run.name) == (["a", "b", "c c"], 1, "mine")


def test_jsonl_with_one_hit_a_line_is_read(tmp_path):
    rows = [{"query_id": "q", "doc_id": "a", "score": 1}, {"qid": 2, "docid": 3, "score": 0.5}]
    run = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert run.ranking == {"q": {"a": 1.0}, "2": {"3": 0.5}}


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("q Q0 b 2 0.5", "expected 6 fields, got 5: qid Q0 docno rank score tag"),
        ("q Q0 b 2 0.5 my tag", "expected 6 fields, got 7"),
        ("q Q0 b 2 nan t", "score nan; wanted a finite number"),
        ("q Q0 b 2 -inf t", "score -inf; wanted a finite number"),
        ("q Q0 b 2 1e999 t", "score 1e999; wanted a finite number"),
        ("q Q0 b 2 high t", "score 'high'; wanted a number"),
        ("q Q0 b 2 1_0 t", "score '1_0'; wanted a number"),
        ("q Q0 a 2 0.5 t", "document 'a' comes twice for query 'q'; wanted each once"),
        ("q Q0 a 1 1.0 t", "document 'a' comes twice"),
        (b"q Q0 caf\xe9 2 0.5 t", "byte 4 of an id is not UTF-8"),
    ],
)
def test_a_bad_trec_line_is_named(tmp_path, second, says):
    second = second if isinstance(second, bytes) else second.encode()
    message = fault(tmp_path, b"q Q0 a 1 1.0 t\n" + second + b"\n")
    assert message.startswith("x.run:2: ") and says in message


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("q\tb", "expected 3 fields between tabs, got 2"),
        ("q\tb\t0", "rank '0'"),
        ("q\tb\t1.5", "rank '1.5'"),
        ("q\t\t2", "an empty id"),
        ("q\ta\t2", "comes twice"),
    ],
)
def test_a_bad_msmarco_line_is_named(tmp_path, second, says):
    message = fault(tmp_path, f"q\ta\t1\n{second}\n")
    assert message.startswith("x.run:2: ") and says in message


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ('{"query_id": "q", "hits": [{"doc_id": "a"}]}', "no number under 'score'"),
        ('{"query_id": "q", "hits": [{"doc_id": "a", "score": true}]}', "no number"),
        ('{"query_id": "q", "hits": [{"doc_id": "b", "score": NaN}]}', "score NaN"),
        ('{"query_id": "q", "hits": {"a": 1.0}}', "'hits' is no list"),
        ('{"query_id": "q", "hits": [{"doc_id": "a", "score": 1}]}', "comes twice"),
        ('{"hits": []}', "no id"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_jsonl_line_is_named(tmp_path, second, says):
    first = '{"query_id": "q", "hits": [{"doc_id": "a", "score": 1.0}]}\n'
    message = fault(tmp_path, first + second)
    assert message.startswith("x.run:2: ") and says in message


@pytest.mark.parametrize(
    "content", ["q a 1 0.5\n", "q\t0\ta\t1\n", "query-id\tcorpus-id\tscore\n", "x\n"]
)
def test_what_is_no_run_is_refused_at_its_first_line(tmp_path, content):
    assert fault(tmp_path, content).startswith("x.run:1: expected 6 fields, got ")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_run_is_refused(tmp_path, content):
    assert "no hits in it" in fault(tmp_path, content)
