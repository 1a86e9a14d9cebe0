"""What docs/benchmarks.md says of measures and comparisons, from what scripts printed.

Called by render_benchmarks.py; reads docs/benchmarks/evaluation.jsonl
(scripts/bench_evaluation.py) and docs/benchmarks/conformance.jsonl (scripts/conformance.py).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINES = Path(__file__).parents[1] / "docs" / "benchmarks"
Row = dict[str, Any]
Table = Callable[[list[str], list[list[object]]], str]


def _lines(name: str) -> list[Row]:
    return [json.loads(line) for line in (LINES / f"{name}.jsonl").read_text().splitlines()]


def sections(table: Table, machine: Callable[[Row], str]) -> list[str]:
    """Speed beside others, a large file, and where tools differ; what was measured of it."""
    made = {
        "evaluation": lambda: _speed(table, machine),
        "conformance": lambda: _conformance(table),
    }
    return [make() for name, make in made.items() if (LINES / f"{name}.jsonl").exists()]


def _speed(table: Table, machine: Callable[[Row], str]) -> str:
    head, *rows = _lines("evaluation")
    names = {"measure": "one run, {} measures", "compare": "{} runs compared in {} measures"}
    cells: list[list[object]] = []
    for row in rows:
        if row["what"] not in names:
            continue
        counts = [row["measures"]] if row["what"] == "measure" else [row["runs"], row["measures"]]
        what = f"{row['tool']}: {names[row['what']].format(*counts)}"
        cells.append([what, row["first_s"], row["median_s"], row["times_tokret"]])
    tools = ", ".join(f"{name} {version}" for name, version in head["tools"].items())
    parts = [
        "## Measures and comparisons",
        "1,000 queries of 1,000 hits in dictionaries, not in order; tools take turns in one "
        "process; CPU seconds of one thread. *First* is the first call, with what it imports or "
        "compiles. tokret's comparison holds three tests, two corrections and intervals, ranx's "
        "the randomisation test alone; "
        "ir_measures has no tests and only measures the runs.",
        "```bash\n# not run: takes minutes\npython scripts/bench_evaluation.py > "
        "docs/benchmarks/evaluation.jsonl\n```",
        table(["", "first s", "median s", "times tokret"], cells),
    ]
    once = all(abs(r["median_s"] - r["first_s"]) < 0.01 for r in rows if "median_s" in r)
    if once:
        parts.append("One round was run: all times are first calls, ranx's its compilation.")
    for row in rows:
        if row["what"] == "file":
            parts.append(
                f"A run file of {row['lines']:,} lines ({row['MB']} MB), streamed from disk: "
                f"{row['seconds']:.0f} CPU seconds for three measures, {row['peak_MB']} MB at "
                "most, "
                f"{row['before_MB']} MB of them before it was opened."
            )
    parts.append(f"{machine(head['environment'])}; {tools}; load before: {head['load']:.1f}.")
    return "\n\n".join(parts)


def _conformance(table: Table) -> str:
    head, *rows = _lines("conformance")
    tools = list(head["tools"])
    cells = []
    for tool in tools:
        off = [r for r in rows if tool in r["off"]]
        kinds = list(dict.fromkeys(r["case"].partition(":")[0] for r in off))
        cells.append([f"{tool} {head['tools'][tool]}: {', '.join(kinds) or 'none'}", len(off)])
    return "\n\n".join(
        [
            "## Conformance",
            f"{head['rows']} values of small cases worked out by hand "
            "(`evaluation/conformance/cases.toml`), under tokret's policies; others have policies "
            "of their own, and a difference is no error of theirs. pytrec_eval is averaged over "
            "the queries that it answers for.",
            "```bash\n# not run: shows what is installed\npython scripts/conformance.py\n"
            "python scripts/conformance.py --json > docs/benchmarks/conformance.jsonl\n```",
            table(["differs in", "values"], cells),
        ]
    )
