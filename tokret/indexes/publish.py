"""From new segments and deletions to the next committed version."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from tokret.indexes.base import ALONE, Backend, Terms
from tokret.indexes.compact import tiers
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.merge import Plan, merge_planned
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


def publish(
    store: Store,
    backend: Backend,
    base: Manifest,
    entries: Iterable[Entry],
    terms: Terms = ALONE,
    plan: Plan = tiers,
) -> None:
    """Commit ``entries`` as the version after ``base``, brought to the form of the backend.

    ``plan`` says which of them are first merged.
    """
    draft = replace(base, version=base.version + 1, segments=tuple(entries))
    there = set(store.segment_ids())
    try:
        draft = merge_planned(store, backend, draft, plan, terms.report)
        store.commit(backend.settle(store, draft, terms))
    except BaseException:
        if not store.exists() or store.version() != draft.version:
            for name in set(store.segment_ids()) - there:
                shutil.rmtree(store.segments / name, ignore_errors=True)
        raise
