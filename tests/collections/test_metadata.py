"""The metadata object of a record becomes the fields of its document."""

import json

import pytest

from tokret.collections import CorpusStats, read_corpus
from tokret.errors import InputError, UsageError
from tokret.fields import kind_of


def corpus(tmp_path, *records):
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": str(i), "text": "x", **record} for i, record in enumerate(records)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fields(*args, **policies):
    return [dict(document.fields) for document in read_corpus(*args, **policies)]


@pytest.mark.parametrize("key", ["metadata", "fields"])
def test_texts_numbers_truths_and_lists_are_kept(tmp_path, key):
    given = {"year": 2019, "url": "http://x", "rank": 0.5, "open": True, "tags": ["a", "b"]}
    (got,) = fields(corpus(tmp_path, {key: {**given, "none": None, "empty": []}}))
    assert got == {**given, "tags": ("a", "b")}
    assert [kind_of(got[name]) for name in given] == ["int", "str", "float", "bool", "list[str]"]


@pytest.mark.parametrize("record", [{}, {"metadata": {}}, {"metadata": None}])
def test_a_record_may_have_none(tmp_path, record):
    assert fields(corpus(tmp_path, record)) == [{}]


FAULTS = [
    ({"metadata": {"authors": [{"name": "A"}]}}, "field 'authors' holds an object"),
    ({"metadata": {"a": {"b": 1}}}, "field 'a' holds an object"),
    ({"metadata": {"pub-date": "2019"}}, "'pub-date' cannot name a field"),
    ({"metadata": {"a": 10**30}}, "beyond 64 bits"),
    ({"metadata": {"a": [[1]]}}, "a list in a list"),
    ({"metadata": "text"}, "'metadata' is 'text'; wanted an object"),
    ({"metadata": [1]}, "'metadata' is a list; wanted an object"),
    ({"metadata": {"a": 1}, "fields": {"b": 1}}, "both 'metadata' and 'fields'"),
]


@pytest.mark.parametrize(("record", "message"), FAULTS)
def test_what_cannot_be_kept_is_named_with_its_line_and_the_ways_out(tmp_path, record, message):
    path = corpus(tmp_path, {"metadata": {"fine": 1}}, record)
    with pytest.raises(InputError) as caught:
        fields(path)
    assert str(caught.value).startswith(f"{path}:2: ") and message in str(caught.value)
    assert "metadata='lenient'" in str(caught.value) and "'ignore'" in str(caught.value)


@pytest.mark.parametrize(("record", "message"), FAULTS)
def test_lenient_reading_leaves_out_the_value_and_counts_it(tmp_path, record, message):
    stats = CorpusStats()
    path = corpus(tmp_path, record, {"metadata": {"fine": 1}})
    assert fields(path, metadata="lenient", stats=stats) == [{}, {"fine": 1}]
    assert stats.fields_left_out == 1 and stats.read == 2
    assert stats.field_fault.startswith(f"{path}:1: ") and message in stats.field_fault


@pytest.mark.parametrize("record", [record for record, _ in FAULTS])
def test_ignored_metadata_is_not_looked_at(tmp_path, record):
    stats = CorpusStats()
    path = corpus(tmp_path, record, {"metadata": {"fine": 1}})
    assert fields(path, metadata="ignore", stats=stats) == [{}, {}] and stats.fields_left_out == 0


def test_nan_and_what_no_float_holds_are_refused(tmp_path):
    for number in ("NaN", "-Infinity", "1e999"):
        path = tmp_path / "c.jsonl"
        path.write_text(f'{{"id": "1", "text": "x", "metadata": {{"a": {number}}}}}\n')
        with pytest.raises(InputError, match=r"field 'a' is -?(nan|inf)"):
            fields(path)


def test_half_a_surrogate_in_metadata_falls_under_the_policy_for_encodings(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "1", "text": "x", "metadata": {"a": "\\ud800"}}\n')
    with pytest.raises(InputError, match="surrogate"):
        fields(path)
    assert fields(path, encoding_errors="replace") == [{"a": "\ufffd"}]


def test_a_refused_record_can_be_skipped(tmp_path):
    stats = CorpusStats()
    path = corpus(tmp_path, FAULTS[0][0], {})
    assert len(fields(path, on_error="skip", stats=stats)) == 1 and stats.skipped == 1


def test_another_policy_is_refused():
    with pytest.raises(UsageError, match="metadata must be strict, lenient or ignore"):
        read_corpus("x", metadata="loose")
