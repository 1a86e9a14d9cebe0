"""Means of a measure as bars, with intervals by a bootstrap over queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tokret.errors import UsageError
from tokret.evaluation.figure import COLOURS, shortened, style
from tokret.evaluation.leaderboard import Scores, Votes
from tokret.evaluation.leaderboard.bootstrap import check_share, draws

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 400  # that can still be read
MOST_ACROSS = 3  # panels side by side
ROW_INCHES = 0.3


class Bar(NamedTuple):
    """The mean of a system on a task; ``low`` and ``high`` are None without queries."""

    task: str
    system: str
    mean: float
    low: float | None
    high: float | None


def bars_of(
    scores: Scores, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> list[Bar]:
    """Take means over queries and intervals of resampled queries; missing scores give no bar.

    Queries are drawn within each collection, the same for all systems. An interval is of one
    mean: whether two systems differ is for a paired test to say.
    """
    check_share("confidence", confidence)
    votes = Votes(scores)
    means = votes.whole.means[:, :, 0]
    low = high = np.full(means.shape, np.nan)
    if samples and scores.by_query:
        taken = [votes.sums(drawn).means for drawn, _ in draws(scores, samples, "queries", seed)]
        tail = (1 - confidence) / 2
        low, high = np.quantile(np.concatenate(taken, axis=2), (tail, 1 - tail), axis=2)
    sizes = np.diff(scores.offsets)
    found = []
    for t, task in enumerate(scores.tasks):
        for i, system in enumerate(scores.systems):
            if np.isnan(scores.values[i, scores.columns(t)]).any():
                continue  # a mean over fewer queries stands beside no other
            known = sizes[t] > 1 and not np.isnan(low[i, t])
            ends = (float(low[i, t]), float(high[i, t])) if known else (None, None)
            found.append(Bar(task.name, system, float(means[i, t]), *ends))
    return found


def draw_bars(bars: list[Bar], caption: str = "") -> Figure:
    """Draw a panel for each task; systems that are on all stand first, by their means.

    Raises UsageError for no bars and for more than can be read, MissingExtraError without
    matplotlib.
    """
    tasks = list(dict.fromkeys(bar.task for bar in bars))
    if not 1 <= len(bars) <= MOST_BARS:
        raise UsageError(f"{len(bars)} bars do not make a picture; wanted 1 to {MOST_BARS}.")
    by_system: dict[str, list[float]] = {}
    for bar in bars:
        by_system.setdefault(bar.system, []).append(bar.mean)
    order = sorted(by_system, key=lambda s: (-len(by_system[s]), -float(np.mean(by_system[s]))))
    across = min(len(tasks), MOST_ACROSS)
    down = -(-len(tasks) // across)
    with style():
        from matplotlib.figure import Figure

        height = down * (0.7 + ROW_INCHES * len(order)) + 0.3
        figure = Figure(figsize=(1.8 + 2.9 * across, height), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for panel, task in zip(panels, tasks, strict=False):
            mine = [bar for bar in bars if bar.task == task]
            at = [order.index(bar.system) for bar in mine]
            panel.barh(at, [bar.mean for bar in mine], height=0.62, color=COLOURS[5])
            for row, bar in zip(at, mine, strict=True):
                if bar.low is not None and bar.high is not None:
                    panel.plot([bar.low, bar.high], [row, row], color="#000000", linewidth=1.4)
                panel.text(0.015, row, f"{bar.mean:.3f}", va="center", fontsize=8,
                           transform=panel.get_yaxis_transform())  # fmt: skip
            panel.set_title(shortened(task), loc="left", fontsize=9)
            panel.grid(axis="y", visible=False)
        for panel in panels[len(tasks) :]:
            panel.set_visible(False)
        panels[0].set_yticks(range(len(order)), [shortened(system) for system in order])
        panels[0].set_ylim(len(order) - 0.5, -0.5)
        figure.supxlabel(caption, fontsize=8)
    return figure
