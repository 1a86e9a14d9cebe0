"""What tokret fuse writes, chooses and refuses."""

import json

import pytest


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.trec").write_text("1 Q0 x 1 2 a\n1 Q0 y 2 1 a\n2 Q0 x 1 2 a\n2 Q0 y 2 1 a\n")
    (tmp_path / "b.trec").write_text("1 Q0 y 1 2 b\n1 Q0 x 2 1 b\n2 Q0 y 1 2 b\n2 Q0 x 2 1 b\n")
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n1\ty\t1\n2\ty\t1\n")
    return tmp_path


def test_runs_are_fused_by_a_named_method(tokret, files):
    out = files / "out.trec"
    method = "weighted(weights=(0.25, 0.75))"
    result = tokret("fuse", files / "a.trec", files / "b.trec", "--method", method, "-o", out)
    assert result.exit_code == 0
    assert out.read_text().splitlines()[0].split() == ["1", "Q0", "y", "1", "0.75", "fused"]
    assert f"Fused by {method}" in result.stderr


def test_the_method_is_tuned_and_its_honest_value_told(tokret, files):
    words = [files / "a.trec", files / "b.trec", "--tune", files / "dev.tsv", "-m", "RR@10"]
    result = tokret("fuse", *words)
    assert result.exit_code == 0
    assert "weighted(weights=(0.1, 0.9))" in result.stdout
    assert "Chosen without the queries that it is measured on" in result.stderr
    found = json.loads(tokret("fuse", *words, "--json", "-o", files / "o.jsonl").stdout)
    assert found["tuned"]["value"] == 1 and found["tuned"]["alone"] == [0.5, 1]
    assert (files / "o.jsonl").read_text().startswith('{"query_id"')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "There is nothing to do"),
        (["--tune", "dev.tsv", "--method", "rrf"], "leave --method out"),
        (["-o", "out.trec", "--method", "rff"], "Did you mean 'rrf'?"),
        (["-o", "none/out.trec"], "there is no folder"),
    ],
)
def test_a_wrong_request_is_refused(tokret, files, monkeypatch, words, message):
    monkeypatch.chdir(files)
    result = tokret("fuse", "a.trec", "b.trec", *words)
    assert result.exit_code == 2 and message in result.stderr
