"""The documents of one version that a filter allows, and the fields that it may ask of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tokret.indexes.filter import Filter
from tokret.indexes.store import Snapshot
from tokret.types import Mask


def allowed_documents(snapshot: Snapshot, where: Filter) -> Mask:
    """Documents that a filter allows, deleted ones too, numbered through all segments [D].

    Raises UsageError for a filter that no document could pass, as with a misspelt name;
    an index without documents has no names to compare with.
    """
    tables = [segment.fields for segment in snapshot.segments]
    if snapshot.documents:
        where.check(tables)
    return where.mask(tables)


def places(snapshot: Snapshot, where: Filter | None) -> Iterator[tuple[int, int]]:
    """Segment and number of every live document that is allowed, in order."""
    every = np.ones(sum(segment.documents for segment in snapshot.segments), np.bool_)
    mask = every if where is None else allowed_documents(snapshot, where)
    first = 0
    for s, (segment, alive) in enumerate(zip(snapshot.segments, snapshot.alive, strict=True)):
        ours = mask[first : first + segment.documents]
        for d in np.flatnonzero(ours if alive is None else ours & alive).tolist():
            yield s, d
        first += segment.documents


def field_counts(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """How many live documents hold values of each kind under each name."""
    counts: dict[str, dict[str, int]] = {}
    for segment, alive in zip(snapshot.segments, snapshot.alive, strict=True):
        for name in segment.fields.names:
            for column in segment.fields.columns(name):
                held = column.spread()
                count = int((held if alive is None else held & alive).sum())
                kind = f"list[{column.kind}]" if column.many else column.kind
                if count:
                    kinds = counts.setdefault(name, {})
                    kinds[kind] = kinds.get(kind, 0) + count
    return {name: counts[name] for name in sorted(counts)}
