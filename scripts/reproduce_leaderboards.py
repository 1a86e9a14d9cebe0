"""Reproduce what is known of ranking systems by votes, and time it.

    python scripts/reproduce_leaderboards.py [--data FOLDER] [--out FILE] [--plot FILE | --render]

Prints JSON lines: for each published score table, how far the orders by mean and by Borda are
apart; the corruption experiment; what a leaderboard takes. ``--render`` puts the figures of
docs/benchmarks/leaderboards.jsonl into docs/leaderboard.md; ``--plot`` draws the leaderboard of
SummEval. The tables are those of *What are the best systems?*
(github.com/PierreColombo/RankingNLPSystems), in FOLDER/nlp-score-tables; their columns "System"
and "Utterance" are swapped, which this script undoes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokret.evaluation.leaderboard import (
    Columns,
    Scores,
    Setting,
    Task,
    Votes,
    bootstrap,
    rank_systems,
    read_scores,
    rules,
    simulate,
)
from tokret.evaluation.leaderboard.kemeny import consensus, groups
from tokret.evaluation.leaderboard.plot import plot
from tokret.evaluation.leaderboard.ranks import kendall_distance, kendall_tau, order_of, wins
from tokret.evaluation.record import environment, now

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("TOKRET_DATA", ROOT.parent / "shared" / "data"))
LINES = ROOT / "docs" / "benchmarks" / "leaderboards.jsonl"
PAGE = ROOT / "docs" / "leaderboard.md"
BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.S)
TASK_LEVEL = {"GLUE": ("glue", 14), "SuperGLUE": ("superglue", 14), "XTREME": ("xtrem", 4)}
BY_INSTANCE = {
    "PersonaChat": "DIALOG_pc",
    "TopicalChat": "DIALOG_tc",
    "Flickr8k": "FLICKR",
    "MLQE": "MLQE",
    "REALSumm": "REAL_SUM",
    "SummEval": "SUM_EVAL",
    "TAC08": "TAC_08",
    "TAC09": "TAC_09",
    "TAC11": "TAC_11",
}
SCALE = 1000.0  # of corrupt scores, for a mean that is lied to loudly

Row = dict[str, Any]
Doubles = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, help="also write the lines here")
    parser.add_argument("--plot", type=Path, help="only draw this file, .svg or .png")
    parser.add_argument("--render", action="store_true", help="fill docs/leaderboard.md")
    args = parser.parse_args()
    if args.render:
        PAGE.write_text(filled(PAGE.read_text()))
        return
    if args.plot is not None:
        file = args.data / "nlp-score-tables" / "final_df" / f"{BY_INSTANCE['SummEval']}.csv"
        plot(rank_systems(by_instance(file)), args.plot)
        return
    head = {"row": "made", "command": "python scripts/reproduce_leaderboards.py", "date": now()}
    out = args.out.open("w") if args.out else None
    for row in ({**head, **environment()}, *tables(args.data), *corruption(), *speed()):
        line = json.dumps(row)
        print(line, flush=True)
        if out is not None:
            out.write(line + "\n")


def tables(data: Path) -> Iterator[Row]:
    """Orders by mean and by Borda of each published table."""
    folder = data / "nlp-score-tables"
    if not folder.is_dir():
        sys.exit(f"{folder}: not there; --data names the folder above it.")
    for name, (file, columns) in TASK_LEVEL.items():
        yield compared(name, task_level(folder / "data" / f"{file}.data", columns))
    for name, file in BY_INSTANCE.items():
        yield compared(name, by_instance(folder / "final_df" / f"{file}.csv"))


def by_instance(file: Path) -> Scores:
    """Scores by instance: 'Utterance' names the systems there, and 'System' the instances."""
    return read_scores(file, Columns(system="Utterance", query="System")).scores


def task_level(file: Path, columns: int) -> Scores:
    """The last columns of a leaderboard; the one before, a mean of them, is left out."""
    with file.open(newline="") as lines:
        rows = [row for row in csv.reader(lines) if row][1:]
    return Scores.of(
        {
            f"{i} {' '.join(row[0].split())}": {
                str(t): float(cell) for t, cell in enumerate(row[-columns:])
            }
            for i, row in enumerate(rows)
        }
    )


def compared(name: str, scores: Scores) -> Row:
    """How far apart the rules are on one table."""
    votes, started = Votes(scores), time.perf_counter()
    mean, one, two = (
        rules.build(rule).ranks(votes) for rule in ("mean", "borda(levels=1)", "borda")
    )
    won = wins(votes.ballots("collections"))
    best = consensus(won)
    seconds = time.perf_counter() - started
    by_position = sum(np.argsort(np.argsort(column)) for column in scores.values.T)
    n, tasks = len(scores.systems), votes.ballots("collections").T
    pairs = n * (n - 1) / 2
    rng = np.random.default_rng(0)

    def distortion(ranks: Doubles) -> float:
        return float(np.mean([kendall_distance(ranks, task) for task in tasks]))

    return {
        "row": "table",
        "table": name,
        "systems": n,
        "tasks": len(scores.tasks),
        "queries": scores.queries // len(scores.tasks),
        "tau_mean_one": kendall_tau(mean, one),
        "tau_mean_two": kendall_tau(mean, two),
        "tau_one_two": kendall_tau(one, two),
        "tau_ties_by_position": kendall_tau(one, by_position),
        "top_mean_two": {str(k): top(mean, two, k) for k in (1, 3, 5, 10) if k < n},
        "top_mean_position": top(mean, by_position, 3),
        "distortion": {
            "borda": distortion(two),
            "mean": distortion(mean),
            "random": float(np.mean([distortion(rng.permutation(n)) for _ in range(200)])),
        },
        "kemeny": {
            "cost": best.cost,
            "exact": best.exact,
            "optima": best.optima,
            "largest_group": max(map(len, groups(won))),
            "pairs_of_votes": pairs * len(scores.tasks),
        },
        "seconds": seconds,
    }


def top(one: Doubles, other: Doubles, k: int) -> float:
    """Share of the first k that two orders have in common."""
    return len(set(order_of(one)[:k].tolist()) & set(order_of(other)[:k].tolist())) / k


def corruption(repetitions: int = 100) -> Iterator[Row]:
    """Error of each rule with some tasks reversed: 10 systems, 11 tasks, 12 queries."""
    chosen = [rules.build(rule) for rule in ("mean", "borda(levels=1)", "borda")]
    for phi in (0.1, 0.3, 0.5):
        for corrupt in (0, 1, 3, 5, 6):
            setting = Setting(phi=phi)
            mean, one, two = simulate(chosen, corrupt, setting, repetitions=repetitions)
            (loud,) = simulate(chosen[:1], corrupt, setting, scale=SCALE, repetitions=repetitions)
            yield {
                "row": "corruption",
                "phi": phi,
                "corrupt": corrupt,
                "repetitions": repetitions,
                "mean": mean,
                "mean_scaled": loud,
                "one": one,
                "two": two,
            }


def speed(systems: int = 30, tasks: int = 11, queries: int = 1000) -> Iterator[Row]:
    """CPU seconds of a leaderboard and of its parts, the least of three."""
    rng = np.random.default_rng(0)
    values = rng.random((systems, tasks * queries)).round(1)
    values += np.linspace(0, 0.1, systems)[:, None]
    scores = Scores(
        tuple(f"s{i}" for i in range(systems)),
        tuple(Task(f"t{t}", f"t{t}") for t in range(tasks)),
        values,
        np.arange(tasks + 1) * queries,
    )
    borda: Any = rules.build("borda")
    steps = {
        "votes": lambda: Votes(scores),
        "bootstrap": lambda: bootstrap(Votes(scores), borda),
        "leaderboard": lambda: rank_systems(scores),
    }
    for step, work in steps.items():
        times = []
        for _ in range(3):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        yield {
            "row": "speed",
            "step": step,
            "systems": systems,
            "tasks": tasks,
            "queries": queries,
            "samples": 0 if step == "votes" else 1000,
            "cpu_seconds": min(times),
        }


def filled(text: str) -> str:
    """The page with its figures renewed."""
    made = blocks()
    return BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", text)


def blocks() -> dict[str, str]:
    rows = [json.loads(line) for line in LINES.read_text().splitlines()]

    def of(name: str) -> list[Row]:
        return [row for row in rows if row["row"] == name]

    (made,) = of("made")
    machine, versions = made["machine"], made["versions"]
    head = ("table", "systems × tasks × queries", "mean, 1 level", "mean, 2 levels", "1, 2 levels")
    known = [
        (
            row["table"],
            f"{row['systems']} × {row['tasks']} × {row['queries']}",
            *(f"{row[key]:.3f}" for key in ("tau_mean_one", "tau_mean_two", "tau_one_two")),
            *(f"{row['top_mean_two'].get(k, ''):.3}".rstrip() for k in ("1", "3")),
            f"{row['kemeny']['cost'] / row['kemeny']['pairs_of_votes']:.3f}",
            str(row["kemeny"]["largest_group"]),
            ("yes" if row["kemeny"]["exact"] else "no")
            + (f" ({row['kemeny']['optima']:,})" if row["kemeny"]["optima"] else ""),
        )
        for row in of("table")
    ]
    lies = [
        (
            f"{row['phi']:g}",
            str(row["corrupt"]),
            *(f"{row[key]:.3f}" for key in ("mean_scaled", "mean", "one", "two")),
        )
        for row in of("corruption")
    ]
    (whole,) = (row for row in of("speed") if row["step"] == "leaderboard")
    return {
        "tables": table(
            (*head, "first", "first 3", "against Kemeny", "largest group", "exact (as good)"), known
        ),
        "corruption": table(
            ("φ", "reversed of 11", "mean, × 1000", "mean", "one level", "two levels"), lies
        ),
        "speed": (
            f"- {whole['systems']} systems, {whole['tasks']} tasks of {whole['queries']:,} "
            f"queries, {whole['samples']:,} bootstrap samples: {whole['cpu_seconds']:.2f} CPU "
            "seconds.\n"
            f"- Made with `{made['command']}` on {machine['cpu']}, {machine['cores']} cores, "
            f"Python {versions['python']}, NumPy {versions['numpy']}, {made['date'][:10]}."
        ),
    }


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
