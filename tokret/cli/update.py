"""tokret update: put documents in the place of those with their ids, all or none."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import typer

from tokret.cli.add import would, write
from tokret.cli.corpus import (
    Corpus,
    EncodingErrors,
    LengthsFile,
    Limit,
    OnError,
    OnMetadata,
    Quarantine,
    Reading,
    Strict,
    VectorsFile,
)
from tokret.cli.options import DryRun, IndexDir
from tokret.cli.talk import Talk


def run(
    talk: Talk,
    path: IndexDir,
    corpus: Corpus,
    vectors: VectorsFile = None,
    lengths: LengthsFile = None,
    missing: Annotated[
        Literal["add", "error"], typer.Option(help="What to do with an id that is not there.")
    ] = "add",
    on_error: OnError = "fail",
    quarantine: Quarantine = None,
    encoding_errors: EncodingErrors = "strict",
    metadata: OnMetadata = "strict",
    limit: Limit = None,
    strict: Strict = False,
    dry_run: DryRun = False,
) -> int:
    """Replace the documents of an index by those of a corpus with their ids; add the others."""
    from tokret.indexes import Index

    reading = Reading(corpus, path, on_error, quarantine, encoding_errors, limit, metadata)
    if dry_run:
        return would(talk, path, reading)
    put = partial(Index.update, missing=missing)
    return write(talk, path, reading, put, vectors, lengths, strict)
