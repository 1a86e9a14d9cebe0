"""The index as its users hold it: add, delete, search, explain."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from tokret.encoders import Encoder, Identity, encoders
from tokret.errors import (
    IndexCorruptError,
    IndexStateError,
    ModelMismatchError,
    UnconfirmedError,
    UsageError,
)
from tokret.indexes.base import (
    Backend,
    Certifier,
    Measured,
    Report,
    Request,
    Staged,
    Terms,
    backends,
    checked_memory,
)
from tokret.indexes.compact import Compacted, worthwhile
from tokret.indexes.effort import Target
from tokret.indexes.filter import Filter, Where
from tokret.indexes.ingest import Added, Ingest, Missing, OnDuplicate, Progress, stopping
from tokret.indexes.manifest import FORMAT, Manifest, Settings
from tokret.indexes.merge import sources
from tokret.indexes.publish import publish, surviving
from tokret.indexes.queries import clean, requests_of
from tokret.indexes.selection import field_counts, places
from tokret.indexes.store import Snapshot, Store
from tokret.indexes.tune import tuned
from tokret.indexes.verify import verify as damages_of
from tokret.indexes.view import View, backend_of, best_documents, certified
from tokret.locks import Lock
from tokret.scoring import MaxSim, Scorer, scorers
from tokret.types import Document, Hits, Match

FIRST_STAGE: tuple[Literal["imputed"], Literal["measured"]] = ("imputed", "measured")


def encoder_for(encoder: str | Encoder | None, backend: Backend) -> Encoder | None:
    """The encoder that an index of this backend needs, or None."""
    if not backend.encodes:
        return None
    if encoder is None:
        raise UsageError(
            f"An index of backend {backend.name!r} needs a model; for vectors of your own, "
            "name their width: encoder='precomputed(dim=128)'."
        )
    return encoders.build(encoder)


class Index:
    """A searchable folder of documents. Make one with ``create`` or ``open``.

    Searching is safe from several threads and lets other threads run. One process at a
    time may write; readers keep the version they opened until ``refresh``. A forked child
    may go on with it. Pickled, it is its folder and how it was opened: the copy, in a worker
    say, opens the version that is current there and then, as the files of one that a commit
    has replaced are gone.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder | None,
        any_model: bool = False,
        tune: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = store
        self._any_model = any_model
        self._guard = Lock()
        self._options = {"any_model": any_model, "tune": dict(tune or {})}
        self._overhead: int | None = None  # tokens that the encoder adds to any text
        snapshot = store.open()
        self._backend = tuned(backend_of(snapshot), tune or {})
        self._view: View | None = View.of(snapshot, self._backend)
        self._given = encoder
        self._encoder = None if encoder is None else self._accept(encoder)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder | None = "tokret-mini",
        backend: str | Backend = "ivf",
        long: Literal["split", "truncate"] = "split",
        max_tokens: int | None = None,
        overlap: int = 0,
        normalize: bool = True,
    ) -> Index:
        """Make an empty index.

        Documents longer than the encoder reads, or than ``max_tokens``, are split into
        passages that share ``overlap`` tokens, or truncated (``long``). ``normalize``
        brings vectors given to ``add`` to unit length. Raises UsageError where the folder
        already holds an index.
        """
        chosen = backends.build(backend)
        model = encoder_for(encoder, chosen)
        settings = Settings(long, max_tokens, overlap, normalize)
        store = Store(path)
        if store.path.is_file():
            raise UsageError(f"{store.path} is a file; an index is a folder.")
        with store.lock():
            if store.exists():
                raise UsageError(f"{store.path} already holds an index; use Index.open.")
            store.refuse_unfinished_build()
            store.collect(None)
            identity = None if model is None else model.identity
            publish(store, chosen, Manifest(0, str(chosen), identity, settings), ())
        return cls(store, model)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder | None = None,
        verify: Literal["quick", "full"] = "quick",
        any_model: bool = False,
        tune: Mapping[str, Any] | None = None,
    ) -> Index:
        """Open the current version of an index.

        Without ``encoder``, the one that the index names is loaded at the first text query.
        ``tune`` changes options of searching, such as ``{"nprobe": 64}`` of a faiss index.
        ``full`` verification reads every byte first; sizes and descriptions are checked in
        any case. Raises IndexMissingError, IndexCorruptError, IndexFormatError, and
        ModelMismatchError unless ``any_model``.
        """
        if verify not in ("quick", "full"):
            raise UsageError(f"verify must be 'quick' or 'full', got {verify!r}.")
        if verify == "full":
            _refuse_damage(path)
        chosen = encoders.build(encoder) if encoder is not None else None
        return cls(Store(path), chosen, any_model, tune)

    def __repr__(self) -> str:
        """The folder, and whether it is closed."""
        return f"<tokret.Index {self.path!r}{' closed' if self._view is None else ''}>"

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[str, Encoder | None, dict[str, Any]]]:
        self._state  # noqa: B018  (a closed index has nothing to open again)
        return _reopened, (os.path.abspath(self.path), self._given, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; the index cannot be used afterwards."""
        self._view = None

    def refresh(self) -> bool:
        """Move to the current version; True where it is another than before.

        Where it is not, only two small files are read, so one may ask before every search.
        Raises IndexStateError where the index was built anew with another model, backend or
        settings: open it again.
        """
        with contextlib.suppress(FileNotFoundError):  # a commit came between
            if self._store.manifest() == self._state.snapshot.manifest:
                return False
        self._view = View.of(self._current(), self._backend)
        return True

    def _current(self) -> Snapshot:
        """Open the current version, which must be made as the one held here."""
        snapshot = self._store.open()
        ours, theirs = self._state.snapshot.manifest, snapshot.manifest
        for name in ("backend", "encoder", "settings"):
            old, new = getattr(ours, name), getattr(theirs, name)
            if old != new:
                raise IndexStateError(
                    f"{self._store.path} was built anew meanwhile: its {name} was {old}, is {new}. "
                    "Open it again."
                )
        self._store.refuse_unfinished_build()
        return snapshot

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Hold the current version as its only writer; what a killed one left is removed."""
        with self._store.lock():
            before = self._current()
            self._store.collect(before.manifest)
            yield before

    @property
    def _state(self) -> View:
        if self._view is None:
            raise UsageError(f"The index {self._store.path} is closed; open it again.")
        return self._view

    @property
    def path(self) -> str:
        """The folder."""
        return str(self._store.path)

    @property
    def backend(self) -> Backend:
        """How it is stored and searched."""
        return self._backend

    @property
    def encoder(self) -> Encoder | None:
        """The model of its vectors, loaded when first asked for; None on a lexical index."""
        identity = self._state.snapshot.manifest.encoder
        if self._encoder is None and identity is not None:
            with self._guard:
                if self._encoder is None:
                    self._encoder = self._accept(encoders.build(identity.spec))
        return self._encoder

    def _accept(self, encoder: Encoder) -> Encoder:
        ours, theirs = self._state.snapshot.manifest.encoder, encoder.identity
        if ours is None:
            raise UsageError(f"An index of backend {self._backend.name!r} uses no model.")
        if ours.dim != theirs.dim or (ours.sha256 != theirs.sha256 and not self._any_model):
            raise ModelMismatchError(
                f"{self._store.path} holds vectors of {_named(ours)}; got {_named(theirs)}. Use "
                "the index's own model, or build it again with this one."
            )
        return encoder

    # -- changing ---------------------------------------------------------------------

    def add(
        self,
        documents: Iterable[Any],
        *,
        vectors: Iterable[ArrayLike] | None = None,
        on_duplicate: OnDuplicate = "error",
        max_memory: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Added:
        """Add documents in one commit: all of them, or after an error none.

        A document is a Document, (id, text), (id, text, title), or a mapping with id,
        text and title. ``vectors``, arrays [T_i, H] one a document, take the place of
        encoding. An id that is there already is an error, or is skipped, or replaces.
        ``max_memory`` is that of ``build``.
        Raises InputError that names the document, LockedError, Interrupted.
        """
        memory = checked_memory(max_memory)
        return self._ingested(documents, vectors, on_duplicate, "add", progress, stop, memory)

    def update(
        self,
        documents: Iterable[Any],
        *,
        vectors: Iterable[ArrayLike] | None = None,
        missing: Missing = "add",
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Added:
        """Put documents in the place of those with their ids, in one commit.

        Takes documents and vectors as ``add`` does. A document whose id is not there is
        added, or with ``missing="error"`` refused; of two with one id the later counts.
        Raises InputError that names the document, LockedError, Interrupted.
        """
        return self._ingested(documents, vectors, "replace", missing, progress, stop)

    def _ingested(
        self,
        documents: Iterable[Any],
        vectors: Iterable[ArrayLike] | None,
        on_duplicate: OnDuplicate,
        missing: Missing,
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool] | None,
        memory: int | None = None,
    ) -> Added:
        model = self.encoder if self._backend.encodes else None
        with self._writing() as before:
            ingest = Ingest(
                self._store,
                self._backend,
                model,
                before.manifest.settings,
                on_duplicate,
                before=before,
                missing=missing,
                progress=progress,
                stop=stop,
                overhead=self._overhead,
            )
            try:
                ingest.run(documents, vectors)
                ingest.seal()
                if ingest.sealed:
                    old = surviving(self._store, before, ingest.deleted)
                    entries = chain(old, ingest.entries())
                    terms = Terms(stopping(stop), memory)
                    publish(self._store, self._backend, before.manifest, entries, terms)
            except UnconfirmedError:
                raise
            except BaseException:
                if self._store.version() == before.manifest.version:
                    ingest.discard()
                raise
        self._overhead = ingest.overhead
        self.refresh()
        return ingest.added

    def delete(
        self,
        doc_ids: Iterable[str] = (),
        *,
        where: Where | None = None,
        missing: Literal["error", "skip"] = "error",
    ) -> int:
        """Delete documents, by id or all that a filter allows, in one commit; returns how many.

        Raises UsageError for an id that is not there, unless ``missing`` is "skip", and for a
        filter as ``search`` does.
        """
        if isinstance(doc_ids, str):
            raise UsageError(f"delete takes several ids; for one, write [{doc_ids!r:.200}].")
        if missing not in ("error", "skip"):
            raise UsageError(f"missing must be 'error' or 'skip', got {missing!r}.")
        with self._writing() as before:
            found = set() if where is None else set(places(before, Filter.of(where)))
            for doc_id in doc_ids:
                if not isinstance(doc_id, str):
                    raise UsageError(f"Ids are strings, got {doc_id!r:.200}; nothing was deleted.")
                place = before.find(doc_id)
                if place is not None:
                    found.add(place)
                elif missing == "error":
                    raise UsageError(f"No document {doc_id!r:.200}; nothing was deleted.")
            gone: dict[str, set[int]] = {}
            for s, d in found:
                gone.setdefault(before.segments[s].path.name, set()).add(d)
            if gone:
                entries = surviving(self._store, before, gone)
                publish(self._store, self._backend, before.manifest, entries)
        self.refresh()
        return len(found)

    def compact(
        self,
        *,
        force: bool = False,
        max_memory: int | None = None,
        progress: Report | None = None,
    ) -> Compacted:
        """Drop the rows of deleted documents and join small segments, in one commit.

        Segments are written anew where a fifth of their documents is deleted, or where they
        are small and there is another to join; ``force`` leaves no deleted row. Every answer
        stays the same, and readers keep the version they opened; only where an ivf index has
        grown by half since it was measured what efforts of searching bring, that is done again.
        ``max_memory`` is that of ``build``. ``progress`` is told a step, how much of it is done,
        and of how much. Raises IndexCorruptError for a segment whose bytes are not what was
        written, with nothing changed; LockedError.
        """
        with self._writing() as before:
            plan = partial(worthwhile, force=force)
            measured = self._measurement()
            if plan(sources(before)) or (measured is not None and measured["stale"]):
                entries = before.manifest.segments
                terms = Terms(progress, checked_memory(max_memory), renew=True)
                publish(self._store, self._backend, before.manifest, entries, terms, plan)
        self.refresh()
        after = self._state.snapshot
        return Compacted(
            after.documents, before.size, after.size, len(before.segments), len(after.segments)
        )

    # -- asking -----------------------------------------------------------------------

    def search(
        self,
        query: str | ArrayLike,
        k: int = 10,
        *,
        scorer: str | Scorer | None = None,
        where: Where | None = None,
        threads: int = 1,
        text: bool = True,
        recall: float | None = None,
        budget_ms: float | None = None,
        exact: bool = False,
        certify: bool = False,
    ) -> Hits:
        """Rank documents for one query: the best ``k``, best first, ties by document id.

        ``query`` is a text or its token vectors [Q, H]; a text without words finds nothing.
        A document scores as its best passage. ``where`` filters documents by their fields
        before any is scored, such as ``'year >= 2019 and lang == "en"'``: the answer is that of
        an index of these documents alone, but for what words weigh in BM25. ``text=False``
        leaves the passages' text out of the hits.

        Of an ivf index one may ask for a ``recall`` of the exact best, for the best that takes
        ``budget_ms`` of one thread, or for the ``exact`` answer (of stored vectors): the first
        two by what was measured when it was built, and the second by how fast this machine is
        found to be when it is first asked for. With ``certify`` the hits say between which
        bounds they lie and how many are proven. Raises UsageError for k < 1, for a scorer
        that the backend does not have, and for a filter that cannot be read or never passes.
        """
        queries = [query] if isinstance(query, str) else [np.asarray(query)]
        options: dict[str, Any] = {"scorer": scorer, "where": where, "threads": threads}
        options |= {"recall": recall, "budget_ms": budget_ms, "exact": exact, "certify": certify}
        return self.search_many(queries, k, text=text, **options)[0]

    def search_many(
        self,
        queries: Iterable[str | ArrayLike],
        k: int = 10,
        *,
        scorer: str | Scorer | None = None,
        where: Where | None = None,
        threads: int = 1,
        text: bool = True,
        recall: float | None = None,
        budget_ms: float | None = None,
        exact: bool = False,
        certify: bool = False,
    ) -> list[Hits]:
        """Rank documents for each query, as ``search`` does; queries share the threads."""
        for name, count in (("k", k), ("threads", threads)):
            if not isinstance(count, int | np.integer) or count < 1:
                raise UsageError(f"{name} must be at least 1, a whole number, got {count!r}.")
        if isinstance(queries, str):
            raise UsageError("search_many takes a list of queries; use search for one.")
        view = self._state
        chosen = None if scorer is None else scorers.build(scorer)
        if chosen is not None and not hasattr(chosen, "score"):
            raise UsageError(f"A scorer is a name or an object with score(), got {scorer!r}.")
        plain = chosen is None or (isinstance(chosen, MaxSim) and not chosen.mean)
        if certify and not (plain and isinstance(view.searcher, Certifier)):
            raise UsageError(
                f"certify: bounds are of MaxSim by an exact or ivf index, got {self._backend} and "
                f"scorer {chosen or 'maxsim'}."
            )
        allowed = None if where is None else view.allowed(Filter.of(where))
        normalize = view.snapshot.manifest.settings.normalize
        target = Target(recall, budget_ms, exact).checked()
        requests = [
            request._replace(k=int(k), target=target)
            for request in requests_of(list(queries), self._text_encoder, normalize, allowed)
        ]

        def rank(request: Request, inner: int) -> Hits:
            searcher = view.searcher
            passages, scores = searcher.rank(request, chosen, inner)
            hits = best_documents(view, passages, scores, k, text)
            if not certify or not isinstance(searcher, Certifier):
                return Hits(hits)
            certificate = searcher.certify(request, passages, scores)
            return certified(view, hits, passages, scores, certificate)

        if len(requests) == 1 or threads == 1:
            return [rank(request, threads) for request in requests]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda request: rank(request, 1), requests))

    def explain(self, query: str, doc_id: str) -> list[Match]:
        """For each query token, the token of the document that answers it best.

        Character ranges point into ``query`` and into ``document(doc_id)``. On a lexical
        index, the words that query and document share. A match says whether its similarity is
        that of codes or of vectors, and whether the first stage of a search sees it. Raises
        UsageError for an id that is not there.
        """
        view = self._state
        s, d = self._find(view, doc_id)
        segment = view.snapshot.segments[s]
        encoder = self.encoder
        if encoder is None:
            return self._backend.matches(query, segment.text(d))
        first, last = segment.passage_offsets[d : d + 2].tolist()
        base = int(view.first_passage[s])
        rows = [view.searcher.passage_tokens(base + n) for n in range(first, last)]
        vectors = np.concatenate([row for row in rows if row is not None])
        encoded = encoder.encode_queries([clean(query)])
        if len(vectors) == 0:
            return []
        start = int(segment.token_offsets[first])
        spans = segment.map("token_spans")[start : start + len(vectors)]
        sims = encoded.tokens[0] @ vectors.T
        best = sims.argmax(axis=1)
        coded, seen = False, None
        if isinstance(view.searcher, Staged):
            coded, seen = view.searcher.staged(encoded.tokens[0], np.arange(first, last) + base)
        by: Literal["codes", "vectors"] = "codes" if coded else "vectors"
        stages = [None] * len(best) if seen is None else [FIRST_STAGE[bool(one)] for one in seen]
        return [
            Match(int(a), int(b), int(spans[t, 0]), int(spans[t, 1]), float(sims[q, t]), by, stage)
            for q, ((a, b), t, stage) in enumerate(zip(encoded.spans, best, stages, strict=True))
        ]

    def _text_encoder(self) -> Encoder | None:
        return self.encoder if self._backend.encodes else None

    def document(self, doc_id: str) -> Document:
        """Give a document back: as its text its contents (title, a space, text), and fields.

        Raises UsageError if it is not there.
        """
        view = self._state
        s, d = self._find(view, doc_id)
        segment = view.snapshot.segments[s]
        (fields,) = segment.fields.rows(d, d + 1, checked=False)
        return Document(doc_id, segment.text(d), "", fields)

    def ids(self, where: Where | None = None) -> list[str]:
        """Ids of all documents, or of those that a filter allows, in the order they came.

        Raises UsageError as ``search`` does.
        """
        snapshot = self._state.snapshot
        chosen = places(snapshot, None if where is None else Filter.of(where))
        return [snapshot.segments[s].doc_id(d) for s, d in chosen]

    def fields(self) -> dict[str, dict[str, int]]:
        """Names of all fields; for each, how many documents hold values of which kind.

        Kinds are ``str``, ``int``, ``float``, ``bool``, and lists of them such as ``list[str]``.
        """
        return field_counts(self._state.snapshot)

    @staticmethod
    def _find(view: View, doc_id: str) -> tuple[int, int]:
        place = view.snapshot.find(doc_id) if isinstance(doc_id, str) else None
        if place is None:
            raise UsageError(f"No document {doc_id!r:.200} in {view.snapshot.path}.")
        return place

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._state.snapshot.find(doc_id) is not None

    def __len__(self) -> int:
        return self._state.snapshot.documents

    def info(self) -> dict[str, Any]:
        """What the index holds and how it was made; JSON-able."""
        snapshot = self._state.snapshot
        manifest, segments = snapshot.manifest, snapshot.segments
        stored = sum(segment.documents for segment in segments)
        measured = self._measurement()
        return {
            "path": str(snapshot.path),
            "format": FORMAT,
            "version": manifest.version,
            "backend": manifest.backend,
            "encoder": manifest.encoder and vars(manifest.encoder).copy(),
            "settings": vars(manifest.settings).copy(),
            "documents": snapshot.documents,
            "deleted": stored - snapshot.documents,
            "passages": sum(segment.passages for segment in segments),
            "tokens": sum(segment.tokens for segment in segments),
            "segments": len(segments),
            "bytes": snapshot.size,
            "fields": self.fields(),
            **({} if measured is None else {"measured": measured}),
        }

    def _measurement(self) -> dict[str, Any] | None:
        searcher = self._state.searcher
        return searcher.measurement() if isinstance(searcher, Measured) else None


def _reopened(path: str, encoder: Encoder | None, options: dict[str, Any]) -> Index:
    return Index.open(path, encoder=encoder, **options)


def _named(identity: Identity) -> str:
    return f"{identity.spec} (sha256 {identity.sha256[:12]}…, {identity.dim} dimensions)"


def _refuse_damage(path: str | os.PathLike[str]) -> None:
    damages = damages_of(path, "full")
    if damages:
        shown = "; ".join(f"{d.file}: {d.message}" for d in damages[:3])
        more = f" and {len(damages) - 3} more" if len(damages) > 3 else ""
        raise IndexCorruptError(f"{os.fspath(path)}: {shown}{more}.")
