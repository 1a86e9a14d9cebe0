"""Cut a long text into passages that an encoder can read whole."""

from __future__ import annotations

import numpy as np

from tokret.errors import UsageError
from tokret.types import Ints


def split(spans: Ints, text: str, max_tokens: int, overlap: int = 0) -> Ints:
    """Give the character ranges [N, 2] of passages that together tile ``text``.

    ``spans`` [n, 2] are the text's tokens in order, as ``Encoder.token_spans`` gives them;
    ``max_tokens`` counts those alone, so leave room for an encoder's special tokens. A
    passage holds at most ``max_tokens`` and repeats up to ``overlap`` of the one before.
    It starts and ends where a token starts after a blank, or, within one long word, where
    any token starts. The first starts at 0, the last ends with the text, and none starts
    behind the end of the one before. A short text is one passage; a character of more than
    ``max_tokens`` tokens is not cut.

    Raises UsageError unless max_tokens >= 1 and 0 <= overlap < max_tokens.
    """
    if max_tokens < 1 or not 0 <= overlap < max_tokens:
        raise UsageError(
            "Passages need max_tokens >= 1 and 0 <= overlap < max_tokens; "
            f"got max_tokens={max_tokens}, overlap={overlap}."
        )
    starts = _starts(spans, len(text))
    cuts = np.flatnonzero(np.diff(starts) > 0) + 1  # a character of several tokens stays whole
    words = np.array([j for j in cuts.tolist() if text[starts[j] - 1].isspace()], np.int64)
    ranges = []
    first = last = begin = 0
    while first + max_tokens < len(starts):
        limit = first + max_tokens
        found = _latest(words, last, limit) or _latest(cuts, last, limit) or _next(cuts, limit)
        if not found:
            break
        last = found
        ranges.append((begin, int(starts[last])))
        lowest = max(last - overlap, first + 1)
        again = _next(words, lowest - 1)
        first = again if 0 < again <= last else _next(cuts, lowest - 1)
        begin = int(starts[first])
    return np.array([*ranges, (begin, len(text))], np.int64)


def _starts(spans: Ints, length: int) -> Ints:
    """Where each token starts, never falling; one that stands for no text joins the last."""
    empty = spans[:, 0] >= spans[:, 1]
    return np.minimum(np.maximum.accumulate(np.where(empty, 0, spans[:, 0])), length)


def _latest(places: Ints, after: int, limit: int) -> int:
    """Find the largest of rising places with after < place <= limit, or 0."""
    i = int(np.searchsorted(places, limit, side="right")) - 1
    return int(places[i]) if i >= 0 and places[i] > after else 0


def _next(places: Ints, after: int) -> int:
    """Find the smallest of rising places with after < place, or 0."""
    i = int(np.searchsorted(places, after, side="right"))
    return int(places[i]) if i < len(places) else 0
