"""Where tokens lie in their text, beside rows that a model cut, padded or expanded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokret.encoders.base import Spans
from tokret.types import Mask

Ids = NDArray[np.int32]


def lay_beside(row: Ids, uncut: Ids, places: Spans, special: Mask, *, left: bool) -> Spans:
    """Character ranges beside a row [T] of token ids that was cut, padded or expanded.

    ``uncut``, ``places`` and ``special`` describe the whole text's tokens. Where the row is
    not made of them, as behind a chat template, all ranges are empty.
    """
    tail = int(np.argmin(special[::-1])) if not special.all() else 0
    real = min(len(row), len(uncut))
    chosen = np.r_[0 : real - tail, len(uncut) - tail : len(uncut)]
    first = len(row) - real if left else 0
    out = np.zeros((len(row), 2), np.int32)
    if np.array_equal(row[first : first + real], uncut[chosen]):
        out[first : first + real] = places[chosen]
    return out


def trimmed(offsets: Sequence[tuple[int, int]], text: str, after: int = 0) -> Spans:
    """Ranges in ``text`` of offsets counted from ``after`` characters before it, sans blanks."""
    out = np.zeros((len(offsets), 2), np.int32)
    for i, (a, b) in enumerate(offsets):
        start, end = max(a - after, 0), max(b - after, 0)
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        out[i] = (start, end) if end > start else (0, 0)
    return out
