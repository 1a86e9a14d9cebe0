"""Predict bytes and time of an ivf index at 10^8 and 10^9 passages, from measured points.

    python scripts/scaling.py docs/benchmarks/engine.jsonl

docs/scaling.md says the formulas. Rates are taken from one measured collection; the others check
them. Prints JSON lines: ``check`` compares the model with what was measured, ``size`` is a
prediction. render_engine.py makes the tables of docs/scaling.md from the same functions.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from tokret.indexes.codebook import ROWS_A_CELL
from tokret.indexes.coded import BLOCK_PASSAGES
from tokret.indexes.kmeans import ITERATION_PROBES, ITERATIONS, cells_for

Row = dict[str, Any]

SPEC = "ivf"
RECALL, K = 0.97, 10  # the searches that are modelled
FIXED = 60  # bytes a passage: seven columns of 8 bytes for ends, ids and their order, one of 4
IN_MEMORY = 28  # bytes a passage that opening an index reads: three ends and an error
MOST_ROWS = (1 << 28) // (4 * 128)  # of training, at the default memory of 1 GiB
MASKS = 6  # bytes a passage that gathering clears: a sum and a mark
SIZES = (10**8, 10**9)


@dataclass(frozen=True)
class Shape:
    """A collection as the model sees it; bytes and counts are means."""

    passages: int
    tokens: float  # of a passage
    different: float  # cells of a passage
    cells: int
    id_bytes: float  # of a document id

    @property
    def total(self) -> float:
        return self.passages * self.tokens

    def grown(self, passages: int) -> Shape:
        """The same passages, more of them."""
        return replace(self, passages=passages, cells=cells_for(int(passages * self.tokens)))


@dataclass(frozen=True)
class Effort:
    """What a query looks at, which calibration chose; means over queries."""

    query_tokens: float
    posted: float  # postings read, for each that one cell of mean size holds, a query token
    gathered: float  # passages kept of those gathered
    compared: float  # cells of passages, of a passage's mean
    read: float  # tokens decoded, of a passage's mean


@dataclass(frozen=True)
class Rates:
    """What one measured collection says: bytes a token, nanoseconds an item, counts a query."""

    code_bytes: float  # a token
    other_bytes: float  # a cell, of the codebook
    effort: Effort
    ns_cell: float  # a cell and query token
    ns_posting: float
    ns_different: float  # a different cell of a passage compared
    ns_token: float  # a token decoded and compared
    ns_pair: float  # a row and a centroid compared in k-means
    us_token: float  # a token stored, coded
    fixed_s: float  # of a build: entropy tables and calibration
    rest_ms: float
    copy_gbs: float


def points(rows: list[Row]) -> list[tuple[Row, Row | None]]:
    """Builds of the default spec, smallest first, with the search that is modelled."""
    builds, searches = {}, {}
    for row in rows:
        if row.get("spec") != SPEC or "quick" in row["collection"]:
            continue
        if row["row"] == "build":
            builds[row["collection"]] = row
        if row["row"] == "search" and row["k"] == K and row["target"].get("recall") == RECALL:
            searches[row["collection"]] = row
    every = [(build, searches.get(name)) for name, build in builds.items()]
    return sorted(every, key=lambda pair: pair[0]["passages"])


def shape(build: Row) -> Shape:
    """What a build row says of its collection."""
    n, columns = build["passages"], build["columns"]
    return Shape(
        n, build["tokens"] / n, columns["cells"] / 2 / n, build["cells"], columns["doc_ids"] / n
    )


def rates(build: Row, search: Row) -> Rates:
    """What one measured point says."""
    columns, s, stages = build["columns"], shape(build), search["stages"]
    code_book = (
        "centres",
        "cell_codes",
        "cell_code_ends",
        "groups",
        "inverse",
        "rotation",
        "shares",
        "facts",
    )
    effort, took = effort_of(build, search), build["step_cpu_s"]
    spent = {name: 1e6 * stages[name]["ms"] for name in ("cells", "probe", "compare", "refine")}
    return Rates(
        columns["codes"] / build["tokens"],
        sum(columns.get(name, 0) for name in code_book) / s.cells,
        effort,
        spent["cells"] / (s.cells * effort.query_tokens),
        (spent["probe"] - MASKS * s.passages / search["copy_gbs"]) / stages["probe"]["ops"],
        spent["compare"] / (effort.compared * s.different),
        spent["refine"] / (effort.read * s.tokens),
        1e9 * took["cells"] / pairs(s),
        1e6 * (took["code"] + took["store"]) / s.total,
        took["codebook"] + took["calibrate"],
        stages["rest"]["ms"],
        search["copy_gbs"],
    )


def effort_of(build: Row, search: Row) -> Effort:
    """What one measured search looked at."""
    stages, s = search["stages"], shape(build)
    tokens = stages["cells"]["macs"] / s.cells / build["width"]
    compare = stages["compare"]
    return Effort(
        tokens,
        stages["probe"]["ops"] / (tokens * s.passages * s.different / s.cells),
        compare["items"],
        (compare["bytes"] - compare["ops"]) / 2 / s.different,  # two bytes a cell
        stages["refine"]["ops"] / build["width"] / s.tokens,
    )


def pairs(s: Shape) -> float:
    """Rows and centroids compared in k-means."""
    rows = min(s.total, s.cells * ROWS_A_CELL, MOST_ROWS)
    return rows * ITERATIONS * (1 + ITERATION_PROBES) * sqrt(s.cells)


def predicted(s: Shape, r: Rates) -> Row:
    """Bytes and milliseconds of the whole, by part."""
    blocks = ceil(s.passages / BLOCK_PASSAGES)
    size = {
        "codes": s.total * r.code_bytes,
        "cells and postings": 4 * s.passages * s.different,
        "ends of postings": 8 * s.cells * blocks,
        "passages": s.passages * (FIXED + s.id_bytes),
        "codebook": s.cells * r.other_bytes,
    }
    e = r.effort
    postings = e.query_tokens * e.posted * s.passages * s.different / s.cells
    ms = {
        "cells": s.cells * e.query_tokens * r.ns_cell / 1e6,
        "probe": postings * r.ns_posting / 1e6 + MASKS * s.passages / r.copy_gbs / 1e6,
        "compare": e.compared * s.different * r.ns_different / 1e6,
        "refine": e.read * s.tokens * r.ns_token / 1e6,
        "rest": r.rest_ms,
    }
    return {
        "passages": s.passages,
        "tokens": round(s.total),
        "cells": s.cells,
        "tokens_a_cell": round(s.total / s.cells, 1),
        "postings_read": round(postings),
        "gathered": round(min(e.gathered * blocks, postings)),
        "bytes": {k: round(v) for k, v in size.items()},
        "total_bytes": round(sum(size.values())),
        "bytes_per_token": round(sum(size.values()) / s.total, 2),
        "memory_bytes": round(s.passages * IN_MEMORY + 8 * s.cells * blocks + size["codebook"]),
        "ms": {k: round(v, 3) for k, v in ms.items()},
        "total_ms": round(sum(ms.values()), 3),
        "build_cpu_s": round(
            pairs(s) * r.ns_pair / 1e9 + s.total * r.us_token / 1e6 + r.fixed_s, 1
        ),
    }


def checks(rows: list[Row]) -> list[Row]:
    """The model with the smallest collection's rates, each one's own effort, and the measured."""
    known = [(build, search) for build, search in points(rows) if search]
    if not known:
        return []
    base = rates(*known[0])
    out = []
    for build, search in known:
        model = predicted(shape(build), replace(base, effort=effort_of(build, search)))
        measured = {
            "bytes_per_token": build["bytes_per_token"]["search"],
            "build_cpu_s": build["cpu_s"],
            "ms": {name: stage["ms"] for name, stage in search["stages"].items()},
            "total_ms": search["mean_ms"],
        }
        name = build["collection"]
        out.append({"row": "check", "collection": name, "model": model, "measured": measured})
    return out


def sizes(rows: list[Row]) -> list[Row]:
    """Predictions, with the rates and the passages of the largest measured collection."""
    known = [(build, search) for build, search in points(rows) if search]
    if not known:
        return []
    build, search = known[-1]
    r, s = rates(build, search), shape(build)
    made = [predicted(s.grown(n), r) for n in SIZES]
    return [{"row": "size", "after": build["collection"], **row} for row in made]


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    for row in [*checks(rows), *sizes(rows)]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
