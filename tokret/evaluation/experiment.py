"""An experiment: one collection, several systems, the measures to compare them by.

It says what to run and nothing about where: indexes and runs go to a work folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tokret.errors import UsageError
from tokret.evaluation.measures import DEFAULT_MEASURES
from tokret.evaluation.names import measures_named
from tokret.registry import did_you_mean

SAMPLE = "sample"  # the collection that ships in the package
DEFAULT_MODEL = "tokret-mini"


@dataclass(frozen=True)
class IndexPlan:
    """What makes an index; systems with equal plans share one."""

    backend: str
    model: str | None = DEFAULT_MODEL
    long: str = "split"
    max_tokens: int | None = None
    overlap: int = 0
    normalize: bool = True


@dataclass(frozen=True)
class Searched:
    """A system that searches an index; ``scorer`` None is the backend's own."""

    name: str
    index: IndexPlan
    scorer: str | None = None


@dataclass(frozen=True)
class Fused:
    """A system made of the runs of others, by name."""

    name: str
    fuse: tuple[str, ...]
    method: str = "rrf"


System = Searched | Fused


@dataclass(frozen=True)
class Expected:
    """Where a value ought to lie: near a number or another system's value, or in bounds."""

    system: str
    measure: str
    value: float | None = None
    near: str | None = None
    tolerance: float = 0.0
    min: float | None = None
    max: float | None = None

    def __str__(self) -> str:
        if self.value is not None or self.near is not None:
            return f"{self.value if self.near is None else self.near} ± {self.tolerance:g}"
        bounds = [f"≥ {self.min:g}"] if self.min is not None else []
        return " and ".join(bounds + ([f"≤ {self.max:g}"] if self.max is not None else []))

    def holds(self, got: float, values: Mapping[str, Mapping[str, float]]) -> bool:
        """Whether ``got`` is as expected; ``values`` are those of all systems by name."""
        target = self.value if self.near is None else values[self.near][self.measure]
        slack = 1e-9  # a bound that is met exactly is met, whatever the last bit says
        return (
            (target is None or abs(got - target) <= self.tolerance + slack)
            and (self.min is None or got >= self.min - slack)
            and (self.max is None or got <= self.max + slack)
        )


@dataclass(frozen=True)
class Experiment:
    """A collection, systems in the order they are shown, and measures.

    ``collection`` is ``sample``, a folder, or an ir_datasets id. ``limit_queries`` and
    ``limit_documents`` keep the first of each, for a quick look. ``remove_self`` None goes
    by the name of the collection: True for ArguAna and Quora.
    """

    name: str
    collection: str
    systems: tuple[System, ...]
    measures: tuple[str, ...] = DEFAULT_MEASURES
    split: str = "test"
    k: int = 1000
    limit_queries: int | None = None
    limit_documents: int | None = None
    remove_self: bool | None = None
    description: str = ""
    expected: tuple[Expected, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w .()+-]*", self.name):
            raise UsageError(
                f"The name {self.name!r} must be letters, digits, blanks, or one of . _ - + ( ), "
                "for it names a folder."
            )
        _check_systems(self)
        for measure in measures_named(self.measures):
            cutoff = measure.params.get("cutoff", 0)
            if cutoff > self.k:
                raise UsageError(f"{measure} needs {cutoff} results a query; k is {self.k}.")
        for expected in self.expected:
            _check_expected(self, expected)

    def order(self) -> Iterator[System]:
        """Give the systems, each after those that it fuses."""
        by_name = {system.name: system for system in self.systems}
        graph = {s.name: s.fuse if isinstance(s, Fused) else () for s in self.systems}
        return (by_name[name] for name in TopologicalSorter(graph).static_order())

    def to_dict(self) -> dict[str, Any]:
        """Everything but where the collection lies, ready for ``json.dumps``."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del table["collection"]
        return table


def _check_systems(experiment: Experiment) -> None:
    names = [system.name for system in experiment.systems]
    if not names:
        raise UsageError("It has no system; add one under [[system]].")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"Two systems are named {sorted(twice)[0]!r}; names tell them apart.")
    for system in experiment.systems:
        if isinstance(system, Fused):
            if len(system.fuse) < 2:
                raise UsageError(f"System {system.name!r} fuses fewer than two systems.")
            if len(set(system.fuse)) < len(system.fuse):
                raise UsageError(f"System {system.name!r} fuses a system with itself.")
            for other in system.fuse:
                if other not in names:
                    raise UsageError(
                        f"System {system.name!r} fuses {other!r}, which is no system."
                        f"{did_you_mean(other, names)}"
                    )
    try:
        list(experiment.order())
    except CycleError as error:
        raise UsageError(
            f"Systems fuse each other in a circle: {' -> '.join(error.args[1])}."
        ) from error


def _check_expected(experiment: Experiment, expected: Expected) -> None:
    names = [system.name for system in experiment.systems]
    where = f"expected.{expected.system!r}.{expected.measure!r}"
    for name in (expected.system, expected.near):
        if name is not None and name not in names:
            raise UsageError(f"{where}: {name!r} is no system.{did_you_mean(name, names)}")
    if expected.measure not in experiment.measures:
        raise UsageError(f"{where}: the measure is not among {', '.join(experiment.measures)}.")
    targets = (expected.value is not None) + (expected.near is not None)
    bounds = (expected.min, expected.max)
    if targets > 1 or (targets == 0 and bounds == (None, None)):
        raise UsageError(f"{where} needs value or near with a tolerance, or min or max.")
    if (targets == 0) != (expected.tolerance == 0) or expected.tolerance < 0:
        raise UsageError(f"{where}: a tolerance above 0 goes with value or near, and only there.")
