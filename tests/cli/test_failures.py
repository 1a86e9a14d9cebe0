"""Every way to fail: its exit status, one clear message, and nothing on standard output."""

import json
import os

import pytest

from tokret.errors import LockedError, MissingExtraError, ModelError, ResourceError
from tokret.indexes import Index


def refused(result, status, *words):
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serach"], "Did you mean 'search'?"),
        (["search", "x", "y", "--fromat", "trec"], "Did you mean --format"),
        (["search"], "Missing argument 'DIR'"),
        (["search", "INDEX"], 'tokret search DIR "text"'),
        (["search", "INDEX", "text", "--queries", "q.tsv"], "not both"),
        (["search", "INDEX", "text", "-k", "0"], "-k"),
        (["search", "INDEX", "text", "--format", "xml"], "xml"),
        (["search", "INDEX", "text", "--query-lengths", "n.npy"], "--query-vectors"),
        (["index", "CORPUS", "-o", "OUT", "-b", "exat"], "Did you mean 'exact'?"),
        (["index", "CORPUS", "-o", "OUT", "-b", "exact(dtype='int9')"], "'int8'"),
        (["index", "CORPUS", "-o", "OUT", "-b", "exact(dtype=int8)"], 'dtype="int8"'),
        (["index", "CORPUS", "-o", "OUT", "-b", "bm25", "--max-tokens", "9"], "no --max-tokens"),
        (["index", "CORPUS", "-o", "OUT", "--long", "cut"], "--long': 'cut' is not one of"),
        (["search", "INDEX", "text", "--run", "nowhere/x.trec"], "no folder nowhere"),
        (["evaluate", "FILE", "-o", "nowhere/x.json"], "no folder nowhere"),
        (["index", "CORPUS", "-o", "OUT", "-m", "tokret-mnii"], "Did you mean 'tokret-mini'?"),
        (["index", "CORPUS", "-o", "INDEX", "-b", "bm25"], "--overwrite"),
        (["index", "CORPUS", "-o", "OUT", "--lengths", "n.npy"], "both"),
        (["index", "CORPUS", "-o", "OUT", "--quarantine", "q"], "--on-error quarantine"),
        (["index", "CORPUS"], "--out"),
        (["delete", "INDEX"], "--ids FILE"),
        (["delete", "INDEX", "nobody"], "nobody"),
        (["eval", "RUN", "--qrels", "QRELS", "-m", "nDGC@10"], "Did you mean 'nDCG'?"),
        (["eval", "RUN", "--qrels", "QRELS", "--fail-under", "nDCG@10"], "MEASURE=VALUE"),
        (["eval", "RUN", "--qrels", "QRELS", "--fail-under", "AP=nan"], "MEASURE=VALUE"),
    ],
)
def test_a_wrong_request_is_status_2(tokret, index, corpus, tmp_path, words, expected):
    (tmp_path / "run").write_text("q1 Q0 cat 1 1.0 t\n")
    (tmp_path / "qrels").write_text("q1 0 cat 1\n")
    places = {
        "INDEX": index,
        "CORPUS": corpus,
        "OUT": tmp_path / "out",
        "RUN": tmp_path / "run",
        "QRELS": tmp_path / "qrels",
    }
    refused(tokret(*(places.get(word, word) for word in words)), 2, expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"_id": "x", "text": "ok"}\nnot json', "corpus.jsonl:2: not JSON"),
        ('{"_id": "x"}', "corpus.jsonl:1:"),
        ('{"_id": "x", "text": "a"}\n{"_id": "y", "text": "a"}\n{"_id": "x", "text": "b"}', ":3:"),
        ('{"_id": "x", "text": "\\ud800"}', "corpus.jsonl:1:"),
        ("", "empty"),
    ],
)
def test_a_bad_record_is_status_3_with_its_place(tokret, tmp_path, line, expected):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(line)
    refused(tokret("index", corpus, "-o", tmp_path / "out", "-b", "bm25"), 3, expected)


def test_advice_is_given_in_the_words_of_the_command_line(tokret, build, tmp_path, write):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_bytes(b"two\nlines, caf\xe9")
    words = ["index", texts, "-o", tmp_path / "out", "-b", "bm25"]
    refused(tokret(*words), 3, "byte 15 of the file", "--encoding-errors replace")
    twice = write(tmp_path / "twice.jsonl", [{"id": "x", "text": "a"}] * 2)
    words = ["index", twice, "-o", tmp_path / "out2", "-b", "bm25"]
    refused(tokret(*words), 3, "twice.jsonl:2: the id 'x'", "--on-duplicate skip or replace")
    index = build(write(tmp_path / "blank.jsonl", [{"id": "a b", "text": "cats"}]))
    refused(tokret("search", index, "cats", "--format", "trec"), 3, "--format jsonl")


def test_json_and_a_run_do_not_share_standard_output(tokret, index):
    result = tokret("search", index, "cats", "--run", "-", "--json")
    assert result.exit_code == 2
    assert "--run -" in json.loads(result.stdout)["error"]["message"]


def test_a_collection_that_cannot_be_had_may_be_a_folder(tokret, tmp_path, monkeypatch):
    def lacking(*_):
        raise MissingExtraError("The ir_datasets collection 'beir/x'", "datasets")

    monkeypatch.setattr("tokret.collections.irds.load", lacking)
    file = tmp_path / "x.toml"
    file.write_text('collection = "beir/x"\n[[system]]\nname = "b"\nbackend = "bm25"\n')
    refused(tokret("evaluate", file, "--work", tmp_path / "work"), 2, "--data DIR")


def test_a_missing_corpus_is_status_3_and_a_near_name_is_offered(tokret, corpus, tmp_path):
    wrong = tmp_path / "corpsu.jsonl"
    result = tokret("index", wrong, "-o", tmp_path / "out", "-b", "bm25")
    refused(result, 3, "Did you mean 'corpus.jsonl'?")


def test_bad_runs_and_qrels_are_status_3_with_their_line(tokret, tmp_path):
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    qrels.write_text("q1 0 cat 1\n")
    run.write_text("q1 Q0 cat 1 nan t\n")
    refused(tokret("eval", run, "--qrels", qrels), 3, f"{run}:1: score nan")
    run.write_text("q1 Q0 cat 1 1.0 t\nq1 Q0 cat 2 0.5 t\n")
    refused(tokret("eval", run, "--qrels", qrels), 3, f"{run}:2:")


@pytest.mark.parametrize("command", ["info", "verify", "search", "add", "delete"])
def test_no_index_is_status_4(tokret, corpus, tmp_path, command):
    more = {"search": ["text"], "add": [corpus], "delete": ["id"]}.get(command, [])
    refused(tokret(command, tmp_path / "none", *more), 4, "tokret index")


def test_a_damaged_index_is_status_4(tokret, index):
    victim = max(index.rglob("*.bin"), key=lambda p: p.stat().st_size)
    os.truncate(victim, 1)
    refused(tokret("search", index, "cats"), 4, victim.name, "expected")


def test_an_index_of_another_model_is_status_4_unless_allowed(tokret, build, corpus, monkeypatch):
    from tokret.encoders import Identity, encoders

    path = build(corpus, "exact")
    other = property(lambda self: Identity("toy", "f" * 64, self.dim))
    monkeypatch.setattr(type(encoders.build("toy")), "identity", other)
    refused(tokret("search", path, "cats"), 4, "f" * 12)
    assert tokret("search", path, "cats", "--allow-model-mismatch").exit_code == 0


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ModelError("no such model"), 3, "no such model"),
        (ResourceError("full"), 5, "full"),
        (MemoryError(), 5, "Out of memory"),
        (OSError(28, "No space left on device", "/x"), 5, "/x: No space left on device."),
        (OSError(13, "Permission denied", "/x"), 2, "/x: Permission denied."),
        (LockedError("held by 17"), 6, "held by 17"),
        (MissingExtraError("It", "st"), 2, "pip install 'tokret[st]'"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ZeroDivisionError("oh"), 2, "bug in tokret: ZeroDivisionError: oh"),
    ],
)
def test_each_error_has_its_status(tokret, index, monkeypatch, error, status, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Index, "open", fail)
    refused(tokret("info", index), status, words)
    found = json.loads(tokret("info", index, "--json").stdout)
    assert found["error"]["exit_code"] == status
    assert found["error"]["type"] == type(error).__name__
    assert (found["schema_version"], found["command"]) == (1, "info")


def test_usage_errors_speak_json_too(tokret):
    result = tokret("search", "--json", "--nope")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def test_a_traceback_is_shown_to_who_asks(tokret, tmp_path):
    words = ["info", tmp_path / "none"]
    assert "Traceback" in tokret(*words, "-v").stderr
    assert "Traceback" in tokret(*words, env={"TOKRET_DEBUG": "1"}).stderr


def test_a_message_cannot_steer_the_terminal(tokret, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "\\u001b[2J\\u009b[red]", "text": "a"}\n' * 2, encoding="utf-8")
    result = tokret("index", corpus, "-o", tmp_path / "out", "-b", "bm25")
    assert result.exit_code == 3
    assert "[red]" in result.stderr
    assert "\x1b" not in result.stderr and "\x9b" not in result.stderr


def test_many_deletions_want_a_yes(tokret, build, tmp_path, write, monkeypatch):
    monkeypatch.setattr("tokret.cli.delete.MANY", 1)
    index = build(write(tmp_path / "c.jsonl", [{"_id": i, "text": "x"} for i in range(3)]))
    refused(tokret("delete", index, "0", "1"), 2, "--yes")
    assert tokret("delete", index, "0", "1", "-y").exit_code == 0
