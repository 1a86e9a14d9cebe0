"""tokret search: rank an index for one text, or for a file of queries."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tokret.cli.clean import counted, escaped
from tokret.cli.corpus import encoder_spec, vectors_of
from tokret.cli.options import IndexDir, Scorer, Threads, Where, check_folder, cpus
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk
from tokret.errors import InputError, UsageError
from tokret.registry import parse
from tokret.types import Hit, Query

if TYPE_CHECKING:
    from tokret.collections import Written
    from tokret.indexes import Index

BATCH = 32  # queries between two reports of progress
Format = Literal["table", "jsonl", "trec", "msmarco"]


def run(
    talk: Talk,
    path: IndexDir,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for.")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries", metavar="FILE", help="Queries instead of TEXT: BEIR, .jsonl, .tsv, or -."
        ),
    ] = None,
    run_file: Annotated[
        Path | None, typer.Option("--run", metavar="FILE", help="Write the hits to a run file.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", min=1, help="Hits a query; default: 10, with --queries 1000."),
    ] = None,
    where: Where = None,
    scorer: Scorer = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model; default: the one that the index names."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Default: table; trec with --queries."),
    ] = None,
    query_vectors: Annotated[
        Path | None,
        typer.Option(help="Token vectors of the queries instead of texts: .npy or .safetensors."),
    ] = None,
    query_lengths: Annotated[
        Path | None, typer.Option(help="Tokens of each query in --query-vectors: .npy.")
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="OPTIONS", help="Options of searching, such as 'nprobe=64, refine=100'."
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the exact best to aim at (ivf)."),
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(min=0, help="Milliseconds of one thread to spend (ivf).")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every stored vector (ivf with store).")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show for each word of TEXT what answers it in a hit."),
    ] = False,
    allow_model_mismatch: Annotated[
        bool,
        typer.Option("--allow-model-mismatch", help="Search even with another model."),
    ] = False,
    threads: Threads = None,
) -> None:
    """Search an index for TEXT, or for every query of a file."""
    from tokret.indexes import Index

    if str(run_file) == "-" and talk.json:
        raise UsageError("--run - and --json both want standard output; give one of them.")
    check_folder(run_file)
    if explain and (text is None or format not in (None, "table") or run_file is not None):
        raise UsageError("--explain is for one TEXT and a table; --json holds matches by itself.")
    asked = _asked(text, queries, query_vectors, query_lengths)
    many = text is None
    k = k if k is not None else 1000 if many else 10
    form: Format = format or ("trec" if many else "table")
    if run_file is not None and form == "table":
        form = "trec"
    wants_text = form in ("table", "jsonl") or talk.json
    encoder = encoder_spec(model) if model is not None else None
    options = parse(f"tune({tune})")[1] if tune is not None else None
    with Index.open(path, encoder=encoder, any_model=allow_model_mismatch, tune=options) as index:
        if scorer is None and len(index) == 0:
            talk.warn(f"{path} holds no documents.")
        began = time.monotonic()
        found = _search(
            talk,
            index,
            [query for _, query in asked],
            k,
            {
                "scorer": scorer,
                "where": where,
                "threads": threads or cpus(),
                "recall": recall,
                "budget_ms": budget_ms,
                "exact": exact,
            },
            wants_text and run_file is None,
        )
        seconds = time.monotonic() - began
        results = list(zip([query for query, _ in asked], found, strict=True))
        if run_file is not None:
            if str(run_file) == "-":
                _refuse_controls(results)
            written = _write(run_file, form, results)
            talk.result(
                {
                    "index": str(path),
                    "run": str(run_file),
                    "format": form,
                    "k": k,
                    "queries": len(results),
                    "hits": written.hits,
                    "queries_without_hits": len(written.empty),
                    "seconds": round(seconds, 3),
                }
            )
            done = f"{counted(written.hits, 'hit')} for {counted(len(results), 'query')}"
            talk.say(f"{run_file}: {done} in {seconds:.2f} s")
            if written.empty:
                talk.say(f"Without a hit: {counted(len(written.empty), 'query')}")
            talk.say(f"Next: tokret eval {shlex.quote(str(run_file))} --qrels FILE -m nDCG@10")
        elif talk.json:
            facts = {"index": str(path), "k": k, "scorer": scorer, "where": where}
            facts["seconds"] = round(seconds, 6)
            _object(talk, index, {**facts, "any_model": allow_model_mismatch}, results)
        elif form == "table":
            _table(talk, index, results, many, explain)
            talk.say(
                f"{counted(sum(map(len, found)), 'hit')} in {counted(len(index), 'document')}, "
                f"{seconds * 1000:,.0f} ms"
            )
        elif form == "jsonl":
            for query, hits in results:
                talk.json_line(
                    {"query_id": query.query_id, "query": query.text, "hits": _ranked(hits)}
                )
        else:
            _refuse_controls(results)
            _write(Path("-"), form, results)


def _asked(
    text: str | None, queries: str | None, vectors: Path | None, lengths: Path | None
) -> list[tuple[Query, Any]]:
    """List the queries with their names, and what the index is given for each."""
    if vectors is not None:
        if text is not None:
            raise UsageError("Give TEXT or --query-vectors, not both.")
        from tokret.collections import read_queries

        rows = list(vectors_of(vectors, lengths) or ())
        named = (
            read_queries(queries)
            if queries
            else [Query(str(i), "") for i in range(1, len(rows) + 1)]
        )
        if len(named) != len(rows):
            raise InputError(f"{vectors} holds {len(rows)} queries, {queries} {len(named)}.")
        return list(zip(named, rows, strict=True))
    if lengths is not None:
        raise UsageError("--query-lengths belongs to --query-vectors FILE.")
    if (text is None) == (queries is None):
        raise UsageError(
            'Give TEXT or --queries FILE: tokret search DIR "text".'
            if text is None
            else "Give TEXT or --queries FILE, not both."
        )
    if text is not None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError("TEXT is not valid in this terminal's encoding; use UTF-8.") from None
        return [(Query("1", text), text)]
    from tokret.collections import read_queries

    return [(query, query.text) for query in read_queries(str(queries))]


def _search(
    talk: Talk,
    index: Index,
    queries: Sequence[Any],
    k: int,
    options: Mapping[str, Any],
    text: bool,
) -> list[list[Hit]]:
    from tokret.indexes import Progress

    found: list[list[Hit]] = []
    with ProgressView(talk, unit="queries") as view:
        for at in range(0, len(queries), BATCH):
            batch = queries[at : at + BATCH]
            found += index.search_many(batch, k, text=text, **options)
            if len(queries) > 1:
                view(Progress("search", len(found), 0, 0, 0, len(queries)))
    return found


def _write(path: Path, form: Format, results: list[tuple[Query, list[Hit]]]) -> Written:
    from tokret.collections import write_run

    hits = {query.query_id: found for query, found in results}
    return write_run(hits, path, format=form, name="tokret")  # type: ignore[arg-type]


def _refuse_controls(results: list[tuple[Query, list[Hit]]]) -> None:
    for query, hits in results:
        for name in (query.query_id, *(hit.doc_id for hit in hits)):
            if escaped(name) != name:
                raise InputError(
                    f"The id {escaped(name)!r} holds control characters; "
                    "take --format jsonl, or --run FILE."
                )


def _ranked(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [{"rank": rank, **hit._asdict()} for rank, hit in enumerate(hits, 1)]


def _object(
    talk: Talk, index: Index, facts: dict[str, Any], results: list[tuple[Query, list[Hit]]]
) -> None:
    """Print everything as one object; for a single query also fields, and what matched."""
    from tokret.cli.hits import explained

    rows = []
    for query, hits in results:
        ranked = _ranked(hits)
        if len(results) == 1:
            for row in ranked:
                row["fields"] = index.document(row["doc_id"]).fields
        if len(results) == 1 and query.text:
            for row, hit in zip(ranked, hits, strict=True):
                row["matches"] = explained(index, query.text, hit)
        rows.append({"query_id": query.query_id, "query": query.text, "hits": ranked})
    talk.result({**facts, "queries": rows})


def _table(
    talk: Talk, index: Index, results: list[tuple[Query, list[Hit]]], many: bool, explain: bool
) -> None:
    from rich.text import Text

    from tokret.cli.hits import hit_lines

    for query, hits in results:
        if many:
            talk.show(Text(f"{escaped(query.query_id)}  {escaped(query.text)}", "bold"))
        for rank, hit in enumerate(hits, 1):
            talk.show(*hit_lines(talk.out, index, query.text, rank, hit, explain))
        if not hits:
            talk.say("Nothing was found.")
