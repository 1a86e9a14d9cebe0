"""Metadata and filters on the command line."""

import json

import pytest

RECORDS = [
    {"_id": "cat", "text": "The cat sat on the mat.", "metadata": {"year": 2019, "lang": "en"}},
    {"_id": "dog", "text": "Dogs chase a cat.", "metadata": {"year": 2021, "tags": ["a", "b"]}},
    {"_id": "fox", "text": "No cat but a fox.", "metadata": {}},
]
BAD = {"_id": "bad", "text": "x", "metadata": {"authors": [{"name": "A"}], "year": 1999}}


def ids(result):
    return [hit["doc_id"] for hit in json.loads(result.stdout)["queries"][0]["hits"]]


@pytest.fixture
def index(tokret, write, tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", RECORDS)
    assert tokret("index", corpus, "-o", tmp_path / "index", "-b", "bm25").exit_code == 0
    return tmp_path / "index"


def test_search_takes_a_filter(tokret, index):
    assert ids(tokret("search", index, "cat", "--where", "year > 2019", "--json")) == ["dog"]
    assert ids(tokret("search", index, "cat", "--where", "not exists year", "--json")) == ["fox"]
    result = tokret("search", index, "cat", "--where", "year > 3000")
    assert result.exit_code == 0 and "Nothing was found." in result.stderr


def test_the_object_of_one_query_holds_the_fields_of_its_hits(tokret, index):
    result = json.loads(tokret("search", index, "dogs", "--json").stdout)
    assert result["queries"][0]["hits"][0]["fields"] == {"tags": ["a", "b"], "year": 2021}
    assert result["where"] is None


def test_a_run_of_many_queries_takes_a_filter(tokret, index, write, tmp_path):
    queries = write(tmp_path / "q.jsonl", [{"_id": "q1", "text": "cat"}])
    result = tokret("search", index, "--queries", queries, "--where", "lang == 'en'")
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["cat"]


@pytest.mark.parametrize("command", ["search", "delete"])
def test_a_filter_that_cannot_be_read_is_shown_with_its_place(tokret, index, command):
    words = [command, index, *(["cat"] if command == "search" else [])]
    result = tokret(*words, "--where", "year = 2019")
    assert result.exit_code == 2 and result.stdout == ""
    assert "write ==" in result.stderr and "\n  year = 2019\n       ^" in result.stderr
    result = tokret(*words, "--where", "yaer == 2019")
    assert result.exit_code == 2 and "Did you mean 'year'? Known: lang, tags, year" in result.stderr


def test_delete_takes_a_filter_and_says_how_many(tokret, index):
    result = tokret("delete", index, "--where", "year >= 2019", "--dry-run")
    assert result.stdout == "Would delete 2 documents; 1 would be left\n"
    result = tokret("delete", index, "fox", "--where", "year > 2019")
    assert result.stdout == "Deleted 2 documents; 1 left\n"
    assert tokret("delete", index, "--where", "year > 2019").stdout.startswith("Deleted 0 doc")


def test_delete_wants_to_know_what(tokret, index):
    result = tokret("delete", index)
    assert result.exit_code == 2 and "--where FILTER" in result.stderr


def test_info_lists_fields_with_kinds_and_counts(tokret, index):
    shown = " ".join(tokret("info", index).stdout.split())
    assert "fields.lang.str 1" in shown and "fields.tags.list[str] 1" in shown
    assert json.loads(tokret("info", index, "--json").stdout)["fields"]["year"] == {"int": 2}


def test_metadata_that_cannot_be_kept_is_an_error_or_left_out_or_ignored(tokret, write, tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", [*RECORDS, BAD])
    words = ["index", corpus, "-b", "bm25", "-o"]
    result = tokret(*words, tmp_path / "a")
    assert result.exit_code == 3 and f"{corpus}:4: field 'authors' holds" in result.stderr
    result = tokret(*words, tmp_path / "b", "--metadata", "lenient")
    assert result.exit_code == 0
    assert f"Left out of metadata: 1 value; first {corpus}:4: field 'authors'" in " ".join(
        result.stderr.split()
    )
    assert tokret("search", tmp_path / "b", "x", "--where", "year == 1999").exit_code == 0
    assert tokret(*words, tmp_path / "c", "--metadata", "ignore").exit_code == 0
    assert json.loads(tokret("info", tmp_path / "c", "--json").stdout)["fields"] == {}


def test_a_corpus_that_was_refused_goes_on_leniently(tokret, write, tmp_path):
    records = [record | {"_id": str(i)} for i, record in enumerate([*RECORDS * 100, BAD])]
    corpus = write(tmp_path / "corpus.jsonl", records)
    words = ["index", corpus, "-b", "bm25", "-o", tmp_path / "a"]
    assert tokret(*words).exit_code == 3
    assert tokret(*words, "--metadata", "lenient").exit_code == 0
