"""Lines and JSON values to records: exact ids, exact text, a fault said once.

Numbers keep the characters they were written with, so that an id 1 becomes "1"
and 1.0 is refused, never merged with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from tokret.errors import InputError

Encoding = Literal["strict", "replace", "skip"]
Record = dict[str, Any]

ID_FIELDS = ("_id", "id", "docid", "docno")
TEXT_FIELDS = ("contents", "text", "segment", "passage", "body")
QUERY_ID_FIELDS = ("_id", "id", "qid", "query_id", "query-id")
QUERY_FIELDS = ("text", "query", "contents", "title")

_SURROGATES = re.compile("[\ud800-\udfff]")


class EncodingFault(InputError):
    """Bytes or escapes that are no text; the encoding policy decides, before on_error."""


class Integer(str):
    """A JSON integer in the digits of its file."""


class Decimal(str):
    """A JSON number with a point or an exponent, in the characters of its file."""


DECODER = json.JSONDecoder(parse_int=Integer, parse_float=Decimal, parse_constant=Decimal)


def decoded(raw: bytes, encoding: Encoding, of: str = "line") -> str:
    """Bytes of one line or file to text: UTF-8, or U+FFFD for what is not under ``replace``."""
    try:
        return raw.decode("utf-8", "replace" if encoding == "replace" else "strict")
    except UnicodeDecodeError as error:
        raise EncodingFault(
            f"byte {error.start + 1} of the {of} is not UTF-8; wanted UTF-8 "
            "(encoding_errors='replace' puts U+FFFD there)"
        ) from error


def json_record(line: str) -> Record:
    """Read one JSON object; InputError for anything else."""
    try:
        value = DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg} at column {error.colno}; wanted one object a line"
        ) from error
    except RecursionError as error:
        raise InputError("JSON nested too deep to read; wanted one flat object a line") from error
    return an_object(value)


def an_object(value: object) -> Record:
    """Pass an object through; InputError for any other JSON value."""
    if not isinstance(value, dict):
        raise InputError(f"got {_kind(value)}; wanted an object with an id and a text")
    return value


def field(record: Record, names: Sequence[str], what: str, encoding: Encoding) -> str:
    """Take the first of ``names`` that ``record`` has, as exact text.

    A whole number is taken as its digits for an id, never for a text. Raises InputError
    for a missing field or another type, EncodingFault for a lone surrogate.
    """
    name = next((name for name in names if record.get(name) is not None), None)
    if name is None:
        has = ", ".join(map(repr, list(record)[:8])) or "nothing"
        raise InputError(f"no {what}: the record has {has}; wanted one of {', '.join(names)}")
    value = record[name]
    if what == "id" and type(value) is Integer:
        return str(value)
    if type(value) is not str:
        shown = f"{_kind(value)} {value}" if isinstance(value, str) else _kind(value)
        raise InputError(f"{name!r} is {shown}; wanted a string")
    if what == "id" and not value:
        raise InputError(f"{name!r} is empty; wanted an id")
    return clean(value, encoding)


def clean(text: str, encoding: Encoding) -> str:
    """Text that UTF-8 can hold; a lone surrogate is refused, or U+FFFD under ``replace``."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if encoding != "replace":
            raise EncodingFault(
                f"half a surrogate pair, U+{ord(text[error.start]):04X}, or bytes that are not "
                "UTF-8; wanted text (encoding_errors='replace' puts U+FFFD there)"
            ) from error
        return _SURROGATES.sub("\ufffd", text)
    return text


def without_nul(text: str, encoding: Encoding) -> str:
    """Plain text with a NUL is binary or UTF-16: EncodingFault, or U+FFFD under ``replace``."""
    if "\0" not in text:
        return text
    if encoding != "replace":
        raise EncodingFault("a NUL byte, as in binary or UTF-16 files; wanted UTF-8 text")
    return text.replace("\0", "\ufffd")


def _kind(value: object) -> str:
    if isinstance(value, Integer | Decimal):
        return "the number"
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false"}
    return names.get(type(value), "null")
