"""The ivf backend: what it finds, what it proves, and that nothing else changes an answer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes import Index, compact, ingest, ivf, verify
from tokret.indexes.base import Certificate
from tokret.indexes.codebook import LAYOUT, Codebook
from tokret.indexes.coded import CODED_COLUMNS, KIND, POSTING_COLUMNS
from tokret.indexes.manifest import Entry
from tokret.indexes.segment import Segment, SegmentWriter
from tokret.indexes.store import Store
from tokret.indexes.view import certified
from tokret.scoring import MaxSim
from tokret.types import Hit, Tokens

native = pytest.importorskip("tokret.kernels.native", exc_type=ImportError)

H = 64
FULL = {"nprobe": 64, "margin": 5.0}  # all of a small collection
TUNED = {"nprobe": 4, "candidates": 40, "margin": 0.02}  # not much of it
BRUTE = 500  # tokens from which on the tests' collections are coded
STORES = ["fp16", "int8", "fp32"]


@pytest.fixture(autouse=True)
def brute_tokens(monkeypatch):
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", BRUTE)


def clouds(count, seed=0, width=H, points=40, longest=28, shortest=6, around=0):
    """Passages of unit vectors near so many points."""
    rng = np.random.default_rng([seed, 1])
    centres = np.random.default_rng([around, 2]).standard_normal((points, width))
    passages = []
    for _ in range(count):
        near = centres[rng.integers(0, points, int(rng.integers(shortest, longest)))]
        passages.append(unit(near + 0.5 * rng.standard_normal(near.shape)))
    return passages


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def named(vectors, first=0, fields=lambda i: {}):
    return [(f"d{i:05}", "x", "", fields(i)) for i in range(first, first + len(vectors))]


def make(folder, vectors, backend="ivf", fields=lambda i: {}):
    encoder = f"precomputed(dim={vectors[0].shape[1]})"
    index = Index.create(folder, encoder=encoder, backend=backend)
    index.add(named(vectors, fields=fields), vectors=vectors)
    return index


def kinds(index):
    return [entry.kind for entry in Store(index.path).manifest().segments]


def ids(hits):
    return [hit.doc_id for hit in hits]


def recall(index, yardstick, queries, k=10, **options):
    shares = []
    for query in queries:
        want = set(ids(yardstick.search(query, k, where=options.get("where"))))
        shares.append(len(want & set(ids(index.search(query, k, **options)))) / max(len(want), 1))
    return float(np.mean(shares))


def same_but_for_ties(got, want, every):
    """Scores are equal, and each document has the score that the yardstick gives it."""
    scores = {hit.doc_id: hit.score for hit in every}
    return [hit.score for hit in got] == [hit.score for hit in want] and all(
        scores[hit.doc_id] == hit.score for hit in got
    )


@pytest.fixture(scope="module")
def vectors():
    return clouds(300)


@pytest.fixture(scope="module")
def queries():
    return clouds(25, seed=9, longest=9)


@pytest.fixture(scope="module", autouse=True)
def few_brute_tokens():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivf, "BRUTE_TOKENS", BRUTE)
        yield


@pytest.fixture(scope="module")
def yardstick(tmp_path_factory, vectors):
    return make(tmp_path_factory.mktemp("exact") / "i", vectors, "exact", by_tens)


@pytest.fixture(scope="module")
def coded(tmp_path_factory, vectors):
    return make(tmp_path_factory.mktemp("coded") / "i", vectors, "ivf", by_tens)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, vectors):
    return make(tmp_path_factory.mktemp("stored") / "i", vectors, 'ivf(store="fp16")', by_tens)


def by_tens(i):
    return {"ten": i % 10, "number": i}


# -- what is found --------------------------------------------------------------------------


def test_few_tokens_are_kept_as_vectors_and_answered_exactly(tmp_path, vectors, queries):
    few = vectors[:20]
    index, exact = make(tmp_path / "i", few), make(tmp_path / "e", few, "exact")
    assert kinds(index) == ["tokens"]
    for query in queries:
        assert index.search(query) == exact.search(query) == index.search(query, exact=True)
        assert index.search(query, certify=True).proven == 10


def test_many_tokens_are_coded_and_the_best_are_found(coded, stored, yardstick, queries):
    assert kinds(coded) == kinds(stored) == [KIND]
    assert recall(coded, yardstick, queries, recall=1.0) >= 0.8
    assert recall(stored, yardstick, queries, recall=1.0) >= 0.9
    assert recall(Index.open(stored.path, tune=FULL), yardstick, queries) >= 0.99
    for query in queries:
        assert len(coded.search(query, 1000)) == 300  # as many as were asked for, or all
    assert coded.info()["bytes"] < stored.info()["bytes"]


def test_scores_are_near_maxsim_and_those_of_stored_vectors_are_maxsim(
    coded, stored, yardstick, queries
):
    for query in queries:
        want = {hit.doc_id: hit.score for hit in yardstick.search(query, 300)}
        assert all(hit.score == want[hit.doc_id] for hit in stored.search(query))
        near = np.array([hit.score - want[hit.doc_id] for hit in coded.search(query)])
        assert np.abs(near).max() <= 0.1 * len(query)
        mean = coded.search(query, scorer="maxsim(mean=True)")
        assert ids(mean) == ids(coded.search(query))
        assert mean[0].score == pytest.approx(coded.search(query, 1)[0].score / len(query))


def test_exact_search_without_vectors_says_what_to_build(coded, queries):
    for options in ({"exact": True}, {"scorer": 'xtr(impute="exact")'}):
        with pytest.raises(UsageError, match="Build it with --backend 'ivf\\(store="):
            coded.search(queries[0], **options)


@pytest.mark.parametrize("options", [{"recall": 0}, {"recall": 1.1}, {"budget_ms": 0}])
def test_what_nothing_can_meet_is_refused(coded, queries, options):
    with pytest.raises(UsageError, match="must be above 0"):
        coded.search(queries[0], **options)
    with pytest.raises(UsageError, match="Ask for one of"):
        coded.search(queries[0], recall=0.9, exact=True)


@pytest.mark.parametrize("bad", ["bits=0.1", "bits=9", 'store="fp64"', "cells=3", "recall=0"])
def test_options_that_make_no_index_are_refused(tmp_path, bad):
    with pytest.raises(UsageError):
        Index.create(tmp_path / "i", encoder="precomputed(dim=64)", backend=f"ivf({bad})")


changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("replace"), st.integers(0, 60)),
        st.tuples(st.just("delete"), st.integers(0, 60)),
        st.tuples(st.just("compact"), st.booleans()),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(store=st.sampled_from(STORES), changes=changes, seed=st.integers(0, 2**32 - 1))
def test_exact_search_is_that_of_the_exact_backend_always(tmp_path_factory, store, changes, seed):
    folder = tmp_path_factory.mktemp("always")
    pair = [
        Index.create(folder / name, encoder="precomputed(dim=16)", backend=backend)
        for name, backend in (
            ("i", f'ivf(store="{store}", cells=16)'),
            ("e", f'exact(dtype="{store}")'),
        )
    ]
    rows, count = clouds(60, seed, 16), 60
    for index in pair:
        index.add(named(rows, fields=by_tens), vectors=rows)
    assert kinds(pair[0]) == [KIND]
    for step, (change, number) in enumerate(changes):
        if change in ("add", "replace"):
            rows = clouds(number, seed + step + 1, 16)
            first = count if change == "add" else 0
            count = max(count, first + number)
            for index in pair:
                docs = named(rows, first, by_tens)
                index.add(docs, vectors=rows, on_duplicate="replace")
        for index in pair:
            if change == "delete":
                index.delete([f"d{i:05}" for i in range(0, number, 3)], missing="skip")
            if change == "compact":
                index.compact(force=number)
    for query in clouds(3, seed + 99, 16, longest=8):
        for where in (None, "ten < 4", "number == 7"):
            every = pair[1].search(query, 1000, where=where)
            got = pair[0].search(query, 10, exact=True, where=where)
            assert same_but_for_ties(got, every[:10], every)
        # And what is not exact finds as many, with scores that are not better than true.
        hits = pair[0].search(query, 10, certify=True)
        every = {hit.doc_id: hit.score for hit in pair[1].search(query, 1000)}
        assert len(hits) == min(10, len(every))
        for hit, (low, high) in zip(hits, hits.bounds, strict=True):
            assert low <= every[hit.doc_id] <= high
    assert verify(folder / "i") == []


# -- segments -------------------------------------------------------------------------------


def test_vectors_that_wait_and_codes_answer_together(tmp_path, vectors, queries):
    index = make(tmp_path / "i", vectors[:200])
    index.add(named(vectors[200:220], 200), vectors=vectors[200:220])
    exact = make(tmp_path / "e", vectors[:220], "exact")
    assert sorted(kinds(index)) == sorted([KIND, "tokens"])
    assert recall(index, exact, queries, recall=1.0) >= 0.8
    late = index.search(vectors[210], 1)
    assert ids(late) == ["d00210"] and late == exact.search(vectors[210], 1)
    hits = index.search(queries[0], certify=True)
    for hit, (low, high) in zip(hits, hits.bounds, strict=True):
        assert hit.doc_id < "d00200" or low == high == hit.score


def test_enough_new_vectors_are_coded_with_the_codebook_there_is(tmp_path, vectors, queries):
    index = make(tmp_path / "i", vectors[:200])
    before = Codebook.read(Store(index.path).open().derived)
    index.add(named(vectors[200:], 200), vectors=vectors[200:])
    after = Codebook.read(Store(index.path).open().derived)
    assert kinds(index) == [KIND, KIND]
    same = len(before.cells)
    assert np.array_equal(after.cells.centroids[:same], before.cells.centroids)
    assert np.array_equal(after.rotation, before.rotation)
    assert after.facts == before.facts  # what was measured stays
    exact = make(tmp_path / "e", vectors, "exact")
    assert recall(index, exact, queries, recall=1.0) >= 0.8


def test_documents_of_another_kind_grow_cells_and_are_found_as_after_a_rebuild(tmp_path):
    old, new = clouds(300), clouds(150, seed=5, around=77)
    options = "ivf(bits=4, cells=64)"
    index = make(tmp_path / "i", old, options)
    before = len(Codebook.read(Store(index.path).open().derived).cells)
    index.add(named(new, 300), vectors=new)
    assert len(Codebook.read(Store(index.path).open().derived).cells) > before == 64
    rebuilt = make(tmp_path / "r", old + new, options)
    exact = make(tmp_path / "e", old + new, "exact")
    asked = clouds(20, seed=8, longest=9) + clouds(20, seed=7, longest=9, around=77)
    assert recall(index, exact, asked) >= recall(rebuilt, exact, asked) - 0.05
    index.compact(force=True)
    assert kinds(index) == [KIND] and verify(index.path) == []
    assert recall(index, exact, asked) >= recall(rebuilt, exact, asked) - 0.05


def test_documents_of_several_passages_score_as_their_best(tmp_path, toy):
    words = [f"word{i}" for i in range(60)]
    rng = np.random.default_rng(0)
    docs = [(f"d{i:03}", " ".join(rng.choice(words, 40))) for i in range(80)]
    pair = [
        Index.create(tmp_path / name, encoder="toy", backend=backend, max_tokens=8)
        for name, backend in (("i", "ivf"), ("e", "exact"))
    ]
    for index in pair:
        index.add(docs)
    index, exact = pair
    assert kinds(index) == [KIND] and index.info()["passages"] > 3 * len(index)
    for query in ("word1 word7 word30", "word59 word2"):
        want = exact.search(query, 80)
        true = {hit.doc_id: hit.score for hit in want}
        hits = index.search(query, 60, certify=True)
        assert len(hits) == 60 and len(set(ids(hits))) == 60
        assert {hit.text for hit in hits} <= {
            index.document(hit.doc_id).text[hit.start : hit.end] for hit in hits
        }
        for hit, (low, high) in zip(hits, hits.bounds, strict=True):
            assert low <= true[hit.doc_id] <= high
        found, kept = set(ids(index.search(query, 10, recall=1.0))), want[9].score - 1e-3
        assert {hit.doc_id for hit in want if hit.score > kept + 0.2} <= found
    matches = index.explain("word1 word7", "d000")
    assert len(matches) == 2 and all(match.similarity <= 1.1 for match in matches)
    assert all(match.by == "codes" for match in matches)
    assert all(match.by == "vectors" for match in exact.explain("word1 word7", "d000"))
    assert index.document("d000").text == docs[0][1]
    first, one = [Hit("d000", 1.0)], np.ones(1, np.float32)
    other = Certificate(np.zeros(1), 9.0)  # its other passages were not read
    bounded = certified(index._state, first, np.array([0]), one, other)
    assert bounded.bounds == [(1.0, 9.0)] and bounded.proven == 0


@pytest.mark.parametrize("store", ["none", "fp16"])
def test_an_explanation_tells_codes_from_vectors_and_what_the_first_stage_sees(
    tmp_path, toy, store
):
    texts = [f"word{i} word{i + 1} word{i + 2} word{i + 3} and more words" for i in range(120)]
    index = Index.create(tmp_path / "i", encoder="toy", backend=f'ivf(bits=4, store="{store}")')
    index.add([(f"d{i:03}", text) for i, text in enumerate(texts)])
    index.add([("late", "word5 that waits to be coded")])
    assert sorted(kinds(index)) == [KIND, "tokens"]
    query, doc_id = "word5 elsewhere", "d004"
    narrow = Index.open(index.path, tune={"nprobe": 1})
    by = "codes" if store == "none" else "vectors"
    text = index.document(doc_id).text
    seen, missed = narrow.explain(query, doc_id)
    assert (seen.by, seen.first_stage) == (by, "measured")
    assert text[seen.start : seen.end] == "word5" and seen.similarity == pytest.approx(1, abs=0.1)
    assert (missed.by, missed.first_stage) == (by, "imputed")
    wide = Index.open(index.path, tune={"nprobe": 65_536}).explain(query, doc_id)
    assert [match.first_stage for match in wide] == ["measured", "measured"]
    assert [(m.by, m.first_stage) for m in index.explain("word5", "late")] == [("vectors", None)]


def test_empty_documents_are_kept_and_never_found(tmp_path, vectors, queries):
    index = make(tmp_path / "i", [*vectors[:100], np.empty((0, H), np.float32)])
    assert kinds(index) == [KIND] and len(index) == 101
    assert "d00100" not in ids(index.search(queries[0], 200))
    index.delete([f"d{i:05}" for i in range(100)])
    assert index.search(queries[0]) == [] and len(index) == 1


def test_only_documents_that_count_are_worth_coding(tmp_path, vectors, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivf, "BRUTE_TOKENS", 10**9)
        index = make(tmp_path / "i", [*vectors[:100], np.empty((0, H), np.float32)])
        index.delete([f"d{i:05}" for i in range(100)])
    index.add([("empty", "")], vectors=[np.empty((0, H), np.float32)])
    assert KIND not in kinds(index) and len(index) == 2


# -- one answer -----------------------------------------------------------------------------


def answers(index, queries, **options):
    return [index.search(query, 20, **options) for query in queries]


@pytest.mark.parametrize("scorer", [None, "xtr(k_prime=50)"])
def test_threads_batches_and_instruction_sets_change_nothing(
    coded, stored, queries, monkeypatch, scorer
):
    for path in (coded.path, stored.path):
        index = Index.open(path, tune=TUNED)
        want = answers(index, queries, scorer=scorer)
        for threads in (1, 2, 3):
            assert index.search_many(queries, 20, threads=threads, scorer=scorer) == want
            assert answers(index, queries[:8], threads=threads, scorer=scorer) == want[:8]
    index = Index.open(coded.path, tune=TUNED)  # codes are whole numbers; vectors are not
    want = answers(index, queries, scorer=scorer)
    for isa in native.cpu_features():
        monkeypatch.setenv("TOKRET_SIMD", isa)
        assert answers(index, queries, scorer=scorer) == want


def test_segments_and_compaction_change_nothing(tmp_path, coded, vectors, queries, monkeypatch):
    want = answers(Index.open(coded.path, tune=TUNED), queries)
    monkeypatch.setattr(ingest, "SEGMENT_DOCUMENTS", 120)
    monkeypatch.setattr(ingest, "WINDOW_DOCUMENTS", 40)
    monkeypatch.setattr(compact, "SEGMENT_DOCUMENTS", 120)
    make(tmp_path / "i", vectors)
    several = Index.open(tmp_path / "i", tune=TUNED)
    assert len(kinds(several)) > 1
    assert answers(several, queries) == want
    monkeypatch.setattr(compact, "SEGMENT_DOCUMENTS", 1000)
    several.delete(["d00003"])
    less = answers(several, queries)
    several.compact(force=True)
    assert kinds(several) == [KIND] and answers(several, queries) == less
    assert verify(several.path) == []


def test_blocks_of_passages_change_nothing(tmp_path, coded, vectors, queries, monkeypatch):
    from tokret.indexes import coded as coded_module

    monkeypatch.setattr(coded_module, "BLOCK_PASSAGES", 64)
    make(tmp_path / "i", vectors, fields=by_tens)
    blocks = Index.open(tmp_path / "i", tune=TUNED)
    got = answers(blocks, queries), answers(blocks, queries, where="ten == 3")
    rows = [passage_rows(blocks, n) for n in (0, 63, 64, 299)]
    monkeypatch.undo()
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", BRUTE)
    whole = Index.open(coded.path, tune=TUNED)
    assert got == (answers(whole, queries), answers(whole, queries, where="ten == 3"))
    for n, row in zip((0, 63, 64, 299), rows, strict=True):
        assert np.array_equal(row, passage_rows(whole, n))


def passage_rows(index, n):
    return index._state.searcher.passage_tokens(n)


def columns(path):
    """Bytes of all columns, what was measured too: it is counted, not timed."""
    return {
        (entry.kind, file.name): file.read_bytes()
        for entry in [*Store(path).manifest().segments, Store(path).manifest().derived]
        for file in (Path(path) / "segments" / entry.id).glob("*.bin")
    }


def test_a_seed_gives_the_same_bytes_whatever_the_threads(tmp_path, vectors, monkeypatch):
    made = []
    for cpus in ({0}, {0, 1, 2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cpus=cpus: cpus)
        made.append(make(tmp_path / str(len(cpus)), vectors, "ivf(seed=3)").path)
    assert columns(made[0]) == columns(made[1])
    other = make(tmp_path / "other", vectors, "ivf(seed=4)").path
    assert columns(other) != columns(made[0])


# -- filters, bounds, scorers ---------------------------------------------------------------


def test_a_filter_that_allows_few_finds_all_of_them(coded, stored, yardstick, queries):
    for index in (coded, stored, Index.open(coded.path, tune={"nprobe": 1, "candidates": 30})):
        for where, count in (("number < 3", 3), ("ten == 3", 30), ("number >= 120", 180)):
            for query in queries[:8]:
                hits = index.search(query, count, where=where)
                assert len(hits) == count
                assert {hit.doc_id for hit in hits} == set(index.ids(where))
    assert coded.search(queries[0], where="number < 0") == []
    first = Index.open(coded.path, tune={"nprobe": 1, "candidates": 1, "margin": 0.0})
    assert len(first.search(queries[0], 300)) == 300
    assert len(first.search(queries[0], 17, where="number > 100")) == 17


def test_a_filtered_search_is_as_good_as_one_of_everything(coded, stored, yardstick, queries):
    for where in ("ten == 3", "ten < 5"):
        options = {"recall": 1.0, "where": where}
        assert recall(coded, yardstick, queries, **options) >= 0.85
        assert recall(stored, yardstick, queries, **options) >= 0.95
        for query in queries[:5]:
            want = yardstick.search(query, where=where)
            assert stored.search(query, where=where, exact=True) == want


def test_a_filter_and_deletions_hold_together(tmp_path, vectors, queries):
    index = make(tmp_path / "i", vectors, fields=by_tens)
    index.delete(where="number < 200")
    assert set(ids(index.search(queries[0], 300, where="ten == 3"))) == {
        f"d{i:05}" for i in range(203, 300, 10)
    }
    probing = Index.open(index.path, tune={"nprobe": 64, "candidates": 1})
    left = {f"d{i:05}" for i in range(200, 300) if i % 10 < 5}
    assert set(ids(probing.search(queries[0], 300, where="ten < 5"))) == left
    assert set(ids(probing.search(queries[0], 300))) == {f"d{i:05}" for i in range(200, 300)}


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 320),
    nprobe=st.integers(1, 40),
    candidates=st.integers(1, 400),
    where=st.sampled_from([None, "ten == 3", "number < 5"]),
    which=st.booleans(),
)
def test_bounds_hold_exact_maxsim_and_proof_is_never_wrong(
    coded, stored, yardstick, seed, k, nprobe, candidates, where, which
):
    tune = {"nprobe": nprobe, "candidates": candidates, "margin": 0.02}
    index = Index.open((coded if which else stored).path, tune=tune)
    (query,) = clouds(1, seed, longest=9)
    hits = index.search(query, k, certify=True, where=where)
    every = yardstick.search(query, 300, where=where)
    true = {hit.doc_id: hit.score for hit in every}
    assert len(hits.bounds) == len(hits) == min(k, len(every))
    for hit, (low, high) in zip(hits, hits.bounds, strict=True):
        assert low <= true[hit.doc_id] <= high and low <= hit.score <= high
    for hit, want in zip(hits[: hits.proven], every, strict=False):
        assert true[hit.doc_id] == want.score
    sure = stored.search(query, k, exact=True, certify=True, where=where)
    assert sure == every[:k] and sure.proven == len(sure)
    assert all(low == high == hit.score for hit, (low, high) in zip(sure, sure.bounds, strict=True))


def test_ranks_are_proven_where_all_stored_vectors_were_compared(stored, vectors):
    hits = stored.search(vectors[7], 20, certify=True, where="number < 20")
    assert hits.proven == 20 and hits[0].doc_id == "d00007"
    assert stored.search(vectors[7], 5, certify=True).proven < 5


def test_vectors_of_any_length_are_bounded_too(tmp_path, vectors):
    rows = [passage * (1 + i % 5) for i, passage in enumerate(vectors[:80])]
    pair = []
    for name in ("ivf", "exact"):
        index = Index.create(
            tmp_path / name, encoder="precomputed(dim=64)", backend=name, normalize=False
        )
        index.add(named(rows), vectors=rows)
        index.add([("long", "x")], vectors=[1000 * vectors[99]])
        pair.append(index)
    for query in vectors[100:104]:
        true = {hit.doc_id: hit.score for hit in pair[1].search(query, 100)}
        hits = pair[0].search(query, certify=True)
        for hit, (low, high) in zip(hits, hits.bounds, strict=True):
            assert low <= true[hit.doc_id] <= high


def test_bounds_of_other_scores_are_not_given(coded, yardstick, queries, tmp_path):
    for scorer in ("xtr(k_prime=20)", "maxsim(mean=True)"):
        with pytest.raises(UsageError, match="bounds are of MaxSim"):
            coded.search(queries[0], certify=True, scorer=scorer)
    assert yardstick.search(queries[0], certify=True).proven == 10
    words = Index.create(tmp_path / "i", encoder=None, backend="bm25")
    words.add([("a", "red whale")])
    with pytest.raises(UsageError, match="got bm25"):
        words.search("whale", certify=True)


def test_xtr_imputes_no_less_than_maxsim_of_the_same_codes(coded, queries):
    index = Index.open(coded.path, tune={**FULL, "candidates": 400})
    for k_prime in (1, 10, 1000):
        for query in queries[:6]:
            mean = {h.doc_id: h.score for h in index.search(query, 300, scorer="maxsim(mean=True)")}
            for hit in index.search(query, 300, scorer=f"xtr(k_prime={k_prime})"):
                assert hit.score >= mean[hit.doc_id] - 1e-6
            zero = index.search(query, 300, scorer=f'xtr(k_prime={k_prime}, impute="zero")')
            assert len(zero) <= 300


def test_a_scorer_that_codes_cannot_serve_gets_vectors_or_is_refused(coded, stored, queries):
    class Least:
        name = "least"

        def score(self, query, parts, *, threads=1):
            passages, scores = MaxSim().score(query, parts, threads=threads)
            return passages, -scores

    for impute in ("none", "exact"):
        with pytest.raises(UsageError, match="need the vectors"):
            coded.search(queries[0], scorer=f'xtr(impute="{impute}")')
        assert len(stored.search(queries[0], scorer=f'xtr(impute="{impute}")')) == 10
    assert stored.search(queries[0], 1, scorer=Least())[0].score < 0
    with pytest.raises(UsageError, match="need the vectors"):
        coded.search(queries[0], scorer=Least())


def test_coded_passages_come_back_within_their_stated_error(coded, stored, vectors):
    segment = Store(coded.path).open().segments[0]
    errors = segment.read("errors")
    kept = Tokens.of(vectors).to("fp16")
    for n in range(0, 300, 7):
        rows = passage_rows(coded, n)
        away = np.sqrt(np.square(rows.astype(np.float64) - kept[n]).sum(axis=1))
        assert rows.shape == vectors[n].shape and away.max() <= errors[n]
        assert np.array_equal(passage_rows(stored, n), kept[n])
    assert coded.document("d00003").fields == {"ten": 3, "number": 3}


# -- damage ---------------------------------------------------------------------------------


def test_a_full_verification_finds_a_flipped_byte_in_any_column(tmp_path, vectors):
    path = Path(make(tmp_path / "i", vectors[:60], 'ivf(store="int8")').path)
    manifest = Store(path).manifest()
    files = [
        file
        for entry in (*manifest.segments, manifest.derived)
        for file in (path / "segments" / entry.id).glob("*.bin")
        if file.stat().st_size
    ]
    names = {file.name.removesuffix(".bin") for file in files}
    assert names >= {*CODED_COLUMNS, *POSTING_COLUMNS, *LAYOUT, "vectors", "scales"}
    for file in files:
        good = file.read_bytes()
        at = len(good) // 2
        file.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        assert file.name in {Path(damage.file).name for damage in verify(path, "full")}
        file.write_bytes(good)
    assert verify(path, "full") == []


MUTATED = """
import json, sys, warnings
from pathlib import Path
import numpy as np
from tokret.errors import TokretError
from tokret.indexes import Index, files, ivf
from tokret.indexes.store import Store
path, seed = Path(sys.argv[1]), int(sys.argv[2])
warnings.simplefilter("ignore")
files.Column._check_block = lambda *args, **kw: None
rng = np.random.default_rng(seed)
query = rng.standard_normal((5, 64))
manifest = Store(path).manifest()
every = sorted(
    file
    for entry in (*manifest.segments, manifest.derived)
    for file in (path / "segments" / entry.id).glob("*.bin")
    if file.stat().st_size and file.stem in sys.argv[3].split()
)
for round in range(6):
    for file in every:
        good = file.read_bytes()
        bad = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
        file.write_bytes(bad)
        print(file.name, flush=True)
        try:
            index = Index.open(path)
            for options in ({}, {"where": "number < 9"}, {"scorer": "xtr(k_prime=9)"}):
                index.search(query, 20, certify="scorer" not in options, **options)
            index._state.searcher.passage_tokens(3)
        except TokretError:
            pass
        file.write_bytes(good)
print("done")
"""


def test_damaged_bytes_never_crash_a_search(tmp_path, vectors):
    path = make(tmp_path / "i", vectors[:60], fields=by_tens).path
    names = {*CODED_COLUMNS, *POSTING_COLUMNS, *LAYOUT, "token_ends", "vectors", "scales"}
    done = subprocess.run(
        [sys.executable, "-c", MUTATED, path, "1", " ".join(names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), (
        done.stdout[-200:] + done.stderr[-3000:]
    )


def as_facts(facts):
    return np.frombuffer(
        facts if isinstance(facts, bytes) else json.dumps(facts).encode(), np.uint8
    )


NO_SETTINGS = ([1, 2, 3], [0.5, -4, 0, 1], [2, 4, 0, 1], [0.5, 1e99, 0, 1], [0.5, 4, 0, -1])


def a_calibration(setting=(0.5, 4, 0.0, 1.0)):
    depths = {"10": {"ceiling": 1.0, "settings": [setting]}}
    return {"tokens": 9, "queries": 3, "given": False, "depths": depths}


HOSTILE = {
    "shares that do not add up": ("shares", lambda old: np.full_like(old, 7)),
    "a group there is not": ("groups", lambda old: old + 1000),
    "a group below the first": ("groups", lambda old: old - 1000),
    "fewer groups than cells": ("groups", lambda old: old[:-1]),
    "fewer bytes of cells": ("cell_codes", lambda old: old[:-1]),
    "cells of other bytes": ("cell_codes", lambda old: old * 0),
    "cells that end before they begin": ("cell_code_ends", lambda old: -old),
    "too few ends of cells": ("cell_code_ends", lambda old: old[:0]),
    "more groups than cells": ("groups", lambda old: np.repeat(old, 200)),
    "too many cells": ("groups", lambda old: np.zeros(65_537, np.int32)),
    "no cells": ("groups", lambda old: old[:0]),
    "too few shifts": ("shifts", lambda old: old[:-1]),
    "wild shifts": ("shifts", lambda old: np.full_like(old, 2**31 - 1)),
    "weights of nothing": ("weights", lambda old: old * 0),
    "a rotation of another width": ("rotation", lambda old: old[:-64]),
    "no numbers": ("rotation", lambda old: old * np.float32("nan")),
    "endless numbers": ("inverse", lambda old: np.full_like(old, np.inf)),
    "no JSON": ("facts", lambda old: as_facts(b"{")),
    "no object": ("facts", lambda old: as_facts([1])),
    "another object": ("facts", lambda old: as_facts({"height": 64})),
    "a height of nothing": ("facts", lambda old: as_facts({"height": 0, "far": 1, "reach": 1})),
    "deep JSON": ("facts", lambda old: as_facts(b"[" * 100_000)),
    "no UTF-8": ("facts", lambda old: as_facts(b"\xff\xfe")),
    **{
        f"calibration {bad}": (
            "facts",
            lambda old, bad=bad: as_facts({**json.loads(old.tobytes()), "calibration": bad}),
        )
        for bad in ([1], "x", *map(a_calibration, NO_SETTINGS), {**a_calibration(), "depths": {}})
    },
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_codebook_that_none_can_be_is_refused(tmp_path, coded, what):
    held = Store(coded.path).open().derived
    columns = {name: held.read(name) for name in LAYOUT}
    name, change = HOSTILE[what]
    with np.errstate(over="ignore"):
        columns[name] = change(columns[name]).astype(columns[name].dtype)
    store = Store(tmp_path / "i")
    writer = SegmentWriter(store.new_segment_path(), "codebook", LAYOUT)
    writer.append(**columns)
    entry = Entry.from_dict(writer.seal(), writer.path.name)
    segment = Segment(writer.path, vars(entry))
    with pytest.raises(IndexCorruptError, match="not a codebook"):
        Codebook.read(segment)


# -- builds that are killed -----------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import conftest
from tokret.indexes import build, coded, ingest, ivf
ivf.BRUTE_TOKENS, ingest.WINDOW_DOCUMENTS, coded.WINDOW_TOKENS = 500, 64, 400
steps, last = 0, int(sys.argv[2])
def count(module, name):
    real = getattr(module, name)
    def step(*args, **kw):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kw)
    setattr(module, name, step)
for module, name in (
    (ivf, "train"), (ivf, "write_coded"), (coded, "_append"), (coded, "add_postings"),
    (ivf, "pseudo_queries"), (ivf, "measured"), (ivf, "write_codebook"), (os, "replace"),
):
    count(module, name)
docs = [(f"d{i:04}", f"word{i % 7} text{i % 11} number{i} and five more") for i in range(150)]
build(sys.argv[1], docs, encoder="toy", backend="ivf")
print(steps)
"""


def test_a_build_killed_while_coding_goes_on_by_the_same_call(tmp_path):
    def run(path, step):
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(step), str(Path(__file__).parents[1])],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            check=False,
        )

    whole = run(tmp_path / "whole", 10_000)
    assert whole.returncode == 0, whole.stderr.decode()[-2000:]
    steps, killed, path = int(whole.stdout), 0, tmp_path / "i"
    for step in (steps - 6, steps - 2):
        done = run(path, step)
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert killed >= 2
    if done.returncode != 0:
        done = run(path, 10_000)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert kinds(Index.open(path)) == [KIND] and verify(path, "full") == []
    assert columns(path) == columns(tmp_path / "whole")
    assert {file.name for file in (path / "segments").iterdir()} == {
        entry.id for entry in (*Store(path).manifest().segments, Store(path).manifest().derived)
    }
