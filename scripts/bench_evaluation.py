"""Time measures and comparisons beside ranx and ir_measures, and what a large file takes.

    python scripts/bench_evaluation.py [--lines 10000000] > docs/benchmarks/evaluation.jsonl

Tools take turns in one process on the same random runs; ranx is left out where it is not
installed. Times are CPU seconds, which a busy machine stretches least; ``first`` is the first
call, with what is compiled or imported in it. ``--lines 0`` leaves the large file out.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

QUERIES, HITS, DOCUMENTS = 1000, 1000, 50_000
TEN = ["nDCG@10", "nDCG@100", "AP", "RR", "R@100", "R@1000", "P@10", "P@100", "Success@5", "Rprec"]
TWENTY = [f"{name}@{k}" for name in ("nDCG", "R", "P", "Success") for k in (1, 5, 10, 20, 100)]
RANX = {"nDCG": "ndcg", "AP": "map", "RR": "mrr", "R": "recall", "P": "precision"}
RANX |= {"Success": "hit_rate", "Rprec": "r-precision"}


def collection(runs: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random judgements of 20 documents a query, and runs that find some of them."""
    rng = random.Random(7)
    qrels: dict[str, Any] = {}
    found: list[dict[str, Any]] = [{} for _ in range(runs)]
    for q in range(QUERIES):
        judged = [f"d{i}" for i in rng.sample(range(DOCUMENTS), 20)]
        qrels[f"q{q}"] = {d: rng.choice([0, 1, 1, 2]) for d in judged}
        for run in found:
            docs = {f"d{i}": rng.random() for i in rng.sample(range(DOCUMENTS), HITS - 10)}
            docs.update({d: rng.random() + 0.3 for d in judged[:10]})
            run[f"q{q}"] = docs
    return qrels, found


def tokret(qrels: Any, runs: list[Any], measures: list[str]) -> None:  # noqa: ANN401
    """Measure one run; compare several."""
    from tokret.evaluation import compare, evaluate

    if len(runs) == 1:
        evaluate(runs[0], qrels, measures)
    else:
        compare(runs, qrels, measures)


def ir_measures(qrels: Any, runs: list[Any], measures: list[str]) -> None:  # noqa: ANN401
    """Measure each run by query; it has no tests."""
    import ir_measures as tool

    parsed = [tool.parse_measure(m) for m in measures]
    for run in runs:
        list(tool.iter_calc(parsed, qrels, run))


def ranx(qrels: Any, runs: list[Any], measures: list[str]) -> None:  # noqa: ANN401
    """Measure one run; compare several by its own randomisation test."""
    import ranx as tool

    names = ["@".join([RANX[m.split("@")[0]], *m.split("@")[1:]]) for m in measures]
    judged = tool.Qrels(qrels)
    made = [tool.Run(run, name=f"r{i}") for i, run in enumerate(runs)]
    if len(made) == 1:
        tool.evaluate(judged, made[0], names)
    else:
        tool.compare(judged, made, names, stat_test="fisher")


TOOLS: dict[str, Callable[[Any, list[Any], list[str]], None]] = {
    "tokret": tokret,
    "ir_measures": ir_measures,
    "ranx": ranx,
}


def versions() -> dict[str, str]:
    """The tools that are here."""
    found = {}
    for name in ("ir-measures", "ranx", "numba", "scipy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def timed(what: str, qrels: Any, runs: list[Any], measures: list[str], rounds: int) -> None:  # noqa: ANN401
    """CPU seconds of the tools, turn by turn; medians, and the first call."""
    here = [t for t in TOOLS if t != "ranx" or "ranx" in versions()]
    seconds: dict[str, list[float]] = {tool: [] for tool in here}
    for _ in range(rounds):
        for tool in here:
            start = time.process_time()
            TOOLS[tool](qrels, runs, measures)
            seconds[tool].append(time.process_time() - start)
    base = sorted(seconds["tokret"])[rounds // 2]
    for tool in here:
        median = sorted(seconds[tool])[rounds // 2]
        row = {"what": what, "tool": tool, "runs": len(runs), "measures": len(measures)}
        row |= {"first_s": round(seconds[tool][0], 2), "median_s": round(median, 3)}
        print(json.dumps({**row, "times_tokret": round(median / base, 2)}), flush=True)


def write_large(path: Path, lines: int) -> None:
    """A run of 1,000 hits a query, by query."""
    rng = random.Random(3)
    docs = [f"doc{rng.randrange(10**8)}" for _ in range(100_000)]
    with path.open("w") as out:
        for q in range(lines // HITS):
            first = rng.randrange(len(docs) - HITS)
            out.writelines(
                f"q{q} Q0 {doc} {r} {HITS - r / 7:.4f} big\n"
                for r, doc in enumerate(docs[first : first + HITS], 1)
            )


def large(path: Path) -> None:
    """Measure one large file, in a process of its own."""
    from tokret.collections import RunFile
    from tokret.evaluation import evaluate

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    file = RunFile(path)
    judged: dict[str, dict[str, int]] = {}
    with path.open() as lines:
        for i, line in enumerate(lines):
            if i % HITS == 5:
                judged[line.split()[0]] = {line.split()[2]: 1}
    ready = time.process_time()
    evaluate(file, judged, ["nDCG@10", "RR", "R@1000"])
    row = {"what": "file", "lines": file.hits, "MB": path.stat().st_size >> 20}
    row |= {"seconds": round(time.process_time() - ready, 1), "judging_s": round(ready - start, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**row, "before_MB": before >> 10, "peak_MB": peak >> 10}), flush=True)


def main() -> None:
    """Print JSON lines: where it ran, timings, the large file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.large is not None:
        large(args.large)
        return
    from tokret.evaluation import environment
    from tokret.evaluation.record import now

    head = {"tools": versions(), "time": now(), "load": os.getloadavg()[0]}
    print(json.dumps({**head, "environment": environment()}), flush=True)
    qrels, runs = collection(10)
    timed("measure", qrels, runs[:1], TEN, args.rounds)
    timed("compare", qrels, runs, TWENTY, args.rounds)  # ranx compiles each measure once
    del qrels, runs
    if not args.lines:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.run"
        write_large(path, args.lines)
        subprocess.run([sys.executable, __file__, "--large", str(path)], check=True)


if __name__ == "__main__":
    main()
