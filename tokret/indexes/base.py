"""What every backend answers: how an index is laid out, and how it is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tokret.errors import UsageError
from tokret.indexes.effort import Target
from tokret.indexes.files import Array
from tokret.indexes.manifest import Manifest
from tokret.indexes.segment import Layout, SegmentWriter
from tokret.indexes.store import Snapshot, Store
from tokret.registry import Registry
from tokret.scoring import Scorer
from tokret.types import Floats, Ints, Mask, Match, Tokens

Report = Callable[[str, int, int], None]  # a step, how much of it is done, of how much


class Request(NamedTuple):
    """A query as a backend gets it: its text, if known, and its vectors, if it wants them.

    ``allowed`` [N] says which passages, numbered through all segments, may be candidates,
    beside those that are deleted; None: all. An answer is that of an index without the others,
    but for statistics of the whole collection. ``k`` documents are wanted,
    with the effort that ``target`` asks for; a backend that is always exact ignores it.
    """

    text: str | None
    vectors: Floats | None
    allowed: Mask | None = None
    k: int = 10
    target: Target = Target()


@dataclass(frozen=True)
class Terms:
    """What a commit is asked beside what it writes.

    ``memory`` bytes that making codes may take, instead of what the backend's options say;
    ``queries`` [Q, H] that a trained index is measured with; ``renew`` what was measured when
    it was much smaller. ``report`` is told the step, how much of it is done, and of how much.
    """

    report: Report | None = None
    memory: int | None = None
    queries: Sequence[Floats] | None = None
    renew: bool = False


LEAST_MEMORY = 400_000_000  # bytes: the interpreter, a window of documents, tables


def checked_memory(size: int | None) -> int | None:
    """A ceiling of memory that can be kept. Raises UsageError for one that cannot."""
    if size is not None and size < LEAST_MEMORY:
        raise UsageError(
            f"max_memory must be at least {LEAST_MEMORY:,} bytes, got {size:,}: windows of "
            "documents and tables take as much whatever the collection."
        )
    return size


ALONE = Terms()  # nothing but what the commit writes


class Certificate(NamedTuple):
    """How far scores [C] may be from MaxSim, and the highest that any other may have."""

    slack: NDArray[np.float64]
    rest: float


class Searcher(Protocol):
    """A snapshot made ready for queries; safe to use from several threads."""

    def rank(self, request: Request, scorer: Scorer | None, threads: int) -> tuple[Ints, Floats]:
        """Candidate passages [C], rising, numbered through all segments; their scores [C].

        Raises UsageError for a scorer that the backend cannot serve.
        """
        ...

    def passage_tokens(self, passage: int) -> Floats | None:
        """Vectors of one passage [T, H]; None where the backend keeps none."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """A searcher whose scores may be off, and that knows by how much."""

    def certify(self, request: Request, passages: Ints, scores: Floats) -> Certificate:
        """How far MaxSim of ranked passages [C], and of all others, may lie from the scores."""
        ...


@runtime_checkable
class Checker(Protocol):
    """A searcher that can read all that a search might, and say what is wrong with it."""

    def check(self) -> None:
        """Raise IndexCorruptError for what no writer of ours writes."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A searcher that compares only a part of a document at first, or codes of it."""

    def staged(self, query: Floats, passages: Ints) -> tuple[bool, Mask | None]:
        """Whether similarities to passages, all of one document, are those of codes.

        And for which query tokens [Q] the first stage measures one; None without such a stage.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """A searcher that knows what efforts of searching were measured to bring."""

    def measurement(self) -> dict[str, Any] | None:
        """On how much they were measured, and whether that still fits; JSON-able."""
        ...


class Backend(Protocol):
    """One way to store and search documents. A frozen dataclass: its fields are its spec."""

    name: str

    @property
    def kind(self) -> str:
        """Kind of the segments it writes."""
        ...

    @property
    def encodes(self) -> bool:
        """Whether passages are encoded to token vectors; otherwise it works on text."""
        ...

    def layout(self, width: int) -> Layout:
        """Columns that it keeps for tokens of ``width`` H, beside those of every segment."""
        ...

    def columns(self, tokens: Tokens) -> dict[str, Array]:
        """Rows of those columns for a batch of float32 tokens."""
        ...

    def finish(self, writer: SegmentWriter) -> None:
        """Add what a segment needs beyond its rows, before it is sealed.

        Called when all rows are there, those of documents as they came or copied from
        other segments; ``writer.map`` gives them back and ``writer.add_columns`` adds more.
        """
        ...

    def settle(self, store: Store, draft: Manifest, terms: Terms = ALONE) -> Manifest:
        """Bring the next version to the form that is searched, before it is committed.

        May replace segments by others that it writes, and set ``derived``, the segment of
        what belongs to all of them together.
        """
        ...

    def matches(self, query: str, text: str) -> list[Match]:
        """Words that a query and a document share; for backends that do not encode."""
        ...

    def searcher(self, snapshot: Snapshot) -> Searcher:
        """Make a snapshot ready for queries."""
        ...


backends: Registry[Backend] = Registry("backend")
