"""Options of searching: what may change from one opening of an index to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tokret.errors import UsageError
from tokret.indexes.base import Backend, backends
from tokret.registry import did_you_mean

SEARCHING = {"searching": True}  # metadata of a backend's field that is such an option


def tuned(backend: Backend, changes: Mapping[str, Any]) -> Backend:
    """Give a backend other options of searching; its spec in the manifest stays as it is.

    Raises UsageError for a field that says how the index is stored, and for a wrong value.
    """
    every = {f.name: f for f in fields(backend)}  # type: ignore[arg-type]
    known = [name for name, f in every.items() if f.metadata.get("searching")]
    for name in changes:
        if name not in known:
            raise UsageError(
                f"backend {backend.name!r} has no option of searching {name!r}."
                f"{did_you_mean(name, known)} It has {', '.join(known) or 'none'}."
            )
    values = {name: changes.get(name, getattr(backend, name)) for name in every}
    return backends.build(f"{backend.name}({', '.join(f'{k}={v!r}' for k, v in values.items())})")
