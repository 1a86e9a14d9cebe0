"""`tokret index -b ivf` and what `tokret search` may ask of it."""

import json

import pytest

pytest.importorskip("tokret.kernels.native", exc_type=ImportError)

from tokret.cli.options import memory_size
from tokret.indexes import ivf

WORDS = [f"word{i}" for i in range(40)]
DOCS = [
    {"_id": f"d{i:02}", "text": " ".join(WORDS[(i * 7 + j * j) % 40] for j in range(10))}
    for i in range(60)
]


@pytest.fixture(params=["ivf(bits=4)", 'ivf(bits=4, store="fp16")'])
def made(request, tmp_path, write, tokret, monkeypatch):
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 300)
    path = tmp_path / "index"
    corpus = write(tmp_path / "corpus.jsonl", DOCS)
    result = tokret("index", corpus, "-o", path, "-b", request.param, "--model", "toy", "-q")
    assert result.exit_code == 0, result.stderr
    return path, "store" in request.param


@pytest.fixture
def folder(made):
    return made[0]


def hits(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["hits"]


def test_a_recall_a_time_or_the_exact_answer_may_be_asked_for(tokret, made):
    folder, stores = made

    def search(*options):
        return tokret("search", folder, "word3 word7 word12", "-k", "5", "-f", "jsonl", *options)

    plain = hits(search())
    assert len(plain) == 5
    for options in (["--recall", "1"], ["--budget-ms", "1000"], ["--tune", "nprobe=32"]):
        assert [hit["rank"] for hit in hits(search(*options))] == [1, 2, 3, 4, 5]
    exact = search("--exact")
    if stores:
        assert hits(exact)[0]["score"] >= plain[0]["score"] - 1e-6
    else:
        assert exact.exit_code == 2 and "ivf(store=" in exact.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recall", "0"], "recall must be above 0"),
        (["--recall", "1.5"], "--recall"),
        (["--budget-ms", "0"], "budget_ms must be above 0"),
        (["--recall", "0.9", "--budget-ms", "3"], "Ask for one of"),
        (["--exact", "--recall", "0.9"], "Ask for one of"),
        (["--recall", "most"], "--recall"),
    ],
)
def test_wishes_that_nothing_meets_are_refused(tokret, folder, options, said):
    result = tokret("search", folder, "word3", *options)
    assert result.exit_code == 2 and said in result.stderr


def test_a_file_of_queries_gets_as_many_hits_as_there_are(tokret, folder, tmp_path, write):
    asked = write(tmp_path / "queries.jsonl", [{"_id": "q", "text": "word3 word9"}])
    result = tokret("search", folder, "--queries", asked, "--recall", "0.5")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 60


def test_queries_of_a_file_are_what_an_index_is_measured_with(tokret, tmp_path, write, monkeypatch):
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 300)
    corpus = write(tmp_path / "corpus.jsonl", DOCS)
    asked = [
        {"_id": f"q{i}", "text": f"{WORDS[i]} {WORDS[i + 9]} {WORDS[i + 20]}"} for i in range(9)
    ]
    queries = write(tmp_path / "queries.jsonl", asked)
    options = ["-b", "ivf(bits=4)", "--model", "toy", "--calibrate", queries, "-q"]
    result = tokret("index", corpus, "-o", tmp_path / "i", *options, "--max-memory", "0.5GiB")
    assert result.exit_code == 0, result.stderr
    info = tokret("info", tmp_path / "i", "--json")
    measured = json.loads(info.stdout)["measured"]
    assert measured["queries"] == 9 and measured["asked"] == "given"
    assert measured["tokens"] > 300 and measured["stale"] is False
    shown = " ".join(tokret("info", tmp_path / "i").stdout.split())
    assert f"measured.tokens {measured['tokens']:,}" in shown


def test_queries_are_of_no_use_to_brute_force(tokret, tmp_path, write):
    corpus = write(tmp_path / "corpus.jsonl", DOCS)
    queries = write(tmp_path / "queries.jsonl", [{"_id": "q", "text": "word3"}])
    options = ["-b", "exact", "--model", "toy", "--calibrate", queries]
    result = tokret("index", corpus, "-o", tmp_path / "i", *options)
    assert result.exit_code == 2 and "only ivf indexes are measured" in result.stderr


@pytest.mark.parametrize(
    ("size", "count"),
    [("500MB", 500e6), ("1GiB", 2**30), ("1.5 g", 1.5e9), ("700000000", 7e8), ("1Ti", 2**40)],
)
def test_sizes_are_read_as_people_write_them(size, count):
    assert memory_size(size) == count


@pytest.mark.parametrize("size", ["much", "-1GB", "1QB", "", "1e9", "10MB"])
def test_sizes_that_bound_nothing_are_refused(tokret, tmp_path, write, folder, size):
    corpus = write(tmp_path / "more.jsonl", [{"_id": "new", "text": "word1"}])
    for command in (
        ["index", corpus, "-o", tmp_path / "x", "--model", "toy"],
        ["add", folder, corpus],
    ):
        result = tokret(*command, f"--max-memory={size}")
        assert result.exit_code == 2 and (
            "max-memory" in result.stderr or "max_memory" in result.stderr
        )
    assert tokret("add", folder, corpus, "--max-memory", "1GB", "-q").exit_code == 0
    assert tokret("compact", folder, "--max-memory", "1GB", "-q").exit_code == 0


def test_a_dry_run_says_the_ceiling(tokret, tmp_path, write):
    corpus = write(tmp_path / "corpus.jsonl", DOCS)
    options = ["-o", tmp_path / "i", "--model", "toy", "--dry-run", "--max-memory", "1GiB"]
    assert "codes at most 1.0 GiB" in " ".join(tokret("index", corpus, *options).stdout.split())
    told = json.loads(tokret("index", corpus, *options, "--json").stdout)
    assert told["max_memory"] == 2**30


def test_a_hit_is_explained_word_by_word(tokret, made):
    folder, stores = made
    result = tokret("search", folder, "word3 word7", "-k", "1", "--explain")
    assert result.exit_code == 0, result.stderr
    by = "vectors" if stores else "codes"
    lines = [line.split() for line in result.stdout.splitlines() if f"by {by}" in line]
    assert [line[0] for line in lines] == ["word3", "word7"]
    assert all(
        line[-3:] in (["measured", "at", "first"], ["imputed", "at", "first"]) for line in lines
    )
    for wrong in (["--queries", "-"], ["word3", "-f", "trec"]):
        refused = tokret("search", folder, "--explain", *wrong)
        assert refused.exit_code == 2 and "--explain is for one TEXT" in refused.stderr
