"""Several segments into one: the rows of their live documents, copied.

Rows go column by column, a block at a time, and each block is checked before it is
copied: memory does not grow with the segments, and damage is not passed on under a new
digest. Metadata is written anew, row by row. Other columns that are not rows of documents,
passages or tokens are left behind; what the new segment needs of them is the backend's to
make (``Backend.finish``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from tokret.indexes.base import Backend, Report
from tokret.indexes.field_table import copy_fields
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.segment import BESIDE, ENDS, LOOKUP_COLUMNS, Layout, Segment, SegmentWriter
from tokret.indexes.store import Snapshot, Store
from tokret.types import Ints, Mask


class Source(NamedTuple):
    """A segment that may be merged, and which of its documents count (None: all)."""

    segment: Segment
    kind: str
    alive: Mask | None

    @property
    def documents(self) -> int:
        """Documents that count."""
        return self.segment.documents if self.alive is None else int(self.alive.sum())

    @property
    def share(self) -> float:
        """Documents that count, of all."""
        return self.documents / max(self.segment.documents, 1)

    @property
    def size(self) -> int:
        """Bytes that merging would copy, about."""
        return round(self.segment.size * self.share)

    @property
    def layout(self) -> Layout:
        """The columns that merging copies."""
        known = {*chain(*BESIDE), *ENDS.values()} - LOOKUP_COLUMNS.keys()
        return {
            name: (column.dtype, column.shape[1] if len(column.shape) > 1 else None)
            for name, column in self.segment.columns.items()
            if name in known
        }


Plan = Callable[[Sequence[Source]], list[list[int]]]  # places of segments to be made one


def sources(snapshot: Snapshot) -> list[Source]:
    """All segments of a snapshot."""
    parts = zip(snapshot.segments, snapshot.manifest.segments, snapshot.alive, strict=True)
    return [Source(segment, entry.kind, alive) for segment, entry, alive in parts]


def merge_planned(
    store: Store, backend: Backend, draft: Manifest, plan: Plan, report: Report | None = None
) -> Manifest:
    """Carry out a plan on the segments of the next version; each group must be alike."""
    given = sources(store.snapshot(replace(draft, derived=None)))
    groups = plan(given)
    entries: dict[int, Entry | None] = dict(enumerate(draft.segments))
    total = sum(given[i].size for group in groups for i in group)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        if report is not None:
            report("merge", done, total)

    for group in groups:
        merged = merge(store, backend, [given[i] for i in group], advance)
        entries.update(dict.fromkeys(group))
        entries[group[0]] = merged
    return replace(draft, segments=tuple(entry for entry in entries.values() if entry is not None))


def merge(
    store: Store,
    backend: Backend,
    parts: Sequence[Source],
    advance: Callable[[int], None] = lambda count: None,
) -> Entry | None:
    """Write the live documents of segments of one kind and layout as a new segment.

    Returns None where no document is left. ``advance`` is told of bytes that were copied.
    Raises IndexCorruptError that names file and range for bytes that are not what was
    written; the new segment is then gone.
    """
    parts = [part for part in parts if part.documents]
    if not parts:
        return None
    kind, layout = parts[0].kind, parts[0].layout
    writer = SegmentWriter(store.new_segment_path(), kind, layout)
    try:
        hashes = []
        for part in parts:
            live = np.ones(part.segment.documents, np.bool_) if part.alive is None else part.alive
            first = writer.documents
            copy_rows(part.segment, live, writer, layout, advance)
            copy_fields(part.segment, live, writer, first)
            hashes.append(part.segment.hashes()[live])
        backend.finish(writer)
        return Entry.from_dict(writer.seal(np.concatenate(hashes)), writer.path.name)
    except BaseException:
        writer.discard()
        raise


def copy_rows(
    segment: Segment,
    live: Mask,
    writer: SegmentWriter,
    layout: Layout,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Append the rows of live documents [D] to every column."""
    masks = {ends: live for ends in BESIDE[0]}
    ranges = dict.fromkeys(BESIDE[0], _runs(live))
    for ends, below in ENDS.items():  # in this order: passages of documents, tokens of passages
        if ends not in layout:
            continue
        offsets = segment.read_offsets(ends, segment.columns[below].shape[0])
        lengths = np.diff(offsets)
        kept = lengths[masks[ends]].cumsum()
        writer.append(**{ends: writer.rows(below) + kept})
        names = next((names for names in BESIDE if below in names), (below,))
        ranges |= dict.fromkeys(names, offsets[ranges[ends]])
        if names is BESIDE[1]:
            masks |= dict.fromkeys(names, np.repeat(live, lengths))
    for name in layout.keys() - ENDS.keys():
        column = segment.columns[name]
        for rows in column.read_rows(segment.path / f"{name}.bin", ranges[name]):
            writer.append(**{name: rows})
            advance(rows.nbytes)


def _runs(mask: Mask) -> Ints:
    """Ranges [n, 2] of consecutive true values."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2)
