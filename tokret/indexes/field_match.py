"""One column of metadata, mapped: which documents hold a value, or one of a range.

Whole numbers and fractions are compared as exactly as Python compares them, whatever the
column stores and the filter says; texts by code points.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from tokret.errors import IndexCorruptError
from tokret.fields import Scalar, Value
from tokret.indexes.files import Array
from tokret.types import Mask, rising

FEW = 8  # values that are compared one by one; more are looked up


class Terms(Sequence[bytes]):
    """The dictionary of a column: texts as UTF-8, rising."""

    def __init__(self, blob: Array, offsets: Array) -> None:
        self._blob, self._offsets = blob, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, i: Any) -> Any:  # noqa: ANN401
        return bytes(self._blob[self._offsets[i] : self._offsets[i + 1]])


@dataclass(frozen=True, eq=False)
class FieldColumn:
    """The values of one kind that documents hold under one name."""

    name: str
    kind: str  # of a value; one of KINDS
    many: bool  # whether documents hold lists of them
    docs: Array  # [E] rising; of a column without lists, strictly
    values: Array  # [E] codes of texts and bool, int64 or float64 of numbers
    terms: Terms
    total: int  # documents of the segment

    def comparable(self, value: Scalar) -> bool:
        """Whether a value could be among those of the column."""
        if isinstance(value, bool | str):
            return self.kind == type(value).__name__
        return self.kind in ("int", "float")

    def equal(self, wanted: Sequence[Scalar]) -> Mask:
        """Documents that hold one of the values [D]."""
        if self.kind == "str":
            codes = [self._code(value.encode()) for value in wanted if isinstance(value, str)]
            return self._among([code for code in codes if code is not None])
        if self.kind == "bool":
            return self._among([int(value) for value in wanted if isinstance(value, bool)])
        numbers = [v for v in wanted if isinstance(v, int | float) and not isinstance(v, bool)]
        if self.kind == "int":
            return self._among([int(v) for v in numbers if v == int(v) and _fits(int(v))])
        return self._among([float(v) for v in numbers if float(v) == v])

    def within(self, low: Scalar | None, high: Scalar | None, opened: tuple[bool, bool]) -> Mask:
        """Documents that hold a value from ``low`` to ``high`` [D]; ``opened`` leaves out an end.

        None is no bound. The bounds are of one kind, which the column is comparable to.
        """
        hit = np.ones(len(self.values), np.bool_)
        if low is not None:
            hit &= self._from(self._least(low, opened[0]))
        if high is not None:
            # Not "<= the greatest": the least value beyond the range bounds it as exactly.
            hit &= ~self._from(self._least(high, not opened[1]))
        return self.spread(hit)

    def spread(self, hit: Mask | None = None) -> Mask:
        """From entries [E] (None: all) to documents [D]."""
        if hit is not None and not self.many and len(self.docs) == self.total:
            return hit
        out = np.zeros(self.total, np.bool_)
        out[self.docs if hit is None else self.docs[hit]] = True
        return out

    def _among(self, wanted: list[Any]) -> Mask:
        if not wanted:
            return np.zeros(self.total, np.bool_)
        if len(wanted) <= FEW:
            return self.spread(reduce(np.logical_or, [self.values == one for one in wanted]))
        return self.spread(np.isin(self.values, np.array(sorted(wanted), self.values.dtype)))

    def _code(self, text: bytes) -> int | None:
        place = bisect.bisect_left(self.terms, text)
        return place if place < len(self.terms) and self.terms[place] == text else None

    def _from(self, least: int | float) -> Mask:
        """Entries of at least this value [E]; it may lie beyond 64 bits."""
        if isinstance(least, int) and not _fits(least):
            return np.full(len(self.values), least < 0)
        return np.asarray(self.values >= least)

    def _least(self, bound: Scalar, beyond: bool) -> int | float:
        """Find v such that ``x >= v`` is ``x >= bound``, or ``x > bound`` where ``beyond``."""
        if isinstance(bound, str):
            find = bisect.bisect_right if beyond else bisect.bisect_left
            return find(self.terms, bound.encode())
        if self.kind == "int":
            return math.floor(bound) + 1 if beyond else math.ceil(bound)
        near = float(bound)
        if near == bound:
            return math.nextafter(near, math.inf) if beyond else near
        return near if near > bound else math.nextafter(near, math.inf)

    def rows(self, first: int, last: int) -> Iterator[tuple[int, Value]]:
        """Number and value of documents ``first`` to ``last`` that have any."""
        a, b = np.searchsorted(self.docs, [first, last]).tolist()
        docs = self.docs[a:b].tolist()
        if docs and not first <= min(docs) <= max(docs) < last:
            raise IndexCorruptError(f"field {self.name!r} names documents out of order")
        values = self._plain(self.values[a:b].tolist())
        if not self.many:
            yield from zip(docs, values, strict=True)
            return
        at = 0
        for i in range(1, len(docs) + 1):
            if i == len(docs) or docs[i] != docs[at]:
                yield docs[at], tuple(values[at:i])
                at = i

    def _plain(self, values: list[Any]) -> list[Any]:
        if self.kind == "bool":
            return [value == 1 for value in values]
        if self.kind != "str":
            return values
        if not all(0 <= code < len(self.terms) for code in values):
            raise IndexCorruptError(f"field {self.name!r} has texts there are not")
        texts = {code: self.terms[code].decode() for code in set(values)}
        return [texts[code] for code in values]

    def check(self) -> None:
        """Refuse documents, texts and numbers that no writer of ours writes: ValueError."""
        docs, values = self.docs, self.values
        if len(docs) == 0 or not 0 <= docs[0] <= docs[-1] < self.total:
            raise ValueError("names documents there are not")
        if not rising(docs, 0 if self.many else 1):
            raise ValueError("names documents out of order")
        most = {"str": len(self.terms), "bool": 2}.get(self.kind)
        if most is not None and not 0 <= values.min() <= values.max() < most:
            raise ValueError("has values there are not")
        if self.kind == "float" and not np.isfinite(values).all():
            raise ValueError("has a value that is no number")


def _fits(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63
