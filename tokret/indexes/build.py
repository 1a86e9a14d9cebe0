"""The resumable build of a whole index from one stream of documents.

Segments are written where they will stay. ``build.json`` says how far they are good, and
is renewed every few seconds; the index itself appears, or is replaced, by one commit at
the end. A build that was stopped or killed goes on when it is called again with the same
corpus and the same settings: the documents that were taken are read again and compared
by a running digest, but not encoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from numpy.typing import ArrayLike

from tokret.encoders.base import Encoder, Identity
from tokret.errors import IndexCorruptError, IndexStateError, InputError, UsageError
from tokret.indexes.base import Backend, Terms, backends, checked_memory
from tokret.indexes.documents import as_document
from tokret.indexes.files import read_json, seal_holds, sealed, to_json, write_atomically
from tokret.indexes.index import encoder_for
from tokret.indexes.ingest import Added, Ingest, Interrupted, OnDuplicate, Progress, stopping
from tokret.indexes.manifest import MANIFEST_NAME, Manifest, Settings
from tokret.indexes.publish import publish
from tokret.indexes.queries import requests_of
from tokret.indexes.store import BUILD, Store
from tokret.types import Document, Floats

STATE_KEYS = {"plan", "base", "digest", "ingest", "sha256"}
CHECKPOINT_SECONDS = 5.0  # at most this much work is done twice


def build(
    path: str | os.PathLike[str],
    documents: Iterable[Any],
    *,
    encoder: str | Encoder | None = "tokret-mini",
    backend: str | Backend = "ivf",
    long: str = "split",
    max_tokens: int | None = None,
    overlap: int = 0,
    normalize: bool = True,
    vectors: Iterable[ArrayLike] | None = None,
    on_duplicate: OnDuplicate = "error",
    calibrate: Iterable[str | ArrayLike] | None = None,
    max_memory: int | None = None,
    restart: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Added:
    """Build an index at ``path``, or go on with a build that was stopped there.

    ``stop`` is asked after every window of documents; True saves the state and raises
    Interrupted. ``overwrite`` replaces a finished index, which stays readable until the
    new one is whole. Raises UsageError where an index is in the way, IndexStateError
    where the unfinished build was of another corpus or other settings (``restart``
    discards it), LockedError, and InputError for a bad document.

    ``calibrate`` are queries, texts or token vectors [Q, H], such as the index will get: an ivf
    index is measured with these, and not with queries made of its passages, for what a
    recall takes. ``max_memory`` bounds the bytes that a build holds but for mapped files.
    """
    chosen = backends.build(backend)
    model = encoder_for(encoder, chosen)
    settings = Settings(long, max_tokens, overlap, normalize)
    identity = None if model is None else model.identity
    plan = {**_plan(chosen, identity, settings, on_duplicate), "vectors": vectors is not None}
    memory = checked_memory(max_memory)
    measuring = None if calibrate is None else _measuring(calibrate, chosen, model, normalize)
    store = Store(path)
    if store.path.is_file():
        raise UsageError(f"{store.path} is a file; an index is a folder.")
    with store.lock():
        base = _base(store, overwrite)
        state = _unfinished(store, base, restart)
        if base and not overwrite:
            raise UsageError(
                f"{store.path} already holds an index. Add to it with `tokret add`, replace it "
                "with --overwrite, or choose another folder."
            )
        ingest = Ingest(store, chosen, model, settings, on_duplicate, stop=stop, progress=progress)
        stream = _Stream(documents)
        if state is not None:
            _check_plan(store, plan, state["plan"])
        last = time.monotonic()

        def checkpoint(force: bool = False) -> None:
            nonlocal last
            if force or time.monotonic() - last >= CHECKPOINT_SECONDS:
                saved = {"plan": plan, "base": base, "digest": stream.digest}
                state = sealed({**saved, "ingest": ingest.save()})
                write_atomically(store.path / BUILD, to_json(state))
                last = time.monotonic()

        try:
            if state is not None:
                _load(ingest, state["ingest"], store)
                if stream.skip(ingest.consumed) != state["digest"]:
                    raise IndexStateError(
                        f"The corpus is not the one that the unfinished build of {store.path} "
                        f"began with (its first {ingest.consumed} documents differ). Give the "
                        "same corpus, or start again with --restart."
                    )
            checkpoint(force=True)
            ingest.checkpoint = checkpoint
            rows = None if vectors is None else islice(vectors, ingest.consumed, None)
            ingest.run(stream, rows)
            ingest.seal()
            checkpoint(force=True)  # what follows may take long
            manifest = Manifest(base, str(chosen), identity, settings)
            terms = Terms(stopping(stop), memory, measuring)
            publish(store, chosen, manifest, ingest.entries(), terms)
        except Interrupted:
            checkpoint(force=True)
            ingest.abandon()
            raise Interrupted(
                f"Stopped after {ingest.consumed} documents; all of them are kept. "
                "Run the same command again to go on."
            ) from None
        except BaseException:
            ingest.abandon()
            raise
    return ingest.added


def _measuring(
    queries: Iterable[str | ArrayLike], backend: Backend, model: Encoder | None, normalize: bool
) -> list[Floats]:
    """Token vectors of the queries that an index is measured with; those of none are left out."""
    if backend.name != "ivf" or model is None:
        raise UsageError(f"calibrate: only ivf indexes are measured, got backend {backend}.")
    requests = requests_of(list(queries), lambda: model, normalize, None)
    vectors = [r.vectors for r in requests if r.vectors is not None and len(r.vectors)]
    if not vectors:
        raise InputError("calibrate got no query with tokens; give some, or leave it out.")
    for i, rows in enumerate(vectors):
        if rows.shape[1] != model.identity.dim:
            raise InputError(
                f"calibrate: query {i} has vectors of width {rows.shape[1]}, the index of "
                f"{model.identity.dim}."
            )
    return vectors


class _Stream:
    """Documents on their way, with a running digest of those that have passed."""

    def __init__(self, documents: Iterable[Any]) -> None:
        self._documents = iter(documents)
        self._chain = b""
        self._count = 0

    @property
    def digest(self) -> str:
        return self._chain.hex()

    def __iter__(self) -> Iterator[Document]:
        for record in self._documents:
            document = as_document(record, self._count)
            link = hashlib.blake2b(self._chain, digest_size=16)
            parts = [document.doc_id, document.text, document.title]
            if document.fields:  # without, the digest is that of builds before there were any
                parts.append(json.dumps(document.fields))
            for part in parts:
                data = part.encode()
                link.update(len(data).to_bytes(8, "little") + data)
            self._chain = link.digest()
            self._count += 1
            yield document

    def skip(self, count: int) -> str:
        """Let ``count`` documents pass; returns their digest."""
        for _ in islice(self, count):
            pass
        return self.digest


def _plan(
    backend: Backend, identity: Identity | None, settings: Settings, on_duplicate: str
) -> dict[str, Any]:
    return {
        "backend": str(backend),
        "model": identity and identity.spec,
        "model_sha256": identity and identity.sha256,
        **vars(settings),
        "on_duplicate": on_duplicate,
    }


def _unfinished(store: Store, base: int, restart: bool) -> dict[str, Any] | None:
    """State of an unfinished build that can go on; what cannot is cleared away."""
    path = store.path / BUILD
    if not path.exists():
        return None
    try:
        state = read_json(path)
    except IndexCorruptError:
        state = {}
    if set(state) != STATE_KEYS:  # perhaps a file of another program: nothing here is removed
        raise UsageError(
            f"{path} is not the state of an unfinished build. Choose another folder, or remove "
            "that file."
        )
    if not restart and state["base"] == base and not seal_holds(state):
        raise IndexStateError(
            f"The unfinished build of {store.path} is damaged ({BUILD} is not as it was written); "
            "start again with --restart."
        )
    begun = isinstance(state["ingest"], dict) and state["ingest"].get("consumed") != 0
    if state["base"] == base and begun and not restart:
        return state
    # Asked for, or nothing was done yet, or the index was committed since: of no use any more.
    path.unlink()  # first, as it names what is removed next
    with contextlib.suppress(IndexStateError):  # of a damaged index the commit will clear it
        store.collect(store.open().manifest if base else None)
    return None


def _base(store: Store, overwrite: bool) -> int:
    """Number of the version that is there; one that is damaged can be overwritten."""
    try:
        return store.version()
    except IndexCorruptError:
        if not overwrite:
            raise
        names = [path.name for path in store.path.iterdir()]
        return max((int(n[9:17]) for n in names if MANIFEST_NAME.fullmatch(n)), default=1)


def _load(ingest: Ingest, state: Any, store: Store) -> None:  # noqa: ANN401
    try:
        ingest.load(state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexCorruptError) as error:
        raise IndexStateError(
            f"The unfinished build of {store.path} is damaged ({error}); start again with "
            "--restart."
        ) from error


def _check_plan(store: Store, plan: dict[str, Any], old: dict[str, Any]) -> None:
    differ = [f"{k} was {old.get(k)!r}, is {v!r}" for k, v in plan.items() if old.get(k) != v]
    if differ:
        raise IndexStateError(
            f"The unfinished build of {store.path} had other settings: {'; '.join(differ)}. Use "
            "the same to go on, or start again with --restart."
        )
