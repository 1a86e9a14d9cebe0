"""Searching a faiss index of tokens, and the stored vectors beside it."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes import faiss_index
from tokret.indexes.base import Request
from tokret.indexes.exact import ExactSearcher
from tokret.indexes.files import Array
from tokret.indexes.segment import Layout, Segment
from tokret.indexes.store import Snapshot
from tokret.locks import Lock
from tokret.scoring import Scorer, Xtr, scorers
from tokret.scoring.xtr import passage_offsets, rescore
from tokret.types import Floats, Ints, Mask

if TYPE_CHECKING:
    from tokret.indexes.faiss import Faiss

FEW = 20_000  # tokens; where a filter leaves fewer, reading them all is cheap and misses none
MOST_TOKENS = 1 << 48  # of a segment, as of any dimension of a column
ID_BYTES = 20  # of a segment's name
DERIVED: Layout = {
    "index": ("|u1", None),  # as faiss writes it
    "segment_ids": ("|u1", ID_BYTES),  # whose tokens it holds, in their order
    "segment_tokens": ("<i8", None),  # how many of each
    "trained_on": ("<i8", None),  # one row: tokens that there were when it was trained
}


class Held(NamedTuple):
    """A segment whose tokens a faiss index holds."""

    segment: str
    tokens: int


class Counting(NamedTuple):
    """Which tokens count, by a filter over passages: a bool each [T], and packed in bits."""

    allowed: Mask | None
    tokens: int
    mask: Mask | None = None
    bits: Array | None = None


def held_by(snapshot: Snapshot) -> list[Held]:
    """All segments of a version, whose tokens are numbered in this order."""
    return [Held(segment.path.name, segment.tokens) for segment in snapshot.segments]


def covered(derived: Segment) -> tuple[list[Held], int]:
    """Segments whose tokens the index holds, and how many tokens it was trained among."""
    derived.expect(DERIVED)
    derived.expect({"trained_on": DERIVED["trained_on"]}, rows=1)
    counts = derived.read("segment_tokens")
    derived.expect({"segment_ids": DERIVED["segment_ids"]}, rows=len(counts))
    names = [bytes(row).decode("latin-1") for row in derived.read("segment_ids")]
    held = [Held(name, int(count)) for name, count in zip(names, counts, strict=True)]
    if any(not 0 <= tokens < MOST_TOKENS for _, tokens in held):
        raise IndexCorruptError(f"{derived.path}: segment_tokens are no numbers of tokens.")
    return held, int(derived.read("trained_on")[0])


def load(derived: Segment, factory: str, width: int) -> Any:  # noqa: ANN401
    """Read the faiss index of a derived segment, its digests checked first."""
    count = sum(tokens for _, tokens in covered(derived)[0])
    where = derived.path / "index.bin"
    return faiss_index.from_bytes(derived.read("index"), factory, width, count, where)


class FaissSearcher(ExactSearcher):
    """All segments' tokens, mapped, and the faiss index over them."""

    def __init__(self, backend: Faiss, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self._backend = backend
        self._derived = snapshot.derived
        if self._derived is not None and covered(self._derived)[0] != held_by(snapshot):
            raise IndexCorruptError(
                f"{self._derived.path}: holds other segments than those of its version."
            )
        self._index: Any = None
        self._loading = Lock()
        self._turn: AbstractContextManager[object] = nullcontext()
        self._offsets = passage_offsets(self._parts) if self._parts else np.zeros(1, np.int64)
        self._counted: Counting | None = None
        self._alive: Mask | None = None
        if any(part.alive is not None for part in self._parts):
            every = [
                np.ones(len(part.tokens), np.bool_) if part.alive is None else part.alive
                for part in self._parts
            ]
            self._alive = np.concatenate(every)

    def rank(self, request: Request, scorer: Scorer | None, threads: int) -> tuple[Ints, Floats]:
        """Score by XTR the tokens that faiss finds.

        Any other scorer reads every stored vector, as does XTR where there is no faiss index
        yet, or where a filter leaves few tokens.
        """
        chosen = scorer or scorers.build("xtr")
        if not isinstance(chosen, Xtr):
            return super().rank(request, chosen, threads)
        found = self._retrieve(request, chosen.k_prime, threads)
        if request.vectors is None or found is None:
            passages, scores = super().rank(request, chosen, threads)
        else:
            passages, scores = chosen.from_retrieved(
                request.vectors, *found, self._parts, self._offsets, threads=threads
            )
        if request.vectors is None or self._backend.refine == 0 or len(passages) == 0:
            return passages, scores
        return passages, self._refined(request.vectors, passages, scores, threads)

    def _retrieve(self, request: Request, k_prime: int, threads: int) -> tuple[Ints, Floats] | None:
        """Tokens that faiss finds and their similarities [Q, K'], none missing in a row.

        None where all stored vectors are to be read instead.
        """
        query = request.vectors
        if self._derived is None or query is None or len(query) == 0:
            return None
        index = self._loaded(self._derived)
        if query.shape[1] != index.d or not np.isfinite(query).all():
            return None  # refused there
        counting = self._counting(request)
        keep = min(k_prime, counting.tokens)
        if keep == 0 or (request.allowed is not None and counting.tokens <= FEW):
            return None
        most = int(index.ntotal)
        if self._backend.device != "cpu":
            most = min(most, faiss_index.DEVICE_MOST)
            if keep > most:
                raise UsageError(
                    f"faiss finds at most {most} tokens on a GPU; use k_prime={most} or "
                    f"less, got {keep}."
                )
        query = np.ascontiguousarray(query)
        with self._turn, faiss_index.at_most(threads):
            if counting.mask is None or faiss_index.chooses(index):
                tokens, sims = faiss_index.search(index, query, keep, counting.bits)
            else:
                tokens, sims = _sifted(index, query, keep, counting.mask, most)
        if tokens.max() >= self._offsets[-1]:
            raise IndexCorruptError(
                f"{self._derived.path}: faiss found a token that there is not; build anew."
            )
        return _filled(tokens, sims)

    def _loaded(self, derived: Segment) -> Any:  # noqa: ANN401
        """The faiss index, read at the first call."""
        with self._loading:
            if self._index is None:
                backend, width = self._backend, self._parts[0].tokens.width
                index = load(derived, backend.factory, width)
                faiss_index.set_probes(index, backend.nprobe)
                if backend.device != "cpu":
                    index = faiss_index.to_device(index, backend.device)
                    self._turn = threading.Lock()  # a GPU index serves one search at a time
                self._index = index
            return self._index

    def _counting(self, request: Request) -> Counting:
        """Which tokens count: those of passages alive and allowed."""
        last = self._counted  # queries of one call share a filter
        if last is None or last.allowed is not request.allowed:
            passages = self._alive
            if request.allowed is not None:
                passages = request.allowed if passages is None else passages & request.allowed
            if passages is None:
                last = Counting(None, int(self._offsets[-1]))
            else:
                mask = np.repeat(passages, np.diff(self._offsets))
                bits = np.packbits(mask, bitorder="little")
                last = Counting(request.allowed, int(mask.sum()), mask, bits)
            self._counted = last
        return last

    def _refined(self, query: Floats, passages: Ints, scores: Floats, threads: int) -> Floats:
        """Scores [C] with the best passages' true means, and the others' below these."""
        head = np.sort(np.lexsort((passages, -scores))[: self._backend.refine])
        true = rescore(query, self._parts, passages[head], threads=threads) / len(query)
        out = scores.copy()
        out[head] = true
        rest = np.delete(np.arange(len(scores)), head)
        if len(rest):
            worst = np.nextafter(out[head].min(), np.float32(-np.inf))
            gap = max(np.float32(0), scores[rest].max() - worst)
            out[rest] = np.minimum(scores[rest] - gap, worst)
        return out


def _sifted(index: Any, query: Floats, keep: int, mask: Mask, most: int) -> tuple[Ints, Floats]:  # noqa: ANN401
    """Search an index that cannot be told which tokens count: find more, drop the others."""
    k = min(2 * keep, most)
    while True:
        tokens, sims = faiss_index.search(index, query, k)
        good = (tokens >= 0) & (tokens < len(mask))
        good[good] = mask[tokens[good]]
        if k == most or (good.sum(axis=1) >= keep).all():
            break
        k = min(4 * k, most)
    order = np.argsort(~good, axis=1, kind="stable")[:, :keep]
    tokens = np.where(good, tokens, -1)
    return np.take_along_axis(tokens, order, axis=1), np.take_along_axis(sims, order, axis=1)


def _filled(tokens: Ints, sims: Floats) -> tuple[Ints, Floats] | None:
    """Put a row's worst in the place of what faiss did not find, so that it is the k'-th.

    None where a row has nothing at all, and so no k'-th similarity.
    """
    missing = tokens < 0
    if missing[:, 0].any():
        return None
    last = missing.shape[1] - 1 - missing.sum(axis=1, keepdims=True)
    return (
        np.where(missing, np.take_along_axis(tokens, last, axis=1), tokens),
        np.where(missing, np.take_along_axis(sims, last, axis=1), sims),
    )
