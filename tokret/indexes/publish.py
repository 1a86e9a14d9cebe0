"""From new segments and deletions to the next committed version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from tokret.errors import UnconfirmedError
from tokret.indexes.base import ALONE, Backend, Terms
from tokret.indexes.compact import tiers
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.merge import Plan, merge_planned
from tokret.indexes.store import Snapshot, Store


def surviving(store: Store, snapshot: Snapshot, gone: Mapping[str, set[int]]) -> Iterator[Entry]:
    """Entries of a snapshot after further deletions, by segment id; emptied ones drop out."""
    parts = zip(snapshot.manifest.segments, snapshot.segments, snapshot.alive, strict=True)
    for entry, segment, alive in parts:
        dead = set() if alive is None else set(np.flatnonzero(~alive).tolist())
        now = dead | gone.get(entry.id, set())
        if len(now) == segment.documents:
            continue
        yield entry if now == dead else store.write_deletes(entry, sorted(now))


def publish(
    store: Store,
    backend: Backend,
    base: Manifest,
    entries: Iterable[Entry],
    terms: Terms = ALONE,
    plan: Plan = tiers,
) -> None:
    """Commit ``entries`` as the version after ``base``, brought to the form of the backend.

    ``plan`` says which of them are first merged. Where that fails, what was written for it
    is removed, such as the lists of deletions of entries that are made as they are asked for.
    """
    there = store.names()
    draft = replace(base, version=base.version + 1)
    try:
        draft = replace(draft, segments=tuple(entries))
        draft = merge_planned(store, backend, draft, plan, terms.report)
        store.commit(backend.settle(store, draft, terms))
    except UnconfirmedError:
        raise  # the disk may hold either version
    except BaseException:
        if not store.exists() or store.version() != draft.version:
            store.remove(store.names() - there)
        raise
