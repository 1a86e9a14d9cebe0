"""What each command prints when all is well."""

import json

import numpy as np
import pytest

HIT = ["rank", "doc_id", "score", "start", "end", "text"]
QRELS = "query-id\tcorpus-id\tscore\nq1\tcat\t1\nq2\tqubit\t2\n"
QUERIES = [{"_id": "q1", "text": "a cat that purred"}, {"_id": "q2", "text": "quantum integers"}]


def one_object(result):
    """The one JSON object on standard output."""
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


@pytest.fixture
def queries(tmp_path, write):
    return write(tmp_path / "queries.jsonl", QUERIES)


@pytest.fixture
def qrels(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text(QRELS)
    return path


@pytest.fixture
def run(tokret, index, queries, tmp_path):
    path = tmp_path / "run.trec"
    assert tokret("search", index, "--queries", queries, "--run", path).exit_code == 0
    return path


def test_index_says_what_it_stored_and_what_to_do_next(tokret, corpus, tmp_path):
    result = tokret("index", corpus, "-o", tmp_path / "new dir", "--backend", "bm25")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'new dir'}: 3 documents, 3 passages in 0:")
    assert f"Next: tokret search '{tmp_path / 'new dir'}' \"your question\"" in result.stderr


def test_quiet_says_nothing_on_standard_error(tokret, corpus, tmp_path):
    result = tokret("index", corpus, "-o", tmp_path / "new", "-b", "bm25", "--quiet")
    assert result.stderr == ""


def test_passages_longer_than_the_model_reads_are_told(tokret, corpus, tmp_path):
    words = ["index", corpus, "--limit", 1, "-m", "tokret-mini(max_tokens=8)", "-o"]
    assert "reads 8 tokens" in tokret(*words, tmp_path / "a", "--max-tokens", 9).stderr
    assert "warning" not in tokret(*words, tmp_path / "b", "--max-tokens", 8).stderr


def test_a_folder_does_not_hide_the_encoder_of_its_name(tokret, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    result = tokret("index", corpus, "-o", tmp_path / "new", "-m", "toy", "--json")
    assert one_object(result)["tokens"] == 9 + 7 + 5


def test_a_dry_run_writes_nothing(tokret, corpus, tmp_path):
    result = tokret("index", corpus, "-o", tmp_path / "new", "-m", "toy", "--dry-run", "--json")
    found = one_object(result)
    assert found["documents"] == 3 and found["tokens_estimate"] == 9 + 7 + 5
    assert found["bytes_estimate"] > 21 * (2 * 16 + 12)
    assert not (tmp_path / "new").exists()


def test_limit_reads_the_first_documents_only(tokret, corpus, tmp_path):
    result = tokret("index", corpus, "-o", tmp_path / "new", "-b", "bm25", "--limit", 2, "--json")
    assert one_object(result)["documents"] == 2


def test_records_left_out_are_told_counted_and_kept(tokret, tmp_path):
    corpus = tmp_path / "bad.jsonl"
    corpus.write_text('{"_id": "a", "text": "x"}\nnot json\n')
    out = tmp_path / "new"
    words = ["index", corpus, "-o", out, "-b", "bm25", "--on-error", "quarantine"]
    result = tokret(*words, "--strict", "--json")
    assert result.exit_code == 1
    assert one_object(result)["left_out"] == 1
    rejected = tmp_path / "new.rejected.jsonl"
    assert "1 record" in result.stderr and str(rejected) in result.stderr
    assert json.loads(rejected.read_text())["raw"] == "not json"
    assert tokret(*words, "--overwrite").exit_code == 0


def test_standard_input_is_a_corpus(tokret, tmp_path):
    result = tokret("index", "-", "-o", tmp_path / "new", "-b", "bm25", input='{"id":1,"text":"x"}')
    assert result.exit_code == 0
    assert "1 document," in result.stdout


def test_a_table_marks_the_words_that_match(tokret, build, corpus):
    result = tokret("search", build(corpus, "exact"), "cats trees", "-k", 1)
    assert result.exit_code == 0
    assert "1. dog" in result.stdout
    assert "Dogs chase *cats* while cats climb *trees*." in result.stdout
    assert "1 hit in 3 documents" in result.stderr


def test_a_lexical_index_marks_words_of_the_same_stem(tokret, index):
    assert "*purred*" in tokret("search", index, "purring").stdout


def test_search_json_has_a_stable_shape(tokret, build, corpus):
    path = build(corpus, "exact")
    found = one_object(tokret("search", path, "cats trees", "-k", 2, "--json"))
    assert list(found) == [
        "schema_version",
        "command",
        "index",
        "k",
        "scorer",
        "where",
        "seconds",
        "any_model",
        "queries",
    ]
    assert (found["schema_version"], found["command"]) == (1, "search")
    [query] = found["queries"]
    hit = query["hits"][0]
    assert list(hit) == [*HIT, "fields", "matches"]
    assert hit["text"][hit["matches"][0]["start"] : hit["matches"][0]["end"]] == "cats"


def test_jsonl_has_one_query_a_line(tokret, index, queries):
    result = tokret("search", index, "--queries", queries, "--format", "jsonl")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["query_id"] for line in lines] == ["q1", "q2"]
    assert lines[1]["hits"][0]["doc_id"] == "qubit"


def test_queries_print_a_trec_run_without_asking(tokret, index, queries):
    lines = tokret("search", index, "--queries", queries).stdout.splitlines()
    assert lines[0].split()[:4] == ["q1", "Q0", "cat", "1"]
    assert len(lines[0].split()) == 6


def test_msmarco_has_three_fields(tokret, index, queries):
    result = tokret("search", index, "--queries", queries, "-f", "msmarco")
    assert result.stdout.splitlines()[0] == "q1\tcat\t1"


def test_vectors_of_ones_own_make_an_index_and_search_it(tokret, corpus, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32))
    np.save(tmp_path / "n.npy", np.array([2, 1, 1]))
    np.save(tmp_path / "q.npy", np.eye(4, dtype=np.float32)[2:3])
    np.save(tmp_path / "qn.npy", np.array([1]))
    vectors = ["--vectors", tmp_path / "v.npy", "--lengths", tmp_path / "n.npy"]
    out = tmp_path / "own"
    for model in (), ("-m", "precomputed(dim=4)"):
        result = tokret("index", corpus, "-o", out, *vectors, *model, "--overwrite")
        assert result.exit_code == 0 and "--query-vectors FILE" in result.stderr
    assert "pass --query-vectors FILE" in tokret("search", out, "cats").stderr
    asked = ["--query-vectors", tmp_path / "q.npy", "--query-lengths", tmp_path / "qn.npy"]
    found = one_object(tokret("search", out, *asked, "--json"))
    assert found["queries"][0]["query_id"] == "1"
    assert found["queries"][0]["hits"][0]["doc_id"] == "dog"
    assert found["queries"][0]["hits"][0]["score"] == 1.0


def test_queries_without_hits_are_told(tokret, index, tmp_path):
    (tmp_path / "q.tsv").write_text("q1\tcat\nq2\tzebra\n")
    words = ["search", index, "--queries", tmp_path / "q.tsv", "--run", tmp_path / "run"]
    assert "Without a hit: 1 query" in tokret(*words).stderr
    found = one_object(tokret(*words, "--json"))
    assert (found["queries"], found["hits"], found["queries_without_hits"]) == (2, 2, 1)


def test_eval_measures_and_states_its_policy(tokret, run, qrels):
    result = tokret("eval", run, "--qrels", qrels, "-m", "nDCG@10", "-m", "RR@10, R@100")
    assert result.exit_code == 0
    header, row = (line.split() for line in result.stdout.splitlines())
    assert header == ["run", "nDCG@10", "RR@10", "R@100"]
    assert row[-3:] == ["1.0000", "1.0000", "1.0000"]
    assert "2 judged queries" in result.stderr
    assert result.stderr.count("self-matches") == 1


def test_a_rule_for_self_matches_is_told(tokret, run, tmp_path):
    (tmp_path / "arguana").mkdir()
    (tmp_path / "arguana" / "qrels.tsv").write_text(QRELS)
    result = tokret("eval", run, "--qrels", tmp_path / "arguana" / "qrels.tsv")
    assert "the rule for arguana" in result.stderr


def test_eval_json_holds_values_policy_and_gates(tokret, run, qrels):
    words = ["eval", run, "--qrels", qrels, "--fail-under", "nDCG@10=0.9", "--per-query", "--json"]
    found = one_object(tokret(*words))
    assert found["passed"] is True
    [row] = found["runs"]
    assert row["values"]["nDCG@10"] == 1.0
    assert row["per_query"]["nDCG@10"] == {"q1": 1.0, "q2": 1.0}
    assert row["policy"]["n_queries"] == 2
    assert row["gates"] == [{"measure": "nDCG@10", "at_least": 0.9, "value": 1.0, "passed": True}]


def test_a_gate_that_fails_is_status_1(tokret, run, qrels):
    result = tokret("eval", run, "--qrels", qrels, "--fail-under", "P@10=0.68")
    assert result.exit_code == 1
    assert "P@10 is 0.1000, below 0.68" in result.stderr
    assert tokret("eval", run, "--qrels", qrels, "--fail-under", "P@10=0.1").exit_code == 0


def test_per_query_values_are_lines_of_three_fields(tokret, run, qrels):
    result = tokret("eval", run, "--qrels", qrels, "-m", "AP", "--per-query")
    assert result.stdout.splitlines()[:2] == ["AP\tq1\t1.0000", "AP\tq2\t1.0000"]


def test_add_delete_and_info_agree(tokret, index, tmp_path, write):
    more = write(tmp_path / "more.jsonl", [{"_id": "new", "text": "a new text"}])
    known = one_object(tokret("add", index, more, "--dry-run", "--json"))
    assert (known["new"], known["known"]) == (1, 0)
    assert one_object(tokret("add", index, more, "--json"))["total"] == 4
    (tmp_path / "ids").write_text("cat\n\nnew\r\n")
    would = one_object(tokret("delete", index, "--ids", tmp_path / "ids", "--dry-run", "--json"))
    assert (would["deleted"], would["documents"]) == (2, 2)
    assert one_object(tokret("info", index, "--json"))["documents"] == 4
    assert tokret("delete", index, "--ids", tmp_path / "ids").stdout == (
        "Deleted 2 documents; 2 left\n"
    )
    assert one_object(tokret("info", index, "--json"))["documents"] == 2


def test_update_replaces_and_adds(tokret, index, tmp_path, write):
    records = [{"_id": "cat", "text": "a lion"}, {"_id": "new", "text": "a new text"}]
    more = write(tmp_path / "more.jsonl", records)
    known = one_object(tokret("update", index, more, "--dry-run", "--json"))
    assert (known["new"], known["known"]) == (1, 1)
    refused = tokret("update", index, more, "--missing", "error")
    assert refused.exit_code == 3
    assert f"{more}:2: there is no 'new' to replace" in refused.stderr
    assert "--missing add" in refused.stderr
    found = one_object(tokret("update", index, more, "--json"))
    assert (found["command"], found["replaced"], found["total"]) == ("update", 1, 4)
    assert "lion" in tokret("search", index, "lion").stdout
    result = tokret("update", index, more)
    assert "2 documents put in the place of an older one" in result.stderr


def test_compact_frees_what_was_deleted(tokret, index, tmp_path, write):
    more = write(tmp_path / "more.jsonl", [{"_id": f"n{i}", "text": "a text"} for i in range(20)])
    tokret("add", index, more)
    tokret("delete", index, "n3")
    before = tokret("search", index, "text cat", "--format", "jsonl").stdout
    lines = tokret("compact", index)
    assert lines.exit_code == 0
    assert lines.stdout.startswith(f"{index}: 2 segments became 1, ")
    assert tokret("search", index, "text cat", "--format", "jsonl").stdout == before
    tokret("delete", index, "n4")
    result = tokret("compact", index)
    assert result.stdout == f"{index}: nothing to gain in 1 segment\n"
    assert "1 deleted document still takes space; --force frees it" in result.stderr
    found = one_object(tokret("compact", index, "--force", "--json"))
    assert (found["segments_after"], found["deleted"], found["documents"]) == (1, 0, 21)
    assert found["bytes_after"] < found["bytes_before"]


def test_info_shows_what_the_index_is(tokret, index):
    result = tokret("info", index)
    assert "backend" in result.stdout and "bm25" in result.stdout


def test_a_whole_index_is_verified_and_damage_is_status_1(tokret, index):
    assert tokret("verify", index).stdout == f"{index}: whole (full check)\n"
    victim = next(index.rglob("texts.bin"))  # which opening does not read
    data = bytearray(victim.read_bytes())
    data[3] ^= 1
    victim.write_bytes(data)
    assert tokret("verify", index, "--quick").exit_code == 0
    result = tokret("verify", index, "--json")
    assert result.exit_code == 1
    found = one_object(result)
    assert found["whole"] is False
    assert found["damage"][0]["file"] == str(victim.relative_to(index))


def test_evaluate_runs_an_experiment_keeps_it_and_checks_it(tokret, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        'collection = "sample"\nmeasures = ["nDCG@10"]\nk = 20\nlimit_queries = 3\n'
        '[[system]]\nname = "BM25"\nbackend = "bm25"\n'
        '[[system]]\nname = "other"\nbackend = "exact"\nmodel = "toy"\n'
        '[expected.BM25."nDCG@10"]\nmin = 1.5\n'
    )
    work, record = tmp_path / "work", tmp_path / "record.json"
    words = ["evaluate", file, "--work", work, "--only", "BM25"]
    result = tokret(*words, "--output", record)
    assert result.exit_code == 0, result.stderr
    assert "BM25" in result.stdout and "other" not in result.stdout
    assert "[1/2] index bm25" in result.stderr
    assert json.loads(record.read_text())["collection"]["queries"] == 3
    again = tokret(*words, "--check", "--json")
    assert again.exit_code == 1
    assert "done before" in again.stderr and "expected" in again.stderr
    found = one_object(again)
    assert found["passed"] is False
    assert found["rows"][0]["system"] == "BM25"


def test_the_demo_searches_compares_and_draws(tokret, corpus, write, tmp_path, monkeypatch):
    write(tmp_path / "queries.jsonl", QUERIES)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS)
    monkeypatch.setattr("tokret.collections.sample_path", lambda: tmp_path)
    picture, words = tmp_path / "demo.svg", ["demo", "-o", tmp_path / "kept"]
    result = tokret(*words, "--export-svg", picture)
    assert result.exit_code == 0, result.stderr
    assert "1. cat" in result.stdout
    for system in ("BM25", "exact MaxSim", "XTR", "RRF(BM25, XTR)"):
        assert system in result.stdout
    assert "tokret search" in result.stderr
    drawn = picture.read_text(encoding="utf-8")
    assert "RRF(BM25,&#160;XTR)" in drawn
    assert "url(http" not in drawn and "@font-face" not in drawn  # it asks no server
    found = one_object(tokret(*words, "--json", "--export-svg", picture))
    assert [row["system"] for row in found["systems"]][:2] == ["BM25", "exact MaxSim"]
    assert found["systems"][0]["values"]["nDCG@10"] == 1.0
    assert picture.read_text(encoding="utf-8").count("RRF(BM25,&#160;XTR)") == 1


def test_the_demo_leaves_nothing_behind(tokret, corpus, write, tmp_path, monkeypatch):
    write(tmp_path / "queries.jsonl", QUERIES)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS)
    monkeypatch.setattr("tokret.collections.sample_path", lambda: tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert tokret("demo", "-q").exit_code == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_doctor_tests_itself(tokret):
    result = tokret("doctor", "--json")
    assert result.exit_code == 0, result.stdout
    found = one_object(result)
    assert found["healthy"] is True
    names = [check["name"] for check in found["checks"]]
    assert {"tokret", "kernels", "self-test", "tokret-mini", "[st]", "faiss", "machine"} <= {*names}
    assert all(set(check) == {"name", "status", "detail", "advice"} for check in found["checks"])


def test_every_command_has_the_shared_options(tokret):
    names = ["demo", "index", "search", "add", "delete", "info", "verify", "eval", "evaluate"]
    for name in [*names, "doctor"]:
        shown = tokret(name, "--help", env={"COLUMNS": "200"}).stdout
        for option in ("--json", "--quiet", "--verbose", "--no-progress", "--log-format"):
            assert option in shown, (name, option)
