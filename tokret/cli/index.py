"""tokret index: build an index from a corpus; the same command goes on where it stopped."""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
    encoder_spec,
    vectors_of,
)
from tokret.cli.ending import again, stopped, summary
from tokret.cli.failure import GATE
from tokret.cli.interrupts import Interrupts
from tokret.cli.options import DryRun, MaxMemory, Model, complete_backend
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk
from tokret.errors import IndexStateError, InputError, UsageError

PASSAGES = ("long", "max_tokens", "overlap")


def run(
    talk: Talk,
    corpus: Corpus,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the index goes.")],
    model: Model = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            "-b",
            help="exact (default), bm25, or with parameters: 'exact(dtype=\"int8\")'.",
            autocompletion=complete_backend,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="A .toml: backend, model, long, max_tokens, overlap, normalize; or some."
        ),
    ] = None,
    long: Annotated[
        Literal["split", "truncate"] | None,
        typer.Option(help="Documents longer than --max-tokens: into passages (default), or cut."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a passage; default: what the model reads.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Tokens that two passages share.")
    ] = None,
    vectors: VectorsFile = None,
    lengths: LengthsFile = None,
    on_duplicate: OnDuplicate = "error",
    on_error: OnError = "fail",
    quarantine: Quarantine = None,
    encoding_errors: EncodingErrors = "strict",
    metadata: OnMetadata = "strict",
    limit: Limit = None,
    strict: Strict = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished index at DIR.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Queries that an ivf index is measured with, as --queries of search reads them.",
        ),
    ] = None,
    max_memory: MaxMemory = None,
    dry_run: DryRun = False,
) -> int:
    """Index a corpus. Run the same command again to continue after a stop."""
    from tokret.indexes import Interrupted, build
    from tokret.indexes.recipe import read_recipe

    asked = {
        "model": model,
        "backend": backend,
        "long": long,
        "max_tokens": max_tokens,
        "overlap": overlap,
    }
    plan = {"model": None, "backend": "ivf", **(read_recipe(recipe) if recipe else {})}
    plan |= {key: value for key, value in asked.items() if value is not None}
    reading = Reading(corpus, out, on_error, quarantine, encoding_errors, limit, metadata)
    encoder = encoder_spec(plan.pop("model"), vectors, lengths)
    _check_passages(talk, plan["backend"], encoder, {k: asked[k] for k in PASSAGES})
    if dry_run:
        from tokret.cli.estimate import tell_estimate

        given = vectors_of(vectors, lengths)
        tell_estimate(talk, reading, out, given, max_memory, encoder=encoder, **plan)
        return 0
    began = time.monotonic()
    version = _version(out)
    with Interrupts(talk) as stop:
        try:
            with ProgressView(talk, reading.stats) as view:
                added = build(
                    out,
                    reading.documents(),
                    encoder=encoder,
                    **plan,
                    vectors=vectors_of(vectors, lengths),
                    on_duplicate=on_duplicate,
                    calibrate=asked_of(calibrate),
                    max_memory=max_memory,
                    restart=restart,
                    overwrite=overwrite,
                    progress=view,
                    stop=stop,
                )
        except InputError as error:
            raise reading.located(error) from error
        except (Interrupted, KeyboardInterrupt):
            committed = _version(out) > version
            return stopped(talk, stop.status, f"To go on: {again(talk)}", committed=committed)
    seconds = time.monotonic() - began
    talk.result(
        {
            "index": str(out),
            **vars(added),
            "left_out": reading.left_out,
            "quarantine": reading.quarantine,
            "seconds": round(seconds, 3),
        }
    )
    summary(talk, added, reading, seconds, str(out))
    where = shlex.quote(str(out))
    text = "--query-vectors FILE" if encoder.startswith("precomputed") else '"your question"'
    talk.say(f"Next: tokret search {where} {text}")
    return GATE if strict and reading.left_out else 0


def asked_of(file: str | None) -> list[str] | None:
    """Texts of the queries of a file, where one is given."""
    if file is None:
        return None
    from tokret.collections import read_queries

    return [query.text for query in read_queries(file)]


def _version(path: Path) -> int:
    """Version that is there; 0 where there is none that can be told."""
    from tokret.indexes.store import Store

    with suppress(IndexStateError):
        return Store(path).version()
    return 0


def _check_passages(talk: Talk, backend: str, encoder: str, asked: dict[str, Any]) -> None:
    """Refuse passage options that a lexical index has no use for; tell of those that do little."""
    from tokret.encoders import encoders
    from tokret.indexes import backends

    given = [f"--{key.replace('_', '-')}" for key, value in asked.items() if value is not None]
    if given and not backends.build(backend).encodes:
        raise UsageError(f"{backend} reads whole texts and has no {', '.join(given)}.")
    if asked["max_tokens"] is not None and not encoder.startswith("precomputed"):
        most = encoders.build(encoder).max_tokens
        if asked["max_tokens"] > most:
            talk.warn(
                f"{encoder} reads {most} tokens, fewer than --max-tokens {asked['max_tokens']}: "
                f"passages have {most}."
            )
