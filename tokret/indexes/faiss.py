"""Token search by faiss, scored by XTR: an index of its making beside the stored vectors.

Source  The Faiss library, arXiv:2401.08281; scores by XTR, arXiv:2304.01982.
Does    Trains the index that a factory string names on a seeded sample of the token vectors,
        and adds every token; a query token finds its nearest there, and XTR scores what was
        found. ``refine`` passages are then scored again by MaxSim over the stored vectors.
Costs   The vectors as ``exact`` stores them, and the faiss index beside them. A search holds
        the whole faiss index in memory; a commit that adds writes it anew.
Departs A collection too small to train the index is searched by brute force.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tokret.errors import UsageError
from tokret.indexes import faiss_index
from tokret.indexes.base import ALONE, Report, Terms, backends
from tokret.indexes.exact import Exact
from tokret.indexes.faiss_search import DERIVED, FaissSearcher, Held, covered, held_by, load
from tokret.indexes.files import Array
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.segment import Layout, Segment, SegmentWriter
from tokret.indexes.store import Snapshot, Store
from tokret.indexes.tune import SEARCHING
from tokret.registry import Spec
from tokret.types import Dtype, Floats, Ints, Match, Tokens

GROWTH = 4  # an index is trained anew when it has grown by more than this since it was trained
WRITTEN = 64 << 20  # bytes written at a time


@backends.register("faiss")
@dataclass(frozen=True)
class Faiss(Spec):
    """A faiss index over tokens; ``factory`` is the string that faiss makes it from.

    ``dtype`` is how the vectors beside it are stored, ``seed`` that of sample and training.
    Of searching: ``nprobe`` lists are read for each query token (IVF); ``refine`` passages, the
    best by XTR, are ranked by exact MaxSim, the others below them; ``device`` is "cpu" or "cuda".
    """

    factory: str
    dtype: Dtype = "fp16"
    seed: int = 0
    nprobe: int = field(default=32, metadata=SEARCHING)
    refine: int = field(default=0, metadata=SEARCHING)
    device: str = field(default="cpu", metadata=SEARCHING)

    kind = "tokens"
    encodes = True

    def __post_init__(self) -> None:
        if not faiss_index.FACTORY.fullmatch(self.factory):
            raise UsageError(
                f'faiss: no factory {self.factory!r:.80}; write it as "IVF4096,PQ32x8": '
                f"{faiss_index.KNOWN}."
            )
        if self.nprobe < 1 or self.refine < 0 or self.seed < 0:
            raise UsageError(f"{self} needs nprobe >= 1, refine >= 0 and seed >= 0.")
        if not faiss_index.DEVICE.fullmatch(self.device):
            raise UsageError(f"faiss: device is 'cpu', 'cuda' or 'cuda:1', got {self.device!r}.")

    def layout(self, width: int) -> Layout:
        """The vectors, as ``exact`` keeps them. Raises UsageError where faiss refuses H."""
        faiss_index.empty(self.factory, width)
        return Exact(self.dtype).layout(width)

    def columns(self, tokens: Tokens) -> dict[str, Array]:
        """The batch in the stored type. Raises InputError where fp16 overflows."""
        return Exact(self.dtype).columns(tokens)

    def finish(self, writer: SegmentWriter) -> None:
        """Vectors are all that a segment needs."""

    def matches(self, query: str, text: str) -> list[Match]:
        """Matches are between vectors here."""
        return []

    def searcher(self, snapshot: Snapshot) -> FaissSearcher:
        """Map the vectors; the faiss index is read at the first search that needs it."""
        return FaissSearcher(self, snapshot)

    def settle(self, store: Store, draft: Manifest, terms: Terms = ALONE) -> Manifest:
        """Bring the index to the tokens that there are, training it where it must be.

        Segments that it covers already, in the same order from the first on, keep their place;
        the others are added. Deletions change nothing. Warns where tokens are too few.
        """
        snapshot = store.snapshot(draft)
        held = held_by(snapshot)
        total = sum(tokens for _, tokens in held)
        index, trained = None, total
        if snapshot.derived is not None:
            before, trained_on = covered(snapshot.derived)
            if before == held:
                return draft
            if 0 < total <= GROWTH * trained_on:
                trained = trained_on
                index = load(snapshot.derived, self.factory, _width(snapshot))
                faiss_index.cut(index, _common(before, held))
        if index is None:
            index = self._trained(snapshot, terms.report)
        if index is None:
            return replace(draft, derived=None)
        self._add(index, snapshot.segments, terms.report)
        writer = SegmentWriter(store.new_segment_path(), "derived", DERIVED)
        try:
            _write(writer, index, held, trained)
            facts = {"factory": self.factory, "faiss": faiss_index.library().__version__}
            extra = {**facts, "vectors": total, "width": index.d, "metric": "inner product"}
            entry = Entry.from_dict(writer.seal(extra=extra), writer.path.name)
        except BaseException:
            writer.discard()
            raise
        return replace(draft, derived=entry)

    def _trained(self, snapshot: Snapshot, report: Report | None) -> Any:  # noqa: ANN401
        """A new index, trained on a sample; None where there are too few tokens."""
        live = live_tokens(snapshot)
        counts = [
            segment.tokens if rows is None else len(rows)
            for segment, rows in zip(snapshot.segments, live, strict=True)
        ]
        count = sum(counts)
        if count == 0:
            return None
        index = faiss_index.empty(self.factory, _width(snapshot))
        need = faiss_index.least(index)
        if count < need:
            warnings.warn(
                f"{self}: {count:,} tokens are too few to train on; they are searched by brute "
                f"force until there are {need:,}.",
                stacklevel=2,
            )
            return None
        size = min(count, faiss_index.sample_size(index))
        if report is not None:
            report("train", 0, size)
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.choice(count, size, replace=False, shuffle=False))
        sample, first = [], 0
        for segment, rows, tokens in zip(snapshot.segments, live, counts, strict=True):
            a, b = np.searchsorted(chosen, [first, first + tokens])
            places = chosen[a:b] - first
            sample.append(_floats(segment, places if rows is None else rows[places]))
            first += tokens
        faiss_index.train(index, np.concatenate(sample), self.seed)
        if report is not None:
            report("train", size, size)
        return index

    def _add(self, index: Any, segments: tuple[Segment, ...], report: Report | None) -> None:  # noqa: ANN401
        """Add the tokens that the index lacks; their bytes are checked on the way."""
        first, there = 0, int(index.ntotal)
        missing = sum(segment.tokens for segment in segments) - there
        for segment in segments:
            if first >= there:
                for rows in _checked_rows(segment):
                    faiss_index.add(index, rows)
                    if report is not None:
                        report("add", int(index.ntotal) - there, missing)
            first += segment.tokens


def _width(snapshot: Snapshot) -> int:
    """H of the stored vectors."""
    return int(snapshot.segments[0].map("vectors").shape[1])


def _common(old: list[Held], new: list[Held]) -> int:
    """Tokens of the segments that two versions begin with alike."""
    same = 0
    for a, b in zip(old, new, strict=False):
        if a != b:
            break
        same += a.tokens
    return same


def live_tokens(snapshot: Snapshot) -> list[Ints | None]:
    """Numbers of the tokens of live documents, for each segment; None: all."""
    live: list[Ints | None] = []
    for segment, alive in zip(snapshot.segments, snapshot.alive, strict=True):
        if alive is None:
            live.append(None)
            continue
        passages = np.repeat(alive, np.diff(segment.passage_offsets))
        live.append(np.flatnonzero(np.repeat(passages, np.diff(segment.token_offsets))))
    return live


def _floats(segment: Segment, rows: Ints) -> Floats:
    """Chosen vectors [n, H] of a segment in float32."""
    scales = segment.map("scales")[rows] if "scales" in segment.columns else None
    return _decoded(segment.map("vectors")[rows], scales)


def _checked_rows(segment: Segment) -> Iterator[Floats]:
    """All vectors of a segment in float32, some at a time, their digests checked."""
    scales = segment.read("scales") if "scales" in segment.columns else None
    column, first = segment.columns["vectors"], 0
    every = np.array([[0, segment.tokens]])
    for rows in column.read_rows(segment.path / "vectors.bin", every):
        last = first + len(rows)
        yield _decoded(rows, None if scales is None else scales[first:last])
        first = last


def _decoded(vectors: Array, scales: Array | None) -> Floats:
    rows = vectors.astype(np.float32)
    return rows if scales is None else rows * scales[:, None]


def _write(writer: SegmentWriter, index: Any, held: list[Held], trained: int) -> None:  # noqa: ANN401
    ids = "".join(segment for segment, _ in held).encode()
    writer.append(
        segment_ids=np.frombuffer(ids, np.uint8).reshape(len(held), -1),
        segment_tokens=np.array([tokens for _, tokens in held], np.int64),
        trained_on=np.array([trained], np.int64),
    )
    data = faiss_index.to_bytes(index)
    for at in range(0, len(data), WRITTEN):
        writer.append(index=data[at : at + WRITTEN])
