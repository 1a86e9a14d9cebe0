"""Metadata of a document is checked once, and never changes."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret import Document
from tokret.errors import InputError
from tokret.fields import MAX_LIST, MAX_NAMES, MAX_STRING, Fields, kind_of

names = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True).map("f_{}".format)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
numbers = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(1 << 63), (1 << 63) - 1)
scalars = st.one_of(texts, numbers, whole, st.booleans())
lists = st.one_of(*(st.lists(kind, max_size=4) for kind in (texts, numbers, whole, st.booleans())))
mappings = st.dictionaries(names, st.one_of(scalars, lists, st.none()), max_size=5)


@given(mappings)
def test_what_is_given_is_kept_but_for_what_is_none(given):
    fields = Fields(given)
    want = {name: value for name, value in given.items() if value not in (None, [])}
    assert {n: list(v) if type(v) is tuple else v for n, v in fields.items()} == want
    assert [type(v) for v in fields.values()] == [
        tuple if isinstance(want[name], list) else type(want[name]) for name in sorted(want)
    ]


@given(mappings)
def test_fields_travel_through_json_and_copies_and_sets(given):
    fields = Fields(given)
    assert Fields(json.loads(json.dumps(fields))) == fields
    assert copy.deepcopy(fields) == fields == Fields(fields)
    document = Document("1", "text", "", fields)
    assert document in {Document("1", "text", "", Fields(dict(reversed(fields.items()))))}


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(a=2),
        lambda fields: fields.pop("a"),
        lambda fields: fields.__setitem__("a", 2),
        lambda fields: fields.__delitem__("a"),
        lambda fields: fields.__ior__({"a": 2}),
        lambda fields: fields.clear(),
        lambda fields: fields.setdefault("b", 2),
        lambda fields: fields.popitem(),
    ],
)
def test_fields_never_change(change):
    fields = Fields({"a": 1})
    with pytest.raises(TypeError, match="never change"):
        change(fields)
    assert fields == {"a": 1}


def test_what_numpy_holds_is_taken_as_what_it_is():
    given = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": np.str_("x"),
        "d": np.bool_(True),
        "e": np.arange(3),
    }
    fields = Fields(given)
    assert fields == {"a": 3, "b": 0.5, "c": "x", "d": True, "e": (0, 1, 2)}
    assert list(map(kind_of, fields.values())) == ["int", "float", "str", "bool", "list[int]"]


def test_a_list_of_whole_numbers_and_fractions_is_one_of_fractions():
    fields = Fields({"a": [1, 2.5]})
    assert kind_of(fields["a"]) == "list[float]" and fields["a"] == (1.0, 2.5)
    with pytest.raises(InputError, match="mixes fractions with 9007199254740993"):
        Fields({"a": [0.5, 2**53 + 1]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": float("nan")}, "field 'a' is nan; leave it out"),
        ({"a": float("-inf")}, "field 'a' is -inf"),
        ({"a": np.float32("nan")}, "field 'a' is nan"),
        ({"a": 1 << 63}, "beyond 64 bits; give it as text"),
        ({"a": {"b": 1}}, "field 'a' holds an object; wanted a text, a number, true or false"),
        ({"a": [["b"]]}, "a list in a list"),
        ({"a": [None]}, "nothing"),
        ({"a": np.zeros((2, 2))}, "a list in a list"),
        ({"a": ["b", 1]}, "mixes int and str"),
        ({"a": [True, 1]}, "mixes bool and int"),
        ({"a": b"bytes"}, "holds bytes"),
        ({"a": np.datetime64("2024-05-31")}, "write dates as '2024-05-31'"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"a": "é" * (MAX_STRING // 2 + 1)}, "65,538 bytes; at most 65,536"),
        ({"a": [1] * (MAX_LIST + 1)}, "lists 4,097 values"),
        ({"a b": 1}, "'a b' cannot name a field"),
        ({"": 1}, "'' cannot name a field"),
        ({"1a": 1}, "cannot name a field"),
        ({"a" * 65: 1}, "at most 64"),
        ({1: 1}, "1 cannot name a field"),
        ({"Exists": 1}, "a word of the filter language"),
        ({f"f{i}": 1 for i in range(MAX_NAMES + 1)}, "257 fields; at most 256"),
    ],
)
def test_what_cannot_be_kept_is_named(given, message):
    with pytest.raises(InputError) as caught:
        Fields(given)
    assert message in str(caught.value)


def test_the_longest_that_fits_fits():
    given = {"a" * 64: "é" * (MAX_STRING // 2), "b": [1] * MAX_LIST, "c": -(1 << 63)}
    assert len(Fields(given)) == 3


def test_lenient_reading_keeps_what_can_be_kept():
    fields, wrong = Fields.lenient({"a": 1, "b": {"c": 2}, "d-e": 3, "f": None, "g": "x"})
    assert fields == {"a": 1, "g": "x"} and len(wrong) == 2
    assert "'b' holds an object" in wrong[0] and "'d-e' cannot name" in wrong[1]
