"""A filter as a tree: each node gives the documents of a segment that it allows.

A test on a list holds where any of its elements passes. What is not there passes no test,
so ``not``, and ``!=`` and ``not in`` that are made of it, allow documents without the
field. ``str`` of a node is text that reads as the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from tokret.errors import InputError
from tokret.fields import Fields, Scalar
from tokret.indexes.field_table import FieldTable
from tokret.types import Mask

ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = str.maketrans(ESCAPES)


@dataclass(frozen=True)
class Equals:
    """One of the values is that of the field, or among those of its list."""

    name: str
    values: tuple[Scalar, ...]
    at: int = field(default=-1, compare=False)  # place in the text, for errors

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.name} == {literal(self.values[0])}"
        return f"{self.name} in {_listed(self.values)}"

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return _any(table, [column.equal(self.values) for column in table.columns(self.name)])


@dataclass(frozen=True)
class Range:
    """A value of the field lies between the bounds, of which None is none."""

    name: str
    low: Scalar | None
    high: Scalar | None
    opened: tuple[bool, bool] = (False, False)  # whether a bound itself is outside
    at: int = field(default=-1, compare=False)

    def __str__(self) -> str:
        signs = [" < " if opened else " <= " for opened in self.opened]
        low = "" if self.low is None else literal(self.low) + signs[0]
        high = "" if self.high is None else signs[1] + literal(self.high)
        return f"{low}{self.name}{high}"

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The bounds there are."""
        return tuple(bound for bound in (self.low, self.high) if bound is not None)

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        columns = [c for c in table.columns(self.name) if c.comparable(self.values[0])]
        return _any(table, [c.within(self.low, self.high, self.opened) for c in columns])


@dataclass(frozen=True)
class Exists:
    """The document has the field."""

    name: str
    at: int = field(default=-1, compare=False)
    values: tuple[Scalar, ...] = ()

    def __str__(self) -> str:
        return f"exists {self.name}"

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return _any(table, [column.spread() for column in table.columns(self.name)])


@dataclass(frozen=True)
class Not:
    """What the other does not allow."""

    inner: Node

    def __str__(self) -> str:
        if isinstance(self.inner, Equals):
            name, values = self.inner.name, self.inner.values
            return (
                f"{name} != {literal(values[0])}"
                if len(values) == 1
                else f"{name} not in {_listed(values)}"
            )
        return f"not {_bracketed(self.inner)}"

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return ~self.inner.mask(table)


@dataclass(frozen=True)
class And:
    """What all allow."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(map(_bracketed, self.parts))

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return reduce(np.logical_and, (part.mask(table) for part in self.parts))


@dataclass(frozen=True)
class Or:
    """What one of them allows."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(map(_bracketed, self.parts))

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return reduce(np.logical_or, (part.mask(table) for part in self.parts))


@dataclass(frozen=True)
class Constant:
    """Everything, or nothing."""

    value: bool

    def __str__(self) -> str:
        return literal(self.value)

    def mask(self, table: FieldTable) -> Mask:
        """Documents of a segment that are allowed [D]."""
        return np.full(table.total, self.value)


Test = Equals | Range | Exists
Node = Test | Not | And | Or | Constant


def all_of(parts: Sequence[Node]) -> Node:
    """Join parts by ``and``; of none, everything is allowed."""
    return parts[0] if len(parts) == 1 else And(tuple(parts)) if parts else Constant(True)


def any_of(parts: Sequence[Node]) -> Node:
    """Join parts by ``or``; of none, nothing is allowed."""
    return parts[0] if len(parts) == 1 else Or(tuple(parts)) if parts else Constant(False)


def tests(node: Node) -> Iterator[Test]:
    """All tests of fields in a tree."""
    if isinstance(node, Not):
        yield from tests(node.inner)
    elif isinstance(node, And | Or):
        for part in node.parts:
            yield from tests(part)
    elif not isinstance(node, Constant):
        yield node


def literal(value: Scalar) -> str:
    """Write a value as the filter language has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value.translate(_ESCAPED)}"' if isinstance(value, str) else repr(value)


def check_value(value: object, name: str = "value") -> Scalar:
    """Refuse what a field never holds: InputError."""
    checked = Fields({name: value}).get(name)
    if checked is None or isinstance(checked, tuple):
        raise InputError(f"{name!r} cannot be {value!r:.80}; wanted a text, number, true or false")
    return checked


def _listed(values: Sequence[Scalar]) -> str:
    return f"[{', '.join(map(literal, values))}]"


def _bracketed(node: Node) -> str:
    return f"({node})" if isinstance(node, And | Or) else str(node)


def _any(table: FieldTable, masks: Sequence[Mask]) -> Mask:
    return reduce(np.logical_or, masks, np.zeros(table.total, np.bool_))
