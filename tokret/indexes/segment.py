"""A segment: documents, their passages and their tokens, written once.

A folder of columns and ``segment.json``, which describes them. Documents are numbered
in the order they came; document ``d`` owns passages ``passage_ends[d-1]:passage_ends[d]``
and passage ``n`` owns tokens ``token_ends[n-1]:token_ends[n]``.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tokret.errors import IndexCorruptError, IndexStateError
from tokret.fields import Value
from tokret.indexes.field_columns import (
    FIELD_COLUMNS,
    FIELD_ROWS,
    field_names,
    row_lines,
    write_fields,
)
from tokret.indexes.field_table import FieldTable
from tokret.indexes.files import (
    Array,
    Column,
    ColumnWriter,
    read_json,
    room,
    sync_columns,
    sync_directory,
    to_json,
    write_atomically,
)
from tokret.types import Ints, rising

DESCRIPTION = "segment.json"
FEATURE_FIELDS = "fields"  # of a segment whose documents have metadata
Layout = Mapping[str, tuple[str, int | None]]  # column -> dtype, values in a row

DOCUMENT_COLUMNS: Layout = {
    "doc_ids": ("|u1", None),  # UTF-8, end to end
    "doc_id_ends": ("<i8", None),
    "texts": ("|u1", None),  # UTF-8, end to end
    "text_ends": ("<i8", None),
    "passage_ends": ("<i8", None),
    "passage_spans": ("<i8", 2),  # character ranges in the document's text
}
LOOKUP_COLUMNS: Layout = {
    "id_hashes": ("<u8", None),  # sorted
    "id_order": ("<i8", None),  # the document of each hash
}
TOKEN_COLUMNS: Layout = {
    "token_ends": ("<i8", None),
    "token_spans": ("<i4", 2),  # character ranges in the document's text
    "token_ids": ("<i4", None),
}
BESIDE = (  # columns with a row for each document, each passage, each token
    ("doc_id_ends", "text_ends", "passage_ends", "id_hashes", "id_order"),
    ("passage_spans", "token_ends", "cell_ends", "code_ends", "errors"),
    ("token_spans", "token_ids", "vectors", "scales"),
)
ENDS = {  # a column of ends, and the column in which they lie
    "doc_id_ends": "doc_ids",
    "text_ends": "texts",
    "passage_ends": "passage_spans",
    "token_ends": "token_ids",
    "cell_ends": "cells",
    "code_ends": "codes",
}
COLUMN_NAME = re.compile(r"[a-z][a-z_]{0,62}")


def id_hash(doc_id: str) -> int:
    """64 bits of an id, for finding it among many."""
    data = doc_id.encode("utf-8", "surrogatepass")  # asked for by anyone, stored by no one
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


class SegmentWriter:
    """Appends columns to a new segment; sealing makes it readable."""

    def __init__(self, path: Path, kind: str, layout: Layout) -> None:
        self.path = path
        self.kind = kind
        self.columns: dict[str, ColumnWriter] = {}
        try:
            with room(path):
                path.mkdir(parents=True, exist_ok=True)
            for name, (dtype, width) in layout.items():
                self.columns[name] = ColumnWriter(path / f"{name}.bin", dtype, width)
        except BaseException:
            self.discard()
            raise

    @classmethod
    def resume(cls, path: Path, state: Mapping[str, Any]) -> SegmentWriter:
        """Go on where ``state`` was taken; what was appended later is cut off.

        Raises IndexStateError where the files are shorter than the state says.
        """
        refuse_links(path)
        writer = cls.__new__(cls)
        writer.path, writer.kind, writer.columns = path, state["kind"], {}
        try:
            for name, column in state["columns"].items():
                writer.columns[name] = cls._resumed(path, name, column)
        except BaseException:
            writer.abandon()
            raise
        return writer

    @staticmethod
    def _resumed(path: Path, name: str, column: Mapping[str, Any]) -> ColumnWriter:
        if not COLUMN_NAME.fullmatch(name):
            raise ValueError(f"{name!r:.80} is no column's name")
        file = path / f"{name}.bin"
        values = column["rows"] * (1 if column["width"] is None else column["width"])
        need = values * np.dtype(column["dtype"]).itemsize
        if file.is_symlink() or not file.is_file() or file.stat().st_size < need:
            raise IndexStateError(
                f"{file}: the unfinished build lost data (expected {need} bytes or more); "
                "start again with --restart."
            )
        return ColumnWriter(file, **column)

    def append(self, **values: Array) -> None:
        """Append rows to some columns."""
        for name, rows in values.items():
            self.columns[name].append(rows)

    def add_columns(self, layout: Layout, **values: Array) -> None:
        """Write columns whole that the segment did not begin with, such as derived ones."""
        for name, (dtype, width) in layout.items():
            self.columns[name] = ColumnWriter(self.path / f"{name}.bin", dtype, width)
            self.columns[name].append(values[name])

    def map(self, name: str) -> Array:
        """What a column holds so far, read-only, as it lies on disk."""
        return self.columns[name].map()

    def rows(self, name: str) -> int:
        """Rows that a column holds so far."""
        return self.columns[name].rows

    @property
    def documents(self) -> int:
        """Documents so far."""
        return self.rows("doc_id_ends")

    @property
    def tokens(self) -> int:
        """Tokens so far; 0 in a segment without token vectors."""
        return self.rows("token_ids") if "token_ids" in self.columns else 0

    @property
    def size(self) -> int:
        """Bytes so far."""
        return sum(column.rows * column.row_bytes for column in self.columns.values())

    def add_documents(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        spans: Sequence[Ints],
        fields: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        """Append documents, each with the character ranges [n, 2] of its passages."""
        self.add_fields(self.documents, fields)
        for blob, ends, strings in (
            ("doc_ids", "doc_id_ends", ids),
            ("texts", "text_ends", texts),
        ):
            encoded = [string.encode() for string in strings]
            lengths = np.array([len(string) for string in encoded], np.int64)
            start = self.rows(blob)
            self.append(
                **{blob: np.frombuffer(b"".join(encoded), np.uint8), ends: start + lengths.cumsum()}
            )
        counts = np.array([len(ranges) for ranges in spans], np.int64)
        start = self.rows("passage_spans")
        self.append(
            passage_ends=start + counts.cumsum(),
            passage_spans=np.concatenate([np.empty((0, 2), np.int64), *spans]),
        )

    def add_fields(self, first: int, rows: Sequence[Mapping[str, Value]]) -> None:
        """Keep the metadata of documents that are numbered from ``first`` on."""
        lines = row_lines(first, rows)
        if lines and FIELD_ROWS not in self.columns:
            self.columns[FIELD_ROWS] = ColumnWriter(self.path / f"{FIELD_ROWS}.bin", "|u1", None)
        if lines:
            self.append(**{FIELD_ROWS: np.frombuffer(lines, np.uint8)})

    def read_ids(self) -> list[str]:
        """Ids of the documents so far, read back from the file."""
        blob = np.fromfile(self.columns["doc_ids"].path, np.uint8).tobytes()
        ends = np.fromfile(self.columns["doc_id_ends"].path, "<i8").tolist()
        return [blob[a:b].decode() for a, b in pairwise([0, *ends])]

    def read_field_names(self) -> set[str]:
        """Names of all fields so far, read back from the file."""
        if FIELD_ROWS not in self.columns:
            return set()
        return field_names(self.columns[FIELD_ROWS].path)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        sync_columns(self.columns.values())
        with room(self.path):
            for folder in (self.path, self.path.parent):
                sync_directory(folder)

    def state(self) -> dict[str, Any]:
        """What ``resume`` needs; call ``sync`` before it is written down."""
        columns = {name: column.state() for name, column in self.columns.items()}
        return {"kind": self.kind, "columns": columns}

    def abandon(self) -> None:
        """Close the files and leave them as they are."""
        for column in self.columns.values():
            column.abandon()

    def discard(self) -> None:
        """Remove the unfinished segment."""
        self.abandon()
        shutil.rmtree(self.path, ignore_errors=True)

    def seal(
        self,
        ids: Sequence[str] | Array | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Finish the segment; returns the entry by which a manifest names it.

        ``ids`` of its documents, or an array of their hashes, make it searchable by id;
        ``extra`` is kept in the description.
        """
        if ids is not None:
            if isinstance(ids, np.ndarray):
                hashes = ids
            else:
                hashes = np.array([id_hash(doc_id) for doc_id in ids], np.uint64)
            order = np.argsort(hashes, kind="stable")
            self.add_columns(LOOKUP_COLUMNS, id_hashes=hashes[order], id_order=order)
        sync_columns(self.columns.values())
        described = {name: column.close() for name, column in self.columns.items()}
        features = []
        rows, path = described.pop(FIELD_ROWS, None), self.path / f"{FIELD_ROWS}.bin"
        if rows is not None:
            for first, last in rows.damaged_ranges(path):
                raise IndexCorruptError(f"{path}: damaged between byte {first} and {last}.")
            described |= write_fields(self.path, path)
            features = [FEATURE_FIELDS]
        data = to_json(
            {
                "kind": self.kind,
                "columns": {name: column.to_dict() for name, column in described.items()},
                "extra": dict(extra or {}),
            }
        )
        write_atomically(self.path / DESCRIPTION, data)
        with room(self.path.parent):
            sync_directory(self.path.parent)
        return {
            "id": self.path.name,
            "kind": self.kind,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "features": features,
        }


def refuse_links(path: Path) -> None:
    """Refuse a segment's folder that is a link, or lies in one: IndexCorruptError."""
    for folder in (path.parent, path):
        if folder.is_symlink():
            raise IndexCorruptError(f"{folder}: a link in the place of a folder.")


def read_description(path: Path, entry: Mapping[str, Any]) -> dict[str, Column]:
    """Columns of the segment in ``path``. Raises IndexCorruptError for any that is not ours."""
    where = path / DESCRIPTION
    refuse_links(path)
    try:
        described = read_json(where, entry["bytes"], entry["sha256"])
    except FileNotFoundError:
        raise IndexCorruptError(f"{where}: missing.") from None
    return columns_of(where, described, entry["kind"])


def columns_of(where: Path, described: Mapping[str, Any], kind: str) -> dict[str, Column]:
    """Columns of a description that was read. Raises IndexCorruptError for any that is not ours."""
    if (
        set(described) != {"kind", "columns", "extra"}
        or described["kind"] != kind
        or not isinstance(described["columns"], dict)
    ):
        raise IndexCorruptError(f"{where}: not a segment of {kind}.")
    for name in described["columns"]:
        if not COLUMN_NAME.fullmatch(name):
            raise IndexCorruptError(f"{where}: {name!r:.80} is no column's name.")
    return {
        name: Column.from_dict(value, f"{where}: {name}")
        for name, value in described["columns"].items()
    }


class Segment:
    """A sealed segment, opened for reading: its sizes are checked and its files held at once."""

    def __init__(self, path: Path, entry: Mapping[str, Any]) -> None:
        self.path = path
        self.columns = read_description(path, entry)
        self._held = {
            name: column.hold(path / f"{name}.bin") for name, column in self.columns.items()
        }
        self.check_layout()

    def check_layout(self) -> None:
        """Refuse columns that do not go together."""
        if "doc_ids" in self.columns:
            self.expect({**DOCUMENT_COLUMNS, **LOOKUP_COLUMNS})
        if "token_ids" in self.columns:
            self.expect(TOKEN_COLUMNS)
        if "field_docs" in self.columns:
            self.expect(FIELD_COLUMNS)
        for names in BESIDE:
            rows = {name: self.columns[name].shape[0] for name in names if name in self.columns}
            if len(set(rows.values())) > 1:
                where = self.path / DESCRIPTION
                raise IndexCorruptError(f"{where}: unequal numbers of rows: {rows}.")

    def expect(self, layout: Layout, rows: int | None = None) -> None:
        """Refuse a segment without these columns, or with one of another dtype or shape."""
        for name, (dtype, width) in layout.items():
            column, wanted = self._column(name), () if width is None else (width,)
            if (
                column.dtype != dtype
                or column.shape[1:] != wanted
                or (rows is not None and column.shape[0] != rows)
            ):
                shape = ["rows" if rows is None else rows, *wanted]
                raise IndexCorruptError(
                    f"{self.path / DESCRIPTION}: {name} must be {dtype} {shape}, "
                    f"got {column.dtype} {list(column.shape)}."
                )

    def read(self, name: str) -> Array:
        """Read a column into memory, its digests checked."""
        return self._column(name).checked(self.map(name), self.path / f"{name}.bin")

    def read_rows(self, name: str, first: int, last: int) -> Array:
        """Rows of a column as they lie on disk, the digests of their blocks checked."""
        path = self.path / f"{name}.bin"
        return self._column(name).checked_rows(self.map(name), path, first, last)

    def map(self, name: str) -> Array:
        """A column, read-only, as it lies on disk."""
        self._column(name)
        return self._held[name]

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            raise IndexCorruptError(f"{self.path / DESCRIPTION}: no column {name!r}.")
        return self.columns[name]

    def read_offsets(self, name: str, total: int) -> Ints:
        """Read a column of ends as offsets [n + 1], which must rise from 0 to ``total``."""
        offsets = np.concatenate([[0], self.read(name)]).astype(np.int64)
        if offsets[-1] != total or not rising(offsets):
            raise IndexCorruptError(f"{self.path / name}.bin: ends must rise to {total}.")
        return offsets

    @property
    def size(self) -> int:
        """Bytes of all columns."""
        return sum(column.size for column in self.columns.values())

    @property
    def documents(self) -> int:
        """Number of documents, deleted ones counted."""
        return self._column("doc_id_ends").shape[0]

    @property
    def passages(self) -> int:
        """Number of passages."""
        return self._column("passage_spans").shape[0]

    @property
    def tokens(self) -> int:
        """Number of tokens; 0 in a segment without token vectors."""
        return self.columns["token_ids"].shape[0] if "token_ids" in self.columns else 0

    @cached_property
    def _doc_ids(self) -> tuple[bytes, Ints]:
        blob = self.read("doc_ids").tobytes()
        return blob, self.read_offsets("doc_id_ends", len(blob))

    @cached_property
    def _texts(self) -> tuple[Array, Ints]:
        blob = self.map("texts")
        return blob, self.read_offsets("text_ends", len(blob))

    @cached_property
    def passage_offsets(self) -> Ints:
        """First passage of each document, and their number [D + 1]."""
        return self.read_offsets("passage_ends", self.passages)

    @cached_property
    def passage_spans(self) -> Ints:
        """Character range of each passage in its document's text [N, 2]."""
        return self.read("passage_spans").astype(np.int64, copy=False)

    @cached_property
    def token_offsets(self) -> Ints:
        """First token of each passage, and their number [N + 1]."""
        return self.read_offsets("token_ends", self.tokens)

    @cached_property
    def fields(self) -> FieldTable:
        """Metadata of the documents."""
        return FieldTable(self)

    def hashes(self) -> Array:
        """Hash of each document's id."""
        ranked, order = self._lookup
        out = np.empty(self.documents, np.uint64)
        out[order] = ranked
        return out

    @cached_property
    def _lookup(self) -> tuple[Array, Array]:
        order = self.read("id_order")
        if len(order) and not 0 <= order.min() <= order.max() < self.documents:
            raise IndexCorruptError(f"{self.path}: id_order names documents there are not.")
        return self.read("id_hashes"), order

    def doc_id(self, d: int) -> str:
        """Id of document ``d``."""
        return self._string(self._doc_ids, d)

    def text(self, d: int) -> str:
        """Contents of document ``d``."""
        return self._string(self._texts, d)

    def _string(self, table: tuple[bytes | Array, Ints], d: int) -> str:
        blob, offsets = table
        try:
            return bytes(blob[offsets[d] : offsets[d + 1]]).decode()
        except UnicodeDecodeError as error:
            raise IndexCorruptError(
                f"{self.path}: document {d} is not UTF-8 ({error.reason}); "
                "run `tokret verify` on the index."
            ) from error

    def find(self, doc_id: str) -> list[int]:
        """Numbers of the documents with this id, deleted ones too, rising."""
        hashes, order = self._lookup
        wanted = np.uint64(id_hash(doc_id))
        first, last = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
        return sorted(d for d in order[first:last].tolist() if self.doc_id(d) == doc_id)
