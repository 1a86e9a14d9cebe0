"""tokret add: put more documents into an index, all or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokret.cli.corpus import (
    Corpus,
    EncodingErrors,
    LengthsFile,
    Limit,
    OnDuplicate,
    OnError,
    OnMetadata,
    Quarantine,
    Reading,
    Strict,
    VectorsFile,
    vectors_of,
)
from tokret.cli.ending import again, stopped, summary
from tokret.cli.failure import GATE
from tokret.cli.interrupts import Interrupts
from tokret.cli.options import DryRun, IndexDir, MaxMemory
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk
from tokret.errors import InputError

if TYPE_CHECKING:
    from tokret.indexes import Added


def run(
    talk: Talk,
    path: IndexDir,
    corpus: Corpus,
    vectors: VectorsFile = None,
    lengths: LengthsFile = None,
    on_duplicate: OnDuplicate = "error",
    on_error: OnError = "fail",
    quarantine: Quarantine = None,
    encoding_errors: EncodingErrors = "strict",
    metadata: OnMetadata = "strict",
    limit: Limit = None,
    strict: Strict = False,
    max_memory: MaxMemory = None,
    dry_run: DryRun = False,
) -> int:
    """Add the documents of a corpus to an index, in one commit."""
    from tokret.indexes import Index

    reading = Reading(corpus, path, on_error, quarantine, encoding_errors, limit, metadata)
    if dry_run:
        return would(talk, path, reading)
    put = partial(Index.add, on_duplicate=on_duplicate, max_memory=max_memory)
    return write(talk, path, reading, put, vectors, lengths, strict)


def would(talk: Talk, path: Path, reading: Reading) -> int:
    """Say how many documents are new, and write nothing."""
    from tokret.indexes import Index

    known = fresh = 0
    with Index.open(path) as index:
        for document in reading.documents(keep=False):
            known += document.doc_id in index
            fresh += document.doc_id not in index
    talk.result({"index": str(path), "dry_run": True, "new": fresh, "known": known})
    if not talk.json:
        talk.line(f"{path}: {fresh:,} documents are new, {known:,} are there already")
    return 0


def write(
    talk: Talk,
    path: Path,
    reading: Reading,
    put: Callable[..., Added],
    vectors: Path | None,
    lengths: Path | None,
    strict: bool,
) -> int:
    """Put documents into an index by ``put``, a method of it, and tell what became of them."""
    from tokret.indexes import Index, Interrupted
    from tokret.indexes.store import Store

    began = time.monotonic()
    version = Store(path).version()
    with Index.open(path) as index, Interrupts(talk) as stop:
        try:
            with ProgressView(talk, reading.stats) as view:
                added = put(
                    index,
                    reading.documents(),
                    vectors=vectors_of(vectors, lengths),
                    progress=view,
                    stop=stop,
                )
        except InputError as error:
            raise reading.located(error) from error
        except (Interrupted, KeyboardInterrupt):
            told = f"Nothing was changed. To try again: {again(talk)}"
            return stopped(talk, stop.status, told, committed=Store(path).version() > version)
        total = len(index)
    seconds = time.monotonic() - began
    talk.result(
        {
            "index": str(path),
            **vars(added),
            "left_out": reading.left_out,
            "quarantine": reading.quarantine,
            "total": total,
            "seconds": round(seconds, 3),
        }
    )
    summary(talk, added, reading, seconds, str(path))
    return GATE if strict and reading.left_out else 0
