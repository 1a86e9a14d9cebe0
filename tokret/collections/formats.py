"""Which format a file of records has, and its records one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokret.collections.files import Opened, bare_suffix, whole
from tokret.collections.json_stream import json_values
from tokret.collections.records import (
    Encoding,
    Record,
    an_object,
    decoded,
    json_record,
    without_nul,
)
from tokret.errors import InputError

RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".tsv")

# Line number, the record as it stood in the file, and what it says or what is wrong with it.
Read = tuple[int, bytes, Record | InputError]


def records(
    opened: Opened,
    ids: Sequence[str],
    texts: Sequence[str],
    *,
    encoding: Encoding,
    limit: int,
    wanted: str,
) -> Iterator[Read]:
    """Yield every record of a JSONL, JSON or TSV file; a fault comes in its record's place.

    ``ids`` and ``texts`` are the column names that make a TSV line a header. Raises
    InputError where the file as a whole cannot be read on: cut, of no known format
    (``wanted`` says what would do), or JSON broken outside of lines.
    """
    suffix = bare_suffix(opened.path) if opened.path else ""
    start = opened.head.lstrip()[:1]
    if start == b"[" or (suffix == ".json" and not _is_jsonl(opened.head)):
        yield from _json(opened, limit)
    elif start == b"{" or suffix in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl(opened, encoding, limit)
    elif suffix == ".tsv" or b"\t" in opened.head.partition(b"\n")[0]:
        yield from _tsv(opened, Columns(ids, texts), encoding, limit)
    elif start:
        raise InputError(f"{opened.name}:1: neither JSON nor tab-separated; wanted {wanted}.")


def _is_jsonl(head: bytes) -> bool:
    """Whether the first line is a whole object; a pretty-printed one goes over several."""
    first, newline, rest = head.lstrip().partition(b"\n")
    return bool(newline and rest.strip()) and first.rstrip().endswith(b"}")


def _json(opened: Opened, limit: int) -> Iterator[Read]:
    for line, value, raw in json_values(opened, limit):
        kept = raw.encode("utf-8", "surrogateescape")
        try:
            yield line, kept, an_object(value)
        except InputError as error:
            yield line, kept, error


def _jsonl(opened: Opened, encoding: Encoding, limit: int) -> Iterator[Read]:
    for number, raw in opened.lines(limit):
        if raw.strip():
            try:
                record: Record | InputError = json_record(decoded(whole(raw, limit), encoding))
            except InputError as error:
                record = error
            yield number, raw, record


def _tsv(opened: Opened, columns: Columns, encoding: Encoding, limit: int) -> Iterator[Read]:
    first = True
    for number, raw in opened.lines(limit):
        # Nothing but blanks is no record; but an id may be a blank that stands before a tab.
        if not raw.strip(b"\t") or (b"\t" not in raw and not raw.strip()):
            continue
        try:
            line = without_nul(decoded(whole(raw, limit), encoding), encoding)
            header, first = first and columns.is_header(line), False
            if header:
                continue
            record: Record | InputError = columns.record(line)
        except InputError as error:
            record = error
        yield number, raw, record


class Columns:
    """Where id, title and text stand in a TSV file: by its header, else ``id<TAB>text``."""

    def __init__(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        self._ids, self._texts = ids, texts
        self._names: list[str] | None = None

    def is_header(self, line: str) -> bool:
        """Take ``line`` as the header if it names an id and a text column."""
        names = [name.strip().lower() for name in line.split("\t")]
        if any(n in names for n in self._ids) and any(n in names for n in self._texts):
            self._names = names
            return True
        return False

    def record(self, line: str) -> Record:
        """Name the fields of one line; InputError for another number of them."""
        fields = line.split("\t")
        if self._names is None:
            if len(fields) != 2:
                raise InputError(
                    f"{len(fields)} tab-separated fields; wanted 2, id and text, "
                    "or a first line that names the columns"
                )
            return {"id": fields[0], "text": fields[1]}
        if len(fields) != len(self._names):
            raise InputError(
                f"{len(fields)} tab-separated fields; wanted {len(self._names)}, as in the header"
            )
        return dict(zip(self._names, fields, strict=True))
