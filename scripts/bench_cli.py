"""Measure what a user waits for: import, --help, and indexing a collection.

    python scripts/bench_cli.py [--data BEIR_FOLDER] [--repeats 11]

Prints JSON lines: seconds of whole processes (median, least, most), and for indexing also
the peak resident memory of the process. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokret.evaluation.record import environment

TOKRET = [sys.executable, "-m", "tokret"]


def seconds(command: list[str], repeats: int) -> dict[str, float]:
    """Wall time of a command over several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return {
        "median_s": round(statistics.median(times), 3),
        "least_s": round(min(times), 3),
        "most_s": round(max(times), 3),
    }


def index(data: Path, backend: str) -> dict[str, object]:
    """Index a collection in a process of its own; its time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*TOKRET, "index", str(data), "-o", f"{folder}/index", "--backend", backend]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--long", "truncate", "--json", "--quiet"], stdout=subprocess.PIPE
        )
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            sys.exit(f"{' '.join(command)}: failed.")
        process.returncode = 0
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
        summary = json.loads(output)
        del summary["index"]  # a temporary folder
        size = sum(p.stat().st_size for p in Path(folder, "index").rglob("*") if p.is_file())
    return {
        "seconds": round(wall, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_MB": round(usage.ru_maxrss * unit / 1e6),
        "index_MB": round(size / 1e6, 1),
        "summary": summary,
    }


def main() -> None:
    """Print one JSON line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a BEIR folder to index")
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    print(json.dumps({"environment": environment()}))
    for name, command in {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import tokret": [sys.executable, "-c", "import tokret"],
        "tokret --help": [*TOKRET, "--help"],
    }.items():
        print(json.dumps({"what": name, **seconds(command, args.repeats)}), flush=True)
    if args.data is not None:
        for backend in ("exact", "bm25"):
            what = f"tokret index {args.data.name} --backend {backend}"
            print(json.dumps({"what": what, **index(args.data, backend)}), flush=True)


if __name__ == "__main__":
    main()
