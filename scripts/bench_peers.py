"""Measure tokret beside other engines: the same vectors, the same queries, one machine.

    python scripts/bench_peers.py prepare --collection scifact|packages|packages10
    python scripts/bench_peers.py install PEER
    python scripts/bench_peers.py build PEER [--variant V] --collection C
    python scripts/bench_peers.py search PEER [--variant V] [--settings "k=100, nprobe=32"] ...
    python scripts/bench_peers.py all [--peers a,b] [--collections c,d] [--threads 1,2]
    python scripts/bench_peers.py show

Every peer runs in an environment of its own, in a process of its own that imports the peer,
NumPy and one file of scripts/peers. ``prepare`` makes token vectors with tokret-mini and ranks
all documents by MaxSim in float32; recall is against that. A latency is the best of the
repeats of one query, then the median and the 95th percentile over queries; ``cpu_ms`` is
processor time a query over all repeats, ``cpu_s`` that of a build. ``rss_mb`` counts mapped
files, in a build those of the vectors too. ``r10@100`` is the share of the exact first 10 that
is among a peer's first 100. ``all`` does what the results do not hold yet, so it goes on where
it was stopped; a failure is a result with the last lines of its error. Results are JSON lines
in WORK/results.jsonl. Search on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peers import PEERS, adapter
from peers.data import Data
from peers.judge import judged

HERE = Path(__file__).resolve().parent
COLLECTIONS = ("scifact", "packages", "packages10")
POOLS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON", "TOKIO", "LANCE_CPU", "LANCE_IO")
REPEATS = 3
FREE_GB = 20  # disk that an installation must leave
TAIL, LINES = 1500, 6  # characters and lines of an error that are kept
LIMITS = {"install": 1800, "build": 7200, "search": 900}  # seconds
KEY = ("step", "peer", "collection", "variant", "settings", "threads")


def main() -> None:
    args = parser().parse_args()
    work = Work(args)
    steps = {"install": install, "build": build, "search": search, "all": everything, "show": show}
    if args.step == "prepare":
        prepare(work, args.collection, args)
    else:
        steps[args.step](work, args)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    every = argparse.ArgumentParser(add_help=False)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tokret-bench"
    every.add_argument("--work", type=Path, default=cache, help="environments, indexes, results")
    every.add_argument("--out", type=Path, help="folder of prepared collections; WORK/data")
    every.add_argument("--limit", type=float, help="seconds a step may take")
    every.add_argument("--pin", action="store_true", help="use only as many cores as threads")
    every.add_argument("--again", action="store_true", help="do what was done, or failed, before")
    each = argparse.ArgumentParser(add_help=False)
    each.add_argument("peer", choices=PEERS)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("--variant", help="what is built; all of the peer's")
    one.add_argument("--collection", choices=COLLECTIONS, default="scifact")
    timed = argparse.ArgumentParser(add_help=False)
    timed.add_argument("--queries", type=int, help="how many, evenly spaced; the peer's own number")
    timed.add_argument("--repeats", type=int, help=f"of one query; {REPEATS}")
    timed.add_argument("--threads", default="1,2", help="of a search; a build has the first")
    steps = top.add_subparsers(dest="step", required=True)
    made = steps.add_parser("prepare", parents=[every])
    made.add_argument("--collection", choices=COLLECTIONS, required=True)
    made.add_argument("--encode-threads", type=int, default=0, help="0: all cores")
    steps.add_parser("install", parents=[every, each])
    steps.add_parser("build", parents=[every, each, one]).add_argument("--threads", default="1")
    found = steps.add_parser("search", parents=[every, each, one, timed])
    found.add_argument("--settings", help='one point, as "k=100, nprobe=32"; the peer\'s own')
    run = steps.add_parser("all", parents=[every, timed])
    run.add_argument("--peers", default=",".join(PEERS))
    run.add_argument("--collections", default="scifact,packages")
    run.add_argument("--encode-threads", type=int, default=0)
    run.add_argument("--only", choices=("install", "build", "search"), help="one kind of step")
    steps.add_parser("show", parents=[every])
    return top


class Work:
    """The folder of environments, indexes and results, and what is done already."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.path = args.work.expanduser().resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self.out = (args.out or self.path / "data").expanduser().resolve()
        self.again = args.again
        self.pin = args.pin
        self.limit = args.limit
        self.results = self.path / "results.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text("utf-8").splitlines()]

    def done(self, row: dict[str, Any]) -> bool:
        """Whether the results hold this step; only the latest of one key counts."""
        if self.again:
            return False
        same = [r for r in self.rows() if all(r.get(k) == row.get(k) for k in KEY)]
        return bool(same)

    def failed(self, **row: Any) -> str:  # noqa: ANN401
        """Why the latest such step failed, or nothing."""
        same = [r for r in self.rows() if all(r.get(k) == v for k, v in row.items())]
        return str(same[-1].get("error", "")) if same else ""

    def note(self, row: dict[str, Any]) -> None:
        from tokret.evaluation.record import environment, now

        row = {
            **row,
            "command": self.command(row),
            "time": now(),
            "load": os.getloadavg()[0],
            "environment": environment(),
        }
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        brief = {k: v for k, v in row.items() if k not in ("environment", "command", "time")}
        print(json.dumps(brief, ensure_ascii=False), flush=True)

    def command(self, row: dict[str, Any]) -> str:
        """What makes this row again."""
        words = ["python", "scripts/bench_peers.py", row["step"], row["peer"]]
        for option in ("variant", "collection", "threads", "repeats"):
            if option in row:
                words += [f"--{option}", str(row[option])]
        if "settings" in row:
            words += ["--settings", ", ".join(f"{k}={v!r}" for k, v in row["settings"].items())]
        if "asked" in row:
            words += ["--queries", str(row["asked"])]
        return shlex.join([*words, *(["--pin"] if self.pin else [])])

    def python(self, peer: str) -> Path:
        venv = adapter(peer).VENV
        return self.path / "venvs" / venv / "bin" / "python" if venv else Path(sys.executable)

    def index(self, collection: str, peer: str, variant: str) -> Path:
        slug = re.sub(r"\W+", "_", f"{peer} {variant}").strip("_")
        return self.path / "indexes" / collection / slug

    def seconds(self, step: str) -> float:
        return self.limit or LIMITS[step]


def prepare(work: Work, name: str, args: argparse.Namespace) -> None:
    from peers.prepare import prepare as prepared

    from tokret.encoders.mini import cores

    if name == "packages10" and not (work.out / "packages" / "about.json").exists():
        prepare(work, "packages", args)
    prepared(name, work.out / name, threads=args.encode_threads or cores())


def install(work: Work, args: argparse.Namespace) -> None:
    """Make the peer's environment; one that is there already is kept."""
    peer = adapter(args.peer)
    row = {"step": "install", "peer": args.peer, "requirements": list(peer.REQUIREMENTS)}
    python = work.python(args.peer)
    if not peer.VENV or work.done(row):
        return
    say(f"install {args.peer}")
    free = shutil.disk_usage(work.path).free / 1e9
    if free < FREE_GB:
        raise SystemExit(f"Only {free:.0f} GB of disk are free; an installation leaves {FREE_GB}.")
    start = time.perf_counter()
    code = f"from peers import adapter; adapter({args.peer!r}).engine()"
    try:
        if not python.exists():
            _quiet([sys.executable, "-m", "venv", str(python.parent.parent)], 300)
        try:
            _quiet([str(python), "-c", code], work.seconds("install"), env=_env(1, python))
        except subprocess.CalledProcessError:  # never over libraries that may be in use
            command = [str(python), "-m", "pip", "install", "-q", *peer.PIP]
            _quiet(command, work.seconds("install"))
            if hasattr(peer, "install"):
                peer.install(python, next(python.parent.parent.glob("lib/python*/site-packages")))
            _quiet([str(python), "-c", code], work.seconds("install"), env=_env(1, python))
    except (subprocess.SubprocessError, OSError) as error:
        work.note({**row, "error": _last(work, error)})
        return
    work.note({**row, "wall_s": round(time.perf_counter() - start, 1)})


def build(work: Work, args: argparse.Namespace) -> None:
    for variant in _variants(args):
        threads = int(args.threads.split(",")[0])
        folder = work.index(args.collection, args.peer, variant)
        row = _row("build", args, variant, None, threads)
        if work.done(row):
            continue
        if not work.python(args.peer).exists():
            say(f"{args.peer} is not installed: no build")
            continue
        say(f"build {args.peer} {variant} on {args.collection}")
        for old in (folder, folder.with_name(folder.name + ".shards")):
            shutil.rmtree(old, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        work.note({**row, **_child(work, row, {"folder": str(folder)})})


def search(work: Work, args: argparse.Namespace) -> None:
    from tokret.registry import parse

    peer = adapter(args.peer)
    for variant in _variants(args):
        folder = work.index(args.collection, args.peer, variant)
        points = peer.POINTS.get(variant, [{"k": 100}])
        if getattr(args, "settings", None):
            points = [parse(f"settings({args.settings})")[1]]
        failed = work.failed(
            step="build", peer=args.peer, variant=variant, collection=args.collection
        )
        if failed or not folder.exists():
            say(f"no index of {args.peer} {variant} on {args.collection}: no search")
            continue
        for threads in map(int, args.threads.split(",")):
            for settings in points:
                row = _row("search", args, variant, settings, threads)
                if work.done(row):
                    continue
                say(f"search {args.peer} {variant} {settings} on {args.collection}, {threads}")
                options = {
                    "folder": str(folder),
                    "queries": args.queries or getattr(peer, "QUERIES", 1_000_000),
                    "repeats": args.repeats or getattr(peer, "REPEATS", REPEATS),
                    "limit_s": work.seconds("search"),
                }
                got = _child(work, row, options)
                data = Data(work.out / args.collection)
                row["asked"] = min(options["queries"], len(data.queries))
                if "found" in got:
                    got.update(judged(data, got.pop("found"), settings.get("k", 100)))
                work.note({**row, "repeats": options["repeats"], "pinned": work.pin, **got})


def everything(work: Work, args: argparse.Namespace) -> None:
    """Prepare, install, build and search what is missing, in this order."""
    collections, peers = args.collections.split(","), args.peers.split(",")
    for collection in collections:
        prepare(work, collection, args)
    steps = [step for step in (install, build, search) if args.only in (None, step.__name__)]
    for step in steps:
        for collection in collections[:1] if step is install else collections:
            for name in peers:
                adapter(name)  # refuses an unknown name
                values = {**vars(args), "peer": name, "variant": None, "collection": collection}
                step(work, argparse.Namespace(**values))


def show(work: Work, args: argparse.Namespace) -> None:
    """Print the latest of every result as a table, searches by collection and threads."""
    latest = {json.dumps([r.get(k) for k in KEY]): r for r in work.rows()}
    for title, columns, rows in _tables(list(latest.values())):
        print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for row in rows:
            print("| " + " | ".join(str(row.get(c, "")) for c in columns) + " |")


def _tables(
    rows: list[dict[str, Any]],
) -> Iterator[tuple[str, list[str], list[dict[str, Any]]]]:
    failed = [r for r in rows if "error" in r]
    good = [r for r in rows if "error" not in r]
    builds = [r for r in good if r["step"] == "build"]
    built = ["collection", "peer", "variant", "wall_s", "cpu_s", "index_mb", "bytes_per_token"]
    yield "Builds", [*built, "rss_mb"], builds
    columns = ["peer", "variant", "settings", "median_ms", "p95_ms", "cpu_ms", "r10@10", "r10@100"]
    columns += ["r100@100", "nDCG@10", "n_queries", "rss_mb", "load_s"]
    found = [r for r in good if r["step"] == "search"]
    for group in sorted({(r["collection"], r["threads"]) for r in found}):
        some = [r for r in found if (r["collection"], r["threads"]) == group]
        texts = [{**r, "settings": ", ".join(f"{k}={v}" for k, v in r["settings"].items())}
                 for r in some]  # fmt: skip
        yield f"Search: {group[0]}, {group[1]} threads", columns, texts
    reasons = [{**r, "error": r["error"].strip().splitlines()[-1]} for r in failed]
    yield "Failures", ["step", "peer", "collection", "variant", "error"], reasons


def _row(
    step: str,
    args: argparse.Namespace,
    variant: str,
    settings: dict[str, Any] | None,
    threads: int,
) -> dict[str, Any]:
    row = {"step": step, "peer": args.peer, "collection": args.collection, "variant": variant}
    return {**row, **({} if settings is None else {"settings": settings}), "threads": threads}


def _variants(args: argparse.Namespace) -> list[str]:
    return [args.variant] if args.variant else list(adapter(args.peer).POINTS)


def _child(work: Work, row: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Run one measurement by the peer's Python; what it wrote, or its error's last lines."""
    data = work.out / row["collection"]
    _ = Data(data).about  # refuses a collection that is not prepared
    job = {**row, **options, "data": str(data)}
    threads = row["threads"]
    grace = 120 if row["step"] == "search" else 0  # to load, and to finish a slow query
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        python = work.python(row["peer"])
        command = [str(python), "-m", "peers.child", json.dumps(job), str(out)]
        if work.pin and shutil.which("taskset"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            command = ["taskset", "-c", ",".join(map(str, cores)), *command]
        try:
            _quiet(command, work.seconds(row["step"]) + grace, env=_env(threads, python))
            return json.loads(out.read_text("utf-8"))
        except (subprocess.SubprocessError, OSError) as error:
            return {"error": _last(work, error)}


def _quiet(command: list[str], seconds: float, env: dict[str, str] | None = None) -> None:
    """Run with the output kept for the error; at the limit, end it and all it started."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        process = subprocess.Popen(
            command, stdout=told, stderr=told, env=env, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except BaseException:
            os.killpg(process.pid, 9)
            process.wait()
            raise
        if status:
            told.seek(0)
            raise subprocess.CalledProcessError(status, command[:1], told.read())


def _last(work: Work, error: Exception) -> str:
    """The last lines of what went wrong, without the folders of this machine."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"stopped after {error.timeout:.0f} s"
    text = str(error)
    if isinstance(error, subprocess.CalledProcessError):
        told = str(error.output or error.stderr or "").strip()
        text = told or f"exit status {error.returncode}"
    for folder, name in ((work.path, "WORK"), (HERE, "scripts"), (Path.home(), "~")):
        text = text.replace(str(folder), name)
    return "\n".join(text.splitlines()[-LINES:])[-TAIL:]


def _env(threads: int, python: Path) -> dict[str, str]:
    pools = {f"{name}_NUM_THREADS": str(threads) for name in POOLS}
    more = {"LANCE_CPU_THREADS": str(threads), "TOKIO_WORKER_THREADS": str(threads)}
    programs = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    paths = {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", "PATH": programs}
    extensions = python.parent.parent / "extensions"  # what PyTorch compiles for a peer
    for lock in extensions.glob("*/lock"):  # one run at a time, so it is a stopped one's
        lock.unlink()
    return {**os.environ, **pools, **more, **paths, "TORCH_EXTENSIONS_DIR": str(extensions)}


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
