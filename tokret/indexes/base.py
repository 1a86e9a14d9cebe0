"""What every backend answers: how an index is laid out, and how it is searched."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tokret.indexes.files import Array
from tokret.indexes.segment import Layout, SegmentWriter
from tokret.indexes.store import Snapshot
from tokret.registry import Registry
from tokret.scoring import Scorer
from tokret.types import Floats, Ints, Match, Tokens


class Request(NamedTuple):
    """A query as a backend gets it: its text, if known, and its vectors, if it wants them."""

    text: str | None
    vectors: Floats | None


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

    def derive(self, snapshot: Snapshot, writer: SegmentWriter | None) -> dict[str, object] | None:
        """Build what belongs to all segments together.

        Called before each commit: first with no writer, to learn whether there is
        anything to build (not None), then with the writer of its own segment, laid out by
        ``derived_layout``. The returned values are kept in the description.
        """
        ...

    @property
    def derived_layout(self) -> Layout:
        """Columns of what ``derive`` writes."""
        ...

    def matches(self, query: str, text: str) -> list[Match]:
        """Words that a query and a document share; for backends that do not encode."""
        ...

    def searcher(self, snapshot: Snapshot) -> Searcher:
        """Make a snapshot ready for queries."""
        ...


backends: Registry[Backend] = Registry("backend")
