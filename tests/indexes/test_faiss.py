"""The faiss backend: what it finds, what it keeps in step, what it refuses."""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.collections import load_collection, sample_path
from tokret.encoders import encoders
from tokret.errors import (
    IndexCorruptError,
    InputError,
    MissingExtraError,
    ResourceError,
    UsageError,
)
from tokret.indexes import Faiss, Index, backends, build, faiss_index, faiss_search, verify
from tokret.indexes.base import Request
from tokret.indexes.faiss import live_tokens
from tokret.indexes.faiss_search import DERIVED, Held, covered, held_by
from tokret.indexes.manifest import Entry
from tokret.indexes.segment import SegmentWriter
from tokret.indexes.store import Store

faiss = pytest.importorskip("faiss")

H = 32
FLAT = 'faiss(factory="Flat", dtype="fp32")'
IVF = 'faiss(factory="IVF8,Flat", dtype="fp32", nprobe=8)'
EVERY = [
    *("Flat", "SQ8", "SQ4", "SQfp16", "PQ8x4", "PQ8x4np", "PQ8x4fs", "RaBitQ", "RaBitQ4"),
    *("RaBitQfs", "IVF8,Flat", "IVF8,SQ8", "IVF8,PQ8x4", "IVF8,PQ8x4fs", "IVF8,PQ8x4fsr"),
    *("IVF8,RaBitQ", "IVF8,RaBitQ4", "IVF8,RaBitQfs", "RR32,IVF8,RaBitQ", "PCA16,SQ8"),
]


def passages(count, seed=0, width=H):
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((int(rng.integers(1, 12)), width)) for _ in range(count)]
    return [(row / np.linalg.norm(row, axis=1, keepdims=True)).astype(np.float32) for row in rows]


def named(vectors, first=0):
    return [(f"d{i}", "x") for i in range(first, first + len(vectors))]


def make(folder, backend, vectors):
    index = Index.create(folder, encoder=f"precomputed(dim={H})", backend=backend)
    index.add(named(vectors), vectors=vectors)
    return index


def query(seed, count=5):
    rng = np.random.default_rng(1000 + seed)
    rows = rng.standard_normal((count, H)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def same(got, want, tolerance=1e-5):
    """Hits with equal scores, in any order among near ties."""
    assert {hit.doc_id for hit in got} == {hit.doc_id for hit in want}
    scores = {hit.doc_id: hit.score for hit in want}
    assert {hit.doc_id: hit.score for hit in got} == pytest.approx(scores, abs=tolerance)


def derived(index):
    return Store(index.path).open().derived


def searcher(index):
    return index.backend.searcher(Store(index.path).open())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An index by faiss and the same by brute force, of two additions and a deletion."""
    folder, vectors = tmp_path_factory.mktemp("pair"), passages(160)
    indexes = []
    for name, backend in (("flat", FLAT), ("ivf", IVF), ("exact", 'exact(dtype="fp32")')):
        index = make(folder / name, backend, vectors[:100])
        index.add(named(vectors[100:], 100), vectors=vectors[100:])
        index.delete(["d3", "d120"])
        indexes.append(index)
    return indexes


# -- what it finds ------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 25),
    k_prime=st.integers(1, 1500),
    impute=st.sampled_from(["kth", "kth*gamma", "zero", "const", "none", "exact"]),
    which=st.sampled_from([0, 1]),  # Flat, and IVF that reads every list
)
def test_reading_everything_scores_as_brute_force_does(pair, seed, count, k_prime, impute, which):
    scorer = f'xtr(k_prime={k_prime}, impute="{impute}", gamma=0.9)'
    got = pair[which].search(query(seed, count), 200, scorer=scorer)
    same(got, pair[2].search(query(seed, count), 200, scorer=scorer))


def test_maxsim_reads_the_stored_vectors(pair):
    for index in pair[:2]:
        assert index.search(query(1), 200, scorer="maxsim") == pair[2].search(query(1), 200)


def test_xtr_is_what_it_scores_by_where_none_is_named(pair):
    assert pair[0].search(query(1)) == pair[0].search(query(1), scorer="xtr(k_prime=1000)")


@given(seed=st.integers(0, 1000), few=st.sampled_from([0, 20_000]), which=st.sampled_from([0, 1]))
def test_a_filter_leaves_what_brute_force_over_it_finds(pair, seed, few, which):
    allowed = np.random.default_rng(seed).random(160) < 0.4
    asked = Request(None, query(seed), allowed=allowed)
    scorer = faiss_search.Xtr(k_prime=60)
    exact = searcher(pair[2]).rank(asked, scorer, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_search, "FEW", few)
        got = searcher(pair[which]).rank(asked, scorer, 1)
    assert np.array_equal(got[0], exact[0]) and allowed[got[0]].all()
    assert got[1] == pytest.approx(exact[1], abs=1e-5)


def test_one_filter_leaves_no_trace_in_the_next_query(pair, monkeypatch):
    monkeypatch.setattr(faiss_search, "FEW", 0)
    shared = searcher(pair[0])
    for allowed in (np.arange(160) < 50, None, np.arange(160) >= 50):
        found, _ = shared.rank(Request(None, query(1), allowed=allowed), None, 1)
        want, _ = searcher(pair[0]).rank(Request(None, query(1), allowed=allowed), None, 1)
        assert np.array_equal(found, want) and len(found)


def test_a_filter_that_allows_nothing_finds_nothing(pair, monkeypatch):
    monkeypatch.setattr(faiss_search, "FEW", 0)
    nothing = Request(None, query(1), allowed=np.zeros(160, np.bool_))
    assert len(searcher(pair[0]).rank(nothing, None, 1)[0]) == 0


@pytest.mark.parametrize("factory", EVERY)
def test_every_factory_leaves_out_what_is_deleted_or_not_allowed(factory, tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_search, "FEW", 0)
    vectors = passages(200, seed=4)
    index = make(tmp_path / "index", f'faiss(factory="{factory}", nprobe=8)', vectors)
    index.delete(["d7", "d8"])
    allowed = np.arange(200) % 3 == 1  # d7 among them
    asked = Request(None, vectors[7], allowed=allowed)
    found, scores = searcher(index).rank(asked, faiss_search.Xtr(k_prime=40), 1)
    assert len(found) and allowed[found].all() and 7 not in found
    assert np.isfinite(scores).all()
    assert index.search(vectors[10], 1)[0].doc_id == "d10"


@pytest.mark.parametrize(
    ("factory", "number"), [("PQ4x4fs", "bbs"), ("PQ4x4fs", "M2"), ("RaBitQ4", "nb_bits")]
)
def test_an_index_whose_numbers_lie_is_refused_before_it_is_searched(factory, number):
    rows = np.concatenate(passages(300, seed=2))
    index = faiss_index.empty(factory, H)
    faiss_index.train(index, rows, seed=0)
    faiss_index.add(index, rows)
    holder = index.rabitq if number == "nb_bits" else index
    setattr(holder, number, 2 * getattr(holder, number))
    data = faiss_index.to_bytes(index)
    with pytest.raises(IndexCorruptError, match="x: "):
        faiss_index.from_bytes(data, factory, H, len(rows), "x")


def test_faiss_reads_no_array_that_its_bytes_cannot_hold_and_keeps_its_own_limits():
    rows = np.concatenate(passages(300, seed=2))
    index = faiss_index.empty("SQ8", H)
    faiss_index.train(index, rows, seed=0)
    faiss_index.add(index, rows)
    data = faiss_index.to_bytes(index)
    before = faiss.get_deserialization_vector_byte_limit()
    place = data.tobytes().index(np.int64(len(rows) * H).tobytes())  # how many codes there are
    data[place : place + 8] = np.frombuffer(np.int64(1 << 40).tobytes(), np.uint8)
    with pytest.raises(IndexCorruptError, match="cannot read it"):
        faiss_index.from_bytes(data, "SQ8", H, len(rows), "x")
    assert faiss.get_deserialization_vector_byte_limit() == before


@pytest.mark.parametrize("factory", EVERY)
def test_what_is_cut_off_and_added_again_is_found_as_before(factory):
    rows = np.concatenate(passages(300, seed=2))
    index = faiss_index.empty(factory, H)
    faiss_index.train(index, rows, seed=0)
    faiss_index.add(index, rows)
    faiss_index.set_probes(index, 8)
    want = faiss_index.search(index, query(3), 50)
    left = faiss_index.cut(index, 700)
    faiss_index.add(index, rows[left:])
    got = faiss_index.search(index, query(3), 50)
    assert got[1] == pytest.approx(want[1], abs=1e-5)
    assert np.mean(np.sort(got[0]) == np.sort(want[0])) > 0.95  # 4-bit codes have many ties


def test_what_does_not_count_is_sifted_out_until_enough_is_found():
    rows = np.concatenate(passages(300, seed=2))
    index = faiss_index.empty("Flat", H)
    faiss_index.add(index, rows)
    mask = np.arange(len(rows)) % 20 == 3
    bits = np.packbits(mask, bitorder="little")
    got = faiss_search._sifted(index, query(3), 30, mask, len(rows))
    want = faiss_index.search(index, query(3), 30, bits)
    assert np.array_equal(got[0], want[0]) and got[1] == pytest.approx(want[1], abs=1e-6)
    few, _ = faiss_search._sifted(index, query(3), 30, mask, 100)  # and no more than a GPU can
    assert few.shape == (5, 30) and (few < 0).any() and (few[:, 0] >= 0).all()


def test_a_row_without_enough_tokens_ends_in_its_worst():
    tokens = np.array([[4, 2, -1, -1], [5, 6, 7, 8]])
    sims = np.array([[0.9, 0.5, -9, -9], [0.8, 0.7, 0.6, 0.5]], np.float32)
    filled = faiss_search._filled(tokens, sims)
    assert filled[0].tolist() == [[4, 2, 2, 2], [5, 6, 7, 8]]
    assert filled[1][0].tolist() == pytest.approx([0.9, 0.5, 0.5, 0.5])
    assert faiss_search._filled(np.array([[1, 2], [-1, -1]]), np.zeros((2, 2))) is None


def test_few_probes_find_fewer_tokens_and_impute_the_worst_of_these(pair):
    index = Index.open(pair[1].path, tune={"nprobe": 1})
    tokens, sims = searcher(index)._retrieve(Request(None, query(2)), 900, 1)
    distinct = [len(set(row)) for row in tokens.tolist()]
    assert max(distinct) < 900 and min(distinct) > 0
    assert (np.diff(sims, axis=1) <= 0).all()
    hits = index.search(query(2), 200, scorer="xtr(k_prime=900)")
    floor = float(sims[:, -1].mean())
    assert min(hit.score for hit in hits) >= floor - 1e-5


def test_a_row_for_which_faiss_finds_nothing_is_searched_by_brute_force(pair, monkeypatch):
    found = np.full((5, 10), -1), np.zeros((5, 10), np.float32)
    monkeypatch.setattr(faiss_index, "search", lambda *_: found)
    scorer = "xtr(k_prime=10)"
    got = Index.open(pair[0].path).search(query(1), 50, scorer=scorer)
    assert got == pair[2].search(query(1), 50, scorer=scorer)


def test_refined_passages_are_ranked_by_maxsim_and_the_others_stay_below(pair):
    plain = pair[0].search(query(4), 200, scorer="xtr(k_prime=30)")
    index = Index.open(pair[0].path, tune={"refine": 20})
    hits = index.search(query(4), 200, scorer="xtr(k_prime=30)")
    true = {h.doc_id: h.score / 5 for h in pair[2].search(query(4), 200, scorer="maxsim")}
    assert {h.doc_id for h in hits[:20]} == {h.doc_id for h in plain[:20]}
    assert {h.doc_id: h.score for h in hits[:20]} == pytest.approx(
        {h.doc_id: true[h.doc_id] for h in hits[:20]}, abs=1e-6
    )
    assert [h.doc_id for h in hits[20:]] == [h.doc_id for h in plain[20:]]
    assert hits[20].score < hits[19].score


def test_refining_everything_is_maxsim(pair):
    index = Index.open(pair[1].path, tune={"refine": 1000, "nprobe": 8})
    hits = index.search(query(5), 5, scorer="xtr(k_prime=5000)")
    assert [h.doc_id for h in hits] == [h.doc_id for h in pair[2].search(query(5), 5)]


@pytest.mark.parametrize("factory", ["Flat", "IVF8,PQ8x4fs", "RR32,IVF8,RaBitQ"])
def test_threads_do_not_change_the_hits(factory, tmp_path):
    index = make(tmp_path / "index", f'faiss(factory="{factory}", nprobe=4)', passages(200))
    queries = [query(i, 30) for i in range(4)]
    alone = [index.search(q) for q in queries]
    assert [index.search(q, threads=3) for q in queries] == alone
    assert index.search_many(queries, threads=3) == alone


def test_faiss_is_given_the_threads_that_were_asked_for_and_no_longer(pair, monkeypatch):
    seen, search = [], faiss_index.search

    def watched(*args):
        seen.append(faiss.omp_get_max_threads())
        return search(*args)

    monkeypatch.setattr(faiss_index, "search", watched)
    before = faiss.omp_get_max_threads()
    for threads in (1, 3):
        searcher(pair[0]).rank(Request(None, query(1)), None, threads)
    assert seen == [1, 3] and faiss.omp_get_max_threads() == before


@pytest.fixture(scope="module")
def sample():
    """Token vectors of a part of the sample that ships, and of its queries."""
    collection, model = load_collection(sample_path()), encoders.build("tokret-mini")
    texts = [document.contents for document in collection.documents()][:40]
    queries = [query.text for query in collection.queries][:20]
    return [list(model.encode_documents(texts).tokens), list(model.encode_queries(queries).tokens)]


@pytest.mark.parametrize(
    ("factory", "least", "refined"),
    [("IVF64,PQ64x4fs", 0.8, 0.95), ("RR128,IVF64,RaBitQ", 0.75, 0.92), ("IVF64,SQ8", 0.83, 0.95)],
)
def test_the_ten_best_of_the_sample_are_found(sample, tmp_path, factory, least, refined):
    vectors, queries = sample
    spec = "precomputed(dim=128)"
    exact = Index.create(tmp_path / "exact", encoder=spec)
    index = Index.create(
        tmp_path / "faiss", encoder=spec, backend=f'faiss(factory="{factory}", nprobe=16)'
    )
    for each in (exact, index):
        each.add(named(vectors), vectors=vectors)

    def share(hits, want):
        return len({h.doc_id for h in hits} & {h.doc_id for h in want}) / 10

    best = Index.open(index.path, tune={"refine": 20})
    by_xtr = [share(index.search(q), exact.search(q, scorer="xtr")) for q in queries]
    by_maxsim = [share(best.search(q), exact.search(q)) for q in queries]
    assert np.mean(by_xtr) >= least and np.mean(by_maxsim) >= refined


# -- what it keeps in step ------------------------------------------------------------


def test_an_addition_goes_into_the_trained_index(tmp_path):
    vectors = passages(200)
    index = make(tmp_path / "index", IVF, vectors[:100])
    before = covered(derived(index))
    index.add(named(vectors[100:150], 100), vectors=vectors[100:150])
    after = covered(derived(index))
    assert after[1] == before[1] and after[0][:1] == before[0] and len(after[0]) == 2
    assert index.search(vectors[120], 1)[0].doc_id == "d120"


def test_a_deletion_leaves_the_faiss_index_as_it_is(tmp_path):
    index = make(tmp_path / "index", IVF, passages(100))
    before = derived(index).path
    index.delete(["d5"])
    assert derived(index).path == before


def test_what_is_deleted_is_not_trained_on(tmp_path):
    vectors = passages(100)
    index = make(tmp_path / "index", IVF, vectors[:80])
    index.add(named(vectors[80:], 80), vectors=vectors[80:])
    index.delete(["d0", "d2"])
    whole, (first, second) = sum(map(len, vectors[:80])), live_tokens(Store(index.path).open())
    gone = {*range(len(vectors[0]))} | {
        len(vectors[0]) + len(vectors[1]) + i for i in range(len(vectors[2]))
    }
    assert first.tolist() == sorted({*range(whole)} - gone) and second is None


def test_an_index_that_has_grown_much_is_trained_anew(tmp_path):
    vectors = passages(600)
    index = make(tmp_path / "index", IVF, vectors[:100])
    index.add(named(vectors[100:], 100), vectors=vectors[100:])
    held, trained = covered(derived(index))
    assert trained == sum(tokens for _, tokens in held) == sum(map(len, vectors))


@pytest.mark.parametrize("backend", [FLAT, IVF, 'faiss(factory="IVF8,PQ8x4fs", nprobe=8)'])
def test_a_history_of_changes_ends_as_one_build(tmp_path, backend):
    vectors = passages(260, seed=9)
    index = make(tmp_path / "index", backend, vectors[:200])
    for i in range(200, 210):  # enough small segments to be merged on the way
        index.add(named(vectors[i : i + 1], i), vectors=vectors[i : i + 1])
        if i % 4 == 0:
            index.delete([f"d{i - 5}"])
    index.add([("d3", "x")], vectors=vectors[240:241], on_duplicate="replace")
    snapshot = Store(index.path).open()
    assert covered(snapshot.derived)[0] == held_by(snapshot) and verify(index.path) == []
    assert len(snapshot.segments) < 8
    exact = make(tmp_path / "exact", 'exact(dtype="fp32")', vectors[:210])
    exact.add([("d3", "x")], vectors=vectors[240:241], on_duplicate="replace")
    exact.delete([f"d{i - 5}" for i in range(200, 210) if i % 4 == 0])
    for i in range(180, 190):  # there all along
        assert index.search(vectors[i], 1)[0].doc_id == f"d{i}"
    for seed in range(0 if "PQ" in backend else 5):
        scorer = "xtr(k_prime=100)"
        got, want = (each.search(query(seed), 300, scorer=scorer) for each in (index, exact))
        same(got, want)
    assert index.search(vectors[240], 1)[0].doc_id == "d3"


def test_compaction_keeps_the_index_in_step(tmp_path):
    vectors = passages(200)
    index = make(tmp_path / "index", IVF, vectors[:150])
    index.add(named(vectors[150:], 150), vectors=vectors[150:])
    index.delete([f"d{i}" for i in range(60)])
    want = index.search(query(1), 300, scorer="xtr(k_prime=90)")
    index.compact(force=True)
    snapshot = Store(index.path).open()
    assert covered(snapshot.derived)[0] == held_by(snapshot) and len(snapshot.segments) == 1
    same(index.search(query(1), 300, scorer="xtr(k_prime=90)"), want)


def test_a_reader_keeps_its_version_until_it_refreshes(tmp_path):
    vectors = passages(120)
    index = make(tmp_path / "index", IVF, vectors[:100])
    reader = Index.open(index.path)
    index.add(named(vectors[100:], 100), vectors=vectors[100:])
    assert "d110" not in [h.doc_id for h in reader.search(vectors[110], 50)]
    assert reader.refresh()
    assert reader.search(vectors[110], 1)[0].doc_id == "d110"


def test_everything_can_be_deleted_and_put_back(tmp_path):
    vectors = passages(100)
    index = make(tmp_path / "index", IVF, vectors)
    index.delete([f"d{i}" for i in range(100)])
    assert index.search(query(1)) == [] and derived(index) is None
    index.add(named(vectors), vectors=vectors)
    assert index.search(vectors[9], 1)[0].doc_id == "d9"


def test_a_collection_too_small_to_train_on_is_searched_by_brute_force_and_said_so(tmp_path):
    vectors = passages(60)
    backend = 'faiss(factory="IVF16,Flat", dtype="fp32", refine=3)'
    with pytest.warns(UserWarning, match="too few to train on; .* until there are 624"):
        index = make(tmp_path / "index", backend, vectors)
    exact = make(tmp_path / "exact", 'exact(dtype="fp32")', vectors)
    plain = Index.open(index.path, tune={"refine": 0})
    assert derived(index) is None
    assert plain.search(query(1)) == exact.search(query(1), scorer="xtr")
    more = passages(60, seed=1)
    index.add(named(more, 60), vectors=more)
    assert derived(index) is not None


@pytest.mark.parametrize("factory", ["IVF8,PQ8x4fs", "IVF8,RaBitQ", "RR32,IVF8,Flat", "PCA16,SQ8"])
def test_two_builds_are_the_same_bytes_whatever_the_threads(factory, tmp_path):
    vectors, files = passages(900, seed=5), []
    for i, threads in enumerate((1, 3, 1)):
        with faiss_index.at_most(threads):
            backend = f'faiss(factory="{factory}", seed={i // 2})'
            index = make(tmp_path / str(i), backend, vectors)
        files.append((derived(index).path / "index.bin").read_bytes())
    assert files[0] == files[1]
    assert (files[0] == files[2]) == ("IVF" not in factory)  # another seed, another clustering


def test_the_build_from_a_stream_settles_the_index_too(tmp_path):
    vectors = passages(100)
    build(
        tmp_path / "index",
        named(vectors),
        encoder=f"precomputed(dim={H})",
        backend=IVF,
        vectors=vectors,
    )
    with Index.open(tmp_path / "index") as index:
        assert index.search(vectors[4], 1)[0].doc_id == "d4" and derived(index) is not None


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_vectors_are_added_as_they_are_stored(dtype, tmp_path):
    vectors = passages(100)
    indexes = [
        make(tmp_path / name, f'{name}({more}dtype="{dtype}")', vectors)
        for name, more in (("faiss", 'factory="Flat", '), ("exact", ""))
    ]
    got, want = (index.search(query(1), 100, scorer="xtr(k_prime=400)") for index in indexes)
    # Brute force over int8 rounds the query too; faiss does not.
    same(got, want, tolerance=1e-5 if dtype == "fp16" else 1e-2)


# -- what it refuses ------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 5, 40, 2000, -1])
def test_a_changed_byte_is_found_before_faiss_reads_it(at, tmp_path, monkeypatch):
    index = make(tmp_path / "index", IVF, passages(100))
    path = derived(index).path / "index.bin"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)

    def never(data):
        raise AssertionError("faiss was given damaged bytes")

    opened = Index.open(index.path)
    monkeypatch.setattr(faiss, "deserialize_index", never)
    with pytest.raises(IndexCorruptError, match=r"index\.bin: damaged between byte 0"):
        opened.search(query(1))
    with pytest.raises(IndexCorruptError, match="damaged"):
        opened.add(named(passages(1), 500), vectors=passages(1))
    assert [damage.file for damage in verify(index.path)] == [str(path.relative_to(index.path))]


def forge(index, /, **columns):
    """Commit another derived segment, every digest in order."""
    store = Store(index.path)
    snapshot = store.open()
    kept = {name: snapshot.derived.read(name) for name in DERIVED} | columns
    writer = SegmentWriter(store.new_segment_path(), "derived", DERIVED)
    writer.append(**kept)
    entry = Entry.from_dict(writer.seal(), "forged")
    store.commit(replace(snapshot.manifest, version=snapshot.manifest.version + 1, derived=entry))
    return Index.open(index.path)


def blob(factory, rows, width=H):
    made = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    made.train(rows)
    made.add(rows)
    return faiss.serialize_index(made)


def test_an_index_that_the_factory_does_not_name_is_refused(tmp_path):
    vectors = passages(150)
    rows = np.concatenate(vectors)
    index = make(tmp_path / "index", IVF, vectors)
    wide = np.pad(rows, ((0, 0), (0, H)))
    forged = [
        blob("IVF8,SQ8", rows),
        blob("IVF7,Flat", rows),
        blob("Flat", rows),
        blob("IVF8,Flat", wide, 2 * H),
        blob("IVF8,Flat", rows[:-1]),
        blob("HNSW8,Flat", rows),
        faiss.serialize_index(faiss.index_factory(H, "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)),
        blob("IVF8,Flat", rows)[:-100],
        np.empty(0, np.uint8),
    ]
    for data in forged:
        opened = forge(index, index=data)
        with pytest.raises(IndexCorruptError, match=r"index\.bin: (not the index|faiss .* cannot)"):
            opened.search(query(1))


def test_an_index_of_another_metric_is_refused(tmp_path):
    vectors = passages(150)
    rows = np.concatenate(vectors)
    made = faiss.index_factory(H, "IVF8,Flat", faiss.METRIC_L2)
    made.train(rows)
    made.add(rows)
    index = forge(make(tmp_path / "index", IVF, vectors), index=faiss.serialize_index(made))
    with pytest.raises(IndexCorruptError, match="not the index 'IVF8,Flat'"):
        index.search(query(1))


def test_an_index_whose_ids_are_no_tokens_is_refused(tmp_path):
    vectors = passages(150)
    rows = np.concatenate(vectors)
    made = faiss.index_factory(H, "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
    made.train(rows)
    made.add_with_ids(rows, np.arange(len(rows)) + 10**9)
    index = forge(make(tmp_path / "index", IVF, vectors), index=faiss.serialize_index(made))
    with pytest.raises(IndexCorruptError, match="found a token that there is not"):
        index.search(query(1))


def test_a_description_that_tells_other_segments_is_refused(tmp_path):
    index = make(tmp_path / "index", IVF, passages(100))
    (held,), trained = covered(derived(index))
    other = Held("seg-0123456789abcdef", held.tokens)
    for segment, tokens in [other, held._replace(tokens=held.tokens + 1)]:
        with pytest.raises(IndexCorruptError, match="other segments than those"):
            forge(
                index,
                segment_ids=np.frombuffer(segment.encode(), np.uint8).reshape(1, -1),
                segment_tokens=np.array([tokens]),
            )
    for tokens in (-1, 1 << 62):
        with pytest.raises(IndexCorruptError, match="segment_tokens are no numbers"):
            forge(index, segment_tokens=np.array([tokens]))
    with pytest.raises(IndexCorruptError, match="trained_on must be"):
        forge(index, trained_on=np.array([trained, trained]))


@pytest.mark.parametrize(
    "factory",
    [
        *(
            "",
            "Flat,",
            "IVF0,Flat",
            "PQ0",
            "HNSW32",
            "IDMap,Flat",
            "IVF8",
            "IVF8,PQ8x8fs",
            "PQ8x64",
        ),
        *("IVF99999999,Flat", "Flat\n", "IVF8,Flat,RFlat", "LSH", "../Flat", "OPQ0,Flat", "PQ8x0"),
    ],
)
def test_a_factory_that_is_not_known_is_refused(factory):
    with pytest.raises(UsageError, match="no factory"):
        Faiss(factory)


@pytest.mark.parametrize(
    "options", ["nprobe=0", "refine=-1", "seed=-1", 'device="gpu"', 'device="cuda:x"', "dtype=1"]
)
def test_an_option_out_of_range_is_refused(options):
    with pytest.raises(UsageError):
        backends.build(f'faiss(factory="Flat", {options})')


def test_the_spec_reads_back():
    spec = 'faiss(factory="IVF4096,PQ32x8", dtype="int8", seed=1, nprobe=8, refine=100)'
    assert str(backends.build(spec)) == spec
    with pytest.raises(UsageError, match="needs factory"):
        backends.build("faiss")


def test_a_factory_that_does_not_suit_the_width_is_refused_and_nothing_is_left(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy", backend='faiss(factory="PQ7")')
    with pytest.raises(UsageError, match=r"no 'PQ7' of vectors of width 16: The dimension"):
        index.add([("d1", "red green")])
    assert len(index) == 0


@pytest.mark.parametrize("factory", ["PCA64,Flat", "OPQ5,PQ8x4"])
def test_a_training_that_faiss_refuses_is_an_error_in_words(factory, tmp_path):
    with pytest.raises(UsageError, match=r"faiss cannot train|faiss makes no"):
        make(tmp_path / "index", f'faiss(factory="{factory}")', passages(1800))


def test_a_query_of_another_width_is_refused(pair):
    with pytest.raises(InputError, match="width"):
        pair[0].search(np.ones((2, H + 1)))


@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there_is_said_with_what_to_do(pair, device):
    if faiss_index.library().get_num_gpus() > 3:
        pytest.skip("there are GPUs")
    index = Index.open(pair[0].path, tune={"device": device})
    with pytest.raises(ResourceError, match=r"tokret\[gpu\].*tokret doctor") as told:
        index.search(query(1))
    assert device in str(told.value)
    assert index.search(query(1), 3, scorer="maxsim") == pair[2].search(query(1), 3)


def test_a_gpu_finds_no_more_than_it_can(pair, monkeypatch):
    index = Index.open(pair[0].path, tune={"device": "cuda"})
    monkeypatch.setattr(faiss_index, "to_device", lambda index, device: index)
    monkeypatch.setattr(faiss_index, "DEVICE_MOST", 50)
    with pytest.raises(UsageError, match="at most 50 tokens on a GPU; use k_prime=50"):
        index.search(query(1))
    want = pair[2].search(query(1), scorer="xtr(k_prime=50)")
    same(index.search(query(1), scorer="xtr(k_prime=50)"), want)


def test_without_faiss_the_extra_is_named(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = Index.open(pair[0].path)
    assert len(index) == 158 and index.search(query(1), 1, scorer="maxsim")
    with pytest.raises(MissingExtraError, match=r"pip install 'tokret\[faiss\]'"):
        index.search(query(1))


def test_only_options_of_searching_can_be_tuned(pair):
    with pytest.raises(
        UsageError, match=r"no option of searching 'factory'.* It has nprobe, refine"
    ):
        Index.open(pair[0].path, tune={"factory": "SQ8"})
    with pytest.raises(UsageError, match="nprobe must be int"):
        Index.open(pair[0].path, tune={"nprobe": "many"})
    with pytest.raises(
        UsageError, match=r"'exact' has no option of searching 'nprobe'.* It has none"
    ):
        Index.open(pair[2].path, tune={"nprobe": 3})


def test_tuning_changes_nothing_on_disk(pair):
    index = Index.open(pair[1].path, tune={"nprobe": 3})
    assert index.backend.nprobe == 3 and str(pair[1].backend) == IVF
    assert json.loads(next(Path(index.path).glob("manifest-*")).read_text())["backend"] == IVF
    index.refresh()
    assert index.backend.nprobe == 3


def test_threads_may_search_while_the_index_is_first_read(pair):
    index, want, wrong = Index.open(pair[1].path), pair[1].search(query(1)), []

    def search():
        if index.search(query(1)) != want:
            wrong.append("other hits")

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
