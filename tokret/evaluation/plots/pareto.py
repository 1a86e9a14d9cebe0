"""Latency against quality: which systems no other beats in both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokret.errors import InputError, UsageError
from tokret.evaluation.figure import COLOURS, shortened, style
from tokret.evaluation.leaderboard.rows import Row, read_rows
from tokret.registry import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = "osDXPv^<>"


class Point(NamedTuple):
    """A system, what it costs (``x``, less is better) and what it brings (``y``, more is)."""

    label: str
    group: str
    x: float
    y: float


def points_of(
    sources: Iterable[str | Path],
    x: str,
    y: str,
    *,
    label: str = "system",
    group: str | None = None,
    where: Mapping[str, str] | None = None,
) -> list[Point]:
    """Read points from tables, JSONL of benchmarks or records of ``tokret evaluate``.

    ``x``, ``y``, ``label`` and ``group`` name columns; of a record these are system,
    collection, backend, its measures, index_seconds and ms (a query; of a fused system, with
    the searches of those it fuses). Rows without x or y, and those that ``where`` does not
    describe, are left out. Raises InputError, with file and line, for a value that is no
    finite number, UsageError where no row is left.
    """
    found, names = [], dict.fromkeys((label,))
    for source in sources:
        for row in _rows(source):
            names.update(dict.fromkeys(row.cells))
            if any(str(row.cells.get(key)) != value for key, value in (where or {}).items()):
                continue
            if any(row.cells.get(key) in (None, "") for key in (x, y, label)):
                continue
            values = (_value(row, key) for key in (x, y))
            at = _text(row.cells.get(group, "")) if group else ""
            found.append(Point(_text(row.cells[label]), at, *values))
    if not found:
        missing = next((key for key in (x, y, label) if key not in names), None)
        what = "No row is left"
        if missing is not None:
            what = f"No column {missing!r}.{did_you_mean(missing, names)} There are"
        raise UsageError(f"{what}: {', '.join(names)}.")
    return found


def front(points: Sequence[Point]) -> list[Point]:
    """Keep the points that no other beats in one and equals in the other, cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not kept or point.y > kept[-1].y or (point.x, point.y) == (kept[-1].x, kept[-1].y):
            kept.append(point)
    return kept


def draw_pareto(
    points: Sequence[Point], x: str = "", y: str = "", *, logarithmic: bool = True
) -> Figure:
    """Draw points, a colour for each group, and in each the line of those that no other beats.

    ``x`` and ``y`` name the axes. Names stand beside points where there is room. Raises
    UsageError for no points, and for costs of 0 or less on a logarithmic axis;
    MissingExtraError without matplotlib.
    """
    if not points:
        raise UsageError("There are no points to draw.")
    if logarithmic and min(point.x for point in points) <= 0:
        raise UsageError(f"{x or 'x'} has values of 0 or less; a logarithmic axis takes none.")
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axes = figure.subplots()
        for k, group in enumerate(dict.fromkeys(point.group for point in points)):
            _group(axes, group, [p for p in points if p.group == group], k)
        if logarithmic:
            _logarithmic(axes)
        axes.margins(x=0.14, y=0.12)
        axes.set_xlabel(f"{x} (less is better)")
        axes.set_ylabel(f"{y} (more is better)")
        axes.set_title("filled, joined: no other of its colour is better in both", loc="left",
                       fontsize=8)  # fmt: skip
        if any(point.group for point in points):
            figure.legend(loc="outside right upper", frameon=False)
        _labels(figure, axes, points)
    return figure


def _group(axes: Any, name: str, points: Sequence[Point], k: int) -> None:  # noqa: ANN401
    colour, mark, best = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)], front(points)
    axes.step([p.x for p in best], [p.y for p in best], where="post", color=colour,
              linewidth=1.2, alpha=0.6, zorder=1)  # fmt: skip
    fills = [colour if p in best else "none" for p in points]
    axes.scatter([p.x for p in points], [p.y for p in points], s=46, zorder=3, c=fills,
                 edgecolors=colour, linewidths=1.4, marker=mark)  # fmt: skip
    if name:
        axes.scatter([], [], color=colour, marker=mark, label=shortened(name))


def _logarithmic(axes: Any) -> None:  # noqa: ANN401
    """Make an axis of 1, 2, 5, 10, ..., written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _labels(figure: Figure, axes: Any, points: Sequence[Point]) -> None:  # noqa: ANN401
    """Name points beside them, those of a front first, and none over another."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    groups = dict.fromkeys(point.group for point in points)
    best = [p for group in groups for p in front([q for q in points if q.group == group])]
    dot = 6 * figure.dpi / 72
    at = {point: axes.transData.transform((point.x, point.y)) for point in points}
    taken = [Bbox([spot - dot, spot + dot]) for spot in at.values()]
    for point in dict.fromkeys([*best, *points]):
        for side, up in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            text = axes.annotate(
                shortened(point.label), (point.x, point.y), xytext=(7 * side, 4 * up),
                textcoords="offset points", fontsize=7.5, color="#303030",
                ha="left" if side > 0 else "right", va="bottom" if up > 0 else "top",
            )  # fmt: skip
            box = text.get_window_extent()
            if box.count_overlaps(taken) == 0:
                taken.append(box)
                break
            text.remove()


def _rows(source: str | Path) -> list[Row]:
    """Rows of a table; of a record, one a system with its measures and its speed."""
    with_speed = _record(source)
    return read_rows(source) if with_speed is None else with_speed


def _record(source: str | Path) -> list[Row] | None:
    if Path(source).suffix != ".json":
        return None
    try:
        record = json.loads(Path(source).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # the table's reader says what is wrong
    if not isinstance(record, dict) or record.get("kind") != "tokret.experiment":
        return None
    rows: dict[str, dict[str, Any]] = {}
    try:
        for number in record["numbers"]:
            keys = ("system", "collection", "backend", "index_seconds")
            cells = rows.setdefault(number["system"], {key: number[key] for key in keys})
            cells[number["measure"]] = number["value"]
        speeds = {s["system"]: s["run"]["queries_per_second"] for s in record["systems"]}
        for system in record["systems"]:
            # What is fused must be searched first.
            needed = [system["system"], *(system.get("fuse") or ())]
            if all(speeds[name] for name in needed):
                rows[system["system"]]["ms"] = sum(1000 / speeds[name] for name in needed)
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}: a record without {error}.") from error
    return [Row(str(source), cells) for cells in rows.values()]


def _text(value: object) -> str:
    """Write a value; of ``{"recall": 0.9}``, ``recall=0.9``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    return str(value)


def _value(row: Row, key: str) -> float:
    try:
        value = float(row.cells[key])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{row.where}: {row.cells[key]!r} in the column {key!r}; wanted a finite number."
        )
    return value
