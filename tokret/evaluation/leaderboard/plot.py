"""A leaderboard as a picture: places with their intervals, tiers as bands (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokret.errors import UsageError
from tokret.evaluation.figure import COLOURS, save, shortened, style
from tokret.evaluation.leaderboard.board import Leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = "sD^vPX<>"
MOST_SYSTEMS = 60  # rows that can still be read
ROW_INCHES = 0.3


def plot(board: Leaderboard, path: str | Path) -> None:
    """Write the picture as PNG or SVG, by the file's name.

    A dot and a bar are the place by the first rule and its interval, hollow marks the places
    by the others; a band is a tier. Raises UsageError for another kind of file, and for more
    systems than can be read; MissingExtraError without matplotlib.
    """
    save(draw(board), path)


def draw(board: Leaderboard) -> Figure:
    """Draw the picture; ``plot`` writes it."""
    systems = board.scores.systems
    if len(systems) > MOST_SYSTEMS:
        raise UsageError(
            f"{len(systems)} systems do not fit one picture; wanted {MOST_SYSTEMS} at most. "
            "Plot a selection: Scores.select(systems=...)."
        )
    rows = [systems.index(system) for system in board.order]
    with style():
        from matplotlib.figure import Figure

        height = 1.5 + ROW_INCHES * len(rows)
        figure = Figure(figsize=(8.4, height), layout="constrained")
        axes = figure.subplots()
        _bands(axes, board, rows)
        at = range(len(rows))
        places = [board.first.places[i] for i in rows]
        if board.interval is not None:
            low, high = (board.interval[rows, side] for side in (0, 1))
            axes.hlines(at, low, high, color=COLOURS[0], linewidth=2.4, zorder=3)
        axes.plot(places, at, "o", color=COLOURS[0], markersize=7, zorder=4,
                  label=board.first.rule)  # fmt: skip
        _others(axes, board, rows)
        axes.set_yticks(list(at), [shortened(systems[i]) for i in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0.4, len(rows) + 0.6)
        step = next(step for step in (1, 2, 5, 10) if len(rows) <= 12 * step)
        axes.set_xticks([1, *range(step if step > 1 else 2, len(rows) + 1, step)])
        axes.set_xlabel(_caption(board))
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
    return figure


def _bands(axes: Any, board: Leaderboard, rows: list[int]) -> None:  # noqa: ANN401
    if board.tier is None:
        return
    tiers = [int(board.tier[i]) for i in rows]
    for tier in range(1, max(tiers) + 1):
        mine = [at for at, t in enumerate(tiers) if t == tier]
        if tier % 2:
            axes.axhspan(mine[0] - 0.5, mine[-1] + 0.5, color="#f0f0f0", zorder=0)
        axes.annotate(f"tier {tier}", (1, mine[0]), xycoords=("axes fraction", "data"),
                      xytext=(4, 0), textcoords="offset points", va="center",
                      color="#606060", fontsize=8)  # fmt: skip


def _others(axes: Any, board: Leaderboard, rows: list[int]) -> None:  # noqa: ANN401
    for k, standing in enumerate(board.standings[1:]):
        axes.plot([standing.places[i] for i in rows], range(len(rows)),
                  MARKS[k % len(MARKS)], markerfacecolor="none", markersize=8 + 1.5 * (k % 3),
                  color=COLOURS[1 + k % (len(COLOURS) - 1)], zorder=2,
                  label=standing.rule)  # fmt: skip


def _caption(board: Leaderboard) -> str:
    text = f"place among {len(board.order)} systems on {len(board.scores.tasks)} tasks"
    drawn = board.resampled
    if drawn is None:
        return text
    what = board.drawn_from
    return f"{text}; bars: {board.confidence:.0%} of {drawn.places.shape[1]:,} samples of {what}"
