"""Whole collections: their parts are found, and self-matches follow a stated policy."""

import os
import subprocess
import sys
from pathlib import Path

import ir_measures
import pytest

from tokret.collections import Run, load_collection, read_corpus, sample_path, self_matches
from tokret.errors import InputError, MissingExtraError

SHARED = Path(os.environ.get("TOKRET_DATA") or Path(__file__).parents[2] / "../shared/data")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "x"}\n')
    (folder / "queries.jsonl").write_text(
        "".join(f'{{"_id": "{q}", "text": "{q}?"}}\n' for q in "cab")
    )
    for split, queries in (("test", "ab"), ("dev", "c")):
        rows = "".join(f"{q}\td\t1\n" for q in queries)
        (folder / f"qrels/{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_a_collection_holds_the_judged_queries_in_the_order_of_their_file(folder):
    found = load_collection(folder)
    assert (found.name, found.split) == ("tiny", "test")
    assert [query.query_id for query in found.queries] == ["a", "b"]
    assert found.qrels == {"a": {"d": 1}, "b": {"d": 1}}
    assert [doc.doc_id for doc in found.documents(on_error="skip")] == ["d"]
    assert [query.query_id for query in load_collection(folder, "dev").queries] == ["c"]


def test_an_unknown_split_is_answered_with_the_nearest(folder):
    with pytest.raises(InputError, match=r"no split 'tset'\. Did you mean 'test'.*: dev, test\."):
        load_collection(folder, "tset")


def test_a_judged_query_without_a_text_is_refused(folder):
    with (folder / "qrels/test.tsv").open("a") as out:
        out.write("lost\td\t1\n")
    with pytest.raises(InputError, match=r"test\.tsv: 1 judged queries have no text.*'lost'"):
        load_collection(folder)


@pytest.mark.parametrize("part", ["queries.jsonl", "qrels/test.tsv"])
def test_a_missing_part_is_named(folder, part):
    (folder / part).unlink()
    with pytest.raises(InputError, match=r"queries\.jsonl|no split 'test'"):
        load_collection(folder)


def test_a_file_is_no_collection(folder):
    with pytest.raises(InputError, match="a file; wanted a BEIR folder"):
        load_collection(folder / "corpus.jsonl")
    with pytest.raises(InputError, match="Did you mean 'tiny'"):
        load_collection(folder.parent / "tinny")


@pytest.mark.parametrize(
    ("name", "drop"),
    [
        ("arguana", True),
        ("beir/arguana", True),
        ("beir/quora/test", True),
        ("QuoraRetrieval", True),
        ("ArguAna", True),
        ("scifact", False),
        ("quorate", False),
        ("headquora", False),
    ],
)
def test_self_matches_are_dropped_for_arguana_and_quora_alone(name, drop):
    assert self_matches(name).drop is drop
    assert self_matches(name).reason
    assert self_matches(name, not drop).drop is not drop
    assert self_matches(name, not drop).reason.endswith("as asked")


def test_the_policy_takes_only_the_documents_own_query_away():
    run = Run.of({"a": {"a": 3.0, "b": 2.0}, "b": {"a": 1.0}}, "mine")
    kept = self_matches("arguana").apply(run)
    assert kept.ranking == {"a": {"b": 2.0}, "b": {"a": 1.0}}
    assert kept.name == "mine"
    assert self_matches("scifact").apply(run) is run


def test_the_sample_is_a_whole_collection_with_its_notice():
    found = load_collection(sample_path())
    documents = {doc.doc_id: doc for doc in found.documents()}
    assert len(documents) == 400
    assert len(found.queries) == len(found.qrels) == 80
    judged = {doc for grades in found.qrels.values() for doc in grades}
    assert judged < set(documents)
    assert all(doc.title and doc.text for doc in documents.values())
    notice = (sample_path() / "NOTICE").read_text()
    for words in ("Attribution 4.0", "Attribution 1.0", "Allen Institute for AI", "Changes"):
        assert words in notice
    assert sum(p.stat().st_size for p in sample_path().rglob("*") if p.is_file()) < 400_000


def test_every_judged_query_counts_when_a_run_lacks_one():
    qrels = {"a": {"d": 1}, "b": {"d": 1}}
    run = Run.of({"a": {"d": 1.0}})
    got = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run.without_ties())
    assert got[ir_measures.nDCG @ 10] == 0.5


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgements"),
    [("scifact", 5183, 300, 339), ("cranfield", 1400, 225, 1837)],
)
def test_real_collections_have_their_published_sizes(name, documents, queries, judgements):
    if not (SHARED / name).is_dir():
        pytest.skip("the collection is not on this machine")
    found = load_collection(SHARED / name)
    assert sum(1 for _ in found.documents()) == documents
    assert len(found.queries) == queries
    assert sum(map(len, found.qrels.values())) == judgements


@pytest.mark.shared
def test_the_sample_is_what_its_script_makes(tmp_path):
    if not (SHARED / "scifact").is_dir():
        pytest.skip("the collection is not on this machine")
    script = Path(__file__).parents[2] / "scripts/make_sample.py"
    subprocess.run(
        [sys.executable, script, SHARED / "scifact", tmp_path], check=True, capture_output=True
    )
    assert list(read_corpus(tmp_path)) == list(read_corpus(sample_path()))
    for name in ("queries.jsonl", "qrels/test.tsv", "NOTICE"):
        assert (tmp_path / name).read_text() == (sample_path() / name).read_text()


def test_without_ir_datasets_an_id_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    for read in (read_corpus, load_collection):
        with pytest.raises(MissingExtraError, match=r"pip install 'tokret\[datasets\]'"):
            list(read("beir/scifact"))
    with pytest.raises(InputError, match="no such file"):
        read_corpus("data/scifact.jsonl")
