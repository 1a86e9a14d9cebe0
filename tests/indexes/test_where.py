"""A filtered search is a search of the documents that the filter allows."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokret.errors import IndexCorruptError, IndexFormatError, InputError, UsageError
from tokret.fields import MAX_NAMES
from tokret.indexes import Index, build, manifest, verify

WORDS = ["red", "green", "blue", "whale", "tea", "hill", "bird", "stone"]
DOCS = [
    {"id": "a", "text": "red green whale", "fields": {"year": 2019, "lang": "en"}},
    {"id": "b", "text": "green tea", "metadata": {"year": 2021, "lang": "de", "tags": ["x", "y"]}},
    ("c", "blue whale bird", "", {"year": "old", "open": True}),
    ("d", "red stone"),
    {"id": "e", "text": "", "fields": {"year": 2021.5, "tags": "z"}},
]
BACKENDS = ["exact", 'exact(dtype="int8")', "bm25"]
SCORERS = [None, "maxsim", "xtr(k_prime=3)", 'xtr(k_prime=2, impute="exact")']


@pytest.fixture(params=BACKENDS)
def index(request, tmp_path):
    with Index.create(tmp_path / "i", encoder="toy", backend=request.param) as index:
        index.add(DOCS[:2])
        index.add(DOCS[2:])
        yield index


def ids(hits):
    return [hit.doc_id for hit in hits]


def test_only_what_is_allowed_is_found(index):
    assert set(ids(index.search("red green whale", where="year >= 2019"))) <= {"a", "b"}
    assert "c" in ids(index.search("whale", where={"open": True}))
    assert set(ids(index.search("red", where="not exists year"))) == {"d"}
    assert ids(index.search("whale", where='lang == "en" and lang == "de"')) == []
    assert ids(index.search("whale", where="false")) == []


def test_many_queries_share_a_filter(index):
    queries = ["red whale", "green", "blue bird"]
    want = [index.search(query, where="exists lang") for query in queries]
    assert index.search_many(queries, where="exists lang", threads=2) == want


def test_documents_are_listed_by_filter(index):
    assert index.ids() == ["a", "b", "c", "d", "e"]
    assert index.ids("year > 2020") == ["b", "e"]
    assert index.ids({"tags": ["y", "z"]}) == ["b", "e"]


def test_fields_are_told_with_their_kinds_and_counts(index):
    want = {
        "lang": {"str": 2},
        "open": {"bool": 1},
        "tags": {"list[str]": 1, "str": 1},
        "year": {"int": 2, "str": 1, "float": 1},
    }
    assert index.fields() == want == index.info()["fields"]
    index.delete(["b"])
    assert "list[str]" not in index.fields()["tags"] and index.fields()["year"]["int"] == 1


def test_a_document_comes_back_with_its_fields(index):
    assert index.document("b").fields == {"lang": "de", "tags": ("x", "y"), "year": 2021}
    assert index.document("d").fields == {} and index.document("e").fields["tags"] == "z"


def test_documents_are_deleted_by_filter(index):
    assert index.delete(where="year > 2020") == 2 and index.ids() == ["a", "c", "d"]
    assert index.delete(["a"], where="not exists year") == 2 and index.ids() == ["c"]
    assert index.delete(where="open == false") == 0
    with pytest.raises(UsageError, match="no document has a field 'yea'"):
        index.delete(where="yea == 1")
    assert index.ids() == ["c"]


def test_a_filter_of_an_empty_index_allows_nothing(index):
    index.delete(index.ids())
    assert index.search("whale", where="year == 1") == [] and index.ids("a == 1") == []
    assert index.fields() == {}


def test_fields_survive_merging_and_updating(index):
    index.update([("a", "red", "", {"year": 1999, "lang": "fr"})])
    before = {doc_id: index.document(doc_id).fields for doc_id in index.ids()}
    index.delete(["d"])
    index.compact(force=True)
    after = {doc_id: index.document(doc_id).fields for doc_id in index.ids()}
    del before["d"]
    assert after == before and index.ids("year == 1999") == ["a"]
    assert verify(index.path) == []


def test_a_known_filter_follows_the_documents(index):
    assert ids(index.search("stone", where="not exists year")) == ["d"]
    index.add([("f", "stone stone")])
    assert set(ids(index.search("stone", where="not exists year"))) == {"d", "f"}


rows = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
        st.fixed_dictionaries({}, optional={"n": st.integers(0, 3), "t": st.sampled_from("ab")}),
    ),
    min_size=1,
    max_size=12,
)
filters = st.sampled_from(
    ["n >= 2", "n == 0 or t == 'a'", "not exists n", "t in ['b']", "n != 1", "false", "true"]
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    rows, filters, st.sampled_from(SCORERS), st.sampled_from(["fp32", "int8"]), st.integers(0, 9)
)
def test_a_filtered_search_equals_one_of_an_index_of_what_is_allowed(
    tmp_path_factory, docs, where, scorer, dtype, cut
):
    folder = tmp_path_factory.mktemp("w")
    given = [(f"d{i}", text, "", fields) for i, (text, fields) in enumerate(docs)]
    # One document has every field, so that no filter is refused; it is deleted again.
    given.append(("last", "red", "", {"n": 0, "t": "a"}))
    options = {"encoder": "toy", "backend": f'exact(dtype="{dtype}")'}
    with (
        Index.create(folder / "all", **options) as every,
        Index.create(folder / "some", **options) as some,
    ):
        every.add(given[:cut])
        every.add(given[cut:])
        kept = set(every.ids(where))
        some.add([doc for doc in given if doc[0] in kept])
        for query in ("red whale", "green tea hill"):
            got = every.search(query, k=5, scorer=scorer, where=where)
            assert got == some.search(query, k=5, scorer=scorer)


def test_bm25_weighs_words_by_the_whole_collection(tmp_path):
    with Index.create(tmp_path / "i", backend="bm25", encoder=None) as index:
        index.add(DOCS)
        every = {hit.doc_id: hit.score for hit in index.search("red green whale")}
        some = {h.doc_id: h.score for h in index.search("red green whale", where="exists lang")}
        assert some == {doc_id: every[doc_id] for doc_id in ("a", "b")}


# -- on disk --------------------------------------------------------------------------


def test_an_index_without_fields_is_as_it_always_was(tmp_path):
    with Index.create(tmp_path / "i", encoder="toy") as index:
        index.add([("a", "red"), ("b", "tea", "", {"none": None, "empty": []})])
        assert '"features": []' in next(tmp_path.glob("i/manifest-*")).read_text()
        assert not list(tmp_path.glob("i/segments/*/field*"))


def test_a_reader_that_knows_no_fields_refuses_politely(index, monkeypatch):
    monkeypatch.setattr(manifest, "FEATURES", frozenset())
    with pytest.raises(IndexFormatError, match=r"uses 'fields', which .* upgrade tokret"):
        Index.open(index.path, encoder=None)


def test_a_build_that_was_stopped_keeps_the_fields_it_had(tmp_path):
    docs = [(str(i), "red", "", {"n": i, "t": ["a", "b"][: i % 3]}) for i in range(600)]
    calls = iter([False, True])
    with pytest.raises(Exception, match="Stopped"):
        build(tmp_path / "i", docs, encoder="toy", stop=lambda: next(calls))
    with pytest.raises(Exception, match="first 512 documents differ"):
        changed = [*docs[:9], ("9", "red", "", {"n": 10}), *docs[10:]]
        build(tmp_path / "i", changed, encoder="toy")
    build(tmp_path / "i", docs, encoder="toy")
    with Index.open(tmp_path / "i", encoder="toy") as index:
        assert [index.document(str(i)).fields["n"] for i in range(600)] == list(range(600))
        assert index.fields() == {"n": {"int": 600}, "t": {"list[str]": 400}}
        assert not list(tmp_path.glob("i/segments/*/field_rows.bin"))


def test_too_many_names_are_refused_with_the_document(tmp_path):
    with Index.create(tmp_path / "i", backend="bm25", encoder=None) as index:
        index.add([("a", "red", "", {f"f{i}": 1 for i in range(MAX_NAMES)})])
        with pytest.raises(InputError, match=r"Document 1: .* 257; at most 256"):
            index.add([("b", "x", "", {"f3": "y"}), ("c", "x", "", {"new": 1})])
        assert index.ids() == ["a"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "a", "text": "", "fields": {"x": {}}}, "Document 0: field 'x' holds an object"),
        ({"id": "a", "text": "", "fields": [1]}, "Document 0: fields must be a mapping"),
        ({"id": "a", "text": "", "fields": {"x": 1}, "metadata": {"y": 1}}, "give one of them"),
        (("a", "", "", {"b c": 1}), "Document 0: 'b c' cannot name a field"),
    ],
)
def test_bad_fields_are_named_with_the_document(tmp_path, given, message):
    with Index.create(tmp_path / "i", backend="bm25", encoder=None) as index:
        with pytest.raises(InputError) as caught:
            index.add([given])
        assert message in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "codes",
        "docs",
        "ends",
        "kinds",
        "names",
        "name_ends",
        "numbers",
        "strings",
        "string_ends",
        "term_ends",
    ],
)
def test_one_changed_byte_is_found_at_the_latest_when_it_is_asked_for(tmp_path, name):
    with Index.create(tmp_path / "i", backend="bm25", encoder=None) as index:
        index.add(DOCS)
    (file,) = tmp_path.glob(f"i/segments/*/field_{name}.bin")
    for at in range(0, file.stat().st_size, 3):
        data = bytearray(file.read_bytes())
        data[at] ^= 4
        file.write_bytes(data)
        index = Index.open(tmp_path / "i")
        with pytest.raises(IndexCorruptError, match=f"field_{name}"):
            index.fields()
        assert verify(tmp_path / "i")
        data[at] ^= 4
        file.write_bytes(data)


HOSTILE = {
    "field_docs": [-1, 99, 0],
    "field_codes": [-1, 99],
    "field_ends": [-1, 99, 0],
    "field_term_ends": [-1, 99],
    "field_string_ends": [-1, 99],
    "field_name_ends": [-1, 99],
    "field_kinds": [99],
    "field_names": [0, 200],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_refused_though_their_digests_are_right(tmp_path, name, monkeypatch):
    from tokret.indexes.files import Column

    monkeypatch.setattr(Column, "_check_block", lambda *_: None)
    with Index.create(tmp_path / "i", backend="bm25", encoder=None) as index:
        index.add(DOCS)
        dtype = index._state.snapshot.segments[0].columns[name].dtype
    (file,) = tmp_path.glob(f"i/segments/*/{name}.bin")
    good = file.read_bytes()
    for value in HOSTILE[name]:
        for at in range(len(good) // np.dtype(dtype).itemsize):
            values = np.frombuffer(good, dtype).copy()
            if values[at] == value:
                continue
            values[at] = value
            file.write_bytes(values.tobytes())
            with Index.open(tmp_path / "i") as index:
                with contextlib.suppress(IndexCorruptError):
                    index.document("b")  # checks no more than what it reads
                try:
                    index.fields()
                    index.ids("lang == 'en'")
                except IndexCorruptError:
                    continue
                # A value that could stand there changes an answer, and nothing else.
                assert name in ("field_docs", "field_codes") or value == 0
