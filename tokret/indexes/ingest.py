"""Documents in, segments out: split, encode, append, a window at a time.

Memory holds a window of documents, the ids of the segment being written, and of sealed
ones each id and 32 bytes beside it, where ids are looked up.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from tokret.encoders.base import Encoder, Spans
from tokret.encoders.memory import Sparing
from tokret.encoders.passages import split
from tokret.errors import InputError, TokretError, UsageError
from tokret.fields import MAX_NAMES
from tokret.indexes.base import Backend, Report
from tokret.indexes.documents import as_document
from tokret.indexes.files import Array
from tokret.indexes.manifest import SEGMENT_ID, Entry, Settings
from tokret.indexes.segment import (
    DOCUMENT_COLUMNS,
    TOKEN_COLUMNS,
    Layout,
    Segment,
    SegmentWriter,
)
from tokret.indexes.store import Snapshot, Store
from tokret.types import Document, Floats, Ints, Tokens

WINDOW_DOCUMENTS = 256  # enough of one length to make batches of them
WINDOW_CHARACTERS = 150_000  # about 35,000 tokens: seconds of encoding, 18 MB at width 128
SEGMENT_BYTES = 2 << 30  # a segment is sealed beyond this
SEGMENT_DOCUMENTS = 1 << 20  # or beyond this, so that its list of ids stays small
UNIT = 1e-3  # a length this near to 1 is left as it is

OnDuplicate = Literal["error", "skip", "replace"]
Missing = Literal["add", "error"]


class Interrupted(TokretError):
    """Work was stopped on request; nothing that was acknowledged is lost."""

    exit_code = 130


def stopping(stop: Callable[[], bool] | None) -> Report:
    """Hear of the work that follows the last document, and end it when ``stop`` says so."""

    def report(step: str, done: int, total: int) -> None:
        if stop is not None and stop():
            raise Interrupted("Stopped on request.")

    return report


class Progress(NamedTuple):
    """How far a long piece of work has come; ``total`` documents, where known."""

    stage: str
    documents: int
    passages: int
    tokens: int
    bytes: int
    total: int | None = None
    truncated: int = 0


@dataclass
class Added:
    """What became of the documents that were given."""

    documents: int = 0
    passages: int = 0
    tokens: int = 0
    truncated: int = 0  # documents of which an end was cut off
    skipped: int = 0  # documents left out because their id was there
    replaced: int = 0  # documents that took the place of an older one
    empty: int = 0  # documents without any text


@dataclass(eq=False)
class Ingest:
    """Writes a stream of documents into new segments of a store."""

    store: Store
    backend: Backend
    encoder: Encoder | None
    settings: Settings
    on_duplicate: OnDuplicate = "error"
    before: Snapshot | None = None  # what is there already
    missing: Missing = "add"  # what becomes of a document whose id is not there
    stop: Callable[[], bool] | None = None
    progress: Callable[[Progress], None] | None = None
    checkpoint: Callable[[], None] | None = None  # called when all appended rows are whole
    added: Added = field(default_factory=Added)
    consumed: int = 0  # documents taken from the stream
    overhead: int | None = None  # tokens that the encoder adds to any text, once known

    def __post_init__(self) -> None:
        if self.on_duplicate not in get_args(OnDuplicate):
            raise UsageError(
                f"on_duplicate must be 'error', 'skip' or 'replace', got {self.on_duplicate!r}."
            )
        if self.missing not in get_args(Missing):
            raise UsageError(f"missing must be 'add' or 'error', got {self.missing!r}.")
        self.sealed: list[Entry] = []
        self.deleted: dict[str, set[int]] = {}  # segment id -> documents replaced meanwhile
        self.writer: SegmentWriter | None = None
        self._ids: list[str] = []  # of the segment being written
        self._places: dict[str, int] = {}  # the same, the other way round
        self._segments: list[Segment] = []  # the sealed ones, opened
        self._names: set[str] = set()  # of fields
        self._sparing: Sparing | None = None
        if self.before is not None:
            self._names.update(*(segment.fields.names for segment in self.before.segments))

    def run(self, documents: Iterable[Any], vectors: Iterable[ArrayLike] | None = None) -> None:
        """Take every document; ``vectors`` [T_i, H], if given, stand beside them."""
        if vectors is not None and not self.backend.encodes:
            raise UsageError(f"An index of backend {self.backend.name!r} takes no vectors.")
        rows = None if vectors is None else iter(vectors)
        if self.progress is not None:
            self.progress(self.state())
        for window in self._windows(documents):
            given = None if rows is None else self._take(rows, len(window))
            self._window(window, given)
            if self.writer is not None and (
                self.writer.size > SEGMENT_BYTES or self.writer.documents > SEGMENT_DOCUMENTS
            ):
                self.seal()
            if self.progress is not None:
                self.progress(self.state())
            if self.checkpoint is not None:
                self.checkpoint()
            if self.stop is not None and self.stop():
                raise Interrupted("Stopped on request.")
        if rows is not None and next(rows, None) is not None:
            raise InputError(f"There are more vectors than documents ({self.consumed}).")

    def state(self) -> Progress:
        """How far it has come."""
        writing = 0 if self.writer is None else self.writer.size
        return Progress(
            "encode" if self.backend.encodes else "store",
            self.consumed,
            self.added.passages,
            self.added.tokens,
            writing + sum(segment.size for segment in self._segments),
            truncated=self.added.truncated,
        )

    def seal(self) -> None:
        """Finish the segment being written, if any."""
        if self.writer is None:
            return
        self.backend.finish(self.writer)
        entry = Entry.from_dict(self.writer.seal(self._ids), self.writer.path.name)
        self._sealed(entry)
        self.writer, self._ids, self._places = None, [], {}

    def _sealed(self, entry: Entry) -> None:
        self.sealed.append(entry)
        self._segments.append(self.store.segment(entry))
        self._names.update(self._segments[-1].fields.names)

    def abandon(self) -> None:
        """Close the files and leave them, to be gone on with."""
        if self.writer is not None:
            self.writer.abandon()

    def discard(self) -> None:
        """Remove everything that was written."""
        if self.writer is not None:
            self.writer.discard()
        for segment in self._segments:
            shutil.rmtree(segment.path, ignore_errors=True)

    def entries(self) -> Iterator[Entry]:
        """The new segments, each with the documents that were replaced in it."""
        for entry in self.sealed:
            gone = self.deleted.get(entry.id)
            yield self.store.write_deletes(entry, sorted(gone)) if gone else entry

    def save(self) -> dict[str, Any]:
        """What ``load`` needs, JSON-able, after making all rows durable."""
        if self.writer is not None:
            self.writer.sync()
        return {
            "consumed": self.consumed,
            "added": asdict(self.added),
            "sealed": [entry.to_dict() for entry in self.sealed],
            "deleted": {name: sorted(gone) for name, gone in self.deleted.items()},
            "writing": self.writer and {"id": self.writer.path.name, **self.writer.state()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``save`` gave."""
        self.consumed = state["consumed"]
        self.added = Added(**state["added"])
        self.deleted = {name: set(gone) for name, gone in state["deleted"].items()}
        for value in state["sealed"]:
            self._sealed(Entry.from_dict(value, "build.json"))
        if state["writing"] is not None:
            if not SEGMENT_ID.fullmatch(state["writing"]["id"]):
                raise ValueError("a segment has no name of ours")
            path = self.store.segments / state["writing"]["id"]
            self.writer = SegmentWriter.resume(path, state["writing"])
            self._ids = self.writer.read_ids()
            self._places = {doc_id: d for d, doc_id in enumerate(self._ids)}
            self._names |= self.writer.read_field_names()

    def _windows(self, documents: Iterable[Any]) -> Iterator[list[Document]]:
        window: list[Document] = []
        size = 0
        for i, record in enumerate(documents, self.consumed):
            document = as_document(record, i)
            window.append(document)
            size += len(document.text) + len(document.title)
            if len(window) == WINDOW_DOCUMENTS or size >= WINDOW_CHARACTERS:
                yield window
                window, size = [], 0
        if window:
            yield window

    def _take(self, rows: Iterator[ArrayLike], count: int) -> list[ArrayLike]:
        taken = list(islice(rows, count))
        if len(taken) < count:
            raise InputError(
                f"There are fewer vectors ({self.consumed + len(taken)}) than documents."
            )
        return taken

    def _window(self, window: list[Document], vectors: list[ArrayLike] | None) -> None:
        keep = self._without_duplicates(window)
        if not keep:
            self.consumed += len(window)
            return
        for i in keep:
            self._count_names(window[i], self.consumed + i)
        contents = [window[i].contents for i in keep]
        if not self.backend.encodes:
            writer = self._open_writer(0)
            spans = [np.array([[0, len(text)]], np.int64) for text in contents]
        elif vectors is not None:
            tokens = self._checked([vectors[i] for i in keep], [window[i].doc_id for i in keep])
            writer = self._open_writer(tokens.width)
            count = len(tokens.vectors)
            blank = np.zeros((count, 2), np.int32), np.full(count, -1, np.int32)
            self._append(writer, tokens, *blank)
            spans = [np.array([[0, len(text)]], np.int64) for text in contents]
        else:
            if self.encoder is None:
                raise UsageError("This index takes vectors: give them beside the documents.")
            writer = self._open_writer(self.encoder.identity.dim)
            spans = self._encode(writer, self.encoder, contents)
        for d, i in enumerate(keep, len(self._ids)):
            self._ids.append(window[i].doc_id)
            self._places[window[i].doc_id] = d
        fields = [window[i].fields for i in keep]
        writer.add_documents([window[i].doc_id for i in keep], contents, spans, fields)
        self.consumed += len(window)
        self.added.documents += len(keep)
        self.added.passages += sum(map(len, spans))
        self.added.empty += sum(not text.strip() for text in contents)

    def _count_names(self, document: Document, i: int) -> None:
        self._names.update(document.fields)
        if len(self._names) > MAX_NAMES:
            raise InputError(
                f"Document {i}: its fields bring the names in the index to {len(self._names)}; at "
                f"most {MAX_NAMES} fit. Are there data among the names?"
            )

    def _open_writer(self, width: int) -> SegmentWriter:
        if self.writer is None:
            tokens = {**TOKEN_COLUMNS, **self.backend.layout(width)} if self.backend.encodes else {}
            layout: Layout = {**DOCUMENT_COLUMNS, **tokens}
            path = self.store.new_segment_path()
            self.writer = SegmentWriter(path, self.backend.kind, layout)
        return self.writer

    def _append(self, writer: SegmentWriter, tokens: Tokens, spans: Spans, ids: Array) -> None:
        ends = writer.tokens + tokens.offsets[1:]
        columns = self.backend.columns(tokens)
        writer.append(token_ends=ends, token_spans=spans, token_ids=ids, **columns)
        self.added.tokens += len(tokens.vectors)

    def _encode(self, writer: SegmentWriter, encoder: Encoder, texts: list[str]) -> list[Ints]:
        """Append the tokens of all passages; returns the passages [n, 2] of each text."""
        budget = self._budget(encoder)
        spans = [
            split(encoder.token_spans(text), text, budget, self.settings.overlap)
            if len(text.encode()) > budget  # a token covers at least one byte
            else np.array([[0, len(text)]], np.int64)
            for text in texts
        ]
        cut = np.zeros(len(texts), np.bool_)
        if self.settings.long == "truncate":
            cut |= [len(ranges) > 1 for ranges in spans]
            spans = [ranges[:1] for ranges in spans]
        passages = [(t, int(a), int(b)) for t, ranges in enumerate(spans) for a, b in ranges]
        if self._sparing is None or self._sparing.encoder is not encoder:
            self._sparing = Sparing(encoder)
        for chunk in _bounded(passages):
            rest = iter(chunk)
            for encoded in self._sparing.encode([texts[t][a:b] for t, a, b in chunk]):
                part = list(islice(rest, len(encoded.tokens)))
                starts = np.repeat([a for _, a, _ in part], np.diff(encoded.tokens.offsets))
                places = encoded.spans + starts[:, None].astype(np.int32)
                self._append(writer, encoded.tokens, places, encoded.token_ids)
                for (t, _, _), truncated in zip(part, encoded.truncated, strict=True):
                    cut[t] |= truncated
        self.added.truncated += int(cut.sum())
        return spans

    def _budget(self, encoder: Encoder) -> int:
        """Tokens of text in a passage, beside those that the encoder adds to any."""
        if self.overhead is None:
            self.overhead = len(encoder.encode_documents([""]).tokens.vectors)
        limit = self.settings.max_tokens or encoder.max_tokens
        budget = max(1, min(limit, encoder.max_tokens) - self.overhead)
        if self.settings.overlap >= budget:  # said at once, not at the first long document
            raise UsageError(
                f"overlap must be less than a passage's {budget} tokens, got "
                f"{self.settings.overlap}."
            )
        return budget

    def _checked(self, vectors: list[ArrayLike], ids: list[str]) -> Tokens:
        """Given vectors as float32, of unit length where the settings ask for it."""
        width = None if self.encoder is None else self.encoder.identity.dim
        try:
            tokens = Tokens.of(vectors, width=width)
        except InputError as error:
            message = re.sub(
                r"^Passage (\d+)", lambda m: f"Document {ids[int(m[1])]!r:.200}", str(error)
            )
            raise InputError(message) from error
        if width is not None and tokens.width != width:
            raise InputError(f"The vectors have width {tokens.width}, the index has {width}.")
        if not self.settings.normalize:
            return tokens
        scaled, lengths = unit_rows(tokens.vectors.astype(np.float32))
        if (lengths == 0).any():
            token = int(np.argmin(lengths))
            passage = int(np.searchsorted(tokens.offsets, token, side="right")) - 1
            raise InputError(
                f"Document {ids[passage]!r:.200}: token {token - tokens.offsets[passage]} is a "
                "zero vector, which has no direction. Drop it, or build with normalize=False."
            )
        return Tokens(scaled, tokens.offsets)

    def _without_duplicates(self, window: list[Document]) -> list[int]:
        """Places in the window to keep; an older document that gives way is marked deleted."""
        keep: dict[str, int] = {}
        for i, document in enumerate(window):
            doc_id = document.doc_id
            place = None if doc_id in keep else self._find(doc_id)
            if doc_id in keep or place is not None:
                if self.on_duplicate == "error":
                    raise InputError(
                        f"Document {self.consumed + i}: the id {doc_id!r:.200} is there already; "
                        "ids are unique. Choose on_duplicate 'skip' or 'replace' to go on."
                    )
                if self.on_duplicate == "skip":
                    self.added.skipped += 1
                    continue
                self.added.replaced += 1
                keep.pop(doc_id, None)
                if place is not None:
                    self.deleted.setdefault(place[0], set()).add(place[1])
            elif self.missing == "error":
                raise InputError(
                    f"Document {self.consumed + i}: there is no {doc_id!r:.200} to replace. Give "
                    "only ids that are there, or missing='add'."
                )
            keep[doc_id] = i
        return list(keep.values())

    def _find(self, doc_id: str) -> tuple[str, int] | None:
        """Segment and number of the live document with this id, old or new."""
        if self.writer is not None and doc_id in self._places:
            return self.writer.path.name, self._places[doc_id]
        for segment in self._segments:
            name = segment.path.name
            for d in segment.find(doc_id):
                if d not in self.deleted.get(name, ()):
                    return name, d
        if self.before is not None and (place := self.before.find(doc_id)) is not None:
            name = self.before.segments[place[0]].path.name
            if place[1] not in self.deleted.get(name, ()):
                return name, place[1]
        return None


def unit_rows(rows: Floats) -> tuple[Floats, Array]:
    """Rows [T, H] of unit length, and what their lengths [T] were; zero rows stay zero."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    far = (np.abs(lengths - 1) > UNIT) & (lengths > 0)
    scaled = rows.copy()
    scaled[far] = (rows[far] / lengths[far, None]).astype(np.float32)
    return scaled, lengths


def _bounded(passages: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Cut a list of passages (text, start, end) so that none is too much to encode at once."""
    chunk: list[tuple[int, int, int]] = []
    size = 0
    for passage in passages:
        chunk.append(passage)
        size += passage[2] - passage[1]
        if size >= WINDOW_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
