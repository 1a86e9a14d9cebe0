"""The figures of the engine: tables for docs/engine.md, docs/scaling.md and the README.

Called by render_benchmarks.py. Text between ``<!-- figures: NAME -->`` and ``<!-- end of
figures -->`` is one of ``blocks``, from docs/benchmarks/engine.jsonl (scripts/bench_engine.py)
and docs/benchmarks/peers.jsonl (the results of scripts/bench_peers.py), where these are there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import scaling

ROOT = Path(__file__).parents[1]
LINES = ROOT / "docs" / "benchmarks"
IMAGES = ROOT / "docs" / "images"
BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.S)
NOTHING = "*Not measured yet: `scripts/bench_engine.py` prints these figures.*"
STAGES = ("cells", "probe", "compare", "refine", "rest")
COLUMNS = {
    "codes": ("codes",),
    "cells of passages, and their postings": ("cells", "postings"),
    "ends of cells, codes, tokens and postings": (
        *("cell_ends", "code_ends", "token_ends", "posting_ends"),
    ),
    "codebook": (
        *(
            "cell_code_ends",
            "cell_codes",
            "centres",
            "groups",
            "inverse",
            "rotation",
            "shares",
            "shifts",
        ),
        *("weights", "facts"),
    ),
}
REST = "document ids, passages, errors"

Row = dict[str, Any]


def lines(name: str) -> list[Row]:
    """What a script printed, or nothing."""
    file = LINES / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def engine(name: str) -> list[Row]:
    """Rows of bench_engine.py; of several for the same thing, the last."""
    latest: dict[str, Row] = {}
    for row in lines("engine"):
        key = [row.get(k) for k in ("row", "collection", "spec", "target", "k")]
        latest[json.dumps(key)] = row
    return [row for row in latest.values() if row["row"] == name]


def peers(step: str) -> list[Row]:
    """Rows of bench_peers.py that did not fail; of several for the same thing, the last."""
    latest: dict[str, Row] = {}
    for row in lines("peers"):
        key = [row.get(k) for k in ("peer", "collection", "variant", "settings", "threads")]
        if row["step"] == step:
            latest[json.dumps(key)] = row
    return [row for row in latest.values() if "error" not in row]


def filled(text: str) -> str:
    """A page with its figures renewed. Raises KeyError for a name that there is not."""
    made = blocks()
    return BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", text)


def blocks() -> dict[str, str]:
    """Every block by its name."""
    names = {
        "readme": readme,
        "builds": builds,
        "bytes": shares,
        "searches": searches,
        "stages": stages,
        "plot": plot,
        "peers": beside,
        "check": check,
        "sizes": sizes,
        "size-stages": size_stages,
        "growth": growth,
    }
    return {name: make() or NOTHING for name, make in names.items()}


def sections() -> list[str]:
    """What docs/benchmarks.md says of the engine and of others, where it was measured."""
    out = []
    if engine("search"):
        out.append(
            "## Engine\n\nThe `ivf` backend on one thread, vectors given: milliseconds of "
            "`Index.search` for ten documents, best of three repeats a query; *of 10* and *of "
            "100* the share found of the best of exact MaxSim in float32. What the columns and "
            "stages are: [The engine](engine.md).\n\n```bash\n# not run: needs prepared "
            "collections\npython scripts/bench_engine.py --data path/to/data --work "
            "path/to/work > docs/benchmarks/engine.jsonl\npython scripts/plot_engine.py\n```"
        )
        out += [part for part in (builds(), searches(), plot()) if part]
    if peers("search"):
        out.append(
            "## Beside other engines\n\nThe same vectors and queries, one thread, each engine in "
            "an environment of its own. Other work ran beside the builds:\ntheir CPU seconds "
            "count. *of 10* as above.\n\n```bash\n# not run: takes hours\n"
            "python scripts/bench_peers.py all --pin\n```"
        )
        out += [part for part in (beside(), failures()) if part]
    return out


def failures() -> str:
    """What could not be measured, with the error."""
    latest: dict[str, Row] = {}
    for row in lines("peers"):
        key = [row.get(k) for k in ("step", "peer", "collection", "variant")]
        latest[json.dumps(key)] = row
    said = [
        f"- {r['peer']}, {r['step']}: `{str(r['error']).strip().splitlines()[-1]}`"
        for r in latest.values()
        if "error" in r
    ]
    return "Not measured:\n\n" + "\n".join(said) if said else ""


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    cells = [head, rule, *[[str(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def target(row: Row) -> str:
    """What a search was asked for."""
    asked = row["target"]
    return "exact" if "exact" in asked else f"recall {asked['recall']:g}"


def readme() -> str:
    """The plot and three lines."""
    built = {r["spec"]: r for r in engine("build") if r["collection"] == "scifact"}
    found = [r for r in engine("search") if r["collection"] == "scifact" and r["k"] == 10]
    mine = {target(r): r for r in found if r["spec"] == "ivf"}
    if "ivf" not in built or "recall 0.97" not in mine:
        return ""
    one, best = built["ivf"], mine["recall 0.97"]
    exact = [r for r in found if target(r) == "exact" and r["spec"].startswith("exact")]
    than = f", brute force in int8 {exact[0]['median_ms']:.1f} ms" if exact else ""
    judged = f" nDCG@10 {best['nDCG@10']:.3f} of {best['exact nDCG@10']:.3f}."
    facts = [
        f"- SciFact, one thread, without encoding: {best['median_ms']:.1f} ms a query at "
        f"`recall=0.97` ({best['r10@10']:.3f} of the exact ten best found){than}.{judged}",
        f"- {one['bytes_per_token']['search']:.1f} bytes a token for all that a search reads; "
        f"{one['bytes_per_token']['text']:.1f} more for texts, token ids and spans.",
        f"- Building from vectors: {one['cpu_s']:.0f} CPU seconds for {one['tokens']:,} tokens, "
        f"{one['own_peak_mb']:,.0f} MB at most but for mapped files.",
    ]
    return "\n\n".join(part for part in (image("engine", "docs/images"), "\n".join(facts)) if part)


def image(name: str, folder: str) -> str:
    """A plot, where it was drawn."""
    words = {
        "engine": "Median milliseconds of a query against the share of the exact ten best found",
        "growth": "Time of a query and of a build against passages, measured and by the model",
    }
    return f"![{words[name]}]({folder}/{name}.svg)" if (IMAGES / f"{name}.svg").exists() else ""


def plot() -> str:
    return image("engine", "images")


def growth() -> str:
    return image("growth", "images")


def machine() -> str:
    """Where and how the figures were taken."""
    head = engine("head")
    if not head:
        return ""
    m = head[-1]["environment"]["machine"]
    return (
        f"{m['cpu']} ({m['architecture']}, {m['cores']} cores, kernels: {m['kernels']}), "
        f"{head[-1]['time'][:10]}; {head[-1]['peak_gmacs']:.0f} int8 GMAC/s in registers and "
        f"{head[-1]['copy_gbs']:.0f} GB/s of copying (read and written) on one thread."
    )


def builds() -> str:
    """What builds take, and what they leave."""
    rows: list[list[object]] = []
    for r in engine("build"):
        each = r["bytes_per_token"]
        rows.append(
            [
                f"{r['collection']}, `{r['spec']}`",
                f"{r['tokens']:,}",
                f"{r['cells']:,}" if r["cells"] else "",
                f"{r['wall_s']:.0f}",
                f"{r['cpu_s']:.0f}",
                f"{r['peak_mb']:,.0f}",
                f"{r['own_peak_mb']:,.0f}",
                *[f"{each[k]:.1f}" if each[k] else "" for k in ("search", "store", "text")],
            ]
        )
    head = ["", "tokens", "cells", "wall s", "CPU s", "peak MB", "without mapped files"]
    head += ["search B/token", "store B/token", "text B/token"]
    return f"{table(head, rows)}\n\n{machine()}" if rows else ""


def shares() -> str:
    """Bytes a token by column, of the default index."""
    rows: list[list[object]] = []
    found = [r for r in engine("build") if r["spec"] == "ivf"]
    for title, names in COLUMNS.items():
        sums = [sum(r["columns"].get(n, 0) for n in names) / r["tokens"] for r in found]
        rows.append([title, *[f"{s:.2f}" for s in sums]])
    every = {n for names in COLUMNS.values() for n in names}
    left = [
        r["bytes_per_token"]["search"]
        - sum(v for k, v in r["columns"].items() if k in every) / r["tokens"]
        for r in found
    ]
    rows.append([REST, *[f"{s:.2f}" for s in left]])
    rows.append(["all", *[f"{r['bytes_per_token']['search']:.2f}" for r in found]])
    return table(["bytes a token", *[r["collection"] for r in found]], rows) if found else ""


def searches() -> str:
    """Latency and quality for every target."""
    deep = {(r["collection"], r["spec"], target(r)): r for r in engine("search") if r["k"] == 100}
    batches = {(r["collection"], r["spec"], target(r)): r for r in engine("batch")}
    rows: list[list[object]] = []
    for r in engine("search"):
        if r["k"] != 10:
            continue
        key = (r["collection"], r["spec"], target(r))
        more, many = deep.get(key, {}), batches.get(key, {})
        read = r.get("stages", {}).get("refine", {}).get("items")
        judged = f"{r['nDCG@10']:.3f} ({r['exact nDCG@10']:.3f})" if "nDCG@10" in r else ""
        rows.append(
            [
                f"{key[0]}, `{key[1]}`, {key[2]}",
                f"{r['median_ms']:.2f}",
                f"{r['p95_ms']:.2f}",
                f"{r['cpu_ms']:.2f}",
                f"{r['r10@10']:.3f}",
                f"{more['r100@100']:.3f}" if "r100@100" in more else "",
                judged,
                f"{read:.0f}" if read is not None else "",
                f"{many['queries_s_2']:.0f}" if many else "",
            ]
        )
    head = ["", "median ms", "p95 ms", "CPU ms", "of 10", "of 100", "nDCG@10 (exact)"]
    return table([*head, "passages read", "queries/s, 2 threads"], rows) if rows else ""


def stages() -> str:
    """Time of each stage beside its floor, for the default index."""
    rows: list[list[object]] = []
    for r in engine("search"):
        if r["spec"] != "ivf" or r["k"] != 10 or target(r) != "recall 0.97":
            continue
        for name in STAGES:
            s = r["stages"][name]
            floor = s.get("floor_ms")
            rows.append(
                [
                    f"{r['collection']}, `{name}`",
                    f"{s['ms']:.3f}",
                    f"{s['items']:,.0f}" if "items" in s else "",
                    f"{s['bytes'] / 1e3:,.0f}" if "bytes" in s else "",
                    f"{s['macs'] / 1e6:.1f}" if s.get("macs") else "",
                    f"{s['ops'] / 1e3:,.0f}" if s.get("ops") else "",
                    f"{floor:.3f}" if floor is not None else "",
                ]
            )
    head = ["", "ms", "items", "kB", "million multiply-adds", "thousand other", "floor ms"]
    return table(head, rows) if rows else ""


def beside() -> str:
    """Other engines on SciFact, one thread."""
    built = {(r["collection"], r["peer"], r["variant"]): r for r in peers("build")}
    rows: list[list[object]] = []
    for r in peers("search"):
        if r["threads"] != 1:
            continue
        settings = ", ".join(f"{k}={v}" for k, v in r["settings"].items())
        b = built.get((r["collection"], r["peer"], r["variant"]), {})
        rows.append(
            [
                f"{r['collection']}, {r['peer']} {r['variant']}, {settings}",
                f"{r['median_ms']:.2f}",
                f"{r['p95_ms']:.2f}",
                f"{r['r10@10']:.3f}",
                f"{r['nDCG@10']:.3f}" if "nDCG@10" in r else "",
                f"{b['bytes_per_token']:.0f}" if b else "",
                f"{b['cpu_s']:.0f}" if b else "",
            ]
        )
    head = ["", "median ms", "p95 ms", "of 10", "nDCG@10", "bytes/token", "build CPU s"]
    return table(head, rows) if rows else ""


def check() -> str:
    """The model of docs/scaling.md beside what was measured."""
    rows: list[list[object]] = []
    for found in scaling.checks(engine("build") + engine("search")):
        model, real = found["model"], found["measured"]

        def pair(name: str, values: list[float], *, _found: Row = found) -> None:
            said, was = values
            ratio = f"{said / was:.2f}" if was else ""
            rows.append([f"{_found['collection']}, {name}", f"{said:.2f}", f"{was:.2f}", ratio])

        pair("bytes a token", [model["bytes_per_token"], real["bytes_per_token"]])
        pair("build, CPU s", [model["build_cpu_s"], real["build_cpu_s"]])
        for name in STAGES[:-1]:
            pair(f"`{name}`, ms", [model["ms"][name], real["ms"][name]])
        pair("a query, ms", [model["total_ms"], real["total_ms"]])
    return table(["", "model", "measured", "ratio"], rows) if rows else ""


def sizes() -> str:
    """What the model says of 10^8 and 10^9 passages."""
    found = scaling.sizes(engine("build") + engine("search"))
    if not found:
        return ""
    rows: list[list[object]] = []
    for title, key, unit in (("tokens", "tokens", 1e9), ("all bytes, GB", "total_bytes", 1e9)):
        rows.append([title, *[f"{r[key] / unit:,.1f}" for r in found]])
    rows[0][0] = "tokens, 10^9"
    rows.append(["cells", *[f"{r['cells']:,}" for r in found]])
    rows.append(["tokens a cell", *[f"{r['tokens_a_cell']:,.0f}" for r in found]])
    for name in found[0]["bytes"]:
        rows.append([f"{name}, GB", *[f"{r['bytes'][name] / 1e9:,.2f}" for r in found]])
    rows.append(["bytes a token", *[f"{r['bytes_per_token']:.1f}" for r in found]])
    rows.append(["memory once opened, GB", *[f"{r['memory_bytes'] / 1e9:,.1f}" for r in found]])
    rows.append(["build, CPU hours", *[f"{r['build_cpu_s'] / 3600:,.1f}" for r in found]])
    head = ["", *[f"10^{len(str(r['passages'])) - 1} passages" for r in found]]
    return f"{table(head, rows)}\n\nPassages like those of {found[0]['after']}."


def size_stages() -> str:
    """What the model says a query takes at these sizes."""
    found = scaling.sizes(engine("build") + engine("search"))
    rows: list[list[object]] = [
        [f"`{name}`, ms", *[f"{r['ms'][name]:,.2f}" for r in found]] for name in STAGES
    ]
    rows.append(["a query, ms", *[f"{r['total_ms']:,.1f}" for r in found]])
    rows.append(["postings read, million", *[f"{r['postings_read'] / 1e6:,.1f}" for r in found]])
    rows.append(["passages gathered, million", *[f"{r['gathered'] / 1e6:,.2f}" for r in found]])
    head = ["", *[f"10^{len(str(r['passages'])) - 1} passages" for r in found]]
    return table(head, rows) if found else ""
