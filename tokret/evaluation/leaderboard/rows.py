"""Rows of a table file, each with its place: CSV, TSV, JSON, JSONL, and tokret's records."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tokret.collections.files import MAX_LINE_BYTES, Opened, bare_suffix, where, whole
from tokret.errors import InputError

MAX_JSON_BYTES = 512 << 20
DELIMITERS = "\t,;"
WANTED = (
    'a list of rows [{"system": "a", "task": "x", "score": 0.5}], scores by system '
    '{"a": {"x": 0.5}}, or a record of tokret evaluate or tokret eval --json'
)


class Row(NamedTuple):
    """Cells by column, and where they stand: ``file:line``."""

    where: str
    cells: dict[str, Any]


def read_rows(source: str | Path) -> list[Row]:
    """Read a table; the first character tells JSON from delimited text.

    Raises InputError, with file and line, for what is neither, for a row of another length
    than the header's, a column named twice, and NaN in JSON.
    """
    with Opened(source) as opened:
        start = opened.head.lstrip()[:1]
        if start in (b"[", b"{"):
            if start == b"{" and _is_lines(opened, source):
                return list(_json_lines(opened))
            return list(_json_rows(opened))
        if not opened.head.strip():
            raise InputError(f"{opened.name}: the file is empty; wanted a table.")
        return list(_delimited(opened, bare_suffix(source)))


def _delimited(opened: Opened, suffix: str) -> Iterator[Row]:
    lines = (_text(opened, n, raw) + "\n" for n, raw in opened.lines())
    first = opened.head.split(b"\n", 1)[0].decode("utf-8", "replace")
    delimiter = {".csv": ",", ".tsv": "\t"}.get(suffix) or max(DELIMITERS, key=first.count)
    if delimiter not in first and suffix == ".csv" and ";" in first:
        delimiter = ";"
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            if not any(map(str.strip, fields)):
                continue
            at = where(opened.name, reader.line_num)
            if header is None:
                header = _header(at, fields)
            elif len(fields) != len(header):
                raise InputError(
                    f"{at}: {len(fields)} fields, the header has {len(header)}: "
                    f"{', '.join(header[:8])}{' ...' if len(header) > 8 else ''}."
                )
            else:
                yield Row(at, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise InputError(f"{where(opened.name, reader.line_num)}: {error}.") from error


def _header(at: str, fields: list[str]) -> list[str]:
    names = [name.strip() for name in fields]
    for i, name in enumerate(names):
        if not name and i:
            raise InputError(f"{at}: column {i + 1} has no name; wanted one for each.")
        if name in names[:i]:
            raise InputError(f"{at}: two columns are called {name!r}; wanted each name once.")
    if len(names) < 2:
        raise InputError(
            f"{at}: one column ({names[0]!r}); wanted a table of systems and scores, with commas "
            "or tabs between columns. (Runs are ranked with their judgements: qrels.)"
        )
    return names


def _text(opened: Opened, number: int, raw: bytes) -> str:
    try:
        return whole(raw, MAX_LINE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where(opened.name, number)}: byte {error.start + 1} is not UTF-8."
        ) from error
    except InputError as error:
        raise InputError(f"{where(opened.name, number)}: {error}.") from error


def _is_lines(opened: Opened, source: str | Path) -> bool:
    """Tell JSON lines from one object: by name, or by a whole object in the first line."""
    suffix = bare_suffix(source)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return suffix != ".json"
    first, _, rest = opened.head.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _json_lines(opened: Opened) -> Iterator[Row]:
    for number, raw in opened.lines():
        if not raw.strip():
            continue
        at = where(opened.name, number)
        value = _parsed(at, whole(raw, MAX_LINE_BYTES))
        yield from _records(at, value) if _is_record(value) else [_row(at, value)]


def _json_rows(opened: Opened) -> Iterator[Row]:
    raw = opened.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise InputError(
            f"{opened.name}: more than {MAX_JSON_BYTES >> 20} MiB of JSON; write JSONL or CSV."
        )
    value = _parsed(opened.name, raw)
    if _is_record(value):
        yield from _records(opened.name, value)
    elif isinstance(value, list):
        for i, item in enumerate(value, 1):
            yield _row(f"{opened.name}: row {i}", item)
    else:
        for system, tasks in value.items():
            if not isinstance(tasks, dict):
                raise InputError(f"{opened.name}: {tasks!r:.60} under {system!r}; wanted {WANTED}.")
            for task, score in tasks.items():
                at = f"{opened.name}: {system!r}, {task!r}"
                cells = {"system": system, "task": task}
                if isinstance(score, dict):
                    for query, value in score.items():
                        yield Row(at, {**cells, "query": query, "score": value})
                else:
                    yield Row(at, {**cells, "score": score})


def _row(at: str, value: object) -> Row:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{at}: {value!r:.60} is no row; wanted {WANTED}.")
    return Row(at, value)


def _is_record(value: object) -> bool:
    return isinstance(value, dict) and (
        value.get("kind") == "tokret.experiment" or value.get("command") in ("eval", "evaluate")
    )


def _records(at: str, value: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of an experiment's record, or of what ``tokret eval --json`` printed."""
    try:
        if value.get("command") == "eval":
            for run in value["runs"]:
                cells = {"system": run["name"], "collection": str(value["qrels"])}
                per_query = run.get("per_query") or {}
                for measure, mean in run["values"].items():
                    for query, score in per_query.get(measure, {"": mean}).items():
                        found = {**cells, "measure": measure, "value": score}
                        yield Row(at, {**found, "query": query} if query else found)
            return
        keys = ("system", "collection", "measure", "value")
        for n in value.get("record", value)["numbers"]:
            yield Row(at, {key: n[key] for key in keys})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{at}: a record without {error}; was it written by another version of tokret?"
        ) from error


def _parsed(at: str, raw: bytes) -> Any:  # noqa: ANN401
    def refuse(constant: str) -> NoReturn:
        raise InputError(
            f"{at}: the score is {constant}; wanted a finite number, or null where there is none."
        )

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{at}: not JSON: {error}.") from error
