"""tokret plot: measures as bars with intervals, or latency against quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokret.cli.clean import counted
from tokret.cli.options import Split, check_folder, complete_measure
from tokret.cli.score_files import scores_of
from tokret.cli.talk import Talk
from tokret.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Names = list[str] | None


def run(
    talk: Talk,
    kind: Annotated[
        Literal["bars", "pareto"],
        typer.Argument(help="Means with intervals, or cost against quality."),
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Score tables, records of tokret evaluate, JSONL of a benchmark; bars also "
            "takes runs with --qrels.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The picture: .png or .svg.")
    ],
    measures: Annotated[
        Names,
        typer.Option(
            "--measure", "-m", help="Bars: of these; repeat it.", autocompletion=complete_measure
        ),
    ] = None,
    qrels: Annotated[
        Names,
        typer.Option(
            "--qrels", "-r", metavar="[NAME=]FILE", help="Bars of runs: their judgements."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="COLUMN", help="Names the systems.")] = None,
    query: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Bars: names the queries.")
    ] = None,
    samples: Annotated[
        int, typer.Option("--bootstrap", metavar="N", min=0, help="Bars: resamplings; 0 for none.")
    ] = 1000,
    confidence: Annotated[float, typer.Option(help="Bars: of intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Bars: of the resampling.")] = 0,
    x: Annotated[
        str, typer.Option("-x", "--x", metavar="COLUMN", help="Pareto: what it costs.")
    ] = "ms",
    y: Annotated[
        str, typer.Option("-y", "--y", metavar="COLUMN", help="Pareto: what it brings.")
    ] = "nDCG@10",
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Pareto: a colour for each.")
    ] = None,
    where: Annotated[
        Names, typer.Option(metavar="COLUMN=VALUE", help="Pareto: only these rows; repeat it.")
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Pareto: a linear axis of costs.")
    ] = False,
    split: Split = "test",
) -> None:
    """Draw measures as bars with intervals, or latency against quality (matplotlib)."""
    from tokret.evaluation.figure import check_picture, save

    check_folder(output)
    check_picture(output)
    if kind == "pareto":
        shown, figure = _pareto(files, x, y, system or "system", group, where or [], linear)
    else:
        from tokret.evaluation.leaderboard import Columns
        from tokret.evaluation.plots import bars_of, draw_bars

        columns = Columns(system, query, measures=measures or ())
        scores, notes = scores_of(files, columns, qrels or (), split)
        for note in notes:
            talk.say(note)
        bars = bars_of(scores, samples=samples, confidence=confidence, seed=seed)
        ends = f"{confidence:.0%} of {counted(samples, 'bootstrap sample')} of queries"
        figure = draw_bars(bars, f"lines: {ends}" if any(b.low is not None for b in bars) else "")
        shown = [bar._asdict() for bar in bars]
    save(figure, output)
    talk.result({"picture": str(output), "kind": kind, "shown": shown})
    talk.say(f"Picture: {output}")


def _pareto(
    files: list[str], x: str, y: str, label: str, group: str | None, where: list[str], linear: bool
) -> tuple[list[dict[str, object]], Figure]:
    from tokret.evaluation.plots import draw_pareto, front, points_of

    wanted = {}
    for text in where:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--where takes COLUMN=VALUE, such as row=search; got {text!r}.")
        wanted[key] = value
    points = points_of(files, x, y, label=label, group=group, where=wanted)
    best = front(points)
    figure = draw_pareto(points, x, y, logarithmic=not linear)
    return [{**point._asdict(), "front": point in best} for point in points], figure
