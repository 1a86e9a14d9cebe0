"""tokret fuse: several runs to one, by a method that is named or tuned on judged queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokret.cli.clean import escaped
from tokret.cli.options import Split, check_folder, complete_measure
from tokret.cli.talk import Talk
from tokret.errors import UsageError

if TYPE_CHECKING:
    from tokret.collections import RunFormat
    from tokret.evaluation.fusion_tuning import Tuned

MOST_SHOWN = 10  # methods of a table
DEFAULT = "rrf"


def run(
    talk: Talk,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run files: TREC, MS MARCO or JSONL.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the fused run, TREC or .jsonl."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="rrf (the default), 'rrf(k=10)', combsum, combmnz, 'convex(alpha=0.3)', "
            "'weighted(weights=(0.5, 0.3, 0.2))'."
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="QRELS", help="Choose the method by these judgements: not those of the test."
        ),
    ] = None,
    measure: Annotated[
        str,
        typer.Option("--measure", "-m", help="To tune for.", autocompletion=complete_measure),
    ] = "nDCG@10",
    split: Split = "dev",
    folds: Annotated[int, typer.Option(min=2, help="Parts to leave out when tuning.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts.")] = 0,
) -> None:
    """Fuse runs into one; --tune chooses how, on a development set."""
    from tokret.collections import load_collection, read_qrels, read_run, write_run
    from tokret.evaluation import fusers
    from tokret.evaluation.fusion_tuning import tune as tuned_on

    if tune is not None and method is not None:
        raise UsageError("--tune chooses the method; leave --method out.")
    if tune is None and output is None:
        raise UsageError("There is nothing to do: give -o FILE, or --tune QRELS.")
    check_folder(output)
    read = [read_run(path) for path in runs]
    tuned = None
    if tune is not None:
        folder = Path(tune).is_dir()
        judged = load_collection(tune, split).qrels if folder else read_qrels(tune)
        tuned = tuned_on(read, judged, measure, folds=folds, seed=seed)
    chosen = tuned.method if tuned is not None else method or DEFAULT
    if output is not None:
        suffix = output.name.removesuffix(".gz").removesuffix(".zst")
        form: RunFormat = "jsonl" if suffix.endswith(".jsonl") else "trec"
        write_run(fusers.build(chosen).fuse(read), output, format=form, name="fused")
        talk.say(f"Fused by {chosen}: {output}")
    talk.result(
        {
            "method": chosen,
            "runs": runs,
            "output": output,
            "tuned": None if tuned is None else {**vars(tuned), "tried": dict(tuned.tried)},
        }
    )
    if tuned is not None:
        _show(talk, runs, tuned)


def _show(talk: Talk, runs: list[str], tuned: Tuned) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("method or run", overflow="fold")
    table.add_column(tuned.measure, justify="right", no_wrap=True)
    for name, value in tuned.tried[:MOST_SHOWN]:
        table.add_row(Text(name), f"{value:.4f}")
    for path, value in zip(runs, tuned.alone, strict=True):
        table.add_row(Text(escaped(path)), f"{value:.4f}")
    talk.show(table)
    talk.say(
        f"{tuned.method} is the best of {len(tuned.tried)} on these queries. Chosen without the "
        f"queries that it is measured on, in {tuned.folds} parts: {tuned.held_out:.4f}."
    )
    talk.say(f"On other queries: --method '{tuned.method}'")
