"""Damage real indexes in thousands of ways, and see that nothing false is answered.

    python scripts/damage_test.py [--mutations 10000] [--seed 0] [--kinds exact-fp16,bm25]
        [--jobs 1] [--minutes M] [--json] [--out FILE]

Two thirds of the damages are accidents (flipped bits, bytes written over, files cut, grown,
swapped, missing, of an earlier version, links, devices, JSON that misleads parsers); one third
are attacks, in which every digest is made to fit again. A child process then verifies, opens,
searches and reads, and one time in three adds, deletes and compacts. Counted are:

    found     accidents that full verification names
    harmless  accidents that change no byte that the index needs
    silent    other accidents that full verification does not name: must be 0
    refused   attacks that full verification names; the others were answered
    crashes   ends of the child by a signal; hangs, by CPU time; must be 0
    foreign   errors that are not of tokret.errors: must be 0

Of what an accident does to an index that is only opened (``quick``), ``refused``, ``same``
and ``other`` say how many searches failed, were as before, or had another answer.
"""

import argparse
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damage import mutate, samples

from tokret.evaluation.record import environment
from tokret.indexes.store import Store

WALL = 900.0  # seconds without an answer: something waits for ever
WRITTEN = 3  # one index in so many is also added to, deleted from and compacted
SHOWN = 40  # cases of a kind that are kept
FAULTS = ("silent", "crashes", "hangs", "foreign")


class Child:
    """A worker, started again when it has died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, path: Path, write: bool = True) -> dict[str, str] | int:
        """What came of each step; or how the child died."""
        if self.process is None:
            worker = str(Path(__file__).parent / "damage" / "worker.py")
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", worker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        process = self.process
        process.stdin.write(json.dumps({"path": str(path), "write": write}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], WALL)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        if not ready:
            process.kill()
        self.process = None
        return process.wait()

    def close(self) -> None:
        """Let it end."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def linked(source: Path, target: Path) -> None:
    """A copy that shares its files, which no commit changes in place; a build goes on in its."""
    alone = (source / "build.json").exists()
    shutil.copytree(source, target, copy_function=shutil.copy2 if alone else os.link)


def needed(path: Path) -> tuple[dict[str, bytes], str]:
    """The files that the current version and an unfinished build need; the segment of this."""
    building = ""
    manifest = Store(path).manifest()
    names = ["CURRENT", f"manifest-{manifest.version:08d}.json"]
    names += [f"segments/{e.id}" for e in manifest.segments]
    names += [e.deletes for e in manifest.segments if e.deletes]
    names += [f"segments/{manifest.derived.id}"] if manifest.derived else []
    if (path / "build.json").exists():
        state = json.loads((path / "build.json").read_text())["ingest"]
        building = state["writing"]["id"]
        names += ["build.json", f"segments/{building}"]
    found = {}
    for name in names:
        for file in [path / name] if (path / name).is_file() else (path / name).iterdir():
            found[str(file.relative_to(path))] = file.read_bytes()
    return found, building


def changed(path: Path, want: dict[str, bytes], building: str) -> bool:
    """Whether a file that is needed is another, or no plain file inside the index.

    What follows in the files of the unfinished segment ``building`` is cut off by its build.
    """
    for name, data in want.items():
        file = path / name
        if any(part.is_symlink() for part in (file, *file.parents[: name.count("/")])):
            return True
        if not file.is_file():
            return True
        cut = bool(building) and building in name
        if not cut and file.stat().st_size != len(data):
            return True
        with open(file, "rb") as opened:
            if opened.read(len(data)) != data:
                return True
    return False


@dataclass
class Figures:
    """What came of some damages."""

    counts: Counter[str] = field(default_factory=Counter)
    cases: dict[str, list[object]] = field(default_factory=dict)
    table: dict[str, Counter[str]] = field(default_factory=dict)
    indexes: set[str] = field(default_factory=set)


def run(numbers: range, seed: int, kinds: list[str], folder: Path, end: float) -> Figures:
    """Damage copies of the samples, each by the chance of its number, until ``end``."""
    made = {name: path for name in kinds if (path := samples.make(folder, name)) is not None}
    child, figures = Child(), Figures(indexes=set(made))
    whole = {}
    for name, path in made.items():
        linked(path, folder / "case")
        whole[name] = needed(path), child.ask(folder / "case")
        shutil.rmtree(folder / "case")
    for i in numbers:
        if time.monotonic() > end:
            break
        figures.counts["injected"] += 1
        if i % 500 == 0:
            print(i, {key: figures.counts[key] for key in FAULTS}, file=sys.stderr)
        rng = random.Random(f"{seed}/{i}")
        name = rng.choice(list(made))
        attack = rng.random() < 1 / 3
        known = mutate.ATTACKS if attack else mutate.ACCIDENTS
        damage = rng.choices(list(known), list(known.values()))[0]
        linked(made[name], folder / "case")
        what = damage(folder / "case", folder / f"{name}.old", rng)
        want, before = whole[name]
        harmless = not attack and not changed(folder / "case", *want)
        answer = child.ask(folder / "case", write=i % WRITTEN == 0)
        shutil.rmtree(folder / "case")
        mine = figures.table.setdefault(f"{name} {damage.__name__}", Counter())
        for outcome in _outcomes(answer, before, attack, harmless):
            figures.counts[outcome] += 1
            mine[outcome] += 1
            if outcome in FAULTS and len(figures.cases.setdefault(outcome, [])) < SHOWN:
                case = f"{name}: {damage.__name__}: {what}"
                figures.cases[outcome].append({"i": i, "case": case, "answer": _bad(answer)})
    child.close()
    return figures


def merged(parts: list[Figures]) -> dict[str, Any]:
    """The figures of all jobs, JSON-able."""
    counts = sum((part.counts for part in parts), Counter())
    names = sorted({name for part in parts for name in part.table})
    tables = {n: sum((part.table.get(n, Counter()) for part in parts), Counter()) for n in names}
    return {
        **{
            key: counts[key]
            for key in ("injected", "accidents", "attacks", "found", "harmless", "refused")
        },
        **{key: counts[key] for key in FAULTS},
        "quick": {k: counts[f"quick {k}"] for k in ("refused", "same", "other")},
        "indexes": sorted(set().union(*(part.indexes for part in parts))),
        "cases": {k: [c for part in parts for c in part.cases.get(k, [])] for k in FAULTS},
        "table": {name: dict(table) for name, table in tables.items()},
    }


def _outcomes(
    answer: dict[str, str] | int, before: dict[str, str] | int, attack: bool, harmless: bool
) -> Iterator[str]:
    yield "attacks" if attack else "accidents"
    if isinstance(answer, int) or isinstance(before, int):
        yield "hangs" if answer in (-27, -9) else "crashes"  # SIGPROF; killed for waiting
        return
    if any(said.startswith("foreign") for said in answer.values()):
        yield "foreign"
    named = answer["verify full"] != before["verify full"]
    if attack:
        if named:
            yield "refused"
        return
    yield "harmless" if harmless else "found" if named else "silent"
    if not harmless:
        searched = answer.get("search", "not opened")
        same = searched == before["search"]
        yield f"quick {'same' if same else 'other' if searched.startswith('=') else 'refused'}"


def _bad(answer: dict[str, str] | int) -> object:
    if isinstance(answer, int):
        return answer
    return {k: v for k, v in answer.items() if v.startswith("foreign") or k == "verify full"}


def main() -> int:
    """Run, print, and say by the exit status whether any figure that must be 0 is not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(samples.KINDS))
    parser.add_argument("--minutes", type=float, default=1e6, help="stop then, and say so")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        kinds, end = args.kinds.split(","), began + 60 * args.minutes
        tasks = [
            pool.submit(run, range(j, args.mutations, args.jobs), args.seed, kinds, at, end)
            for j in range(args.jobs)
            for at in [Path(folder) / str(j)]
        ]
        result = merged([task.result() for task in tasks])
    command = " ".join(["python", "scripts/damage_test.py", *sys.argv[1:]])
    record = {
        "command": command,
        "environment": environment(),
        "seconds": round(time.monotonic() - began),
        **result,
    }
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    if args.json:
        print(json.dumps(record))
    else:
        for key in ("injected", "found", "harmless", "refused", *FAULTS, "quick"):
            print(f"{key:10} {record[key]}")
        for outcome, cases in record["cases"].items():
            for case in cases:
                print(outcome, json.dumps(case))
    return int(any(record[key] for key in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
