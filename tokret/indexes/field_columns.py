"""Metadata of a segment's documents on disk: the columns, and how they are written.

A field and a kind of value make one column; a name may have several, as documents may
hold values of several kinds under it. The columns lie one after another, in the order of
names and kinds, and each is a list of (document, value), documents rising. Texts are
numbers in the column's own dictionary, which is sorted, so that they compare as numbers.
While a segment is written, its rows are kept as they came in the file ``field_rows``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokret.fields import KINDS, Value
from tokret.indexes.files import Column, ColumnWriter

if TYPE_CHECKING:
    from tokret.indexes.segment import Layout

FIELD_ROWS = "field_rows"  # of an unfinished segment: a JSON line for each document with fields
FIELD_COLUMNS: Layout = {
    "field_names": ("|u1", None),  # UTF-8, end to end
    "field_name_ends": ("<i8", None),
    "field_kinds": ("|u1", None),  # place in KINDS; LIST more where documents hold lists
    "field_ends": ("<i8", None),  # entries of a column
    "field_docs": ("<i4", None),  # document of each entry
    "field_codes": ("<i4", None),  # entries of texts: place in the dictionary; of bool: 0 or 1
    "field_numbers": ("<i8", None),  # entries of int; of float: the bits of the double
    "field_term_ends": ("<i8", None),  # dictionary of a column
    "field_strings": ("|u1", None),  # dictionaries: UTF-8, end to end
    "field_string_ends": ("<i8", None),
}
LIST = 4
CODED = ("str", "bool")
STRINGS = 1 << 16  # strings that are written at a time


def row_lines(first: int, rows: Iterable[Mapping[str, Value]]) -> bytes:
    """Lines of ``field_rows`` for documents numbered from ``first`` on."""
    lines = [json.dumps([d, row]) for d, row in enumerate(rows, first) if row]
    return "".join(line + "\n" for line in lines).encode()


def field_names(rows: Path) -> set[str]:
    """Names in a file of ``field_rows``."""
    with open(rows, "rb") as file:
        return {name for line in file for name in json.loads(line)[1]}


class _Entries:
    """One column while it is gathered."""

    def __init__(self, kind: str) -> None:
        self.docs = array("i")
        self.values = array("d" if kind == "float" else "q" if kind == "int" else "i")
        self.terms: dict[str, int] | None = {} if kind == "str" else None

    def add(self, d: int, values: Sequence[Any]) -> None:
        if self.terms is not None:
            values = [self.terms.setdefault(text, len(self.terms)) for text in values]
        self.docs.extend([d] * len(values))
        self.values.extend(values)


def write_fields(folder: Path, rows: Path) -> dict[str, Column]:
    """Write the columns of the rows that a file holds; none where it holds none."""
    gathered: dict[tuple[str, int], _Entries] = {}
    with open(rows, "rb") as file:
        for line in file:
            d, values = json.loads(line)
            for name, value in values.items():
                many = isinstance(value, list)
                kind = type(value[0] if many else value).__name__
                key = name, KINDS.index(kind) + LIST * many
                if key not in gathered:
                    gathered[key] = _Entries(kind)
                gathered[key].add(d, value if many else [value])
    if not gathered:
        return {}
    writers: dict[str, ColumnWriter] = {}
    try:
        for name, (dtype, width) in FIELD_COLUMNS.items():
            writers[name] = ColumnWriter(folder / f"{name}.bin", dtype, width)
        for name, code in sorted(gathered):
            _write(writers, name, code, gathered.pop((name, code)))
        return {name: writer.close() for name, writer in writers.items()}
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise


def _write(writers: Mapping[str, ColumnWriter], name: str, code: int, entries: _Entries) -> None:
    values = np.array(entries.values)
    if entries.terms is not None:
        terms = sorted((text.encode(), place) for text, place in entries.terms.items())
        rank = np.empty(len(terms), np.int32)
        rank[[place for _, place in terms]] = np.arange(len(terms))
        values = rank[values]
        for at in range(0, len(terms), STRINGS):
            some = [text for text, _ in terms[at : at + STRINGS]]
            start = writers["field_strings"].rows
            writers["field_strings"].append(np.frombuffer(b"".join(some), np.uint8))
            writers["field_string_ends"].append(start + np.cumsum([len(text) for text in some]))
    raw = name.encode()
    writers["field_names"].append(np.frombuffer(raw, np.uint8))
    writers["field_name_ends"].append(np.array([writers["field_names"].rows]))
    writers["field_kinds"].append(np.array([code]))
    writers["field_docs"].append(np.array(entries.docs))
    writers["field_ends"].append(np.array([writers["field_docs"].rows]))
    coded = KINDS[code % LIST] in CODED
    writers["field_codes" if coded else "field_numbers"].append(
        values.view(np.int64) if values.dtype == np.float64 else values
    )
    writers["field_term_ends"].append(np.array([writers["field_string_ends"].rows]))
