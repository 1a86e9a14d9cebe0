"""A filter of documents by their fields, as users give it: a text, or a mapping.

year >= 2019 and lang in ["en", "de"] and not exists retracted
{"year": {">=": 2019}, "lang": ["en", "de"], "retracted": {"exists": False}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokret.errors import InputError, UsageError
from tokret.fields import check_name
from tokret.indexes.field_table import FieldTable
from tokret.indexes.filter_text import ORDERS, parse, pointed
from tokret.indexes.filter_tree import (
    Equals,
    Exists,
    Node,
    Not,
    Range,
    Test,
    all_of,
    any_of,
    check_value,
    literal,
    tests,
)
from tokret.registry import did_you_mean
from tokret.types import Mask

MAX_VALUES = 1 << 16  # of a mapping, in all
MAX_LEVELS = 16  # of a mapping, so that its text is not too deep to be read again
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "between", "exists")
Kinds = dict[str, set[str]]  # name -> kinds of values that documents hold under it
NAMED = {"str": "texts", "int": "whole numbers", "float": "numbers", "bool": "true or false"}


@dataclass(frozen=True)
class Filter:
    """A tree, and the text that it was read from, if it was."""

    tree: Node
    source: str | None = None

    @classmethod
    def of(cls, where: str | Mapping[str, Any] | Filter) -> Filter:
        """Read a filter. Raises UsageError that says where and why it cannot be."""
        if isinstance(where, Filter):
            return where
        if isinstance(where, str):
            return cls(parse(where), where)
        if isinstance(where, Mapping):
            return cls(_Compiler().every(where, 0))
        raise UsageError(
            f"A filter is a text such as 'year >= 2019', or a mapping; got {where!r:.80}."
        )

    def __str__(self) -> str:
        """The filter in one spelling, which reads as the same tree."""
        return str(self.tree)

    def mask(self, tables: Iterable[FieldTable]) -> Mask:
        """Documents that are allowed, numbered through all segments [D]."""
        masks = [self.tree.mask(table) for table in tables]
        return np.concatenate([np.empty(0, np.bool_), *masks])

    def check(self, tables: Iterable[FieldTable]) -> None:
        """Refuse a test that no document could pass, as a misspelt name: UsageError."""
        known: Kinds = {}
        for table in tables:
            for name, kind, _ in table.kinds:
                known.setdefault(name, set()).add(kind)
        for test in tests(self.tree):
            if fault := _fault(test, known):
                if self.source is not None and test.at >= 0:
                    raise pointed(self.source, test.at, fault)
                raise UsageError(f"The filter: {fault}.")


def _fault(test: Test, known: Kinds) -> str:
    if test.name not in known:
        has = f"Known: {', '.join(sorted(known))}" if known else "The index holds no fields"
        return f"no document has a field {test.name!r}.{did_you_mean(test.name, known)} {has}"
    kinds = {"number" if kind in ("int", "float") else kind for kind in known[test.name]}
    asked = {
        type(value).__name__ if isinstance(value, bool | str) else "number": value
        for value in test.values
    }
    if not asked or kinds & asked.keys():
        return ""
    holds = " and ".join(NAMED[kind] for kind in sorted(known[test.name]))
    return f"{test.name} holds {holds}, never such as {literal(next(iter(asked.values()))):.80}"


Where = str | Mapping[str, Any] | Filter


class _Compiler:
    """A mapping to a tree: names to values, lists of values, or operators with theirs."""

    def __init__(self) -> None:
        self._values = 0

    def every(self, where: Mapping[str, Any], depth: int) -> Node:
        """All conditions of a mapping."""
        if depth > MAX_LEVELS:
            raise UsageError(f"The filter has more than {MAX_LEVELS} levels.")
        parts: list[Node] = []
        for key, value in where.items():
            if key in ("and", "or"):
                if not isinstance(value, list | tuple):
                    raise UsageError(f"The filter: {key!r} takes a list of mappings.")
                inner = [self._inner(key, one, depth) for one in value]
                parts.append(all_of(inner) if key == "and" else any_of(inner))
            elif key == "not":
                parts.append(Not(self._inner(key, value, depth)))
            else:
                parts.append(self._field(key, value))
        return all_of(parts)

    def _inner(self, key: str, value: object, depth: int) -> Node:
        if not isinstance(value, Mapping):
            raise UsageError(f"The filter: {key!r} takes mappings; got {value!r:.80}.")
        return self.every(value, depth + 1)

    def _field(self, name: object, value: object) -> Node:
        try:
            name = check_name(name)
            if value is None:
                raise InputError(
                    f"{name!r} is None; for documents without the field write {{'exists': False}}"
                )
            if not isinstance(value, Mapping):
                value = {"in" if isinstance(value, list | tuple | set | frozenset) else "==": value}
            return self._operators(name, value)
        except InputError as error:
            raise UsageError(f"The filter: {error}.") from error

    def _operators(self, name: str, operators: Mapping[str, Any]) -> Node:
        parts: list[Node] = []
        bounds: dict[str, Any] = {}
        for operator, value in operators.items():
            self._count(1)
            if operator in ORDERS:
                bounds[operator] = value
            elif operator == "between":
                if not isinstance(value, list | tuple) or len(value) != 2:
                    raise InputError(f"{name}: between takes two bounds, got {value!r:.80}")
                parts.append(self._range(name, {">=": value[0], "<=": value[1]}))
            elif operator in ("==", "!="):
                equals = Equals(name, (check_value(value, name),))
                parts.append(equals if operator == "==" else Not(equals))
            elif operator in ("in", "not in"):
                among = Equals(name, self._listed(name, value))
                parts.append(among if operator == "in" else Not(among))
            elif operator == "exists" and isinstance(value, bool):
                parts.append(Exists(name) if value else Not(Exists(name)))
            elif operator == "exists":
                raise InputError(f"{name}: exists takes true or false, got {value!r:.80}")
            else:
                hint = did_you_mean(str(operator), OPERATORS)
                raise InputError(
                    f"{name}: no operator {operator!r:.80}.{hint} Known: {', '.join(OPERATORS)}"
                )
        if bounds:
            parts.append(self._range(name, bounds))
        return all_of(parts)

    def _listed(self, name: str, values: object) -> tuple[Any, ...]:
        if hasattr(values, "tolist"):  # a NumPy array
            values = values.tolist()
        if not isinstance(values, list | tuple | set | frozenset):
            raise InputError(f"{name}: in takes a list of values, got {values!r:.80}")
        self._count(len(values))
        checked = [check_value(value, name) for value in values]
        return tuple(checked if isinstance(values, list | tuple) else sorted(checked, key=literal))

    def _range(self, name: str, bounds: Mapping[str, Any]) -> Node:
        lower = [key for key in (">", ">=") if key in bounds]
        upper = [key for key in ("<", "<=") if key in bounds]
        if len(lower) > 1 or len(upper) > 1:
            raise InputError(f"{name}: give one lower and one upper bound, got {list(bounds)}")
        low, high = (
            check_value(bounds[keys[0]], name) if keys else None for keys in (lower, upper)
        )
        given = [bound for bound in (low, high) if bound is not None]
        if any(isinstance(bound, bool) for bound in given):
            raise InputError(f"{name}: true and false have no order; take == or !=")
        if len({isinstance(bound, str) for bound in given}) > 1:
            raise InputError(f"{name}: a range goes between two numbers or two texts")
        return Range(name, low, high, (lower == [">"], upper == ["<"]))

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise UsageError(f"The filter has more than {MAX_VALUES:,} values.")
