"""Queries: BEIR, JSONL, JSON, TSV or an ir_datasets id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokret.collections import irds
from tokret.collections.files import MAX_LINE_BYTES, Opened, missing, where
from tokret.collections.formats import records
from tokret.collections.records import QUERY_FIELDS, QUERY_ID_FIELDS, field
from tokret.errors import InputError
from tokret.types import Query

WANTED = "a BEIR folder (queries.jsonl), a .jsonl, .json or .tsv file (id<TAB>text), or '-'"


def read_queries(source: str | Path) -> list[Query]:
    """Read all queries of ``source``, in its order; a text may be empty.

    Raises InputError with file and line for a record that cannot be read, an id that comes
    twice, or a source without queries.
    """
    seen: dict[str, str] = {}
    out = []
    for place, query in _queries(source):
        if query.query_id in seen:
            raise InputError(
                f"{place}: query id {query.query_id!r} was already at {seen[query.query_id]}; "
                "wanted each id once."
            )
        seen[query.query_id] = place
        out.append(query)
    if not out:
        raise InputError(f"{source}: no queries in it; wanted {WANTED}.")
    return out


def queries_file(folder: Path) -> Path:
    """Find ``queries.*`` in a collection's folder; InputError where there is none."""
    for suffix in (".jsonl", ".json", ".tsv"):
        for packed in ("", ".gz", ".zst"):
            if (path := folder / f"queries{suffix}{packed}").is_file():
                return path
    raise missing(folder / "queries.jsonl", WANTED)


def _queries(source: str | Path) -> Iterator[tuple[str, Query]]:
    if irds.is_id(source):
        for number, query in enumerate(irds.queries(str(source)), 1):
            yield where(str(source), number), query
        return
    path = Path(source)
    if str(source) != "-" and path.is_dir():
        path = queries_file(path)
    with Opened("-" if str(source) == "-" else path) as opened:
        read = records(
            opened,
            QUERY_ID_FIELDS,
            QUERY_FIELDS,
            encoding="strict",
            limit=MAX_LINE_BYTES,
            wanted=WANTED,
        )
        for line, _, record in read:
            place = where(opened.name, line)
            try:
                if isinstance(record, InputError):
                    raise record
                query_id = field(record, QUERY_ID_FIELDS, "id", "strict")
                query = Query(query_id, field(record, QUERY_FIELDS, "text", "strict"))
            except InputError as error:
                raise InputError(f"{place}: {error}.") from error
            yield place, query
