"""From new segments and deletions to the next committed version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from tokret.indexes.base import Backend
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.segment import SegmentWriter
from tokret.indexes.store import Snapshot, Store


def surviving(store: Store, snapshot: Snapshot, gone: Mapping[str, set[int]]) -> list[Entry]:
    """Entries of a snapshot after further deletions, by segment id; emptied ones drop out."""
    entries = []
    parts = zip(snapshot.manifest.segments, snapshot.segments, snapshot.alive, strict=True)
    for entry, segment, alive in parts:
        dead = set() if alive is None else set(np.flatnonzero(~alive).tolist())
        now = dead | gone.get(entry.id, set())
        if len(now) == segment.documents:
            continue
        entries.append(entry if now == dead else store.write_deletes(entry, sorted(now)))
    return entries


def publish(store: Store, backend: Backend, base: Manifest, entries: Iterable[Entry]) -> None:
    """Commit ``entries`` as the version after ``base``, with what belongs to them all."""
    draft = replace(base, version=base.version + 1, segments=tuple(entries), derived=None)
    snapshot = store.snapshot(draft)
    if backend.derive(snapshot, None) is None:
        store.commit(draft)
        return
    writer = SegmentWriter(store.new_segment_path(), "derived", backend.derived_layout)
    try:
        extra = backend.derive(snapshot, writer) or {}
        derived = Entry.from_dict(writer.seal(extra=extra), writer.path.name)
        store.commit(replace(draft, derived=derived))
    except BaseException:
        if store.version() != draft.version:
            writer.discard()
        raise
