import gzip
import json

import numpy as np
import pytest

from tokret.errors import InputError, UsageError
from tokret.evaluation.leaderboard import Columns, Scores, rank_systems, read_scores, score_runs


@pytest.fixture
def table(tmp_path):
    """Write a file and read scores from it: ``table("a.csv", "system,x\\n...")``."""

    def read(name, text, **columns):
        path = tmp_path / name
        path.write_text(text)
        return read_scores(path, Columns(**columns))

    return read


WIDE = "system,x,y\na,0.5,0.25\nb,0.75,1\n"
LONG = "system,task,query,score\na,x,q1,1\na,x,q2,0\nb,x,q1,0\nb,x,q2,0.5\n"


def test_a_wide_table_has_a_task_for_each_column(table):
    scores = table("a.csv", WIDE).scores
    assert scores.systems == ("a", "b")
    assert [tuple(task) for task in scores.tasks] == [("x", "x"), ("y", "y")]
    assert scores.values.tolist() == [[0.5, 0.25], [0.75, 1]]
    assert not scores.by_query


def test_a_long_table_has_a_row_for_each_score(table):
    scores = table("a.csv", LONG).scores
    assert scores.values.tolist() == [[1, 0], [0, 0.5]]
    assert scores.by_query and scores.collections == ("x",)


def test_tabs_semicolons_json_and_lines_of_json_say_the_same(table, tmp_path):
    wide = table("a.csv", WIDE).scores
    rows = [{"system": "a", "x": 0.5, "y": 0.25}, {"system": "b", "x": 0.75, "y": 1}]
    others = [
        table("b.tsv", WIDE.replace(",", "\t")),
        table("c.csv", WIDE.replace(",", ";")),
        table("d.txt", "\ufeff" + WIDE.replace("\n", "\r\n")),
        table("e.json", json.dumps(rows)),
        table("f.jsonl", "\n".join(map(json.dumps, rows)) + "\n"),
        table("g", "\n".join(map(json.dumps, rows))),
        table("h.json", json.dumps({"a": {"x": 0.5, "y": 0.25}, "b": {"x": 0.75, "y": 1}})),
    ]
    (tmp_path / "i.csv.gz").write_bytes(gzip.compress(WIDE.encode()))
    others.append(read_scores(tmp_path / "i.csv.gz"))
    for other in others:
        assert other.scores.systems == wide.systems and other.scores.tasks == wide.tasks
        np.testing.assert_array_equal(other.scores.values, wide.values)


def test_scores_by_system_task_and_query_are_read_from_json(table):
    nested = {"a": {"x": {"q1": 1, "q2": 0}}, "b": {"x": {"q1": 0, "q2": 0.5}}}
    scores = table("a.json", json.dumps(nested)).scores
    np.testing.assert_array_equal(scores.values, table("b.csv", LONG).scores.values)
    np.testing.assert_array_equal(scores.values, Scores.of(nested).values)


def test_measures_of_a_collection_share_its_queries_and_can_be_chosen(table):
    text = "run,collection,measure,query,value\n" + "".join(
        f"{run},{collection},{measure},{query},{i}\n"
        for i, run in enumerate("ab")
        for collection in ("c", "d")
        for measure in ("nDCG@10", "AP")
        for query in "12"
    )
    found = table("a.csv", text)
    assert [tuple(t) for t in found.scores.tasks][:2] == [("c nDCG@10", "c"), ("c AP", "c")]
    assert "2 measures count as tasks" in found.notes[0]
    chosen = table("a.csv", text, measures=["AP"])
    assert [t.name for t in chosen.scores.tasks] == ["c AP", "d AP"] and not chosen.notes
    with pytest.raises(UsageError, match=r"no measure 'MAP'.* Did you mean 'AP'\?"):
        table("a.csv", text, measures=["MAP"])


def test_columns_that_need_a_name_can_be_given_one(table):
    text = "System,Utterance,ROUGE,BLEU\n0,M0,1,2\n0,M1,2,1\n1,M0,3,2\n1,M1,5,4\n"
    with pytest.raises(InputError, match=r"a.csv:2: 'M0' in the column 'Utterance'"):
        table("a.csv", text)
    swapped = table("a.csv", text, query="Utterance")
    assert "are these columns swapped?" in swapped.notes[0]
    right = table("a.csv", text, system="Utterance", query="System")
    assert right.scores.systems == ("M0", "M1") and not right.notes
    assert right.scores.collections == ("a",)
    assert right.scores.values.tolist() == [[1, 3, 2, 2], [2, 5, 1, 4]]


def test_a_loss_is_turned_round_and_a_column_left_out(table):
    text = "model,acc,perplexity,note\na,1,10,x\nb,2,30,y\n"
    scores = table("a.csv", text, lower=["perplexity"], drop=["note"]).scores
    assert scores.values.tolist() == [[1, -10], [2, -30]]


def test_a_mean_among_the_columns_is_pointed_out(table):
    assert "'Score' counts as a task" in table("a.csv", "m,Score,x,y\na,1,1,1\nb,2,2,2\n").notes[0]


def test_records_of_experiments_are_put_together(table, tmp_path):
    paths = []
    for collection in ("c", "d"):
        numbers = [
            {"system": s, "collection": collection, "measure": "AP", "value": v, "seconds": 3}
            for s, v in (("a", 0.5), ("b", 0.25))
        ]
        paths.append(tmp_path / f"{collection}.json")
        paths[-1].write_text(json.dumps({"kind": "tokret.experiment", "numbers": numbers}))
    scores = read_scores(paths).scores
    assert scores.collections == ("c", "d")
    assert scores.values.tolist() == [[0.5, 0.5], [0.25, 0.25]]
    with pytest.raises(InputError, match=r"comes twice, first in .*c\.json"):
        read_scores([paths[0], paths[0]])


def test_what_eval_printed_is_read_by_query(table):
    runs = [
        {"name": n, "values": {"AP": v}, "per_query": {"AP": {"1": v, "2": 0.5}}}
        for n, v in (("a", 0.1), ("b", 0.9))
    ]
    printed = {"schema_version": 1, "command": "eval", "qrels": "c.tsv", "runs": runs}
    scores = table("a.json", json.dumps(printed)).scores
    assert scores.values.tolist() == [[0.1, 0.5], [0.9, 0.5]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.csv", "system,x\n", "no rows"),
        ("a.csv", "system,x\na,1\n", r"One system \('a'\) cannot be ranked"),
        ("a.csv", "system,x\na,nan\nb,1\n", "a.csv:2: column 'x': the score is nan"),
        ("a.csv", "system,x\na,1\nb,inf\n", "a.csv:3: column 'x': the score is inf"),
        ("a.csv", "system,x\na,1\nb,1_0\n", "a.csv:3: '1_0' in the column 'x'; wanted a number"),
        ("a.csv", "system,x\na,1\nb,2,3\n", "a.csv:3: 3 fields, the header has 2"),
        ("a.csv", "system,x\na,1\na,2\n", "a.csv:3: 'a' on 'x' comes twice, first in .*a.csv:2"),
        ("a.csv", "system,x\n,1\nb,2\n", "a.csv:2: nothing in the column 'system'"),
        ("a.csv", "system,x,x\na,1,1\n", "a.csv:1: two columns are called 'x'"),
        ("a.csv", "system,,x\na,1,1\n", "a.csv:1: column 2 has no name"),
        ("a.csv", "1,2\n3,4\n5,6\n", "no column names the systems"),
        ("a.csv", "system\na\nb\n", "one column"),
        ("a.csv", "system,task\na,x\nb,x\n", "no column is left for scores"),
        ("a.csv", "system,task,score\na,x,1\nb,y,1\n", "No two systems"),
        ("a.csv", "system,x,y\na,1,\nb,2,-\n", "No system has a score on 'y'"),
        ("a.csv", "system,x\na,1\nb,2\nc,NA\n", "No scores at all: 'c'"),
        ("a.csv", 'system,x\n"a,1\n', "a.csv:2: unexpected end of data"),
        ("a.json", "[NaN]", "the score is NaN"),
        ("a.json", '{"a": {"x": NaN}, "b": {"x": 1}}', "the score is NaN"),
        ("a.json", '{"a": {"x": true}, "b": {"x": 1}}', "the score is True"),
        ("a.json", '{"a": {"x": "high"}, "b": {"x": 1}}', "'high' in the column 'score'"),
        ("a.json", '{"a": 1, "b": 2}', "wanted a list of rows"),
        ("a.json", "[1, 2]", "is no row"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "{", "not JSON"),
        ("a.jsonl", '{"system": "a", "x": 1}\n{"system": "b", "x": 1\n', "a.jsonl:2: not JSON"),
        ("a.json", '{"kind": "tokret.experiment"}', "without 'numbers'"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(table, name, text, message):
    with pytest.raises(InputError, match=message):
        table(name, text)


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"system,x\na,1\nb\xff,2\n")
    with pytest.raises(InputError, match=r"a.csv:3: byte 2 is not UTF-8"):
        read_scores(tmp_path / "a.csv")


def test_an_unknown_column_is_refused_with_the_nearest(table):
    with pytest.raises(UsageError, match=r"no column 'sytem'. Did you mean 'system'\?"):
        table("a.csv", WIDE, system="sytem")
    with pytest.raises(UsageError, match="No task 'z'"):
        table("a.csv", WIDE, lower=["z"])


# Missing scores


GAPS = "system,x,y,z\na,3,3,1\nb,2,,2\nc,1,1,3\n"


def test_missing_scores_are_refused_unless_something_is_said(table):
    scores = table("a.csv", GAPS).scores
    with pytest.raises(InputError, match=r"1 system lacks scores, first 'b' on 'y'"):
        rank_systems(scores)
    with pytest.raises(UsageError, match="known: refuse, drop, partial"):
        rank_systems(scores, missing="zero")


def test_dropped_systems_are_named(table):
    board = rank_systems(table("a.csv", GAPS).scores, missing="drop")
    assert board.left_out == ("b",)
    assert set(board.order) == {"a", "c"}
    assert "Not ranked, for they lack scores: 'b'." in board.notes


def test_partial_votes_count_among_those_they_know(table):
    board = rank_systems(table("a.csv", GAPS).scores, missing="partial")
    points = {row["system"]: row["rules"]["borda"]["points"] for row in board.rows()}
    assert points == {"a": 4, "b": 3, "c": 2}


def test_dropping_all_but_one_is_refused(table):
    scores = table("a.csv", "system,x,y\na,1,\nb,2,2\n c ,,3\n").scores
    with pytest.raises(InputError, match="leaves 1; wanted two"):
        rank_systems(scores, missing="drop")


# Runs


def test_runs_are_measured_on_each_collection_query_by_query():
    qrels = {"c": {"1": {"a": 1}, "2": {"b": 1}}, "d": {"1": {"x": 1}}}
    good, bad = {"1": {"a": 2.0, "b": 1.0}, "2": {"b": 1.0}}, {"1": {"a": 1.0, "b": 2.0}}
    scores, notes = score_runs(
        {"c": {"good": good, "bad": bad}, "d": {"good": {"1": {"x": 1.0}}}}, qrels, "RR@10"
    )
    assert [t.name for t in scores.tasks] == ["c RR@10", "d RR@10"]
    np.testing.assert_array_equal(scores.values, [[1, 1, 1], [0.5, 0, np.nan]])
    assert any("bad on c" in note for note in notes)
    with pytest.raises(UsageError, match="No qrels for the collection 'e'"):
        score_runs({"e": {"good": good}}, qrels)
    with pytest.raises(InputError, match="good on d: "):
        score_runs({"d": {"good": {"1": {"zz": 1.0}}}}, qrels)
