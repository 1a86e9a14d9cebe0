"""tokret leaderboard: rank systems over tasks and queries, and say how sure the order is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokret.cli.clean import counted, escaped
from tokret.cli.leaderboard_tables import duels, stability, standings
from tokret.cli.options import Split, check_folder, complete_measure
from tokret.cli.score_files import scores_of
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from tokret.evaluation.leaderboard import Leaderboard
    from tokret.evaluation.leaderboard.noise import Stability

Names = list[str] | None


def run(
    talk: Talk,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Score tables (CSV, TSV, JSON, JSONL), records of tokret evaluate, or with "
            "--qrels run files.",
        ),
    ],
    qrels: Annotated[
        Names,
        typer.Option(
            "--qrels",
            "-r",
            metavar="[NAME=]FILE",
            help="Judgements; several: a run belongs to the NAME of its folder. Repeat it.",
        ),
    ] = None,
    measures: Annotated[
        Names,
        typer.Option(
            "--measure",
            "-m",
            help="Of runs: nDCG@10 by default; of tables: only these. Repeat it.",
            autocompletion=complete_measure,
        ),
    ] = None,
    rules: Annotated[
        Names,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="borda, 'borda(levels=1)', kemeny, copeland, mean, zscore, median, geometric, "
            "min; the first one orders. Repeat it.",
        ),
    ] = None,
    missing: Annotated[
        Literal["refuse", "drop", "partial"],
        typer.Option(help="What to do with systems that lack scores."),
    ] = "refuse",
    system: Annotated[str | None, typer.Option(metavar="COLUMN", help="Names the systems.")] = None,
    query: Annotated[str | None, typer.Option(metavar="COLUMN", help="Names the queries.")] = None,
    task: Annotated[
        Names, typer.Option(metavar="COLUMN", help="Names the tasks; repeat it.")
    ] = None,
    drop: Annotated[
        Names, typer.Option(metavar="COLUMN", help="Leave this column out; repeat it.")
    ] = None,
    lower: Annotated[
        Names, typer.Option(metavar="TASK", help="A lower score is better here; repeat it.")
    ] = None,
    voters: Annotated[
        Literal["queries", "collections"],
        typer.Option(help="Who votes in duels and for Kemeny's order."),
    ] = "collections",
    samples: Annotated[
        int, typer.Option("--bootstrap", metavar="N", min=0, help="Resamplings; 0 for none.")
    ] = 1000,
    resample: Annotated[
        Literal["queries", "collections", "both"] | None,
        typer.Option(help="What is resampled; default: queries where they are known."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of intervals and tiers.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    pairs: Annotated[bool, typer.Option("--pairs", help="Also who beats whom.")] = False,
    noise: Annotated[
        bool, typer.Option("--noise", help="Also what reversed tasks and less data do to it.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it: .png or .svg (matplotlib).")
    ] = None,
    split: Split = "test",
) -> None:
    """Rank systems by their scores on many tasks: Borda, Kemeny, means; with intervals."""
    from tokret.evaluation.leaderboard import Columns, rank_systems

    if plot is not None:
        from tokret.evaluation.figure import check_picture

        check_folder(plot)
        check_picture(plot)
    columns = Columns(system, query, task or (), drop or (), measures or (), lower or ())
    scores, told = scores_of(files, columns, qrels or (), split)
    board = rank_systems(
        scores,
        rules,
        missing=missing,
        voters=voters,
        samples=samples,
        resample=resample,
        confidence=confidence,
        seed=seed,
    )
    shaken = _noise(board, rules, seed) if noise else []
    payload = board.to_dict()
    payload.pop("schema_version")
    talk.result({**payload, "notes": [*told, *board.notes], "noise": [s._asdict() for s in shaken]})
    for note in (*told, *board.notes):
        talk.say(note)
    talk.show(standings(board))
    if pairs:
        talk.show(duels(board))
    if shaken:
        talk.show(stability(shaken))
    _conclude(talk, board)
    if plot is not None:
        from tokret.evaluation.leaderboard.plot import plot as draw

        draw(board, plot)
        talk.say(f"Picture: {plot}")


def _noise(board: Leaderboard, rules: Names, seed: int) -> list[Stability]:
    from tokret.evaluation.leaderboard import left_out, reversed_tasks
    from tokret.evaluation.leaderboard import rules as known

    chosen = [known.build(standing.rule) for standing in board.standings]
    scores, found = board.scores, []
    for corrupt in range(1, min(5, (len(scores.tasks) + 1) // 2) + 1):
        found += reversed_tasks(scores, chosen, corrupt, seed=seed)
    whats = [("tasks", len(scores.tasks) > 1), ("queries", scores.by_query)]
    for what in [what for what, there in whats if there] + ["systems"]:
        found += left_out(scores, chosen, what, seed=seed)
    return found


def _conclude(talk: Talk, board: Leaderboard) -> None:
    """Say what the tables do not: the winner of all duels, Kemeny's cost, what was drawn."""
    best = board.consensus
    against = "the queries' orders" if board.voters == "queries" else "the tasks' orders"
    talk.say(
        f"{escaped(board.winner)} wins all duels (Condorcet winner)."
        if board.winner is not None
        else "No system wins all duels (no Condorcet winner)."
    )
    if best.exact:
        many = "" if best.optima == 1 else f", one of {best.optima or 'several'} as good"
        talk.say(f"Kemeny's order is exact{many}: {best.cost:,g} pairs against {against}.")
    else:
        talk.say(
            f"Kemeny's order is by local search: {best.cost:,g} pairs against {against}, "
            f"and no order has fewer than {best.bound:,g}."
        )
    if board.resampled is not None:
        n = board.resampled.places.shape[1]
        talk.say(
            f"Intervals and tiers: {board.confidence:.0%} of {counted(n, 'bootstrap sample')} of "
            f"{board.drawn_from}, seed {board.resampled.seed}; not corrected for many pairs."
        )
