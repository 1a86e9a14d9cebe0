"""Kill, starve and cut off the writer of an index, and see that nothing is lost.

    python scripts/crash_test.py [--runs 500] [--seed 0] [--json FILE] [--folder DIR]
        [--backend exact ...] [--only steps ...]

Every call by which an index is changed on disk is a step. A child process builds, adds,
updates, deletes, compacts and changes the model, and

    steps    is killed (SIGKILL) before a step, or in the middle of a write;
    moments  is killed at random moments, the same index again and again;
    power    has its power cut: what was not synced may be gone; also after it was killed, or
             a sync failed, and a second writer went on;
    faults   is refused a call, once or from then on: ENOSPC, EDQUOT, EIO, EFBIG;
    short    has a write take half of what it was given;
    limits   meets real limits: ulimit -f, and, where it may mount one, a full disk.

``--runs`` is how many trials each kind gets, shared among the backends; ``0`` takes every
step there is. After each the index is compared with a model of its contents, document by
document: ids, texts, metadata, vectors, answers; then the next writer must be able to write,
full verification must pass and no file may be left over. Exit status 1 if anything was lost.
Figures go into FILE, in the place of those of the same kinds.
"""

import argparse
import errno
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crash.disk import CALLS, FILLING, Step
from crash.story import BACKENDS
from crash.trials import Bench, killed_often

from tokret.evaluation.record import environment

CODES = {"ENOSPC": FILLING, "EDQUOT": FILLING, "EIO": CALLS, "EFBIG": ("write", "truncate")}
IMAGES = 10  # of one change whose power is cut
Result = tuple[str, str, list[str]]  # what was done, what came of it, what is wrong


def steps_of(bench: Bench, runs: int, rng: random.Random) -> list[tuple[int, Step]]:
    """Steps of a story: all, or as many as asked for, drawn."""
    every = [(i, step) for i, steps in enumerate(bench.steps) for step in steps]
    return every if not runs or runs >= len(every) else sorted(rng.sample(every, runs))


def by_steps(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Kill before a step; of writes, as often in their middle."""
    for i, step in steps_of(bench, runs, rng):
        kind = "torn" if step.call == "write" and rng.random() < 0.5 else "kill"
        outcome, wrong = bench.kill(i, step.number, kind)
        yield f"{bench.story[i].name}: {step}", "killed" if outcome.killed else "ended", wrong


def by_moments(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Kill at random moments."""
    spec = BACKENDS[bench.backend]
    for told, wrong in killed_often(bench.folder, spec, 32, rng, runs or 300):
        yield f"a random moment: {told}", "killed", wrong


def by_power(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Cut the power."""
    for _ in range(max(1, (runs or 2000) // len(bench.story) // IMAGES)):
        for i, change in enumerate(bench.story):
            for told, wrong in bench.cut(i, rng, IMAGES):
                yield f"{change.name}: {told}", told.partition(" after")[0], wrong


def by_faults(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Refuse calls."""
    for i, step in steps_of(bench, runs, rng):
        fitting = [name for name, calls in CODES.items() if step.call in calls]
        name = rng.choice(fitting)
        lasting = rng.random() < 0.5
        outcome, wrong = bench.fail(i, step.number, getattr(errno, name), lasting, CODES[name])
        told = f"{bench.story[i].name}: {name} {'from' if lasting else 'at'} {step}"
        yield told, "went on" if outcome.done else outcome.error.get("kind", "?"), wrong


def by_short(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Write half."""
    every = [(i, s) for i, s in steps_of(bench, 0, rng) if s.call == "write"]
    for i, step in every if not runs else rng.sample(every, min(runs, len(every))):
        _, wrong = bench.short(i, step.number)
        yield f"{bench.story[i].name}: half of {step}", "went on", wrong


def by_limits(bench: Bench, runs: int, rng: random.Random) -> Iterator[Result]:
    """Let the system itself refuse."""
    each = max(1, (runs or 200) // len(bench.story) // 2)
    with full_disk() as disk:
        for i, change in enumerate(bench.story):
            for n in range(each):
                size = rng.choice([0, 1, 50, 100, 300, 1000, 3000, 10_000])
                outcome, wrong = bench.limit(i, size)
                ended = "went on" if outcome.done else outcome.error.get("kind", "?")
                yield f"{change.name}: files of {size} bytes at most", ended, wrong
                if disk is None:
                    continue
                outcome, wrong = bench.fill(i, disk, (n + rng.random()) / each)
                ended = "went on" if outcome.done else outcome.error.get("kind", "?")
                yield f"{change.name}: a full disk", ended, wrong


KINDS: dict[str, Callable[[Bench, int, random.Random], Iterator[Result]]] = {
    "steps": by_steps,
    "moments": by_moments,
    "power": by_power,
    "faults": by_faults,
    "short": by_short,
    "limits": by_limits,
}


@contextmanager
def full_disk() -> Iterator[Path | None]:
    """A file system of 2 MB, where this process may mount one."""
    place = Path(tempfile.mkdtemp())
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tokret-crash", str(place)]
    mounted = False
    with suppress(OSError):
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def main() -> int:
    """Run what was asked for; print a line a kind, and what was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--backend", nargs="*", default=list(BACKENDS), choices=list(BACKENDS))
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    record: dict[str, Any] = {"kinds": {}}
    if args.json and args.json.exists():
        record = json.loads(args.json.read_text())
    record["command"] = f"python scripts/crash_test.py --runs {args.runs} --seed {args.seed}"
    record["environment"] = environment()
    record["backends"] = [BACKENDS[name] for name in args.backend]
    lost = 0
    try:
        benches = [Bench(folder, name) for name in args.backend]
        for kind in args.only:
            share = -(-args.runs // len(benches))
            began, ends, where, bad = time.monotonic(), Counter(), Counter(), []
            for bench in benches:
                rng = random.Random(f"{args.seed} {kind} {bench.backend}")
                for told, ended, wrong in KINDS[kind](bench, share, rng):
                    ends[ended] += 1
                    where[told.split(":")[0]] += 1
                    if wrong:
                        bad.append(f"{bench.backend}, {told}, {ended}: {'; '.join(wrong)}")
                        print(f"LOST {bad[-1]}", file=sys.stderr)
            count, lost = sum(ends.values()), lost + len(bad)
            words = f"--runs {args.runs} --seed {args.seed} --only {kind}"
            record["kinds"][kind] = {
                "command": f"python scripts/crash_test.py {words}",
                "injected": count,
                "survived": count - len(bad),
                "lost": len(bad),
                "ended": dict(sorted(ends.items())),
                "during": dict(sorted(where.items())),
                "seconds": round(time.monotonic() - began, 1),
            }
            print(json.dumps({kind: record["kinds"][kind]}), flush=True)
    finally:
        shutil.rmtree(folder)
    if args.json:
        kinds = record["kinds"].values()
        record["total"] = {
            name: sum(kind[name] for kind in kinds) for name in ("injected", "survived", "lost")
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
