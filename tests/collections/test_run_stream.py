"""A run file passes a query at a time, and gives what reading it whole gives."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.collections import RunFile, ScatteredError, read_run, run_stream, write_run
from tokret.errors import InputError
from tokret.evaluation import evaluate


def lines(*rows):
    return "".join(f"{q} Q0 {d} 1 {s} sys\n" for q, d, s in rows)


@given(
    run=st.dictionaries(
        st.sampled_from("pqrst"),
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([1.0, 2.0, 2.5]), min_size=1),
        min_size=1,
    ),
    layout=st.sampled_from(["trec", "jsonl", "msmarco"]),
    at_once=st.integers(1, 9),
)
def test_a_stream_gives_what_reading_whole_gives(tmp_path_factory, run, layout, at_once):
    path = tmp_path_factory.mktemp("stream") / "x.run"
    write_run(run, path, format=layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_stream, "LINES_AT_ONCE", at_once)
        file = RunFile(path)
        streamed = list(file)
    whole = read_run(path)
    assert [(q, list(s.items())) for q, s in streamed] == [
        (q, list(s.items())) for q, s in whole.ranking.items()
    ]
    assert (file.name, file.hits) == (whole.name, sum(map(len, run.values())))


def test_a_query_that_comes_again_is_told_with_its_line(tmp_path):
    path = tmp_path / "x.run"
    path.write_text(lines(("p", "a", 1), ("q", "a", 1), ("p", "b", 1)))
    with pytest.raises(ScatteredError, match=r"x\.run:3: query 'p' comes again"):
        list(RunFile(path))


def test_a_scattered_file_is_measured_all_the_same(tmp_path):
    path = tmp_path / "x.run"
    path.write_text(lines(("p", "x", 2), ("q", "a", 1), ("p", "a", 1)))
    qrels = {"p": {"a": 1}, "q": {"a": 1}}
    assert evaluate(RunFile(path), qrels, "RR")["RR"] == 0.75


def test_a_scattered_pipe_is_refused_for_it_cannot_be_read_again(monkeypatch):
    text = lines(("p", "x", 2), ("q", "a", 1), ("p", "a", 1)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    with pytest.raises(ScatteredError, match="sort the lines by query"):
        evaluate(RunFile("-"), {"p": {"a": 1}}, "RR")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("q Q0 b 1 nan sys", ":3: score nan; wanted a finite number"),
        ("q Q0 b 1 1_0 sys", ":3: score '1_0'; wanted a number"),
        ("q Q0 b 1 2", ":3: expected 6 fields, got 5"),
        ("q Q0 a 1 2 sys", ":3: document 'a' comes twice for query 'q'"),
        ("q Q0 \udce9 1 2 sys", ":3: byte 1 of an id is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_in_a_stream_too(tmp_path, row, says):
    path = tmp_path / "x.run"
    text = lines(("q", "a", 2)) + "\n" + row + "\n" + lines(("q", "c", 1))
    path.write_bytes(text.encode(errors="surrogateescape"))
    for read in (lambda: list(RunFile(path)), lambda: read_run(path)):
        with pytest.raises(InputError) as caught:
            read()
        assert says in str(caught.value)


def test_a_document_that_comes_twice_far_apart_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_stream, "LINES_AT_ONCE", 2)
    path = tmp_path / "x.run"
    path.write_text(lines(*(("q", d, 1) for d in "abcda")))
    with pytest.raises(InputError, match=r":5: document 'a' comes twice"):
        list(RunFile(path))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.run").write_text("\n\n")
    with pytest.raises(InputError, match="no hits in it"):
        list(RunFile(tmp_path / "x.run"))
