"""One measurement in a process of its own, under the peer's Python.

``python -m peers.child JOB OUT``: JOB is a JSON object from bench_peers.py, OUT the file that
the measurements go to. Imports NumPy and one adapter, nothing of tokret unless it is the peer.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from peers import adapter
from peers.data import DEPTH, Data

WARM = 3  # queries searched before the clock runs


def main() -> None:
    job = json.loads(sys.argv[1])
    peer = adapter(job["peer"])
    data = Data(Path(job["data"]))
    peer.engine()
    steps = {"build": build, "search": search}
    out = steps[job["step"]](peer, data, job)
    out["rss_mb"] = round(peak_rss() / 1e6, 1)
    out["peer_versions"] = versions(peer)
    Path(sys.argv[2]).write_text(json.dumps(out), "utf-8")


def build(peer: ModuleType, data: Data, job: dict[str, Any]) -> dict[str, Any]:
    folder = Path(job["folder"])
    folder.mkdir(parents=True)
    cpu, wall = cpu_seconds(), time.perf_counter()
    peer.build(data, folder, job["variant"], job["threads"])
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(cpu_seconds() - cpu, 2),
        "index_mb": round(size / 1e6, 2),
        "bytes_per_token": round(size / len(data.vectors), 2),
    }


def search(peer: ModuleType, data: Data, job: dict[str, Any]) -> dict[str, Any]:
    """Time each query alone, the best of its repeats; stop cleanly at the limit."""
    settings = dict(job["settings"])
    deadline = time.monotonic() + job["limit_s"]
    wall = time.perf_counter()
    find = peer.opened(data, Path(job["folder"]), job["variant"], job["threads"], settings)
    loaded = time.perf_counter() - wall
    queries = data.queries
    asked = np.unique(
        np.linspace(0, len(queries) - 1, min(job["queries"], len(queries)), dtype=int)
    )
    for i in asked[:WARM]:
        find(queries[i])
    best, found = [], {}
    cpu = time.process_time()
    for i in asked.tolist():
        times = []
        for _ in range(job["repeats"]):
            start = time.perf_counter()
            places = find(queries[i])
            times.append(time.perf_counter() - start)
        best.append(min(times))
        found[i] = [int(p) for p in places][:DEPTH]
        if time.monotonic() > deadline:
            break
    spent = time.process_time() - cpu
    ms = 1000 * np.array(best)
    return {
        "load_s": round(loaded, 3),
        "n_queries": len(best),
        "complete": len(best) == len(asked),
        "median_ms": round(float(np.median(ms)), 3),
        "p95_ms": round(float(np.percentile(ms, 95)), 3),
        "mean_ms": round(float(ms.mean()), 3),
        "cpu_ms": round(1000 * spent / len(best) / job["repeats"], 3),
        "found": found,
    }


def cpu_seconds() -> float:
    """Processor time of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_rss() -> int:
    """The most memory this process held, in bytes, mapped files counted.

    ``ru_maxrss`` starts at what the parent held; the kernel's own mark does not.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii", errors="replace")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    mark = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
    return int(mark[1]) * 1024 if mark else 0


def versions(peer: ModuleType) -> dict[str, str]:
    names = [re.split(r"[=<>~\[]", wanted)[0] for wanted in peer.REQUIREMENTS]
    found = {}
    names += [name for name in ("numpy", "torch", "tokret") if name in sys.modules]
    for name in dict.fromkeys(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
