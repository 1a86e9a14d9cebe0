"""What a Python caller may give for a document, brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokret.errors import InputError
from tokret.fields import Fields
from tokret.types import NO_FIELDS, Document

ID_KEYS = ("id", "_id", "doc_id", "docid", "docno")
TEXT_KEYS = ("text", "contents", "segment")
FIELD_KEYS = ("fields", "metadata")
Given = Document | Mapping[str, Any] | Sequence[Any]


def as_document(record: Given, i: int) -> Document:
    """Read one document of a Python caller. Raises InputError that names its place."""
    if isinstance(record, Mapping):
        doc_id = next((record[key] for key in ID_KEYS if key in record), None)
        text = next((record[key] for key in TEXT_KEYS if key in record), None)
        given = [key for key in FIELD_KEYS if record.get(key) is not None]
        if len(given) > 1:
            raise InputError(f"Document {i} has {' and '.join(given)}; give one of them.")
        fields = record[given[0]] if given else NO_FIELDS
        title = record.get("title") or ""
        document = Document(doc_id, text, title, fields)  # type: ignore[arg-type]
    elif isinstance(record, tuple | list) and len(record) in (2, 3, 4):
        document = Document(*record)
    else:
        raise InputError(
            f"Document {i} must be a Document, (id, text), or a mapping with id and text; "
            f"got {type(record).__name__}."
        )
    for name, value in zip(("doc_id", "text", "title"), document, strict=False):
        if not isinstance(value, str):
            raise InputError(f"Document {i}: {name} must be a string, got {value!r:.80}.")
        if not _encodable(value):
            raise InputError(f"Document {i}: {name} holds a lone surrogate, which is no character.")
    if not document.doc_id:
        raise InputError(f"Document {i} has an empty id.")
    if isinstance(document.fields, Fields):
        return document
    return document._replace(fields=_fields(document.fields, i))


def _fields(given: object, i: int) -> Fields:
    if not isinstance(given, Mapping):
        raise InputError(
            f"Document {i}: fields must be a mapping of names to values, got {given!r:.80}."
        )
    try:
        return Fields(given)
    except InputError as error:
        raise InputError(f"Document {i}: {error}.") from error


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
