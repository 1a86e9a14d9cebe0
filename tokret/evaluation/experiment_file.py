"""Experiments from TOML files: whatever is not understood is refused by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokret.collections import irds
from tokret.errors import UsageError
from tokret.evaluation.experiment import (
    DEFAULT_MODEL,
    SAMPLE,
    Expected,
    Experiment,
    Fused,
    IndexPlan,
    Searched,
    System,
)
from tokret.evaluation.fusion import fusers
from tokret.evaluation.names import measures_named
from tokret.indexes import backends
from tokret.indexes.manifest import Settings
from tokret.indexes.recipe import KEYS, called, read_recipe, read_toml
from tokret.registry import did_you_mean, parse
from tokret.scoring import scorers


def read_experiment(path: str | Path, *, collection: str | Path | None = None) -> Experiment:
    """Read an experiment file; ``collection`` takes the place of the one it names.

    Raises UsageError that names the file and what it cannot use, InputError where the
    file is absent or not TOML.
    """
    path = Path(path)
    table = read_toml(path)
    if collection is None:
        named = table.get("collection")
        if isinstance(named, str) and named != SAMPLE and not irds.is_id(named):
            table["collection"] = str(path.parent / named)
    else:
        table["collection"] = str(collection)
    table.setdefault("name", path.stem)
    for system in [table.get("defaults"), *_listed(table.get("system"))]:
        if isinstance(system, dict) and isinstance(system.get("recipe"), str):
            system["recipe"] = str(path.parent / system["recipe"])
    try:
        return experiment_of(table)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def experiment_of(table: Mapping[str, Any]) -> Experiment:
    """Make an experiment from a file's table. Raises UsageError for what it cannot use."""
    top = _Table(table, "the experiment")
    defaults = top.table("defaults")
    plan = _plan(defaults)
    scorer = defaults.optional("scorer", str)
    defaults.done()
    systems = tuple(_system(system, plan, scorer) for system in top.tables("system"))
    expected = tuple(_expected(top.table("expected")))
    fields: dict[str, Any] = {
        key: top.optional(key, kind)
        for key, kind in {
            "name": str,
            "collection": str,
            "split": str,
            "k": int,
            "limit_queries": int,
            "limit_documents": int,
            "remove_self": bool,
            "description": str,
        }.items()
        if key in top
    }
    if "measures" in top:
        fields["measures"] = tuple(str(m) for m in measures_named(top.strings("measures")))
    top.done()
    if "collection" not in fields:
        raise UsageError('It names no collection; add collection = "sample", a folder or an id.')
    fields.setdefault("name", "experiment")
    for key in ("k", "limit_queries", "limit_documents"):
        if fields.get(key, 1) < 1:
            raise UsageError(f"{key} must be at least 1, got {fields[key]}.")
    return Experiment(systems=systems, expected=expected, **fields)


def _system(table: _Table, plan: Mapping[str, Any], scorer: str | None) -> System:
    name = table.required("name", str)
    table.what = f"system {name!r}"
    if "fuse" in table or "method" in table:
        method = table.optional("method", str) or "rrf"
        fused = Fused(name, tuple(table.strings("fuse")), str(fusers.build(method)))
        table.done()
        return fused
    own = _plan(table)
    own_scorer = table.optional("scorer", str)
    table.done()
    try:
        return _searched(name, own, plan, own_scorer, scorer)
    except UsageError as error:
        raise UsageError(f"System {name!r}: {error}") from error


def _plan(table: _Table) -> dict[str, Any]:
    """How to build the index: what a recipe says, and over it what the table says."""
    recipe = table.optional("recipe", str)
    return {
        **(read_recipe(recipe) if recipe is not None else {}),
        **{key: table.take(key) for key in KEYS if key in table},
    }


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _searched(
    name: str,
    own: Mapping[str, Any],
    defaults: Mapping[str, Any],
    own_scorer: str | None,
    scorer: str | None,
) -> Searched:
    settings = {**defaults, **own}
    for key, value in settings.items():
        kind = KEYS[key]
        if type(value) is not kind:
            raise UsageError(f"{key} must be {called(kind)}, got {value!r}.")
    if "backend" not in settings:
        raise UsageError(f"it needs a backend: {', '.join(backends.names())}; or fuse = [...].")
    backend = backends.build(settings["backend"])
    settings["backend"] = str(backend)
    if not backend.encodes:
        unused = [
            key for key in ("model", "long", "max_tokens", "overlap", "normalize") if key in own
        ]
        unused += ["scorer"] if own_scorer is not None else []
        if unused:
            raise UsageError(f"{backend} reads text and has no {', '.join(unused)}.")
        return Searched(name, IndexPlan(str(backend), None))
    chosen = own_scorer if own_scorer is not None else scorer
    parse(settings.get("model", DEFAULT_MODEL))
    plan = IndexPlan(**settings)
    Settings(plan.long, plan.max_tokens, plan.overlap, plan.normalize)
    return Searched(name, plan, None if chosen is None else str(scorers.build(chosen)))


def _expected(table: _Table) -> Iterator[Expected]:
    for system in table.content:
        by_measure = table.table(system)
        for measure in by_measure.content:
            bounds = by_measure.table(measure)
            fields: dict[str, Any] = {
                key: bounds.number(key)
                for key in ("value", "tolerance", "min", "max")
                if key in bounds
            }
            near = bounds.optional("near", str)
            bounds.done()
            yield Expected(system, str(measures_named(measure)[0]), near=near, **fields)


@dataclass
class _Table:
    """A table that knows which of its keys nobody asked for."""

    content: Mapping[str, Any]
    what: str
    asked: dict[str, None] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        self.asked[key] = None
        return key in self.content

    def take(self, key: str) -> Any:  # noqa: ANN401
        self.asked[key] = None
        return self.content.get(key)

    def optional(self, key: str, kind: type) -> Any:  # noqa: ANN401
        value = self.take(key)
        if value is not None and type(value) is not kind:
            raise UsageError(f"{self.what}: {key} must be {called(kind)}, got {value!r}.")
        return value

    def required(self, key: str, kind: type) -> Any:  # noqa: ANN401
        if key not in self.content:
            raise UsageError(f"{self.what} needs {key}.")
        return self.optional(key, kind)

    def number(self, key: str) -> float:
        value = self.take(key)
        if type(value) not in (int, float) or value != value or abs(value) == float("inf"):
            raise UsageError(f"{self.what}: {key} must be a number, got {value!r}.")
        return float(value)

    def strings(self, key: str) -> list[str]:
        value = self.take(key)
        if not isinstance(value, list) or not value or not all(type(x) is str for x in value):
            raise UsageError(f"{self.what}: {key} must be a list of texts, got {value!r}.")
        return value

    def table(self, key: str) -> _Table:
        what = key if self.what == "the experiment" else f"{self.what}.{key}"
        return _Table(self.optional(key, dict) or {}, what)

    def tables(self, key: str) -> Sequence[_Table]:
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(type(x) is dict for x in value):
            raise UsageError(f"{self.what}: systems are written under [[{key}]], each its own.")
        return [_Table(table, f"{key} {i}") for i, table in enumerate(value, 1)]

    def done(self) -> None:
        """Refuse the keys that nobody asked for."""
        for key in self.content:
            if key not in self.asked:
                raise UsageError(
                    f"{self.what} has no key {key!r}.{did_you_mean(key, self.asked)} "
                    f"Known: {', '.join(sorted(self.asked))}."
                )
