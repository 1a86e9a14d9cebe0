"""tokret add: put more documents into an index, all or none."""

from __future__ import annotations

import time

from tokret.cli.corpus import (
    Corpus,
    EncodingErrors,
    LengthsFile,
    Limit,
    OnDuplicate,
    OnError,
    Quarantine,
    Reading,
    Strict,
    VectorsFile,
    vectors_of,
)
from tokret.cli.ending import again, stopped, summary
from tokret.cli.failure import GATE
from tokret.cli.interrupts import Interrupts
from tokret.cli.options import DryRun, IndexDir
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk
from tokret.errors import InputError


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
    limit: Limit = None,
    strict: Strict = False,
    dry_run: DryRun = False,
) -> int:
    """Add the documents of a corpus to an index, in one commit."""
    from tokret.indexes import Index, Interrupted

    reading = Reading(corpus, path, on_error, quarantine, encoding_errors, limit)
    began = time.monotonic()
    with Index.open(path) as index, Interrupts(talk) as stop:
        if dry_run:
            known = fresh = 0
            for document in reading.documents(keep=False):
                known += document.doc_id in index
                fresh += document.doc_id not in index
            talk.result({"index": str(path), "dry_run": True, "new": fresh, "known": known})
            if not talk.json:
                talk.line(f"{path}: {fresh:,} documents are new, {known:,} are there already")
            return 0
        try:
            with ProgressView(talk, reading.stats) as view:
                added = index.add(
                    reading.documents(),
                    vectors=vectors_of(vectors, lengths),
                    on_duplicate=on_duplicate,
                    progress=view,
                    stop=stop,
                )
        except InputError as error:
            raise reading.located(error) from error
        except (Interrupted, KeyboardInterrupt):
            return stopped(talk, stop.status, f"Nothing was added. To try again: {again(talk)}")
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
