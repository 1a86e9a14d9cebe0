"""Names for components, and their one spelling: ``name(key=value, ...)``.

The same string configures a component on the command line, in an experiment
file and in a result table; ``str(component)`` gives it back.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

from tokret.errors import UsageError

C = TypeVar("C")
T = TypeVar("T", bound=type)

MAX_SPEC = 4096  # characters; longer text is not a spec


class Spec:
    """A frozen dataclass that prints as the string that builds it.

    A field with ``compare=False``, which changes how but not what, is not printed.
    """

    name: ClassVar[str] = ""

    def __str__(self) -> str:
        changed = [
            f
            for f in fields(self)  # type: ignore[arg-type]
            if f.compare and (f.default is MISSING or getattr(self, f.name) != f.default)
        ]
        args = ", ".join(f"{f.name}={_literal(getattr(self, f.name))}" for f in changed)
        return f"{self.name}({args})" if args else self.name

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[type, dict[str, Any]]]:
        """Pickle the fields alone: what was loaded by them is loaded again."""
        return _rebuilt, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]


def _rebuilt(component: type, values: dict[str, Any]) -> Any:  # noqa: ANN401
    return component(**values)


class Registry(Generic[C]):
    """The components of one kind, by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._by_name: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Give the decorated class its name; a name is given once."""

        def add(component: T) -> T:
            if name in self._by_name:
                raise UsageError(f"{self.kind} {name!r} is already {self._by_name[name]!r}.")
            component.name = name  # type: ignore[attr-defined]
            self._by_name[name] = component
            return component

        return add

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._by_name)

    def build(self, spec: str | C) -> C:
        """Build from ``"name"`` or ``"name(key=value, ...)"``; a component passes through.

        Raises UsageError that names what is known, for a name, a parameter or a value of
        the wrong type.
        """
        if not isinstance(spec, str):
            return spec
        name, params = parse(spec)
        if name not in self._by_name:
            raise UsageError(
                f"No {self.kind} {name!r}.{did_you_mean(name, self._by_name)} "
                f"Known: {', '.join(self.names())}."
            )
        component = self._by_name[name]
        hints = get_type_hints(component)
        known = [f.name for f in fields(component)]
        for key, value in params.items():
            if key not in known:
                takes = ", ".join(known) or "no parameters"
                raise UsageError(f"{self.kind} {name!r} has no {key!r}; it takes {takes}.")
            params[key] = _typed(value, hints[key], f"{self.kind} {name!r}: {key}")
        missing = [
            f.name
            for f in fields(component)
            if f.name not in params and f.default is MISSING and f.default_factory is MISSING
        ]
        if missing:
            raise UsageError(f"{self.kind} {name!r} needs {', '.join(missing)}.")
        built: C = component(**params)
        return built


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Take a spec apart: its name, which may hold dashes, and its literal parameters."""
    text, hint = spec.strip(), ""
    name, bracket, rest = text.partition("(")
    name = name.strip()
    readable = len(text) <= MAX_SPEC and name.replace("-", "_").isidentifier()
    if readable and not bracket:
        return name, {}
    if readable:
        try:
            tree = ast.parse(f"f({rest}", mode="eval").body
            if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
                keys = [keyword.arg for keyword in tree.keywords]
                hint = _unquoted(tree)
                if None not in keys and not hint:
                    return name, {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    shown = text if len(text) <= 80 else text[:77] + "..."
    raise UsageError(f"Cannot read {shown!r}; write it as name or name(key=value, ...).{hint}")


def _unquoted(call: ast.Call) -> str:
    """Show how the first bare word is written: a shell may have eaten its quotes."""
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Name):
            return f' Texts stand in double quotes: {keyword.arg}="{keyword.value.id}".'
    return ""


def _literal(value: object) -> str:
    """``repr`` with the double quotes that a shell's single quotes leave alone."""
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text:
        return f'"{text[1:-1]}"'
    return text


def _typed(value: Any, hint: Any, what: str) -> Any:  # noqa: ANN401
    """Refuse a value of another type than the field's; an int may stand for a float."""
    if get_origin(hint) is tuple:  # of any length, and of one type
        if not isinstance(value, tuple | list):
            raise UsageError(f"{what} must be a list such as (1, 2); got {value!r}.")
        return tuple(_typed(item, get_args(hint)[0], what) for item in value)
    if get_origin(hint) is not None:  # a Literal or a union
        choices = get_args(hint)
        if choices and not any(isinstance(choice, type) for choice in choices):
            if value not in choices:
                raise UsageError(
                    f"{what} must be one of {', '.join(map(repr, choices))}; got {value!r}."
                )
            return value
        accepted = tuple(choice for choice in choices if isinstance(choice, type))
    else:
        accepted = (hint,) if isinstance(hint, type) else ()
    if float in accepted and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"{what} has {len(str(value))} digits, beyond any float.") from None
    if accepted and type(value) not in accepted:
        wanted = " or ".join(t.__name__ for t in accepted)
        raise UsageError(f"{what} must be {wanted}; got {value!r}.")
    return value
