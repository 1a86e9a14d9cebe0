"""The index as its users hold it."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokret
from tokret.errors import (
    IndexMissingError,
    IndexStateError,
    InputError,
    LockedError,
    ModelMismatchError,
    UsageError,
)
from tokret.indexes import Index, Interrupted, build
from tokret.indexes.store import Store

DOCS = [
    ("d1", "red green blue"),
    ("d2", "green tea from the green hills"),
    ("d3", "a blue whale"),
    ("d4", ""),
]
BACKENDS = ["exact", 'exact(dtype="fp32")', 'exact(dtype="int8")', "bm25"]


@pytest.fixture(params=BACKENDS)
def index(request, tmp_path):
    with Index.create(tmp_path / "index", encoder="toy", backend=request.param) as index:
        index.add(DOCS)
        yield index


def ids(hits):
    return [hit.doc_id for hit in hits]


def test_finds_the_document_that_holds_the_words(index):
    assert ids(index.search("blue whale", k=1)) == ["d3"]
    assert ids(index.search("tea from hills", k=1)) == ["d2"]


def test_a_hit_carries_its_passage(index):
    (hit,) = index.search("whale", k=1)
    assert (hit.start, hit.end, hit.text) == (0, 12, "a blue whale")


def test_an_index_is_the_same_when_opened_again(index):
    again = Index.open(index.path)
    assert again.search("green blue") == index.search("green blue")
    assert len(again) == 4 and "d4" in again and "d5" not in again


def test_a_document_without_tokens_is_kept_and_never_found(index):
    assert index.document("d4").text == ""
    assert "d4" not in ids(index.search("red", k=10))


@pytest.mark.parametrize("query", ["", "   ", "!?"])
def test_a_query_without_tokens_finds_nothing(index, query):
    assert index.search(query) == []


def test_deleted_documents_are_gone_and_the_others_stay(index):
    before = {hit.doc_id: hit.score for hit in index.search("green")}
    assert index.delete(["d2"]) == 1
    assert "d2" not in index and len(index) == 3
    assert "d2" not in ids(index.search("green", k=10))
    if not str(index.backend).startswith("bm25"):  # idf is a matter of the whole collection
        after = {hit.doc_id: hit.score for hit in index.search("green")}
        assert after == {d: s for d, s in before.items() if d != "d2"}


def test_deleting_what_is_not_there_deletes_nothing(index):
    with pytest.raises(UsageError, match="No document 'd9'; nothing was deleted"):
        index.delete(["d1", "d9"])
    assert "d1" in index
    assert index.delete(["d1", "d9"], missing="skip") == 1


def test_everything_can_be_deleted_and_put_back(index):
    index.delete(["d1", "d2", "d3", "d4"])
    assert len(index) == 0 and index.search("green") == []
    index.add(DOCS)
    assert ids(index.search("whale", k=1)) == ["d3"]


def test_a_known_id_is_an_error_or_skipped_or_replaces(index):
    with pytest.raises(InputError, match="the id 'd1' is there already"):
        index.add([("d5", "new"), ("d1", "other")])
    assert "d5" not in index  # all or nothing
    assert index.add([("d1", "other")], on_duplicate="skip").skipped == 1
    assert index.document("d1").text == "red green blue"
    assert index.add([("d1", "other"), ("d1", "third")], on_duplicate="replace").replaced == 2
    assert index.document("d1").text == "third" and len(index) == 4


def test_adding_in_two_steps_equals_adding_at_once(index, tmp_path):
    other = Index.create(tmp_path / "other", encoder="toy", backend=index.backend)
    for doc in reversed(DOCS):
        other.add([doc])
    for query in ["green blue", "whale tea", "red"]:
        assert [h[:2] for h in other.search(query)] == [h[:2] for h in index.search(query)]


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(index, k):
    with pytest.raises(UsageError, match=f"k must be at least 1, .* got {k}"):
        index.search("red", k)


def test_k_beyond_the_collection_gives_what_there_is(index):
    assert len(index.search("red green blue whale", k=10**9)) <= 3


def test_queries_together_answer_as_queries_alone(index):
    queries = ["green", "blue whale", "", "red"]
    alone = [index.search(query) for query in queries]
    assert index.search_many(queries) == alone
    assert index.search_many(queries, threads=3) == alone


def test_threads_may_search_while_a_writer_writes(index):
    want = index.search("whale", k=1)
    reader, wrong = Index.open(index.path), []

    def search():
        for _ in range(20):
            if reader.search("whale", k=1) != want:
                wrong.append("other hits")

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(5):
        index.add([(f"n{i}", "whale whale")])
    for thread in threads:
        thread.join()
    assert wrong == []
    assert reader.refresh() and "n4" in reader and not reader.refresh()


def test_a_rebuilt_folder_is_seen_by_refresh_though_its_version_is_the_same(index):
    for path in sorted(Path(index.path).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    other = Index.create(index.path, encoder="toy", backend=index.backend)
    other.add([("new", "zebra")])
    assert other.info()["version"] == index.info()["version"]
    assert index.refresh() and "new" in index and "d1" not in index


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"encoder": "toy(max_tokens=9)"}, "encoder"),
        ({"backend": "bm25"}, "backend"),
        ({"max_tokens": 5}, "settings"),
    ],
)
def test_an_index_built_anew_in_another_way_is_neither_followed_nor_written(
    tmp_path, options, what
):
    index = Index.create(tmp_path / "i", encoder="toy")
    index.add(DOCS)
    want = index.search("whale")
    build(tmp_path / "i", DOCS[:2], **{"encoder": "toy", **options}, overwrite=True)
    for change in (index.refresh, lambda: index.add([("x", "y")]), lambda: index.delete(["d1"])):
        with pytest.raises(IndexStateError, match=f"built anew meanwhile: its {what} was"):
            change()
    assert index.search("whale") == want
    assert len(Index.open(tmp_path / "i")) == 2


def test_refresh_opens_nothing_while_nothing_has_changed(index, monkeypatch):
    monkeypatch.setattr(Store, "open", lambda self: pytest.fail("opened"))
    assert not index.refresh()


def test_ids_that_no_document_can_have_are_not_there(index):
    assert "\udcff" not in index and 5 not in index
    assert index.delete(["\udcff"], missing="skip") == 0
    for wrong in ("\udcff", 5):
        with pytest.raises(UsageError, match="No document"):
            index.document(wrong)
    with pytest.raises(UsageError, match="Ids are strings, got 5"):
        index.delete(["d1", 5], missing="skip")
    with pytest.raises(UsageError, match="missing must be 'error' or 'skip'"):
        index.delete(["d1", "d9"], missing="ignore")
    assert "d1" in index


def test_adding_nothing_new_makes_no_version(index):
    before = index.info()
    assert index.add(DOCS, on_duplicate="skip").skipped == 4
    assert index.info() == before


def test_a_closed_index_says_so(index):
    index.close()
    with pytest.raises(UsageError, match="is closed"):
        index.search("red")


def test_a_second_writer_is_told_who_holds_the_index(index):
    with Store(index.path).lock(), pytest.raises(LockedError, match=r"process \d+ on"):
        index.add([("x", "y")])


def test_an_interrupted_add_leaves_nothing(index, tmp_path):
    with pytest.raises(Interrupted):
        index.add([("x", "y")], stop=lambda: True)
    assert "x" not in index and len(list((tmp_path / "index" / "segments").iterdir())) <= 2


def test_a_read_only_folder_can_be_searched(index, tmp_path):
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "index").rglob("*")}
    Index.open(index.path).search("red")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "index").rglob("*")} == files


def test_an_index_moved_elsewhere_still_opens(index, tmp_path):
    (tmp_path / "index").rename(tmp_path / "elsewhere")
    assert ids(Index.open(tmp_path / "elsewhere").search("whale", k=1)) == ["d3"]


# -- token vectors -----------------------------------------------------------------------


@pytest.fixture
def vectors(toy):
    return [toy.encode_documents([text]).tokens[0] for _, text in DOCS]


def test_given_vectors_rank_as_encoded_ones(tmp_path, toy, vectors):
    ours = Index.create(tmp_path / "a", encoder="precomputed(dim=16)")
    ours.add(DOCS, vectors=vectors)
    theirs = Index.create(tmp_path / "b", encoder="toy")
    theirs.add(DOCS)
    query = toy.encode_queries(["green blue"]).tokens[0]
    assert [h[:2] for h in ours.search(query)] == [h[:2] for h in theirs.search("green blue")]


def test_given_vectors_are_brought_to_unit_length_unless_told_not_to(tmp_path, vectors):
    query = vectors[2]
    scores = []
    for i, options in enumerate([{}, {"normalize": False}]):
        index = Index.create(tmp_path / str(i), encoder="precomputed(dim=16)", **options)
        index.add(DOCS, vectors=[3 * v for v in vectors])
        scores.append(index.search(query, k=1)[0].score)
    assert scores[0] == pytest.approx(3, abs=1e-2)  # three words, each its own best match
    assert scores[1] == pytest.approx(9, abs=2e-2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v[:3], "fewer vectors"),
        (lambda v: [*v, v[0]], "more vectors"),
        (lambda v: [v[0], v[1] * np.nan, *v[2:]], "Document 'd2' holds NaN"),
        (lambda v: [v[0], np.zeros((2, 16)), *v[2:]], "'d2': token 0 is a zero vector"),
        (lambda v: [x[:, :8] for x in v], "width 8, the index has 16"),
        (lambda v: [v[0].astype(complex), *v[1:]], "real numbers"),
        (lambda v: [v[0][0], *v[1:]], r"must be an array \[T, H\]"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused_and_nothing_is_kept(
    tmp_path, vectors, change, says
):
    index = Index.create(tmp_path / "index", encoder="precomputed(dim=16)")
    with pytest.raises(InputError, match=says):
        index.add(DOCS, vectors=change(vectors))
    assert len(index) == 0


def test_fp16_overflow_is_refused(tmp_path):
    index = Index.create(tmp_path / "i", encoder="precomputed(dim=2)", normalize=False)
    with pytest.raises(InputError, match="beyond float16"):
        index.add([("a", "b")], vectors=[np.full((1, 2), 1e5)])


@pytest.mark.parametrize(
    "query", [np.ones((2, 3)), np.full((1, 16), np.nan), np.ones(16), [["a"]], 7]
)
def test_a_query_of_another_shape_is_refused(tmp_path, query):
    index = Index.create(tmp_path / "index", encoder="toy")
    index.add(DOCS)
    with pytest.raises(InputError):
        index.search(query)


def test_vectors_in_any_layout_are_taken(tmp_path, vectors):
    forms = [
        lambda v: np.asfortranarray(v),
        lambda v: v[::-1][::-1],
        lambda v: v.astype(">f4"),
        lambda v: v.astype(np.float64),
        lambda v: v.tolist(),
    ]
    for i, form in enumerate(forms):
        index = Index.create(tmp_path / str(i), encoder="precomputed(dim=16)")
        index.add(DOCS[:3], vectors=[form(v) for v in vectors[:3]])
        assert ids(index.search(vectors[2], k=1)) == ["d3"]


def test_another_model_is_refused_unless_allowed(tmp_path):
    Index.create(tmp_path / "index", encoder="toy").add(DOCS)
    other = "toy(max_tokens=5)"
    with pytest.raises(
        ModelMismatchError, match=r"holds vectors of toy .* got toy\(max_tokens=5\)"
    ):
        Index.open(tmp_path / "index", encoder=other)
    assert Index.open(tmp_path / "index", encoder=other, any_model=True).search("whale")
    with pytest.raises(ModelMismatchError):  # vectors of another width never fit
        Index.open(tmp_path / "index", encoder="toy(dim=8)", any_model=True)


# -- passages ------------------------------------------------------------------------------


def test_long_documents_are_split_and_every_word_is_found(tmp_path):
    words = [f"w{i}" for i in range(40)]
    index = Index.create(tmp_path / "index", encoder="toy")
    added = index.add([("long", " ".join(words)), ("short", "w0 other")])
    assert added.passages > 3 and added.truncated == 0
    for word in words:
        hit = next(h for h in index.search(word) if h.doc_id == "long")
        assert word in hit.text.split()
        assert hit.text == index.document("long").text[hit.start : hit.end]
    (match,) = index.explain("w33", "long")
    assert index.document("long").text[match.start : match.end] == "w33"


def test_a_script_of_several_tokens_a_letter_is_split_before_it_is_cut_off(tmp_path, toy):
    class Bytes(type(toy)):
        """A token for each byte of a text, as in byte-level vocabularies."""

        def token_spans(self, text):
            return np.array([(i, i + 1) for i, c in enumerate(text) for _ in c.encode()]).reshape(
                -1, 2
            )

    index = Index.create(tmp_path / "index", encoder=Bytes())
    added = index.add([("thai", "ปลา วาฬ ปู")])  # ten letters, of which eight take three bytes
    assert added.passages > 1


def test_an_overlap_of_a_whole_passage_is_refused_at_the_first_document(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy", max_tokens=5, overlap=5)
    with pytest.raises(UsageError, match="less than a passage's 5 tokens, got 5"):
        index.add([("short", "a")])


def test_truncation_is_counted(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy", long="truncate", max_tokens=5)
    added = index.add([("long", "a b c d e f g"), ("short", "a b c d e")])
    assert (added.truncated, added.passages, added.tokens) == (1, 2, 10)
    assert index.search("g", k=2)[0].score < 0.99  # the word was cut off


def test_a_document_scores_as_its_best_passage_and_stands_once(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy", max_tokens=4)
    index.add([("d", "whale " * 12), ("e", "whale blue")])
    hits = index.search("whale blue")
    assert ids(hits) == ["e", "d"]


def test_explains_each_query_word_by_its_best_word(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    index.add(DOCS)
    matches = index.explain("the green", "d2")
    text = index.document("d2").text
    assert [text[m.start : m.end] for m in matches] == ["the", "green"]
    assert [m.similarity for m in matches] == pytest.approx([1, 1], abs=1e-3)


def test_explains_shared_stems_on_a_lexical_index(tmp_path):
    index = Index.create(tmp_path / "index", backend="bm25")
    index.add(DOCS)
    (match,) = index.explain("hill", "d2")
    assert index.document("d2").text[match.start : match.end] == "hills"


# -- scorers -------------------------------------------------------------------------------


def test_xtr_with_all_tokens_is_mean_maxsim(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy", backend='exact(dtype="fp32")')
    index.add(DOCS)
    xtr = index.search("green blue tea", scorer="xtr(k_prime=1000)")
    exact = index.search("green blue tea", scorer="maxsim(mean=True)")
    assert ids(xtr) == ids(exact)
    assert [h.score for h in xtr] == pytest.approx([h.score for h in exact], abs=1e-6)


def test_a_lexical_index_takes_no_scorer_and_no_vectors(tmp_path):
    index = Index.create(tmp_path / "index", backend="bm25")
    index.add(DOCS)
    with pytest.raises(UsageError, match="its own formula"):
        index.search("red", scorer="maxsim")
    with pytest.raises(UsageError, match="by text"):
        index.search(np.ones((1, 4)))


def test_an_unknown_scorer_is_answered_with_the_known(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    with pytest.raises(UsageError, match="Did you mean 'maxsim'"):
        index.search("red", scorer="maxsin")


# -- order ---------------------------------------------------------------------------------

words = st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=6).map(" ".join)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(words, min_size=1, max_size=12), k=st.integers(1, 14), data=st.data())
def test_hits_depend_on_neither_order_nor_segments(tmp_path_factory, texts, k, data):
    docs = [(f"d{i:02}", text) for i, text in enumerate(texts)]
    shuffled = data.draw(st.permutations(docs))
    cut = data.draw(st.integers(0, len(docs)))
    for backend in ['exact(dtype="int8")', "bm25"]:
        folder = tmp_path_factory.mktemp("order")
        one = Index.create(folder / "one", encoder="toy", backend=backend)
        one.add(docs)
        two = Index.create(folder / "two", encoder="toy", backend=backend)
        two.add(shuffled[:cut])
        two.add(shuffled[cut:])
        for query in ["a b", "c"]:
            assert [h[:2] for h in two.search(query, k)] == [h[:2] for h in one.search(query, k)]


# -- requests that cannot be served ----------------------------------------------------------


def test_a_missing_index_says_how_to_make_one(tmp_path):
    with pytest.raises(IndexMissingError, match="tokret index"):
        Index.open(tmp_path / "none")
    with pytest.raises(IndexMissingError, match="has no CURRENT"):
        Index.open(tmp_path)
    (tmp_path / "index.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(IndexMissingError, match=r"Pickles .* are never loaded"):
        Index.open(tmp_path / "index.pkl")


def test_create_does_not_touch_an_index_that_is_there(tmp_path):
    Index.create(tmp_path / "index", encoder="toy").add(DOCS)
    with pytest.raises(UsageError, match="already holds an index"):
        Index.create(tmp_path / "index", encoder="toy")
    assert len(Index.open(tmp_path / "index")) == 4


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("text", "must be a Document"),
        ({"id": "a"}, "text must be a string, got None"),
        ({"id": 1, "text": "x"}, "doc_id must be a string, got 1"),
        ({"id": "", "text": "x"}, "empty id"),
        (("a", "\ud800"), "lone surrogate"),
    ],
)
def test_documents_that_cannot_be_used_are_named(tmp_path, document, says):
    index = Index.create(tmp_path / "index", encoder="toy")
    with pytest.raises(InputError, match=f"Document 1.*{says}"):
        index.add([("ok", "x"), document])
    assert len(index) == 0


def test_ids_of_any_shape_come_back_as_they_were(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    names = ["1", "1.0", "a b", "a\tb\n", "../x", "ключ", "🐋", "x" * 10_000, "a\x00b"]
    index.add([(name, "whale") for name in names])
    assert ids(index.search("whale", k=20)) == sorted(names)
    assert all(name in index for name in names)


def test_titles_are_part_of_what_is_searched(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    index.add([tokret.Document("a", "some text", "Whale"), {"_id": "b", "text": "x", "title": ""}])
    assert index.search("whale", k=1)[0].text == "Whale some text"


@pytest.mark.parametrize("count", [0, -1, "3", None, 2.5])
@pytest.mark.parametrize("name", ["k", "threads"])
def test_a_count_that_is_none_is_refused(tmp_path, name, count):
    index = Index.create(tmp_path / "index", encoder="toy")
    with pytest.raises(UsageError, match=f"{name} must be at least 1, a whole number, got"):
        index.search("red", **{name: count})


def test_queries_may_come_from_a_generator(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    index.add(DOCS)
    assert [ids(hits)[0] for hits in index.search_many(q for q in ["whale", "tea"])] == ["d3", "d2"]


def test_mappings_may_use_the_fields_names_of_other_tools(tmp_path):
    index = Index.create(tmp_path / "index", encoder="toy")
    index.add([{"docno": "a", "contents": "whale"}, {"docid": "b", "segment": "tea"}])
    assert index.document("a").text == "whale" and index.document("b").text == "tea"


@pytest.mark.parametrize("query", ["", "  ", "\n"])
def test_special_tokens_alone_find_nothing(tmp_path, query):
    index = Index.create(tmp_path / "index")  # its model adds [CLS] and [SEP] to any text
    index.add(DOCS)
    assert index.search(query) == [] and index.search("whale", k=1)[0].doc_id == "d3"
