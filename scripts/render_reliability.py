"""Put the figures of the fault tests into docs/reliability.md.

    python scripts/render_reliability.py

They are read from docs/reliability/*.json: crash.json (scripts/crash_test.py), damage.json
(scripts/damage_test.py), soak.json (scripts/soak_test.py), fuzz.json (scripts/fuzz.py, one
object a line, a target). What is not there yet is said to be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RECORDS = ROOT / "docs" / "reliability"
BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.S)
KINDS = {
    "steps": "killed before a step, or within a write",
    "moments": "killed at random moments",
    "power": "power cut: what was not synced may be gone",
    "faults": "a call refused: ENOSPC, EDQUOT, EIO, EFBIG",
    "short": "half of a write taken",
    "limits": "`ulimit -f`, a full disk",
}

Record = dict[str, Any]
Row = tuple[str, str, int, int, int]  # script, what was done, injected, survived, lost


def records(name: str) -> list[Record]:
    """Objects that a script wrote: one of many lines, or one a line; none where it has not run."""
    file = RECORDS / f"{name}.json"
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
        return value if isinstance(value, list) else [value]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def crash(found: list[Record]) -> Iterator[Row]:
    """A row for each way in which a writer ends."""
    for record in found:
        for kind, row in record.get("kinds", {}).items():
            numbers = (row["injected"], row["survived"], row["lost"])
            yield "crash_test.py", KINDS.get(kind, kind), *numbers


def damage(found: list[Record]) -> Iterator[Row]:
    """Accidents and attacks; lost are those that were silent, or ended the process."""
    for record in found:
        lost = sum(record[key] for key in ("silent", "crashes", "hangs", "foreign"))
        what = (
            f"files damaged: {record['accidents']:,} by accident, {record['attacks']:,} with "
            "every digest made to fit"
        )
        yield "damage_test.py", what, record["injected"], record["injected"] - lost, lost


def opened_only(record: Record) -> str:
    """What accidents did to those who open and search without a full verification."""
    quick = record["quick"]
    return (
        f"Full verification names every accident that changed a byte of use. Of those who open and "
        f"search without it, {quick['refused']:,} were refused, {quick['same']:,} got the answer "
        f"as before, and {quick['other']:,} another: mapped columns are not read when an index is "
        "opened."
    )


def soak(found: list[Record]) -> Iterator[Row]:
    """Answers of readers while a writer commits."""
    for record in found:
        commits = sum(n for kind, n in record["commits"].items() if kind != "kept waiting")
        what = f"answers of {record['readers']} readers during {commits:,} commits"
        count, lost = record["injected"], record["lost"]
        yield "soak_test.py", what, count, count - lost, lost


def fuzz(found: list[Record]) -> Iterator[Row]:
    """Inputs of all targets."""
    targets = [row for record in found for row in record.get("targets", [record])]
    if targets:
        count = sum(row.get("inputs", 0) for row in targets)
        lost = sum(len(row["faults"]) for row in targets)
        compiled = sum(row["target"].startswith("native_") for row in targets)
        readers = f"{len(targets) - compiled} readers and {compiled} compiled functions"
        what = f"inputs that nobody wrote, for {readers}"
        yield "fuzz.py", what, count, count - lost, lost


def figures() -> str:
    """The table of what was injected, survived and lost, with how each was run."""
    rows, commands = [], []
    for name, read in (("crash", crash), ("damage", damage), ("soak", soak), ("fuzz", fuzz)):
        found = records(name)
        script = "fuzz.py" if name == "fuzz" else f"{name}_test.py"
        if not found:
            rows.append(f"| `{script}` | *not run yet* | | | |")
        for script, what, *numbers in read(found):
            shown = " | ".join(f"{number:,}" for number in numbers)
            rows.append(f"| `{script}` | {what} | {shown} |")
        commands += [f"`{record['command']}`" for record in found[:1] if "command" in record]
    head = ["| script | faults | injected | survived | lost |", "|---|---|---:|---:|---:|"]
    lines = [*head, *rows]
    lines += [line for record in records("damage") for line in ("", opened_only(record))]
    if commands:
        lines += ["", f"By {', '.join(commands)}. {_machine()}"]
    return "\n".join(lines)


def _machine() -> str:
    found = next((r for r in records("soak") if "environment" in r), None)
    if found is None:
        return ""
    machine, versions = found["environment"]["machine"], found["environment"]["versions"]
    return (
        f"On {machine['cpu']}, {machine['cores']} cores, {machine['os']}, Python "
        f"{versions['python']}, tokret {versions['tokret']}."
    )


def page() -> str:
    """The page with the figures that there are."""
    blocks = {"faults": figures()}
    return BLOCK.sub(
        lambda m: f"{m[1]}\n{blocks[m[2]]}\n\n{m[3]}", PAGE.read_text(encoding="utf-8")
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
