"""One version of an index made ready for queries: from scored passages to hits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tokret import __version__
from tokret.errors import IndexCorruptError, IndexFormatError, UsageError
from tokret.indexes.base import Backend, Certificate, Searcher, backends
from tokret.indexes.filter import Filter
from tokret.indexes.selection import allowed_documents
from tokret.indexes.store import Snapshot
from tokret.types import Floats, Hit, Hits, Ints, Mask


def backend_of(snapshot: Snapshot) -> Backend:
    """The backend that a version names. Raises IndexFormatError for one that is not here."""
    spec = snapshot.manifest.backend
    try:
        return backends.build(spec)
    except UsageError as error:
        raise IndexFormatError(
            f"{snapshot.path} has the backend {spec!r:.200}, which tokret {__version__} cannot "
            f"use. {error}"
        ) from error


@dataclass(frozen=True, eq=False)
class View:
    """One version of the index, ready for queries. Never changes, so threads may share it."""

    snapshot: Snapshot
    searcher: Searcher
    doc_of: Ints  # [N] document of each passage, numbered through all segments
    first_doc: Ints  # [S + 1] first document of each segment
    first_passage: Ints  # [S + 1] first passage of each segment
    masks: dict[str, Mask] = field(default_factory=dict)  # of the last filter

    @classmethod
    def of(cls, snapshot: Snapshot, backend: Backend) -> View:
        """Number documents and passages through the segments of a snapshot."""
        segments = snapshot.segments
        first_doc = np.cumsum([0, *(s.documents for s in segments)], dtype=np.int64)
        first_passage = np.cumsum([0, *(s.passages for s in segments)], dtype=np.int64)
        owners = [
            np.repeat(np.arange(s.documents) + base, np.diff(s.passage_offsets))
            for s, base in zip(segments, first_doc[:-1], strict=True)
        ]
        doc_of = np.concatenate([np.empty(0, np.int64), *owners])
        return cls(snapshot, backend.searcher(snapshot), doc_of, first_doc, first_passage)

    def allowed(self, where: Filter) -> Mask:
        """Passages of the documents that a filter allows [N]; of the last one, kept."""
        key = str(where)
        mask = self.masks.get(key)
        if mask is None:
            mask = allowed_documents(self.snapshot, where)[self.doc_of]
            self.masks.clear()
            self.masks[key] = mask
        return mask

    def doc_id(self, doc: int) -> str:
        """Id of a document."""
        segment, d = self._place(doc)
        return self.snapshot.segments[segment].doc_id(d)

    def number(self, doc_id: str) -> int:
        """Number of a live document through all segments."""
        place = self.snapshot.find(doc_id)
        if place is None:
            raise IndexCorruptError(f"{self.snapshot.path}: {doc_id!r:.200} has no place.")
        return int(self.first_doc[place[0]]) + place[1]

    def _place(self, doc: int) -> tuple[int, int]:
        segment = int(np.searchsorted(self.first_doc, doc, side="right")) - 1
        return segment, doc - int(self.first_doc[segment])

    def hits(self, docs: Ints, passages: Ints, scores: Floats, text: bool) -> list[Hit]:
        """Hits of documents [K] and of the passages that earned their scores, best first."""
        hits = []
        owners = np.searchsorted(self.first_doc, docs, side="right") - 1
        for s in np.unique(owners).tolist():
            segment, ours = self.snapshot.segments[s], owners == s
            numbers = (docs[ours] - self.first_doc[s]).tolist()
            spans = segment.passage_spans[passages[ours] - self.first_passage[s]].tolist()
            for d, (start, end), score in zip(numbers, spans, scores[ours].tolist(), strict=True):
                shown = segment.text(d)[start:end] if text else ""
                hits.append(Hit(segment.doc_id(d), score, start, end, shown))
        return sorted(hits, key=lambda hit: (-hit.score, hit.doc_id))


def best_documents(view: View, passages: Ints, scores: Floats, k: int, text: bool) -> list[Hit]:
    """The ``k`` best documents of some passages [C], rising, and their scores [C]."""
    if np.isnan(scores).any():
        raise IndexCorruptError(
            f"{view.snapshot.path}: a score is not a number; run `tokret verify` on the index."
        )
    found = np.isfinite(scores)
    passages, scores = passages[found], scores[found]
    if len(passages) == 0:
        return []
    docs = view.doc_of[passages]
    starts = np.flatnonzero(np.diff(docs, prepend=-1))
    best = np.maximum.reduceat(scores, starts)
    chosen = np.arange(len(best))
    ids: dict[int, str] = {}
    if len(best) > k:
        least = np.partition(best, len(best) - k)[len(best) - k]
        above, tied = np.flatnonzero(best > least), np.flatnonzero(best == least)
        if len(above) + len(tied) > k:
            ids = {int(c): view.doc_id(int(docs[starts[c]])) for c in tied}
            tied = np.array(sorted(tied.tolist(), key=ids.__getitem__)[: k - len(above)])
        chosen = np.concatenate([above, tied])
    rows = starts[chosen]
    ends = np.append(starts[1:], len(scores))[chosen]
    for j in np.flatnonzero(ends - rows > 1):  # documents of several passages
        rows[j] += int(scores[rows[j] : ends[j]].argmax())
    return view.hits(docs[rows], passages[rows], scores[rows], text)


def certified(
    view: View, hits: list[Hit], passages: Ints, scores: Floats, certificate: Certificate
) -> Hits:
    """Hits with the bounds of their documents, and how many are certain to come first."""
    docs = view.doc_of[passages]
    low, high = scores - certificate.slack, scores + certificate.slack
    places = [view.number(hit.doc_id) for hit in hits]
    unread = np.bincount(view.doc_of, minlength=1)  # passages of each document
    unread -= np.bincount(docs, minlength=len(unread))
    bounds = []
    for doc in places:
        mine = docs == doc
        most = float(high[mine].max())
        if unread[doc]:
            most = max(most, certificate.rest)
        bounds.append((float(low[mine].max()), most))
    others = high[~np.isin(docs, places)]
    rest = max(float(others.max(initial=-np.inf)), certificate.rest)
    proven = 0
    for i, (least, _) in enumerate(bounds):
        if least < max([rest, *(most for _, most in bounds[i + 1 :])]):
            break
        proven += 1
    return Hits(hits, bounds, proven)
