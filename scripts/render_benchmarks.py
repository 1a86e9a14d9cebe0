"""Write docs/benchmarks.md, and the figures of the README and other pages, from what was printed.

    python scripts/render_benchmarks.py

Reads records of experiments in evaluation/expected/ and JSON lines in docs/benchmarks/,
which the commands in the page itself make, so that no figure is typed by hand. A test
compares the page with its sources.
"""

import json
from pathlib import Path
from typing import Any

import render_engine
import render_evaluation

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "evaluation" / "expected"
LINES = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
FILLED = [ROOT / "docs" / name for name in ("engine.md", "scaling.md")]
BEGIN, END = "<!-- numbers: scripts/render_benchmarks.py -->", "<!-- end of numbers -->"

Row = dict[str, Any]


def lines(name: str) -> list[Row]:
    """What a script printed."""
    return [json.loads(line) for line in (LINES / f"{name}.jsonl").read_text().splitlines()]


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    cells = [head, rule, *[[str(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def machine(environment: Row) -> str:
    """One line on where a number was taken."""
    m, v = environment["machine"], environment["versions"]
    packages = ", ".join(f"{k} {v[k]}" for k in ("numpy", "onnxruntime", "bm25s", "ir_measures"))
    return (
        f"{m['cpu']} ({m['architecture']}, {m['cores']} cores, kernels: {m['kernels']}), "
        f"{m['os']}, Python {v['python']}, tokret {v['tokret']}, {packages}"
    )


def experiment(name: str, title: str, note: str) -> str:
    """Quality of every system of an experiment, and what it took."""
    record = json.loads((RECORDS / f"{name}.json").read_text())
    by_system: dict[str, Row] = {}
    for number in record["numbers"]:
        by_system.setdefault(number["system"], {})[number["measure"]] = number["value"]
    measures = [m for m in record["experiment"]["measures"] if m != "Judged@10"]
    rows = []
    for system in record["systems"]:
        values = by_system[system["system"]]
        run = system["run"] or {}
        each = run["seconds"] / record["collection"]["queries"] * 1000 if run else None
        rows.append(
            [
                system["system"],
                *[f"{values[m]:.4f}" for m in measures],
                "" if each is None or system["fuse"] else f"{each:.1f}",
            ]
        )
    held = sum(e["holds"] for e in record["expected"])
    model = next(s["index"]["info"]["encoder"] for s in record["systems"] if s["model"])
    policy = record["numbers"][0]["policy"]
    return "\n\n".join(
        [
            f"## {title}",
            note,
            f"```bash\n# not run: needs the collection\ntokret evaluate evaluation/{name}.toml "
            f"--data path/to/{name} -o evaluation/expected/{name}.json\n```",
            table(["system", *measures, "ms a query"], rows),
            f"Policy: {policy}. Milliseconds are those of a batch of all queries on two threads, "
            f"encoding included. Expectations of the experiment file that hold: {held} of "
            f"{len(record['expected'])}. Model: {model['spec']}, sha256 {model['sha256'][:16]}…; "
            f"{record['date'][:10]}; {machine(record['environments'][record['environment']])}.",
        ]
    )


def encoding() -> str:
    """tokret-mini beside sentence-transformers."""
    *systems, summary = lines("encode")
    rows = [[s["system"], s["documents/s"], f"{s['tokens/s']:,}"] for s in systems]
    peer = ", ".join(f"{k} {v}" for k, v in summary["peer"].items())
    return "\n\n".join(
        [
            "## Encoding",
            f"`tokret-mini` against sentence-transformers on the same weights in torch float32, "
            f"{summary['documents']} SciFact abstracts ({summary['tokens']:,} tokens, at most "
            f"300 a document), {summary['threads']} threads, turn by turn, medians of five: "
            f"**{summary['ratio']} times** the documents a second.",
            "```bash\n# not run: needs the collection and torch\npython scripts/bench_encode.py "
            "path/to/scifact/corpus.jsonl --docs 300 --rounds 5 "
            "> docs/benchmarks/encode.jsonl\n```",
            table(["", "documents/s", "tokens/s"], rows),
            f"{machine(summary['environment'])}; {peer}.",
        ]
    )


def rounding() -> str:
    """What eight bits cost."""
    head, *measured = lines("rounding")
    rows = [
        [r["collection"], f"{r['float32']:.4f}", f"{r['int8']:.4f}", f"{r['difference']:+.4f}"]
        for r in measured
    ]
    return "\n\n".join(
        [
            "## Rounding",
            "`tokret-mini` against the float32 weights it was made from, through the same "
            "projection: nDCG@10 of exact MaxSim over fp16 vectors, at most 300 tokens a document. "
            "The stated tolerance is 0.005.",
            "```bash\n# not run: needs the collections and torch\npython scripts/bench_rounding.py "
            "path/to/cranfield path/to/scifact > docs/benchmarks/rounding.jsonl\n```",
            table(["nDCG@10", "float32", "int8", "difference"], rows),
            f"Model: sha256 {head['model'][:16]}…; {machine(head['environment'])}.",
        ]
    )


def kernels() -> str:
    """The kernels against NumPy and the machine's peak."""
    head, *measured = lines("kernels")
    rows = []
    for row in measured:
        if row["isa"].startswith("numpy"):
            name = "NumPy" if row["isa"] == "numpy" else "NumPy, blocked"
            rows.append([f"{row['kernel']} {name}", row["dtype"], ms(row), row["gmacs"], "", ""])
        else:
            share, times = f"{row['share_of_peak']:.0%}", f"{row['times_numpy']:.1f}"
            name = f"{row['kernel']} {row['isa']}"
            rows.append([name, row["dtype"], ms(row), row["gmacs"], share, times])
    return "\n\n".join(
        [
            "## Kernels",
            f"One thread, one query of {head['query_tokens']} tokens over {head['passages']:,} "
            f"passages ({head['tokens']:,} tokens, {head['width']} wide). *NumPy* is `query @ "
            "vectors.T` and `maximum.reduceat` on the same vectors in float32 (for `token_topk`, "
            "`argpartition`); *blocked* the fastest form of it that we found. Peak is the "
            "machine's own, measured in the same run by independent multiply-adds in registers. "
            "Work: tokens x query tokens x width multiply-adds; bytes: every vector once "
            "(4, 2 or 1 a component).",
            "```bash\n# not run: takes a minute\npython scripts/bench_kernels.py > "
            "docs/benchmarks/kernels.jsonl\n```",
            table(["", "dtype", "ms", "GMAC/s", "of peak", "times NumPy"], rows),
            f"{machine(head['environment'])}; BLAS: {', '.join(head['blas']) or 'unknown'}.",
        ]
    )


def ms(row: Row) -> str:
    """Milliseconds."""
    return f"{row['seconds'] * 1000:.1f}"


def command_line() -> str:
    """What a user waits for."""
    head, *measured = lines("cli")
    waits = [[f"`{r['what']}`", r["median_s"], r["most_s"]] for r in measured if "median_s" in r]
    builds = [
        [f"`{r['what']}`", r["seconds"], r["cpu_seconds"], r["peak_MB"], r["index_MB"]]
        for r in measured
        if "peak_MB" in r
    ]
    return "\n\n".join(
        [
            "## Waiting and memory",
            "Whole processes; `python -c pass` is Python's own share. SciFact is indexed with 300 "
            "tokens a document.",
            "```bash\n# not run: needs the collection\npython scripts/bench_cli.py --data "
            "path/to/scifact > docs/benchmarks/cli.jsonl\n```",
            table(["", "median s", "most s"], waits),
            table(["", "s", "CPU s", "peak MB", "index MB"], builds),
            f"{machine(head['environment'])}.",
        ]
    )


def readme_numbers() -> str:
    """The README's table: the few figures that say most."""
    values = {}
    for name in ("scifact", "cranfield"):
        for number in json.loads((RECORDS / f"{name}.json").read_text())["numbers"]:
            if number["measure"] == "nDCG@10":
                values[name, number["system"]] = f"{number['value']:.3f}"
    systems = ["BM25", "MaxSim fp16", "MaxSim int8", "XTR 1000", "RRF(BM25, XTR 1000)"]
    quality = table(
        ["nDCG@10", "SciFact", "Cranfield"],
        [[s, *[values.get((c, s), "") for c in ("scifact", "cranfield")]] for s in systems],
    )
    encode = lines("encode")
    fast = next(
        row
        for row in reversed(lines("kernels")[1:])
        if row["kernel"] == "maxsim" and row["dtype"] == "int8"
    )
    cli = {row["what"]: row for row in lines("cli")[1:]}
    exact = cli["tokret index scifact --backend exact"]
    facts = [
        f"- Encoding with `tokret-mini` on two cores: {encode[0]['tokens/s']:,} tokens/s, "
        f"{encode[-1]['ratio']} times sentence-transformers on the same weights in torch float32.",
        f"- Exact MaxSim in int8 on one thread ({fast['isa']}): {fast['gmacs']:.0f} GMAC/s, "
        f"{fast['times_numpy']:.0f} times NumPy's float32 ({fast['times_numpy_blocks']:.0f} times "
        f"the fastest form of it that we found), {fast['share_of_peak']:.0%} of the peak.",
        f"- Indexing SciFact (5,183 abstracts): {exact['seconds']:.0f} s on two cores, "
        f"{exact['peak_MB']} MB at most. `import tokret`: {cli['import tokret']['median_s']} s.",
    ]
    note = (
        "`tokret-mini` is untrained for this; the XTR paper gives 0.693 for ColBERTv2 and 0.710 "
        "for XTR base on SciFact."
    )
    return f"{quality}\n\n{note}\n\n" + "\n".join(facts)


def readme() -> str:
    """The README with its numbers renewed."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    text = before + BEGIN + "\n\n" + readme_numbers() + "\n\n" + END + rest.split(END)[1]
    return render_engine.filled(text)


def page() -> str:
    """The whole page."""
    intro = (
        "# Benchmarks\n\nThis page is written by `scripts/render_benchmarks.py` from what the "
        "commands below printed. Timings are of one small shared machine; ratios travel better "
        "than seconds."
    )
    scifact = (
        "5,183 abstracts, 300 judged claims. BM25 published: 0.665 to 0.679. The model was not "
        "trained for token retrieval: all-MiniLM-L6-v2's token vectors through a random "
        "orthonormal projection. Models trained for it do better: the XTR paper gives 0.693 for "
        "ColBERTv2, 0.710 for XTR base and 0.743 for XTR xxl. What XTR's imputation is "
        "worth shows between `kth`, `const`, `zero` and `none`."
    )
    cranfield = "1,400 abstracts, 225 graded queries."
    parts = [
        intro,
        experiment("scifact", "SciFact", scifact),
        experiment("cranfield", "Cranfield", cranfield),
        encoding(),
        rounding(),
        kernels(),
        command_line(),
        *render_evaluation.sections(table, machine),
        *render_engine.sections(),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    README.write_text(readme())
    for filled in FILLED:
        filled.write_text(render_engine.filled(filled.read_text()))
