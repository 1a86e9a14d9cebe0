"""What codes say for certain: how far MaxSim may be from the sums that a search found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tokret.indexes.codebook import Codebook
from tokret.indexes.ivf_scan import Scan
from tokret.types import Floats, Ints

ROUNDING = 1e-5  # of the greatest similarity: more than sums in float32 lose
UNIT_REACH = 1 + 1e-3  # length of a unit vector in float16 or int8, at most


def slack_of_codes(scan: Scan, query: Floats, passages: Ints, unit: bool) -> NDArray[np.float64]:
    """How far MaxSim of passages [C] may be from the sums of their codes; 0 of those uncoded.

    By the passage's error, the rounding of the query's codes and that of float32. ``unit`` is
    whether all vectors are of unit length.
    """
    book, slack = scan.book, np.zeros(len(passages))
    lengths = np.sqrt(np.square(query.astype(np.float64)).sum(axis=1))
    codes, scales = book.query(query)
    turned = query.astype(np.float64) @ book.inverse
    rounding = np.linalg.norm(turned - codes * scales[:, None].astype(np.float64), axis=1).sum()
    row = 127 * float(np.sqrt(book.inverse.shape[1]))
    if unit:
        row = min(row, replace(book, reach=max(book.reach, UNIT_REACH)).longest_row)
    lost = ROUNDING * lengths.sum() * max(book.reach, 1.0)
    for first, segment, _ in scan.coded:
        mine = (passages >= first) & (passages < first + segment.segment.passages)
        slack[mine] = segment.errors[passages[mine] - first] * lengths.sum() + rounding * row + lost
    return slack


def widest(book: Codebook, query: Floats, unit: bool) -> float:
    """The highest MaxSim that any passage can have."""
    lengths = np.sqrt(np.square(query.astype(np.float64)).sum(axis=1))
    longest = max(book.reach, UNIT_REACH) if unit else float("inf")
    return float(lengths.sum()) * longest
