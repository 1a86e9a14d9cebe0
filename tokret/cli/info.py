"""tokret info: what an index holds and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokret.cli.options import IndexDir
from tokret.cli.talk import Talk


def run(talk: Talk, path: IndexDir) -> None:
    """Show what an index holds and how it was made."""
    from rich.table import Table
    from rich.text import Text

    from tokret.cli.clean import escaped
    from tokret.indexes import Index

    with Index.open(path, verify="quick") as index:
        facts = index.info()
    talk.result({"index": str(path), **facts})
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in flat(facts):
        table.add_row(Text(name, "bold"), Text(escaped(value), overflow="fold"))
    talk.show(table)


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Rows of a nested mapping: ``encoder.dim`` and its value."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append((f"{prefix}{key}", amount(key, value)))
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def amount(key: str, value: int) -> str:
    """Write a count with its thousands marked; bytes also in a larger unit."""
    return f"{value:,} ({size(value)})" if key == "bytes" and value >= 1024 else f"{value:,}"


def size(count: float) -> str:
    """Bytes in the unit a reader can grasp."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
