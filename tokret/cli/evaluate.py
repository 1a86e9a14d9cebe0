"""tokret evaluate: run the experiments of a file and show their table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokret.cli.clean import escaped
from tokret.cli.ending import again, stopped
from tokret.cli.failure import GATE
from tokret.cli.interrupts import Interrupts
from tokret.cli.options import Threads, check_folder
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk
from tokret.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from tokret.evaluation.experiment import Experiment
    from tokret.evaluation.result import Result
    from tokret.evaluation.runner import Step

WORK = Path("tokret-work")


def run(
    talk: Talk,
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="An experiment file.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The collection, in place of the file's."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps indexes and runs; default: tokret-work/NAME."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This system and what it is made of; repeat it."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 where a value is not as the file expects.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Write the full record."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Make indexes and runs anew.")] = False,
    threads: Threads = None,
) -> int:
    """Index, search and evaluate as an experiment file says; what is done is kept."""
    from tokret.evaluation.experiment_file import read_experiment
    from tokret.evaluation.runner import run_experiment
    from tokret.indexes import Interrupted

    check_folder(output)
    experiment = read_experiment(file, collection=data)
    if only:
        experiment = _only(experiment, only)
    folder = work if work is not None else WORK / experiment.name
    with Interrupts(talk) as stop:
        try:
            with ProgressView(talk) as view:
                result = run_experiment(
                    experiment,
                    folder,
                    threads=threads,
                    restart=restart,
                    progress=_steps(talk, view),
                    stop=stop,
                    command=again(talk, without=()),
                )
        except MissingExtraError as error:
            if data is None and error.extra == "datasets":
                raise UsageError(f"{error}, or name a folder that holds it: --data DIR") from error
            raise
        except (Interrupted, KeyboardInterrupt):
            return stopped(talk, stop.status, f"What was done is kept. To go on: {again(talk)}")
    if output is not None:
        _write(output, result)
    talk.result({"passed": result.passed, "rows": result.rows, "record": result.record})
    _table(talk, experiment, result)
    if result.record["numbers"]:
        talk.say(f"{result.record['numbers'][0]['policy']}")
    talk.say(f"Indexes and runs: {folder}")
    missed = [checked for checked in result.checked if not checked.holds]
    for checked in missed:
        wanted = checked.expected
        talk.warn(f"{wanted.system}: {wanted.measure} is {checked.got:.4f}, expected {wanted}.")
    return GATE if check and missed else 0


def _only(experiment: Experiment, names: list[str]) -> Experiment:
    """Leave the named systems, those that they fuse, and what is expected of them."""
    from tokret.evaluation.experiment import Fused
    from tokret.registry import did_you_mean

    by_name = {system.name: system for system in experiment.systems}
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in by_name:
            raise UsageError(
                f"No system {name!r} in the experiment.{did_you_mean(name, by_name)} "
                f"There are: {', '.join(by_name)}."
            )
        system = by_name[name]
        if name not in wanted:
            wanted.add(name)
            todo += system.fuse if isinstance(system, Fused) else ()
    return replace(
        experiment,
        systems=tuple(s for s in experiment.systems if s.name in wanted),
        expected=tuple(
            e
            for e in experiment.expected
            if e.system in wanted and (e.near is None or e.near in wanted)
        ),
    )


def _steps(talk: Talk, view: ProgressView) -> Callable[[Step], None]:
    """Tell each step once, and how far it is in between."""
    from tokret.indexes import Progress

    told = 0

    def tell(step: Step) -> None:
        nonlocal told
        stage = f"{step.what} {step.name}"
        if step.number != told:
            told = step.number
            kept = ": done before" if step.reused else ""
            talk.say(f"[{step.number}/{step.steps}] {stage}{kept}")
        passages, tokens, size = (
            (step.build.passages, step.build.tokens, step.build.bytes) if step.build else (0, 0, 0)
        )
        view.unit = "docs" if step.what == "index" else "queries"
        view(Progress(stage, step.done, passages, tokens, size, step.total))

    return tell


def _write(path: Path, result: Result) -> None:
    from tokret.collections.files import open_output

    with open_output(path) as out:
        out.write((json.dumps(result.record, indent=1, ensure_ascii=False) + "\n").encode())


def _table(talk: Talk, experiment: Experiment, result: Result) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = experiment.name, result.record["collection"]["name"]
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(escaped(": ".join(dict.fromkeys(named)))),
        title_justify="left",
        title_style="bold",
    )
    table.add_column("system", overflow="fold")
    for measure in experiment.measures:
        table.add_column(measure, justify="right", no_wrap=True)
    table.add_column("index s", justify="right", no_wrap=True)
    table.add_column("queries/s", justify="right", no_wrap=True)
    for row in result.rows:
        index, speed = row["index_seconds"], row["queries_per_second"]
        table.add_row(
            Text(escaped(row["system"])),
            *(f"{row[measure]:.4f}" for measure in experiment.measures),
            "" if index is None else f"{index:,.1f}",
            "" if speed is None else f"{speed:,.0f}",
        )
    talk.show(table)
