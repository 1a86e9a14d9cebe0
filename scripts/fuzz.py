"""Give the readers and the compiled kernels what nobody wrote for them.

    python scripts/fuzz.py --all --seconds 5            every target, 5 s of a processor each
    python scripts/fuzz.py --target where --seconds 600 one, for long
    python scripts/fuzz.py --target where --replay FILE one input again, with its traceback
    python scripts/fuzz.py --list

Whatever the bytes, a reader gives a value or an error of tokret.errors, soon and in little
memory. Inputs come from atheris, led by coverage (`pip install atheris`), or where it is not
installed, or for the compiled kernels, from hypothesis; --engine chooses. Each target runs in a
process of its own. An input that is a fault is kept in --keep DIR; the exit status is 1.

For long runs, one process a core: `nice python scripts/fuzz.py --all --seconds 1800 --json`.
The compiled kernels are tried under AddressSanitizer by scripts/test_sanitized.sh.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fuzzing import Target


def targets(only_native: bool = False) -> dict[str, Target]:
    """All targets by name, readers first."""
    found = []
    if not only_native:
        from fuzzing.readers import READERS

        found += READERS
    with contextlib.suppress(ImportError):  # installed without a compiler
        from fuzzing.natives import NATIVES

        found += NATIVES
    return {target.name: target for target in found}


def child(args: argparse.Namespace) -> None:
    """Search one target, here; what was found goes to a file."""
    if args.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["tokret"], enable_loader_override=False):
            target = targets()[args.target]
    else:
        target = targets(args.target.startswith("native_"))[args.target]
    from fuzzing import engines

    if not args.no_limit:
        engines.limit_memory()
    report = Path(args.report)
    if args.engine == "atheris":
        engines.by_atheris(target, args.seconds, args.seed, report)
    last = report.with_suffix(".input").open("wb", buffering=0)

    def note(data: bytes) -> None:
        last.seek(0)
        last.truncate()
        last.write(data)

    tally = engines.by_hypothesis(target, args.seconds, args.seed, note if target.native else bytes)
    report.write_text(json.dumps(tally.to_dict()))


def search(target: Target, engine: str, args: argparse.Namespace) -> dict[str, Any]:
    """Search one target in another process; what it found, and how that process ended."""
    with tempfile.TemporaryDirectory(prefix="tokret-fuzz-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, *(["-S"] if sys.flags.no_site else []), __file__]
        command += ["--child", "--report", str(report)]
        command += ["--target", target.name, "--engine", engine]
        command += ["--seconds", str(args.seconds), "--seed", str(args.seed)]
        command += ["--no-limit"] if args.no_limit else []
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found: dict[str, Any] = {"target": target.name, "faults": {}}
        if report.exists():
            found = json.loads(report.read_text())
        if done.returncode:
            last = report.with_suffix(".input")
            data = last.read_bytes() if last.exists() else b""
            lines = done.stderr.strip().splitlines() or ["no words"]
            said = [line for line in lines if "Sanitizer" in line or "runtime error" in line]
            fault = f"the process ended with {done.returncode}: {(said or lines[-1:])[0]}"
            found["faults"][fault] = data.hex()
            sys.stderr.write(done.stderr[-4000:])
    return {**found, "engine": engine, "seconds": round(time.monotonic() - began, 1)}


def engine_for(target: Target, wanted: str) -> str:
    """What was asked for, or the best there is."""
    if wanted != "best":
        return wanted
    led = importlib.util.find_spec("atheris") is not None and not target.native
    return "atheris" if led else "hypothesis"


def main() -> int:
    """Run what was asked for."""
    caption, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        description=caption, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--target", action="append", default=[], help="may be given again")
    chosen.add_argument("--all", action="store_true")
    chosen.add_argument("--native", action="store_true", help="all of the compiled kernels")
    chosen.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=float, default=10, help="of a processor, a target")
    parser.add_argument("--engine", choices=("best", "atheris", "hypothesis"), default="best")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that are faults")
    parser.add_argument("--replay", type=Path, help="a file that holds one input")
    parser.add_argument("--json", action="store_true", help="one object a line for each target")
    parser.add_argument("--no-limit", action="store_true", help="no limit of memory (sanitizers)")
    for hidden in ("--child", "--report"):
        action = "store_true" if hidden == "--child" else "store"
        parser.add_argument(hidden, action=action, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        args.target = args.target[0]
        child(args)
        return 0
    known = targets(args.native)
    if args.native and not known:
        parser.error("the compiled kernels are not installed")
    if unknown := [name for name in args.target if name not in known]:
        parser.error(f"no target {unknown[0]!r}; known: {', '.join(known)}")
    if args.list:
        print("\n".join(known))
        return 0
    native = [name for name, target in known.items() if target.native]
    names = native if args.native else list(known) if args.all else args.target
    if args.replay:
        from fuzzing.trial import strictly

        with strictly():
            known[names[0]].run(args.replay.read_bytes())
        return 0
    faults = 0
    for name in names:
        found = search(known[name], engine_for(known[name], args.engine), args)
        faults += len(found["faults"])
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            for data in map(bytes.fromhex, found["faults"].values()):
                (args.keep / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
        if args.json:
            print(json.dumps(found), flush=True)
        else:
            tried = f"{found.get('inputs', 0):>9,} inputs"
            print(f"{name:<26}{found['engine']:<11}{tried}  {len(found['faults'])} faults")
            for fault, data in found["faults"].items():
                print(f"  {fault}\n    {bytes.fromhex(data)[:200]!r}")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
