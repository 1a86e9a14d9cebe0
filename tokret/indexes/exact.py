"""Every token vector kept and every passage scored: the yardstick of all backends.

Does    Stores unit token vectors in fp32, fp16 or int8 (one scale a token) and scores all
        of them for each query, by the compiled kernels.
Costs   4, 2 or 1 bytes a component on disk; a query reads every vector once.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from tokret.errors import IndexCorruptError, InputError, UsageError
from tokret.indexes.base import ALONE, Certificate, Request, Terms, backends
from tokret.indexes.files import Array
from tokret.indexes.manifest import Manifest
from tokret.indexes.segment import Layout, Segment, SegmentWriter
from tokret.indexes.store import Snapshot, Store
from tokret.registry import Spec
from tokret.scoring import MaxSim, Part, Scorer
from tokret.types import DTYPES, Dtype, Floats, Ints, Match, Tokens


@backends.register("exact")
@dataclass(frozen=True)
class Exact(Spec):
    """Brute force over stored vectors; ``dtype`` is how they are stored."""

    dtype: Dtype = "fp16"

    kind = "tokens"
    encodes = True

    def layout(self, width: int) -> Layout:
        """The vectors, and their scales in int8."""
        columns: dict[str, tuple[str, int | None]] = {"vectors": (DTYPES[self.dtype].str, width)}
        if self.dtype == "int8":
            columns["scales"] = ("<f4", None)
        return columns

    def columns(self, tokens: Tokens) -> dict[str, Array]:
        """The batch in the stored type. Raises InputError where fp16 overflows."""
        stored = tokens.to(self.dtype)
        scales = {} if stored.scales is None else {"scales": stored.scales}
        return {"vectors": stored.vectors, **scales}

    def finish(self, writer: SegmentWriter) -> None:
        """Vectors are all it needs."""

    def settle(self, store: Store, draft: Manifest, terms: Terms = ALONE) -> Manifest:
        """Segments are searched as they were written."""
        return draft

    def matches(self, query: str, text: str) -> list[Match]:
        """Matches are between vectors here."""
        return []

    def searcher(self, snapshot: Snapshot) -> ExactSearcher:
        """Map the vectors of every segment."""
        return ExactSearcher(snapshot)


class ExactSearcher:
    """All segments' tokens, mapped."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._parts = [
            Part(stored_tokens(segment), _alive_passages(segment, alive))
            for segment, alive in zip(snapshot.segments, snapshot.alive, strict=True)
        ]
        self._first = np.cumsum([0, *(len(part.tokens) for part in self._parts)])

    def rank(self, request: Request, scorer: Scorer | None, threads: int) -> tuple[Ints, Floats]:
        """Score every passage that is allowed by MaxSim, or by the scorer given."""
        if request.vectors is None:
            raise UsageError("This index is searched by token vectors; give a text or an array.")
        if not self._parts or len(request.vectors) == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        width = self._parts[0].tokens.width
        if request.vectors.shape[1] != width:
            raise InputError(
                f"The query has vectors of width {request.vectors.shape[1]}, "
                f"the index of {width}; encode it with the index's own model."
            )
        parts = self._parts
        if request.allowed is not None:
            shares = np.split(request.allowed, self._first[1:-1])
            parts = [part.only(share) for part, share in zip(parts, shares, strict=True)]
        return (scorer or MaxSim()).score(request.vectors, parts, threads=threads)

    def certify(self, request: Request, passages: Ints, scores: Floats) -> Certificate:
        """Every passage was scored."""
        return Certificate(np.zeros(len(passages)), -np.inf)

    def passage_tokens(self, passage: int) -> Floats:
        """Vectors of one passage, as stored, in float32 [T, H]."""
        part = int(np.searchsorted(self._first, passage, side="right")) - 1
        return self._parts[part].tokens[passage - int(self._first[part])]


_READ: WeakKeyDictionary[Segment, Tokens] = WeakKeyDictionary()  # a commit keeps most segments


def stored_tokens(segment: Segment) -> Tokens:
    """Vectors of all passages of a segment, mapped."""
    tokens = _READ.get(segment)
    if tokens is None:
        scales = segment.read("scales") if "scales" in segment.columns else None
        try:
            tokens = Tokens(segment.map("vectors"), segment.token_offsets, scales)
        except InputError as error:
            raise IndexCorruptError(f"{segment.path}: {error}") from error
        _READ[segment] = tokens
    return tokens


def _alive_passages(segment: Segment, alive: Array | None) -> Array | None:
    return None if alive is None else np.repeat(alive, np.diff(segment.passage_offsets))
