"""Strangers' text made safe to show; a document cannot steer the terminal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

# Controls of C0 and C1, line and direction marks, invisible tags, halves of characters.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")


def shown(text: str) -> str:
    """Replace each harmful character by one harmless one, so that character ranges hold."""
    return _HARMFUL.sub(lambda m: " " if m[0] in _SPACES else "\ufffd", text)


def escaped(text: str, *, keep: str = "") -> str:
    r"""Spell harmful characters out as ``\x1b``: what differs stays different."""
    return _HARMFUL.sub(lambda m: m[0] if m[0] in keep else _spelled(m[0]), text)


def to_json(value: object, *, ascii_only: bool = False) -> str:
    """One line of strict JSON; NaN and infinity become null, harmful characters escapes."""
    line = json.dumps(_plain(value), ensure_ascii=ascii_only, allow_nan=False)
    return _HARMFUL.sub(lambda m: json.dumps(m[0])[1:-1], line)


def counted(number: int, noun: str) -> str:
    """Write ``1 document`` or ``1,234 documents``; the noun takes an s, a query queries."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{number:,} {noun}s"


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Dataclasses, named tuples, paths and NumPy values as what JSON knows."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)
