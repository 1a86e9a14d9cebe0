"""tokret demo: index a small collection, search it, and compare four systems."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tokret.cli.options import Threads, check_folder, cpus
from tokret.cli.picture import canvas, save
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from tokret.collections import Collection
    from tokret.evaluation import Report
    from tokret.indexes import Index
    from tokret.types import Hit

NAME = "the SciFact sample"
SHOWN = ("641", "921")  # queries whose hits are shown, by id; else the first two
HITS = 2  # of each
MEASURES = ("nDCG@10", "R@100")
K = 100  # hits a query that are measured: as deep as R@100 looks
XTR = "xtr(k_prime=1000)"


class Row(NamedTuple):
    """One line of the table."""

    system: str
    values: dict[str, float]
    seconds: float


def run(
    talk: Talk,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Keep the indexes here."),
    ] = None,
    export_svg: Annotated[
        Path | None,
        typer.Option("--export-svg", "--record", metavar="FILE", help="Save it as a picture."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Index a sample of real abstracts, search it, and compare four systems."""
    from tokret.collections import load_collection, sample_path

    check_folder(export_svg)
    began = time.monotonic()
    screen = talk
    if export_svg is not None:
        screen = replace(talk, json=False)
        screen.out = canvas()
    collection = load_collection(sample_path())
    with ExitStack() as stack:
        if out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokret-")))
        else:
            folder = out
        indexes = {
            backend: stack.enter_context(_built(talk, screen, collection, folder, backend))
            for backend in ("exact", "bm25")
        }
        shown = _searched(screen, collection, indexes["exact"])
        rows = _compared(collection, indexes, threads or cpus())
    seconds = time.monotonic() - began
    _table(screen, rows)
    if export_svg is not None:
        from rich.text import Text

        save(screen.out, export_svg, "tokret demo")
        talk.show(Text.from_ansi(screen.out.export_text(styles=True)))
        talk.say(f"Picture: {export_svg}")
    talk.result(
        {
            "collection": collection.name,
            "searches": shown,
            "systems": [row._asdict() for row in rows],
            "seconds": round(seconds, 3),
            "out": out,
        }
    )
    talk.say(f"All of this took {seconds:.0f} s. To try next:")
    place = shlex.quote(str(out / "exact")) if out is not None else "sample-index"
    if out is None:
        talk.say(f"  tokret index {shlex.quote(str(sample_path()))} -o {place}")
    talk.say(f'  tokret search {place} "Do vaccines cause autism?"')
    talk.say("  tokret index YOUR_FILES -o DIR")


def _built(talk: Talk, screen: Talk, collection: Collection, folder: Path, backend: str) -> Index:
    from tokret.collections import CorpusStats
    from tokret.indexes import Index, build

    stats = CorpusStats()
    began = time.monotonic()
    with ProgressView(talk, stats) as view:
        added = build(
            folder / backend,
            collection.documents(stats=stats),
            backend=backend,
            overwrite=True,
            progress=view,
        )
    seconds = time.monotonic() - began
    tokens = f", {added.tokens:,} tokens" if added.tokens else ""
    from rich.text import Text

    screen.show(
        Text.assemble(
            (f"Indexed {added.documents:,} abstracts", "bold"),
            f" of {NAME} with {backend}{tokens} in {seconds:.1f} s",
        )
    )
    return Index.open(folder / backend)


def _searched(screen: Talk, collection: Collection, index: Index) -> list[dict[str, Any]]:
    """Search for two of the collection's own queries, and show what answers them."""
    from rich.text import Text

    from tokret.cli.hits import hit_lines

    chosen = [q for q in collection.queries if q.query_id in SHOWN] or collection.queries[:2]
    shown = []
    for query in chosen[: len(SHOWN)]:
        hits = index.search(query.text, HITS)
        screen.show(Text(f'\ntokret search "{query.text}"\n', "bold"))
        for rank, hit in enumerate(hits, 1):
            screen.show(*hit_lines(screen.out, index, query.text, rank, hit))
        shown.append({"query_id": query.query_id, "query": query.text, "hits": hits})
    return shown


def _compared(collection: Collection, indexes: dict[str, Index], threads: int) -> list[Row]:
    from tokret.evaluation import evaluate
    from tokret.evaluation.fusion import RRF

    texts = [query.text for query in collection.queries]
    ids = [query.query_id for query in collection.queries]
    runs: dict[str, Mapping[str, list[Hit]]] = {}
    rows: list[Row] = []

    def measured(system: str, run: Any, began: float) -> None:  # noqa: ANN401
        seconds = time.monotonic() - began
        report: Report = evaluate(run, collection.qrels, MEASURES)
        rows.append(Row(system, report.values, seconds))

    for system, backend, scorer in (
        ("BM25", "bm25", None),
        ("exact MaxSim", "exact", "maxsim"),
        ("XTR", "exact", XTR),
    ):
        began = time.monotonic()
        found = indexes[backend].search_many(texts, K, scorer=scorer, threads=threads, text=False)
        runs[system] = dict(zip(ids, found, strict=True))
        measured(system, runs[system], began)
    began = time.monotonic()
    measured("RRF(BM25, XTR)", RRF().fuse([runs["BM25"], runs["XTR"]]), began)
    return rows


def _table(screen: Talk, rows: list[Row]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("system")
    for measure in MEASURES:
        table.add_column(measure, justify="right")
    table.add_column("seconds", justify="right")
    best = {measure: max(row.values[measure] for row in rows) for measure in MEASURES}
    for row in rows:
        values = [
            Text(f"{row.values[m]:.3f}", "bold" if row.values[m] == best[m] else "")
            for m in MEASURES
        ]
        table.add_row(row.system, *values, f"{row.seconds:.2f}")
    title = Text.assemble(("The judged queries of ", "bold"), (NAME, "bold"), "; seconds for all")
    screen.show(title, table)
