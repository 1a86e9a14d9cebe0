"""The metadata of a segment's documents, read: by column for filters, by document for people."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tokret.errors import IndexCorruptError, InputError
from tokret.fields import KINDS, MAX_NAMES, Fields, Value, check_name
from tokret.indexes.field_columns import CODED, FIELD_COLUMNS, LIST
from tokret.indexes.field_match import FieldColumn, Terms
from tokret.indexes.files import Array
from tokret.types import Mask, rising

if TYPE_CHECKING:
    from tokret.indexes.segment import Segment, SegmentWriter

CHUNK = 1 << 14  # documents whose fields are copied at a time
Read = Callable[[str, int, int], Array]  # a column's name, first row, last row


class FieldTable:
    """All field columns of a segment. What a filter reads is checked at its first use."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._checked: dict[int, FieldColumn] = {}
        self._peeked: dict[int, FieldColumn] = {}

    def __bool__(self) -> bool:
        return len(self._described[0]) > 0

    @property
    def total(self) -> int:
        """Documents of the segment."""
        return self.segment.documents

    @property
    def names(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(self._described[0]))

    @property
    def kinds(self) -> list[tuple[str, str, bool]]:
        """Name, kind and whether it is of lists, of each column."""
        names, codes, *_ = self._described
        return [(n, KINDS[c % LIST], c >= LIST) for n, c in zip(names, codes, strict=True)]

    def columns(self, name: str) -> list[FieldColumn]:
        """Columns of a name, their digests and values checked. Raises IndexCorruptError."""
        return [self.column(i) for i, known in enumerate(self._described[0]) if known == name]

    def rows(self, first: int, last: int, *, checked: bool = True) -> list[Fields]:
        """Fields of documents ``first`` to ``last``; unchecked, nothing else is read for it."""
        rows: list[dict[str, Value]] = [{} for _ in range(first, last)]
        try:
            for i in range(len(self._described[0])):
                column = self.column(i) if checked else self._peek(i)
                for d, value in column.rows(first, last):
                    rows[d - first][column.name] = value
            return [Fields(row) for row in rows]
        except (InputError, UnicodeDecodeError, IndexCorruptError) as error:
            raise IndexCorruptError(
                f"{self.segment.path}: {error}; run `tokret verify` on the index."
            ) from error

    def check(self) -> None:
        """Read everything, checked, the order of dictionaries too. Raises IndexCorruptError."""
        for i in range(len(self._described[0])):
            terms = self.column(i).terms
            if any(terms[t] >= terms[t + 1] for t in range(len(terms) - 1)):
                raise self._corrupt("field_strings", "a dictionary is not in order")

    @cached_property
    def _described(self) -> tuple[list[str], list[int], list[int], list[int], list[int]]:
        """Names, kinds, and where each column begins: entries, codes or numbers, terms."""
        if "field_docs" not in self.segment.columns:
            return [], [], [0], [], [0]
        read, rows = self.segment.read, self.segment.columns
        count = rows["field_kinds"].shape[0]
        if not 1 <= count <= MAX_NAMES * 2 * LIST:
            raise self._corrupt("field_kinds", f"{count} columns of fields")
        self.segment.expect(
            {n: FIELD_COLUMNS[n] for n in ("field_name_ends", "field_ends", "field_term_ends")},
            rows=count,
        )
        ends = self.segment.read_offsets("field_name_ends", rows["field_names"].shape[0]).tolist()
        blob = read("field_names").tobytes()
        codes = read("field_kinds").tolist()
        try:
            names = [check_name(blob[a:b].decode()) for a, b in pairwise(ends)]
        except (InputError, UnicodeDecodeError) as error:
            raise self._corrupt("field_names", f"{error}") from error
        pairs = list(zip(names, codes, strict=True))
        if max(codes) >= 2 * LIST or pairs != sorted(set(pairs)):
            raise self._corrupt("field_kinds", "the columns are not in order")
        entries = self.segment.read_offsets("field_ends", rows["field_docs"].shape[0])
        terms = self.segment.read_offsets("field_term_ends", rows["field_string_ends"].shape[0])
        coded = np.array([KINDS[code % LIST] in CODED for code in codes])
        sizes = np.diff(entries)
        starts = np.where(coded, np.cumsum(sizes * coded), np.cumsum(sizes * ~coded)) - sizes
        for name, mine in (("field_codes", coded), ("field_numbers", ~coded)):
            self.segment.expect({name: FIELD_COLUMNS[name]}, rows=int(sizes[mine].sum()))
        return names, codes, entries.tolist(), starts.tolist(), terms.tolist()

    def documents(self, i: int) -> list[int]:
        """Which documents hold a value in column ``i``. Raises IndexCorruptError."""
        entries = self._described[2]
        docs = np.unique(self.segment.read_rows("field_docs", entries[i], entries[i + 1]))
        if len(docs) and not 0 <= docs[0] <= docs[-1] < self.total:
            raise self._corrupt("field_docs", "names documents there are not")
        known: list[int] = docs.tolist()
        return known

    def column(self, i: int) -> FieldColumn:
        """Column ``i``, its digests and values checked. Raises IndexCorruptError."""
        if i not in self._checked:
            column = self._column(i, self.segment.read_rows)
            try:
                column.check()
            except ValueError as error:
                raise self._corrupt("field_docs", f"field {column.name!r} {error}") from error
            self._checked[i] = column
        return self._checked[i]

    def _peek(self, i: int) -> FieldColumn:
        if i not in self._peeked:
            self._peeked[i] = self._checked.get(i) or self._column(i, self._mapped)
        return self._peeked[i]

    def _mapped(self, name: str, first: int, last: int) -> Array:
        return self.segment.map(name)[first:last]

    def _column(self, i: int, read: Read) -> FieldColumn:
        names, codes, entries, starts, terms = self._described
        kind = KINDS[codes[i] % LIST]
        size = entries[i + 1] - entries[i]
        stored = "field_codes" if kind in CODED else "field_numbers"
        values = read(stored, starts[i], starts[i] + size)
        docs = read("field_docs", entries[i], entries[i + 1])
        return FieldColumn(
            names[i],
            kind,
            codes[i] >= LIST,
            docs,
            values.view("<f8") if kind == "float" else values,
            self._terms(terms[i], terms[i + 1], read),
            self.total,
        )

    def _terms(self, first: int, last: int, read: Read) -> Terms:
        if first == last:
            return Terms(np.empty(0, np.uint8), np.zeros(1, np.int64))
        before = read("field_string_ends", first - 1, first) if first else np.zeros(1, np.int64)
        offsets = np.concatenate([before, read("field_string_ends", first, last)])
        size = self.segment.columns["field_strings"].shape[0]
        if offsets[0] < 0 or offsets[-1] > size or not rising(offsets):
            raise self._corrupt("field_string_ends", f"ends must rise to {size}")
        blob = read("field_strings", int(offsets[0]), int(offsets[-1]))
        return Terms(blob, offsets - offsets[0])

    def _corrupt(self, name: str, what: str) -> IndexCorruptError:
        return IndexCorruptError(f"{self.segment.path / name}.bin: {what}.")


def copy_fields(segment: Segment, alive: Mask, writer: SegmentWriter, first: int) -> None:
    """Give the fields of a segment's live documents to those of a new one, from ``first`` on."""
    if not segment.fields:
        return
    for at in range(0, segment.documents, CHUNK):
        live = alive[at : at + CHUNK]
        rows = segment.fields.rows(at, at + len(live))
        kept = [row for row, here in zip(rows, live.tolist(), strict=True) if here]
        writer.add_fields(first, kept)
        first += len(kept)
