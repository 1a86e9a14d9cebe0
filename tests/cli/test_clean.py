import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.cli.clean import counted, escaped, shown, to_json
from tokret.types import Hit

HOSTILE = "\x1b[2J\x9b31m\x07\x00\u202egnp.exe\u2066\ufeff\U000e0041"


def harmless(text):
    return all(unicodedata.category(c) not in ("Cc", "Cs") for c in text) and not any(
        c in text for c in "\u061c\u200e\u200f\u2028\u2029\u202e\u2066\ufeff\U000e0041"
    )


@given(st.text(st.characters(exclude_categories=[])))
def test_shown_text_is_harmless_and_keeps_every_place(text):
    out = shown(text)
    assert harmless(out)
    assert len(out) == len(text)
    assert all(a == b or not harmless(a) for a, b in zip(text, out, strict=True))


@given(st.text(st.characters(exclude_categories=[])))
def test_escaped_text_is_harmless(text):
    assert harmless(escaped(text))


def test_escapes_spell_what_was_there():
    assert escaped("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"
    assert escaped("one\ntwo", keep="\n") == "one\ntwo"


def test_other_scripts_and_joined_emoji_stay_as_they_are():
    text = "naïve Αθήνα 東京 नमस्ते 👩\u200d🔬"
    assert shown(text) == escaped(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_harmless_and_reads_back_the_same(text):
    line = to_json({"text": text})
    assert harmless(line)
    assert json.loads(line) == {"text": text}
    assert to_json({"text": text}, ascii_only=True).isascii()


def test_hostile_text_is_hostile_no_more():
    assert not harmless(HOSTILE)
    assert harmless(shown(HOSTILE)) and harmless(escaped(HOSTILE)) and harmless(to_json(HOSTILE))


def test_json_takes_what_commands_hold():
    @dataclass
    class Point:
        x: float

    value = {
        "path": Path("a/b"),
        "nan": float("nan"),
        "inf": float("inf"),
        "array": np.array([1, 2]),
        "scalar": np.float32(0.5),
        "hit": Hit("d", 1.0),
        "point": Point(2.0),
        "true": True,
        "none": None,
    }
    assert json.loads(to_json(value)) == {
        "path": str(Path("a/b")),
        "nan": None,
        "inf": None,
        "array": [1, 2],
        "scalar": 0.5,
        "hit": {"doc_id": "d", "score": 1.0, "start": 0, "end": 0, "text": ""},
        "point": {"x": 2.0},
        "true": True,
        "none": None,
    }


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(1, "document", "1 document"), (0, "hit", "0 hits"), (1234, "query", "1,234 queries")],
)
def test_counts_agree_with_their_noun(number, noun, words):
    assert counted(number, noun) == words
