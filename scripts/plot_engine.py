"""Draw docs/images/engine and docs/images/growth from what the benchmarks printed.

    python scripts/plot_engine.py [--collection scifact] [--lines FOLDER] [--out FOLDER]

``engine``: median milliseconds of a query (one thread, logarithmic) against the share of the
exact ten best found, settings left out that another of the same system beats in both; the area
of a point is the bytes a token of the index. ``growth``, where
collections of two sizes were measured: time of a query and of a build against passages, with
the model of scaling.py. SVG and PNG; needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import render_engine
import scaling

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

COLOURS = (  # Okabe and Ito, told apart with any colour vision; the yellow is too faint
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
)
MARKS = "oXDPvsp^<>hd*"
AREA = 2.2  # square points for a byte a token
MOST_AREA = 640  # of an index that keeps everything
STYLE = {
    "svg.hashsalt": "tokret",  # the same file for the same figures
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans, Verdana, sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "figure.facecolor": "white",
}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--lines", type=Path, default=render_engine.LINES)
    parser.add_argument("--out", type=Path, default=render_engine.IMAGES)
    args = parser.parse_args()
    render_engine.LINES = args.lines
    args.out.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({**STYLE, "font.family": ["DejaVu Sans"]})
    trade(args.collection, args.out)
    growth(args.out)


def series(collection: str) -> dict[str, tuple[float, list[tuple[float, float]]]]:
    """For each system: bytes a token, and (share found, milliseconds) of its searches."""
    out: dict[str, tuple[float, list[tuple[float, float]]]] = {}
    sizes = {}
    for row in render_engine.engine("build"):
        if row["collection"] == collection:
            each = row["bytes_per_token"]
            sizes[row["spec"]] = each["search"] + each["store"]
    for row in render_engine.engine("search"):
        if row["collection"] == collection and row["k"] == 10 and row["spec"] in sizes:
            _, found = out.setdefault(f"tokret {row['spec']}", (sizes[row["spec"]], []))
            found.append((row["r10@10"], row["median_ms"]))
    built = {
        (row["peer"], row["variant"]): row["bytes_per_token"]
        for row in render_engine.peers("build")
        if row["collection"] == collection
    }
    for row in render_engine.peers("search"):
        key = row["peer"], row["variant"]
        if row["collection"] == collection and row["threads"] == 1 and row["peer"] != "tokret":
            name = f"{row['peer']} {row['variant']}"
            _, found = out.setdefault(name, (built.get(key, 0.0), []))
            found.append((row["r10@10"], row["median_ms"]))
    return out


def trade(collection: str, out: Path) -> None:
    every = series(collection)
    if not every:
        return
    figure, axes = plt.subplots(figsize=(9.2, 5.4), layout="constrained")
    keys = []
    for i, (name, (size, found)) in enumerate(every.items()):
        colour, mark = COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]
        ours = name.startswith("tokret ivf")
        found = front(found)
        x, y = [p[0] for p in found], [p[1] for p in found]
        line = {"linewidth": 2.2 if ours else 1.1, "linestyle": "-" if ours else "--"}
        axes.plot(x, y, color=colour, alpha=0.9, zorder=2, **line)
        area = min(max(AREA * size, 16), MOST_AREA)
        axes.scatter(
            x,
            y,
            s=area,
            facecolors=colour if ours else "none",
            marker=mark,
            alpha=0.8,
            edgecolors="white" if ours else colour,
            linewidths=0.8 if ours else 1.4,
            zorder=3 + (area < MOST_AREA / 2),
        )
        label = f"{name}  ({size:.0f} B/token)"
        fill = colour if ours else "none"
        style = {"marker": mark, "markersize": 8, "markerfacecolor": fill, **line}
        keys.append(Line2D([], [], color=colour, label=label, **style))
    logarithmic(axes)
    axes.set_xlabel("share of the ten best of exact MaxSim that is found")
    axes.set_ylabel("median milliseconds a query, one thread")
    axes.margins(x=0.08, y=0.12)
    titles = {"scifact": "SciFact"}
    axes.set_title(
        f"{titles.get(collection, collection)}: lower and further right is better; "
        "area of a point: bytes a token",
        loc="left",
        fontsize=10,
    )
    figure.legend(handles=keys, loc="outside right upper", frameon=False, fontsize=9)
    save(figure, out, "engine")


def front(found: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other of the same system beats in both, rising."""
    kept: list[tuple[float, float]] = []
    for share, ms in sorted(found, key=lambda point: (-point[0], point[1])):
        if not kept or ms < kept[-1][1]:
            kept.append((share, ms))
    return kept[::-1]


def growth(out: Path) -> None:
    rows = render_engine.engine("build") + render_engine.engine("search")
    known = [(build, search) for build, search in scaling.points(rows) if search]
    if len(known) < 2:
        return
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
    passages = [build["passages"] for build, _ in known]
    measured = ([s["mean_ms"] for _, s in known], [b["cpu_s"] for b, _ in known])
    model = [row["model"] for row in scaling.checks(rows)]
    said = ([m["total_ms"] for m in model], [m["build_cpu_s"] for m in model])
    words = ("mean milliseconds a query, one thread, recall 0.97", "CPU seconds of a build")
    for axes, real, line, title in zip(panels, measured, said, words, strict=True):
        axes.plot(passages, line, color=COLOURS[1], linestyle="--", label="model, from the first")
        axes.plot(passages, real, color=COLOURS[0], marker="o", linewidth=2, label="measured")
        axes.set_xscale("log")
        logarithmic(axes)
        axes.set_xticks(passages, [f"{b['collection']}\n{b['passages']:,}" for b, _ in known])
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.margins(x=0.12)
        axes.set_ylim(min(*real, *line) / 2, 3 * max(*real, *line))  # room for the legend
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("passages")
        axes.legend(frameon=False, fontsize=9)
    save(figure, out, "growth")


def logarithmic(axes: Any) -> None:  # noqa: ANN401
    """An axis of 1, 2, 5, 10, ..., written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def save(figure: Any, out: Path, name: str) -> None:  # noqa: ANN401
    figure.savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": "tokret"})
    figure.savefig(out / f"{name}.png", dpi=150, metadata={"Software": "tokret"})
    plt.close(figure)


if __name__ == "__main__":
    main()
