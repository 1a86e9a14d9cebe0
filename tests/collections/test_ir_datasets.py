"""The contract with ir_datasets: ids are found, rows are taken over, failures are clear."""

import os
import subprocess
import sys

import pytest

from tokret.collections import CorpusStats, load_collection, read_corpus, read_qrels
from tokret.errors import InputError
from tokret.types import Document, Query

package = pytest.importorskip("ir_datasets")


def test_an_unknown_id_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'beir/scifact'"):
        read_corpus("beir/scifcat")


def test_an_id_without_judgements_names_the_splits_below():
    with pytest.raises(InputError, match=r"no split 'tset'\. Did you mean 'test'.*test, train"):
        load_collection("beir/scifact", "tset")
    with pytest.raises(InputError, match="no qrels; below it are: test, train"):
        read_qrels("beir/scifact")


def test_a_path_that_exists_is_not_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vaswani").write_text('{"id": "1", "text": "mine"}')
    assert list(read_corpus("vaswani")) == [Document("1", "mine")]


def fake(monkeypatch, rows):
    class Row:
        def __init__(self, **fields):
            vars(self).update(fields)

        def default_text(self):
            return "all of it"

    class Dataset:
        def has_docs(self):
            return True

        has_queries = has_qrels = has_docs

        def docs_iter(self):
            return (Row(**row) for row in rows["docs"])

        def queries_iter(self):
            return (Row(**row) for row in rows["queries"])

        def qrels_iter(self):
            return (Row(**row) for row in rows["qrels"])

    monkeypatch.setattr(package, "load", lambda name: Dataset())


def test_rows_are_taken_over(monkeypatch):
    rows = {
        "docs": [
            {"doc_id": "1", "title": "T", "text": "x"},
            {"doc_id": "2", "text": "y"},
            {"doc_id": "3", "body": "z"},
        ],
        "queries": [{"query_id": "q", "text": "t"}],
        "qrels": [{"query_id": "q", "doc_id": "1", "relevance": 2}],
    }
    fake(monkeypatch, rows)
    stats = CorpusStats()
    assert list(read_corpus("beir/scifact", stats=stats)) == [
        Document("1", "x", "T"),
        Document("2", "y"),
        Document("3", "all of it"),
    ]
    assert (stats.read, stats.location) == (3, "beir/scifact:3")
    found = load_collection("beir/scifact")
    assert found.queries == (Query("q", "all of it"),)
    assert found.qrels == {"q": {"1": 2}}
    assert not found.self_matches.drop
    assert load_collection("beir/arguana").self_matches.drop


@pytest.mark.parametrize("error", [OSError("x"), RuntimeError("All download sources failed")])
def test_a_failed_download_is_one_clear_error(monkeypatch, error):
    def rows():
        raise error
        yield

    fake(monkeypatch, {"docs": (x for x in rows())})
    with pytest.raises(InputError, match=r"beir/scifact: ir_datasets could not fetch it .*network"):
        list(read_corpus("beir/scifact"))


WITHOUT_NETWORK = """
from tokret.collections import load_collection, read_corpus, read_queries
from tokret.errors import InputError

for read in (read_corpus, read_queries, load_collection):
    try:
        list(read("beir/nfcorpus/test"))
    except InputError as error:
        print(error)
"""


def test_without_a_network_the_real_package_gives_one_clear_error(tmp_path):
    # Another process, for the package settles its folder when it is imported.
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:1" for kind in ("http", "https")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        env={**os.environ, **nowhere, "no_proxy": "", "IR_DATASETS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert len(said) == 3
    for line in said:
        assert line.startswith("beir/nfcorpus/test: ir_datasets could not fetch it (")
