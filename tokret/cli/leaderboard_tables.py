"""Tables of a leaderboard for a terminal: the order, the duels, what noise does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokret.cli.clean import escaped

if TYPE_CHECKING:
    from rich.table import Table

    from tokret.evaluation.leaderboard import Leaderboard
    from tokret.evaluation.leaderboard.noise import Stability

MOST_DUELS = 12  # systems whose duels fit a line


def standings(board: Leaderboard) -> Table:
    """Place, interval, tier, system; the points of the first rule, places by the others."""
    from rich.text import Text

    table = _table()
    table.add_column("place", justify="right", no_wrap=True)
    if board.interval is not None:
        table.add_column(f"{board.confidence:.0%}", justify="center", no_wrap=True)
        table.add_column("tier", justify="right", no_wrap=True)
    table.add_column("system", overflow="fold")
    table.add_column(f"{board.first.rule} points", justify="right", no_wrap=True)
    for standing in board.standings[1:]:
        table.add_column(standing.rule, justify="right")
    last = None
    for row in board.rows():
        cells = [f"{row['place']:g}"]
        if "tier" in row:
            low, high = row["interval"]
            cells += [f"{low:g}–{high:g}", "" if row["tier"] == last else str(row["tier"])]
            last = row["tier"]
        cells.append(Text(escaped(row["system"])))  # type: ignore[arg-type]
        cells.append(_points(row["rules"][board.first.rule]["points"]))
        cells += [f"{row['rules'][s.rule]['place']:g}" for s in board.standings[1:]]
        table.add_row(*cells)
    if len(board.standings) > 1:
        table.add_section()
        blank = [""] * (2 if board.interval is not None else 0)
        taus = [f"{s.tau:.2f}" for s in board.standings[1:]]
        table.add_row("", *blank, Text("Kendall's tau to the first rule", "italic"), "", *taus)
    return table


def duels(board: Leaderboard) -> Table:
    """Per cent of ballots that have the system of the row above that of the column."""
    from rich.text import Text

    table = _table("Per cent of ballots with the row above the column; half for a tie.")
    order = [board.scores.systems.index(system) for system in board.order][:MOST_DUELS]
    table.add_column("", justify="right")
    table.add_column("system", overflow="fold")
    for k in range(len(order)):
        table.add_column(str(k + 1), justify="right", no_wrap=True)
    for k, i in enumerate(order):
        won = ["" if i == j else f"{100 * board.won[i, j]:.0f}" for j in order]
        table.add_row(str(k + 1), Text(escaped(board.scores.systems[i])), *won)
    left = len(board.order) - len(order)
    if left:
        table.caption = Text(f"{left} further systems: --json")
    return table


def stability(rows: Sequence[Stability]) -> Table:
    """Kendall's tau to the order of the whole, for each change and rule."""
    table = _table("Kendall's tau to the order of all data (first place kept), mean of 50 draws.")
    rules = list(dict.fromkeys(row.rule for row in rows))
    table.add_column("", no_wrap=True)
    for rule in rules:
        table.add_column(rule, justify="right")
    by = {(row.what, row.rule): row for row in rows}
    for what in dict.fromkeys(row.what for row in rows):
        found = [by[what, rule] for rule in rules]
        table.add_row(what, *(f"{row.tau:.2f} ({row.first_stays:.0%})" for row in found))
    return table


def _table(title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold"
    )


def _points(points: float) -> str:
    if points == round(points * 2) / 2:  # votes: whole and half points
        return f"{points:,.1f}".removesuffix(".0")
    return f"{points:,.4g}" if abs(points) < 1000 else f"{points:,.1f}"
