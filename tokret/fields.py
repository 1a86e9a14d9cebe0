"""Metadata of a document: names with texts, numbers, truth values, or lists of these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from tokret.errors import InputError

Scalar = str | int | float | bool
Value = Scalar | tuple[str, ...] | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...]
KINDS = ("str", "int", "float", "bool")
MAX_NAME = 64  # characters
MAX_NAMES = 256  # of one index, so that data given as names is found out early
MAX_STRING = 1 << 16  # bytes of UTF-8: a field says something about a text and is none
MAX_LIST = 1 << 12  # values of one document in one field
# Words of the filter language, which could not be told from fields of these names.
RESERVED = frozenset({"and", "or", "not", "in", "between", "exists", "true", "false"})


class Fields(dict[str, Value]):
    """Checked metadata of one document, in the order of names; it never changes.

    Built from any mapping of names to str, int, float, bool, or a list of one of these,
    which is kept as a tuple; None and an empty list are as no field at all. Raises
    InputError that names the field, for a value of another type, NaN, infinity, a whole
    number beyond 64 bits, a text over MAX_STRING, and a name that is no identifier.
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        checked = [(name, _checked(name, value)) for name, value in (values or {}).items()]
        if len(checked) > MAX_NAMES:
            raise InputError(f"{len(checked)} fields; at most {MAX_NAMES} names fit into an index")
        checked.sort(key=lambda pair: pair[0])
        super().__init__((name, value) for name, value in checked if value is not None)

    @classmethod
    def lenient(cls, values: Mapping[str, Any]) -> tuple[Fields, list[str]]:
        """Keep the fields that can be kept, and say what is wrong with each of the others."""
        kept, wrong = {}, []
        for name, value in values.items():
            try:
                kept[name] = _checked(name, value)
            except InputError as error:
                wrong.append(str(error))
        return cls(kept), wrong

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __reduce__(self) -> tuple[type[Fields], tuple[dict[str, Value]]]:
        return Fields, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("Fields never change; make new ones from a dict of them.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def kind_of(value: Value) -> str:
    """Name the kind of a checked value: one of KINDS, or ``list[kind]``."""
    if isinstance(value, tuple):
        return f"list[{kind_of(value[0])}]"
    return type(value).__name__


def check_name(name: object) -> str:
    """Refuse what cannot name a field: InputError."""
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_NAME:
        raise InputError(
            f"{name!r:.80} cannot name a field; wanted letters, digits and _, not a digit first, "
            f"at most {MAX_NAME} of them"
        )
    if name.lower() in RESERVED:
        raise InputError(f"{name!r} cannot name a field: it is a word of the filter language")
    return name


def _checked(name: object, value: object) -> Value | None:
    """Bring a value to its plain form; None where there is nothing to keep."""
    name = check_name(name)
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        value = value.tolist()
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return _scalar(name, value)
    if len(value) > MAX_LIST:
        raise InputError(f"field {name!r} lists {len(value):,} values; at most {MAX_LIST:,} fit")
    scalars = [_scalar(name, one) for one in value]
    types = {type(one) for one in scalars}
    if types == {int, float}:
        whole = [one for one in scalars if isinstance(one, int) and float(one) != one]
        if whole:
            raise InputError(
                f"field {name!r} mixes fractions with {whole[0]}, which no float holds exactly"
            )
        return tuple(float(one) for one in scalars)
    if len(types) > 1:
        kinds = " and ".join(sorted(kind.__name__ for kind in types))
        raise InputError(f"field {name!r} mixes {kinds}; a list holds values of one kind")
    return tuple(scalars) or None  # type: ignore[return-value]


def _scalar(name: str, value: object) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(name, str.__str__(value))
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise InputError(f"field {name!r} holds a whole number beyond 64 bits; give it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"field {name!r} is {float(value)}; leave it out where it is unknown")
        return float(value)
    hint = "; write dates as '2024-05-31', which order as dates do" if _dated(value) else ""
    raise InputError(
        f"field {name!r} holds {_called(value)}; wanted a text, a number, true or false, or a "
        f"list of one of these{hint}"
    )


def _text(name: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InputError(f"field {name!r} holds a lone surrogate, which is no character") from None
    if size > MAX_STRING:
        raise InputError(f"field {name!r} holds {size:,} bytes; at most {MAX_STRING:,} fit")
    return value


def _dated(value: object) -> bool:
    return hasattr(value, "isoformat")


def _called(value: object) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return "an object"
    return "a list in a list" if isinstance(value, list | tuple) else type(value).__name__
