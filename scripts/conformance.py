"""Hold tokret and other tools to cases worked out by hand, and print where they differ.

    python scripts/conformance.py [--all] [--json]

The cases are evaluation/conformance/cases.toml. A tool that is not installed is left out;
ir_measures reaches its providers as it chooses. Exit status 1 where tokret itself is off.
"""

import argparse
import ast
import importlib
import json
import math
import operator
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[1] / "evaluation" / "conformance" / "cases.toml"
TOLERANCE = 1e-9
REFUSED = "refused"
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
Value = float | str | None  # a number, a word for what happened, or nothing: cannot compute it
Case = dict[str, Any]


def cases() -> list[Case]:
    """Read the cases; their values become numbers."""
    found = tomllib.loads(CASES.read_text())["case"]
    for case in found:
        if case["values"] != REFUSED:
            case["values"] = {m: arithmetic(text) for m, text in case["values"].items()}
    return found


def arithmetic(text: str) -> float:
    """Work out numbers, + - * / and log2."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id="log2"), args=[argument]):
                return math.log2(value(argument))
        raise ValueError(f"{text!r} is no arithmetic")

    return value(ast.parse(text, mode="eval").body)


def tokret(case: Case, measure: str) -> Value:
    """What tokret says, with the case's policies."""
    from tokret.errors import InputError
    from tokret.evaluation import evaluate

    try:
        report = evaluate(
            case["run"],
            case["qrels"],
            measure,
            remove_self=case.get("remove_self", False),
            check_ids=not case.get("strangers", False),
        )
    except InputError:
        return REFUSED
    return next(iter(report.values.values()))


def ir_measures(case: Case, measure: str) -> Value:
    """What ir_measures says of scored documents, which may come twice as in a file."""
    import ir_measures as tool

    parsed = tool.parse_measure(measure)
    qrels = [tool.Qrel(q, d, g) for q, docs in case["qrels"].items() for d, g in docs.items()]
    run = [tool.ScoredDoc(q, d, s) for q, docs in case["run"].items() for d, s in docs]
    return tool.calc_aggregate([parsed], qrels, run)[parsed]


def pytrec_eval(case: Case, measure: str) -> Value:
    """What trec_eval says, averaged over the queries that it answers for, as most do."""
    import pytrec_eval as tool

    name, _, cut = measure.partition("@")
    names = {"nDCG": "ndcg_cut", "AP": "map_cut", "P": "P", "R": "recall", "Success": "success"}
    whole = {"AP": "map", "RR": "recip_rank", "Rprec": "Rprec", "nDCG": "ndcg"}
    trec = f"{names[name]}_{cut}" if cut and name in names else whole.get(name) if not cut else None
    if trec is None:
        return None
    run = {q: {d: float(s) for d, s in docs} for q, docs in case["run"].items()}
    found = tool.RelevanceEvaluator(case["qrels"], {trec}).evaluate(run)
    return sum(v[trec] for v in found.values()) / len(found) if found else "no query"


def ranx(case: Case, measure: str) -> Value:
    """What ranx says of the same mappings."""
    import ranx as tool

    name, _, cut = measure.partition("@")
    names = {"nDCG": "ndcg", "AP": "map", "RR": "mrr", "P": "precision", "R": "recall"}
    names |= {"Success": "hit_rate", "Rprec": "r-precision", "nDCG(dcg='exp-log2')": "ndcg_burges"}
    if name not in names:
        return None
    theirs = names[name] + (f"@{cut}" if cut else "")
    run = {q: {d: float(s) for d, s in docs} for q, docs in case["run"].items()}
    return float(tool.evaluate(tool.Qrels(case["qrels"]), tool.Run(run), theirs))


TOOLS = {
    "tokret": (tokret, "tokret"),
    "ir_measures": (ir_measures, "ir-measures"),
    "pytrec_eval": (pytrec_eval, "pytrec_eval-terrier"),
    "ranx": (ranx, "ranx"),
}


def installed() -> dict[str, str]:
    """The tools that are here, with their versions."""
    found = {}
    for name, (_, package) in TOOLS.items():
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def answers(tools: list[str]) -> list[dict[str, Any]]:
    """One row for each case and measure: what is right, and what each tool says."""
    rows = []
    for case in cases():
        refused = case["values"] == REFUSED
        wanted = {"nDCG@10": REFUSED} if refused else case["values"]
        for measure, expected in wanted.items():
            row: dict[str, Any] = {"case": case["name"], "measure": measure, "by hand": expected}
            for tool in tools:
                try:
                    row[tool] = TOOLS[tool][0](case, measure)
                except Exception as error:  # whatever a tool makes of the case is the finding
                    row[tool] = REFUSED if refused else f"{type(error).__name__}"
            rows.append(row)
    return rows


def agrees(expected: Value, got: Value) -> bool:
    """Whether a tool says what is right; one that cannot compute a measure does not differ."""
    if got is None:
        return True
    if isinstance(expected, str) or isinstance(got, str):
        return expected == got
    return abs(expected - got) <= TOLERANCE


def shown(value: Value) -> str:
    """A cell of the table."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4f}"


def main() -> int:
    """Print the table; with --all also the rows on which every tool agrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also where all agree")
    parser.add_argument("--json", action="store_true", help="one line a case and measure")
    args = parser.parse_args()
    versions = installed()
    tools = list(versions)
    rows = answers(tools)
    if args.json:
        print(json.dumps({"tools": versions, "rows": len(rows)}))
    else:
        head = ["case", "measure", "by hand", *tools]
        print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for row in rows:
        if not args.all and all(agrees(row["by hand"], row[tool]) for tool in tools):
            continue
        if args.json:
            off = [tool for tool in tools if not agrees(row["by hand"], row[tool])]
            print(json.dumps({**row, "off": off}))
            continue
        cells = [row["case"], f"`{row['measure']}`", shown(row["by hand"])]
        for tool in tools:
            right = agrees(row["by hand"], row[tool])
            cells.append(shown(row[tool]) if right else f"**{shown(row[tool])}**")
        print(f"| {' | '.join(cells)} |")
    if not args.json:
        off = {t: sum(not agrees(r["by hand"], r[t]) for r in rows) for t in tools}
        told = ", ".join(f"{t} {versions[t]} differs in {n}" for t, n in off.items())
        print(f"\nOf {len(rows)} values: {told}.")
    return int(any(not agrees(row["by hand"], row["tokret"]) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
