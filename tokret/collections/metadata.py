"""The metadata object of a record, as fields of a document."""

from __future__ import annotations

from typing import Any, Literal

from tokret.collections.records import Decimal, Encoding, Integer, Record, clean
from tokret.errors import InputError
from tokret.fields import Fields
from tokret.types import NO_FIELDS

METADATA_FIELDS = ("metadata", "fields")
DIGITS = 24  # of the longest number that is looked at; 64 bits have 19

OnMetadata = Literal["strict", "lenient", "ignore"]


def metadata(record: Record, policy: OnMetadata, encoding: Encoding) -> tuple[Fields, list[str]]:
    """Read the fields of a record, and say what was left out of them.

    ``strict`` refuses what cannot be kept, by an InputError that names the key and the two
    other ways; ``lenient`` leaves it out; ``ignore`` looks at nothing.
    """
    given = [name for name in METADATA_FIELDS if record.get(name) is not None]
    if policy == "ignore" or not given:
        return NO_FIELDS, []
    try:
        if len(given) > 1:
            raise InputError(f"both {given[0]!r} and {given[1]!r}; wanted one of them")
        value = record[given[0]]
        if not isinstance(value, dict):
            kind = "a list" if isinstance(value, list) else f"{value!r:.40}"
            raise InputError(f"{given[0]!r} is {kind}; wanted an object of names and values")
        plain = {name: _plain(one, encoding) for name, one in value.items()}
        if policy == "lenient":
            return Fields.lenient(plain)
        return Fields(plain), []
    except InputError as error:
        if policy == "lenient":
            return NO_FIELDS, [str(error)]
        raise type(error)(
            f"{error} (metadata='lenient' leaves out what cannot be kept, 'ignore' all of it)"
        ) from error


def _plain(value: object, encoding: Encoding) -> Any:  # noqa: ANN401
    """Turn numbers, which a reader keeps as they were written, into numbers."""
    if isinstance(value, list):
        return [_plain(one, encoding) if not isinstance(one, list) else one for one in value]
    if isinstance(value, Integer):
        return int(value) if len(value) <= DIGITS else 1 << 64  # refused as beyond 64 bits
    if isinstance(value, Decimal):
        return float(value)
    return clean(value, encoding) if isinstance(value, str) else value
