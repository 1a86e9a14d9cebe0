"""Passages: they tile the text, keep the limit, and cut between words where they can."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.encoders.passages import split
from tokret.errors import UsageError

quick = settings(deadline=None, max_examples=200)


def pieces(text: str, size: int = 3) -> np.ndarray:
    """Tokens of at most ``size`` characters that never cross a blank."""
    spans = [
        (start, min(start + size, word.end()))
        for word in re.finditer(r"\S+", text)
        for start in range(word.start(), word.end(), size)
    ]
    return np.array(spans, np.int64).reshape(-1, 2)


def within(spans: np.ndarray, start: int, end: int) -> list[int]:
    return np.flatnonzero((spans[:, 0] >= start) & (spans[:, 0] < end)).tolist()


texts = st.text(alphabet="ab é\n漢", max_size=60)


@quick
@given(texts, st.integers(1, 8), st.data())
def test_passages_tile_the_text_and_keep_the_limits(text, max_tokens, data):
    overlap = data.draw(st.integers(0, max_tokens - 1))
    spans = pieces(text)
    ranges = split(spans, text, max_tokens, overlap).tolist()
    assert ranges[0][0] == 0 and ranges[-1][1] == len(text)
    held = [within(spans, a, b) for a, b in ranges]
    assert sorted({t for tokens in held for t in tokens}) == list(range(len(spans)))
    assert all(len(tokens) <= max_tokens for tokens in held)
    for (a, b), (c, d) in pairwise(ranges):
        assert a < c <= b < d or (c <= b <= d and b == len(text))
    for before, after in pairwise(held):
        assert len(set(before) & set(after)) <= overlap
    if overlap == 0:
        assert "".join(text[a:b] for a, b in ranges) == text


@quick
@given(texts, st.integers(1, 8), st.data())
def test_a_cut_falls_within_a_word_only_where_there_is_no_other(text, max_tokens, data):
    overlap = data.draw(st.integers(0, max_tokens - 1))
    spans = pieces(text)
    ranges = split(spans, text, max_tokens, overlap).tolist()
    ends = [0, *(b for _, b in ranges[:-1])]
    for (a, b), before in zip(ranges[:-1], ends, strict=False):
        if not text[b - 1].isspace():
            new = [t for t in within(spans, a, b)[1:] if spans[t, 0] > before]
            assert not any(text[spans[t, 0] - 1].isspace() for t in new)


def test_the_overlap_repeats_whole_words():
    text = "one two three four five six"
    spans = pieces(text, size=9)
    got = [text[a:b] for a, b in split(spans, text, 3, overlap=1)]
    assert got == ["one two three ", "three four five ", "five six"]


def test_each_passage_starts_after_the_one_before_where_long_words_leave_no_overlap():
    text = "aaaaaaaaaa b cccccccccccccc"
    got = [text[a:b] for a, b in split(pieces(text), text, 4, overlap=3)]
    assert got == ["aaaaaaaaaa ", "b ", "c" * 12, "c" * 11]


def test_one_huge_word_still_splits():
    text = "x" * 100
    ranges = split(pieces(text, size=1), text, 30, overlap=10)
    assert ranges.tolist() == [[0, 30], [20, 50], [40, 70], [60, 90], [80, 100]]


def test_a_short_text_and_an_empty_one_are_one_passage():
    for text in ("", "  \n", "a b"):
        assert split(pieces(text), text, 2).tolist() == [[0, len(text)]]


def test_a_character_of_several_tokens_stays_whole():
    # Byte-level tokens: four a character, all with the character's range.
    text = "😀😀😀"
    spans = np.repeat(np.arange(3), 4)[:, None] + np.array([0, 1])
    assert split(spans, text, 6).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert split(spans, text, 8).tolist() == [[0, 2], [2, 3]]
    assert split(spans, text, 3).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_tokens_that_stand_for_no_text_join_the_one_before():
    text = "a b c"
    spans = np.array([[0, 1], [0, 0], [2, 3], [0, 0], [4, 5]])
    assert split(spans, text, 2).tolist() == [[0, 2], [2, 4], [4, 5]]


@pytest.mark.parametrize(("max_tokens", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_impossible_limits_are_refused(max_tokens, overlap):
    with pytest.raises(UsageError, match="overlap"):
        split(pieces("a b"), "a b", max_tokens, overlap)
