"""What an experiment found: rows for a table, and a record that explains each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokret.collections import Collection
from tokret.evaluation.experiment import Expected, Experiment, Fused, System
from tokret.evaluation.measures import Report
from tokret.evaluation.record import numbers_of

SCHEMA_VERSION = 1


class Checked(NamedTuple):
    """An expectation, and the value that met it or did not."""

    expected: Expected
    got: float
    holds: bool


@dataclass(frozen=True)
class Made:
    """One system's run: its file, how it was made, and its measures.

    ``about`` and ``index`` are the records that were written when the run and its index
    were made, perhaps by an earlier call; ``reused`` says so of the run.
    """

    system: System
    path: Path
    about: Mapping[str, Any]
    index: Mapping[str, Any] | None
    report: Report
    reused: bool


@dataclass(frozen=True)
class Result:
    """All that an experiment found.

    ``rows`` make the table, one a system, ``None`` where a column does not apply;
    ``record`` is ready for ``json.dumps``; ``runs`` are files that ``read_run`` reads.
    """

    rows: tuple[dict[str, Any], ...]
    record: dict[str, Any]
    checked: tuple[Checked, ...]
    runs: dict[str, Path]

    @property
    def passed(self) -> bool:
        """Whether every expectation holds."""
        return all(check.holds for check in self.checked)


def result_of(
    experiment: Experiment,
    collection: Collection,
    corpus: Mapping[str, Any],
    made: Sequence[Made],
    meta: Mapping[str, Any],
) -> Result:
    """Put the runs of an experiment together; ``made`` in the order of its systems."""
    values = {m.system.name: m.report.values for m in made}
    checked = tuple(
        Checked(e, values[e.system][e.measure], e.holds(values[e.system][e.measure], values))
        for e in experiment.expected
    )
    environments: list[Mapping[str, Any]] = []
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": "tokret.experiment",
        "experiment": experiment.to_dict(),
        "collection": {
            "name": collection.name,
            "split": collection.split,
            "corpus": dict(corpus),
            "queries": len(collection.queries),
            "judgements": sum(map(len, collection.qrels.values())),
            "self_matches": collection.self_matches.reason,
        },
        **meta,
        "environment": _place(meta, environments),
        "systems": [_system(m, environments) for m in made],
        "numbers": [number for m in made for number in _numbers(m, collection, environments)],
        "environments": environments,
        "expected": [
            {
                "system": c.expected.system,
                "measure": c.expected.measure,
                "expected": str(c.expected),
                "got": c.got,
                "holds": c.holds,
            }
            for c in checked
        ],
    }
    return Result(
        tuple(_row(m) for m in made), record, checked, {m.system.name: m.path for m in made}
    )


def _row(made: Made) -> dict[str, Any]:
    return {
        "system": made.system.name,
        **made.report.values,
        "index_seconds": made.index and made.index["seconds"],
        "search_seconds": made.about["seconds"],
        "queries_per_second": made.about["queries_per_second"],
    }


def _system(made: Made, environments: list[Mapping[str, Any]]) -> dict[str, Any]:
    index = None
    if made.index is not None:
        index = {**made.index, "environment": _place(made.index, environments)}
    about = {**made.about, "environment": _place(made.about, environments)}
    return {
        **_identity(made),
        "index": index,
        "run": {**about, "reused": made.reused, "file": made.path.name},
        "policy": made.report.policy,
        "notes": list(made.report.notes),
    }


def _numbers(
    made: Made, collection: Collection, environments: list[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every value with all that it stands on, so that it can be quoted alone."""
    return numbers_of(
        made.report,
        **_identity(made),
        collection=collection.name,
        split=collection.split,
        k=made.about["k"],
        policy=made.report.policy_line,
        index_digest=made.about["made_of"].get("index"),
        seconds=made.about["seconds"],
        index_seconds=made.index and made.index["seconds"],
        date=made.about["date"],
        command=made.about["command"],
        environment=_place(made.about, environments),
    )


def _identity(made: Made) -> dict[str, Any]:
    """Name what ranked: backend, model and scorer, or the systems that were fused."""
    system = made.system
    if isinstance(system, Fused):
        fused = {"fuse": list(system.fuse), "method": system.method}
        return {"system": system.name, "backend": None, "model": None, "scorer": None, **fused}
    info = made.index["info"] if made.index is not None else {}
    return {
        "system": system.name,
        "backend": system.index.backend,
        "model": info.get("encoder"),
        "scorer": system.scorer,
        "settings": info.get("settings"),
        "fuse": None,
        "method": None,
    }


def _place(about: Mapping[str, Any], environments: list[Mapping[str, Any]]) -> int:
    """Find the environment in the record's list, where equal ones stand once."""
    if about["environment"] not in environments:
        environments.append(about["environment"])
    return environments.index(about["environment"])
