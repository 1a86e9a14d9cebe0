"""Measure the ivf engine: builds, bytes, and searches at several targets, stage by stage.

    python scripts/bench_engine.py --data DATA --work WORK > docs/benchmarks/engine.jsonl
    python scripts/bench_engine.py --data DATA --work WORK --collection packages --spec ivf
    python scripts/bench_engine.py --data DATA --quick

DATA holds the collections that ``bench_peers.py prepare`` makes. Every build and every search is
a process of its own. A build that WORK holds is not done again without ``--again``, so builds may
be made first and searches timed later, on a quiet machine (``--only search``).

Prints JSON lines. ``head``: the machine, its peak of multiply-adds in registers and its bandwidth
of copying, on one thread. ``build``: wall and processor seconds, the latter by step too, peak
memory (``peak_mb`` counts mapped files, those of the given vectors too; ``own_peak_mb`` does not,
and is looked at fifty times a second) and bytes by what they are for: ``search`` is all that a
search reads, document ids and codebook too; ``store`` the vectors that exact search and
rescoring need; ``text`` texts, token ids and spans, which hits are shown by. ``search``: for one
target, k of 10 and of 100; a latency is the best of the repeats of one query, through
``Index.search`` on one thread, then the median and the 95th percentile over queries; ``stages``
say for each stage its mean milliseconds, the bytes it moves and the operations it does for a
query (counted in a pass of their own), and the floor that the machine's bandwidth and peak set.
``batch``: queries a second on one and two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from peers.child import cpu_seconds, peak_rss
from peers.data import DEPTH, WIDTH, Data
from peers.judge import judged

COLLECTIONS = ("scifact", "packages", "packages10")
SPECS = ("ivf", "ivf(bits=1)", "ivf(bits=3)", 'ivf(store="int8")', 'exact(dtype="int8")')
RECALLS = (0.8, 0.91, 0.95, 0.97)
DEPTHS = (10, 100)  # k
WARM = 3  # queries before the clock runs
LOOK_S = 0.02  # between two looks at the memory held
COPIED = 1 << 28  # bytes copied to measure bandwidth, more than any cache holds
QUICK = {"passages": 400, "queries": 20}
TEXT = {"texts", "text_ends", "token_ids", "token_spans", "passage_spans"}
STORE = {"vectors", "scales"}
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        job = json.loads(sys.argv[2])
        rows = {"build": build, "search": search, "head": head, "quick": quick}[job["step"]](job)
        Path(sys.argv[3]).write_text(json.dumps(rows), "utf-8")
        return
    args = parser().parse_args()
    work = args.work or Path(tempfile.mkdtemp())
    try:
        run(args, work)
    finally:
        if args.work is None:
            shutil.rmtree(work)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    made = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    made.add_argument("--data", type=Path, required=True, help="folder of prepared collections")
    made.add_argument("--work", type=Path, help="where indexes are kept; else they are removed")
    made.add_argument("--collection", action="append", help="of DATA; scifact")
    made.add_argument("--spec", action="append", help=f"of a backend; {', '.join(SPECS)}")
    made.add_argument("--recall", action="append", type=float, help=f"{RECALLS}")
    made.add_argument("--queries", type=int, default=300, help="at most, evenly spaced")
    made.add_argument("--repeats", type=int, default=3, help="of one query")
    made.add_argument("--only", choices=("build", "search"), help="one kind of step")
    made.add_argument("--again", action="store_true", help="build what is there already")
    made.add_argument("--quick", action="store_true", help=f"{QUICK} of each collection")
    return made


def run(args: argparse.Namespace, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    say(child({"step": "head", "seconds": 0.1 if args.quick else 1.0}))
    for name in args.collection or ["scifact"]:
        data, title = args.data / name, name
        _ = Data(data).about  # refuses a collection that is not prepared
        if args.quick:
            title = f"{name} (quick)"
            data = work / "data" / name
            if not (data / "about.json").exists():
                child({"step": "quick", "data": str(args.data / name), "out": str(data)})
        for spec in args.spec or SPECS:
            slug = "".join(c if c.isalnum() else "_" for c in spec).strip("_")
            folder = work / title.replace(" ", "-") / slug
            job = {"data": str(data), "collection": title, "spec": spec, "folder": str(folder)}
            built = folder / "build.json"
            if args.again or not built.exists():
                if args.only == "search":
                    print(f"{spec} of {title} is not built: no search", file=sys.stderr)
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                rows = child({**job, "step": "build"})
                built.write_text(json.dumps(rows), "utf-8")
            say(json.loads(built.read_text("utf-8")))
            if args.only != "build":
                more = {"queries": args.queries, "repeats": args.repeats}
                recalls = args.recall or RECALLS
                say(child({**job, "step": "search", **more, "recalls": recalls}))


def say(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row), flush=True)


def child(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that a process of its own measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        env = {**os.environ, **dict.fromkeys(THREADS, "1")}
        command = [sys.executable, str(Path(__file__).resolve()), "child", json.dumps(job)]
        subprocess.run([*command, str(out)], check=True, env=env, stdout=sys.stderr)
        found: list[dict[str, Any]] = json.loads(out.read_text("utf-8"))
        return found


def head(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The machine, and what no program on it exceeds."""
    from tokret.evaluation.record import environment, now
    from tokret.kernels import native

    block = np.ones(COPIED, np.uint8)
    other = np.empty_like(block)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        np.copyto(other, block)
        best = min(best, time.perf_counter() - start)
    peak = native.multiply_add_peak(native.simd(), "int8", job["seconds"])
    return [
        {
            "row": "head",
            "time": now(),
            "load": round(os.getloadavg()[0], 2),
            "peak_gmacs": round(peak, 1),
            "copy_gbs": round(2 * COPIED / best / 1e9, 2),  # read and written
            "environment": environment(),
        }
    ]


def quick(job: dict[str, Any]) -> list[dict[str, Any]]:
    """A few passages and queries of a collection, with their exact ranking."""
    from tokret import kernels
    from tokret.types import Tokens

    given, out = Data(Path(job["data"])), Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    offsets = given.offsets[: QUICK["passages"] + 1].astype(np.int64)
    queries = given.queries[: QUICK["queries"]]
    docs = Tokens(given.rows(0, len(offsets) - 1), offsets)
    exact = [np.argsort(-kernels.maxsim(q, docs), kind="stable")[:DEPTH] for q in queries]
    ends = np.cumsum([0, *map(len, queries)])
    arrays = {"vectors": docs.vectors, "offsets": offsets, "queries": np.concatenate(queries)}
    arrays |= {"query_offsets": ends, "exact": np.array(exact, np.int32)}
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)
    about = {"collection": "quick", "passages": len(offsets) - 1, "tokens": int(offsets[-1])}
    (out / "about.json").write_text(json.dumps(about), "utf-8")
    return []


def build(job: dict[str, Any]) -> list[dict[str, Any]]:
    from peers import adapter

    from tokret.evaluation.record import now

    data, folder = Data(Path(job["data"])), Path(job["folder"])
    peer = adapter("tokret")
    peer.engine()
    cpu, wall = cpu_seconds(), time.perf_counter()
    with steps() as spent, own_memory() as own:
        peer.build(data, folder, job["spec"], 1)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    spent["codebook"] -= spent["cells"]  # which are found inside it
    spent["store"] = cpu - sum(spent.values())
    columns: dict[str, int] = {}
    for file in sorted((folder / "index" / "segments").rglob("*.bin")):
        columns[file.stem] = columns.get(file.stem, 0) + file.stat().st_size
    coded = "codes" in columns
    parts = dict.fromkeys(("search", "store", "text"), 0)
    for name, size in columns.items():
        kind = "text" if name in TEXT else "store" if coded and name in STORE else "search"
        parts[kind] += size
    tokens = int(data.offsets[-1])
    return [
        {
            "row": "build",
            "collection": job["collection"],
            "spec": job["spec"],
            "time": now(),
            "load": round(os.getloadavg()[0], 2),
            "passages": len(data.lengths),
            "tokens": tokens,
            "width": WIDTH,
            "cells": columns.get("groups", 0) // 4,
            "wall_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "step_cpu_s": {name: round(s, 2) for name, s in spent.items()},
            "peak_mb": round(peak_rss() / 1e6, 1),
            "own_peak_mb": round(own["peak"] / 1e6, 1),
            "bytes": parts,
            "bytes_per_token": {k: round(v / tokens, 3) for k, v in parts.items()},
            "columns": columns,
        }
    ]


@contextmanager
def own_memory() -> Iterator[dict[str, float]]:
    """The most memory held but for mapped files, looked at often; 0 where /proc is not."""
    status = Path("/proc/self/status")
    held = {"peak": 0.0}
    done = threading.Event()

    def look() -> None:
        while status.exists():
            found = re.search(r"^RssAnon:\s+(\d+) kB", status.read_text("ascii", "replace"), re.M)
            held["peak"] = max(held["peak"], 1024.0 * int(found[1]) if found else 0.0)
            if done.wait(LOOK_S):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        done.set()
        thread.join()


@contextmanager
def steps() -> Iterator[dict[str, float]]:
    """Processor seconds of the steps that make codes of vectors."""
    from tokret.indexes import ivf, kmeans

    places: dict[str, tuple[Any, str]] = {
        "cells": (kmeans, "train"),
        "codebook": (ivf, "train"),
        "code": (ivf, "write_coded"),
        "calibrate": (ivf.Ivf, "_calibrated"),
    }
    spent = dict.fromkeys(places, 0.0)
    kept = {name: getattr(*place) for name, place in places.items()}

    def timed_as(name: str) -> Any:  # noqa: ANN401
        def step(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            start = time.process_time()
            try:
                return kept[name](*args, **options)
            finally:
                spent[name] += time.process_time() - start

        return step

    try:
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, timed_as(name))
        yield spent
    finally:
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, kept[name])


def search(job: dict[str, Any]) -> list[dict[str, Any]]:
    from tokret.evaluation.record import now
    from tokret.indexes import Index

    data = Data(Path(job["data"]))
    start = time.perf_counter()
    index = Index.open(Path(job["folder"]) / "index")
    searcher = index._view.searcher
    opened = time.perf_counter() - start
    tops = {"collection": job["collection"], "spec": job["spec"]}
    count = min(job["queries"], len(data.queries))
    asked = np.unique(np.linspace(0, len(data.queries) - 1, count, dtype=int)).tolist()
    machine = head({"seconds": 0.2})[0]
    rows = []
    for target in targets(job["spec"], job["recalls"]):
        for k in DEPTHS:
            timing = timed(index, searcher, data, asked, k, target, job["repeats"])
            found = timing.pop("found")
            rows.append(
                {
                    "row": "search",
                    **tops,
                    "time": now(),
                    "load": round(os.getloadavg()[0], 2),
                    "target": target or {"exact": True},
                    "k": k,
                    "open_ms": round(1000 * opened, 1),
                    "queries": len(asked),
                    **judged(data, found, k),
                    **timing,
                }
            )
            if timing["stage_ms"] and "recall" in target:
                rows[-1]["stages"] = counted(index, searcher, data, asked, k, target, rows[-1])
                rows[-1]["copy_gbs"], rows[-1]["peak_gmacs"] = (
                    machine["copy_gbs"],
                    machine["peak_gmacs"],
                )
                floors(rows[-1]["stages"], machine)
        rows.append({"row": "batch", **tops, "target": target or {"exact": True}, "k": 10})
        rows[-1] |= batch(index, data, asked, target)
    rows[-1]["peak_mb"] = round(peak_rss() / 1e6, 1)
    return rows


def targets(spec: str, recalls: list[float]) -> list[dict[str, Any]]:
    """What is asked of an index: options of ``Index.search``."""
    if not spec.startswith("ivf"):
        return [{}]
    wanted: list[dict[str, Any]] = [{"recall": r} for r in recalls]
    return [*wanted, {"exact": True}] if "store" in spec and "none" not in spec else wanted


def timed(
    index: Any,  # noqa: ANN401
    searcher: Any,  # noqa: ANN401
    data: Data,
    asked: list[int],
    k: int,
    target: dict[str, Any],
    repeats: int,
) -> dict[str, Any]:
    """Each query alone, the best of its repeats."""
    queries = data.queries
    for i in asked[:WARM]:
        index.search(queries[i], k, text=False, **target)
    seconds = seconds_of(searcher)
    seconds.clear()
    best, every, found = [], [], {}
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    cpu = time.process_time()
    for i in asked:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            hits = index.search(queries[i], k, text=False, **target)
            times.append(time.perf_counter() - start)
        best.append(min(times))
        every += times
        found[i] = [int(hit.doc_id) for hit in hits][:DEPTH]
    cpu = time.process_time() - cpu
    ms = 1000 * np.array(best)
    return {
        "median_ms": round(float(np.median(ms)), 3),
        "p95_ms": round(float(np.percentile(ms, 95)), 3),
        "mean_ms": round(1000 * float(np.mean(every)), 3),  # of all repeats, as stages are
        "cpu_ms": round(1000 * cpu / len(asked) / repeats, 3),
        "major_faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults,
        "stage_ms": {
            name: round(1000 * s / len(asked) / repeats, 4) for name, s in seconds.items()
        },
        "found": found,
    }


def seconds_of(searcher: Any) -> dict[str, float]:  # noqa: ANN401
    """Seconds of each stage, as they are added up; of a backend without stages, nothing."""
    scan = getattr(searcher, "scan", None)
    return {} if scan is None else scan.seconds


def batch(index: Any, data: Data, asked: list[int], target: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    queries = [data.queries[i] for i in asked]
    out = {}
    for threads in (1, 2):
        spent = []
        for _ in range(3 if len(queries) < 100 or "recall" in target else 1):
            start = time.perf_counter()
            index.search_many(queries, 10, threads=threads, text=False, **target)
            spent.append(time.perf_counter() - start)
        out[f"queries_s_{threads}"] = round(len(queries) / min(spent), 1)
    return out


def counted(
    index: Any,  # noqa: ANN401
    searcher: Any,  # noqa: ANN401
    data: Data,
    asked: list[int],
    k: int,
    target: dict[str, Any],
    row: dict[str, Any],
) -> dict[str, dict[str, float]]:
    """Bytes and operations of each stage, means over queries."""
    with counting(searcher) as sums:
        for i in asked:
            index.search(data.queries[i], k, text=False, **target)
    stages: dict[str, dict[str, float]] = {}
    for name, values in sums.items():
        stages[name] = {key: round(value / len(asked), 1) for key, value in values.items()}
        stages[name]["ms"] = row["stage_ms"].get(name, 0.0)
    stages["rest"] = {"ms": round(row["mean_ms"] - sum(row["stage_ms"].values()), 4)}
    return stages


@contextmanager
def counting(searcher: Any) -> Iterator[dict[str, dict[str, float]]]:  # noqa: ANN401
    """Wrap the stages of a searcher so that what they touch is added up."""
    from tokret.indexes.coded import BLOCK_PASSAGES
    from tokret.kernels import stages

    sizes = searcher.scan.cell_sizes
    places = {
        id(block.held): (coded, b * BLOCK_PASSAGES)
        for _, coded, _ in searcher.scan.coded
        for b, block in enumerate(coded.blocks)
    }
    sums: dict[str, dict[str, float]] = {
        name: {"bytes": 0.0, "ops": 0.0, "macs": 0.0, "items": 0.0}
        for name in ("cells", "probe", "compare", "refine")
    }
    kept = {name: getattr(stages, name) for name in ("score_cells", "probe", "interact", "refine")}

    def add(name: str, **more: float) -> None:
        for key, value in more.items():
            sums[name][key] += float(value)

    def score_cells(coding: Any, query: Any, *rest: Any) -> Any:  # noqa: ANN401
        got = kept["score_cells"](coding, query, *rest)
        read = coding.centroids.size + got.table.size  # the cells, and the table written
        add("cells", bytes=read, macs=query.size * len(coding.centroids), items=len(got.table))
        add("probe", bytes=2 * sizes[got.nearest].sum(), ops=sizes[got.nearest].sum())
        return got

    def probe(coding: Any, block: Any, *rest: Any) -> Any:  # noqa: ANN401
        got = kept["probe"](coding, block, *rest)
        add("probe", bytes=6 * block.passages, items=len(got[0]))  # a sum and a mark of each
        return got

    def interact(coding: Any, block: Any, scores: Any, tokens: int, passages: Any) -> Any:  # noqa: ANN401
        coded, first = places[id(block.held)]
        cells = np.diff(coded.cell_offsets)[first + np.asarray(passages)].sum()
        stride = scores.table.shape[1]
        add("compare", bytes=cells * (2 + stride), ops=cells * stride, items=len(passages))
        return kept["interact"](coding, block, scores, tokens, passages)

    def refine(coding: Any, blocks: Any, query: Any, *rest: Any) -> Any:  # noqa: ANN401
        got = kept["refine"](coding, blocks, query, *rest)
        owners, passages = rest[1][: len(got)], rest[2][: len(got)]
        for owner in np.unique(owners).tolist():
            coded, first = places[id(blocks[owner].held)]
            mine = first + passages[owners == owner]
            tokens = np.diff(coded.token_offsets)[mine].sum()
            cells = np.diff(coded.cell_offsets)[mine].sum()
            width = query.shape[1]
            add(
                "refine",
                bytes=np.diff(coded.code_offsets)[mine].sum() + cells * (2 + width),
                ops=tokens * width,  # residuals decoded
                macs=tokens * query.size,
                items=len(mine),
            )
        return got

    wrapped = {"score_cells": score_cells, "probe": probe, "interact": interact, "refine": refine}
    try:
        for name, function in wrapped.items():
            setattr(stages, name, function)
        yield sums
    finally:
        for name, function in kept.items():
            setattr(stages, name, function)


def floors(stages: dict[str, dict[str, float]], machine: dict[str, Any]) -> None:
    """The least milliseconds that bytes at copying speed and multiply-adds at peak would take."""
    for stage in stages.values():
        if "bytes" in stage:
            moved = stage["bytes"] / machine["copy_gbs"] / 1e6
            stage["floor_ms"] = round(max(moved, stage["macs"] / machine["peak_gmacs"] / 1e6), 4)


if __name__ == "__main__":
    main()
