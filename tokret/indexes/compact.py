"""Which segments are worth writing anew: at every commit, and when a user asks.

Source  The log-structured merge tree: O'Neil, Cheng, Gawlick, O'Neil. Acta Informatica 33, 1996.
Does    Keeps segments in tiers of size; eight of one tier become one of the next, so that
        n additions leave O(log n) segments and copy every row O(log n) times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokret.indexes.ingest import SEGMENT_BYTES, SEGMENT_DOCUMENTS
from tokret.indexes.merge import Source

FANOUT = 8  # segments of a tier that are merged
FLOOR = 1 << 20  # bytes; below, copying costs less than the files
DEAD = 0.2  # share of deleted documents from which on a segment is worth copying
SMALL = 0.25  # of SEGMENT_BYTES: below, a segment is worth joining to another


@dataclass(frozen=True)
class Compacted:
    """What compaction did: live documents, bytes and segments before and after."""

    documents: int
    bytes_before: int
    bytes_after: int
    segments_before: int
    segments_after: int


@dataclass
class Group:
    """Segments that are to become one."""

    places: list[int]
    size: int
    documents: int

    @property
    def tier(self) -> int:
        """How many times FANOUT the smallest size worth telling apart goes into this one."""
        tier, size = 0, self.size // FLOOR
        while size:
            tier, size = tier + 1, size // FANOUT
        return tier


def tiers(given: Sequence[Source]) -> list[list[int]]:
    """Groups to merge at a commit: FANOUT or more of one tier, tier after tier."""
    planned = []
    for places in _alike(given):
        waiting: dict[int, list[Group]] = defaultdict(list)
        for i in places:
            group = Group([i], given[i].size, given[i].documents)
            waiting[group.tier].append(group)
        tier = -1
        while tier < max(waiting):  # joining may make a tier that was not there
            tier += 1
            groups = waiting[tier]
            if len(groups) < FANOUT:
                planned += [group.places for group in groups if len(group.places) > 1]
                continue
            for joined in _joined(sorted(groups, key=lambda group: group.size)):
                if joined.tier > tier:
                    waiting[joined.tier].append(joined)
                elif len(joined.places) > 1:
                    planned.append(joined.places)
    return [sorted(places) for places in planned]


def worthwhile(given: Sequence[Source], force: bool = False) -> list[list[int]]:
    """Groups to write anew on request: segments with many deleted documents, and small ones.

    ``force`` takes every segment that loses a row by it or finds another to join.
    """
    planned = []
    for places in _alike(given):
        groups = [
            Group([i], given[i].size, given[i].documents)
            for i in places
            if force or given[i].share < 1 - DEAD or given[i].size < SMALL * SEGMENT_BYTES
        ]
        for group in _joined(groups):
            first = given[group.places[0]]
            gains = first.share < 1 and (force or first.share < 1 - DEAD)
            if len(group.places) > 1 or gains:
                planned.append(group.places)
    return planned


def _alike(given: Sequence[Source]) -> list[list[int]]:
    """Places of segments that can be merged with each other."""
    kinds: dict[object, list[int]] = defaultdict(list)
    for i, source in enumerate(given):
        kinds[source.kind, tuple(sorted(source.layout.items()))].append(i)
    return list(kinds.values())


def _joined(groups: Sequence[Group]) -> Iterator[Group]:
    """Join neighbours for as long as a segment may grow."""
    last: Group | None = None
    for group in groups:
        if last is None:
            last = group
            continue
        size, documents = last.size + group.size, last.documents + group.documents
        if size <= SEGMENT_BYTES and documents <= SEGMENT_DOCUMENTS:
            last = Group(last.places + group.places, size, documents)
        else:
            yield last
            last = group
    if last is not None:
        yield last
