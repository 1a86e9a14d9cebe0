"""Measure the stages of a search by cells on one thread, beside the least that they must take.

    python scripts/bench_stages.py [--quick] [--cells 16384] [--isa avx2 ...]

They run over random cells, 128 wide, and passages of about 267 tokens near some of them, coded at
about two bits a dimension. Prints JSON lines: first the machine, then one line for each stage and
instruction set. Beside each time stand what it must move (``bytes``) and do, and ``floor_ms``, the
longest that one of these takes at the rates of this machine: multiply-adds at their peak, bytes as
fast as NumPy finds the maximum of an array as large as the table of cells, and the eight
instructions that decode a residual at six a cycle of ``--ghz``. ``decode`` reads passages for a
query without tokens, ``refine`` for one of ``--tokens``. Times are medians, over repeats, of the
processor time of the one thread.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench_kernels import WIDTH, interleaved, restart_with_plain_blas, say

if TYPE_CHECKING:
    from tokret.kernels.reference import Codes
    from tokret.types import Floats, Ints

NPROBE, COMPARED = 32, 1536  # cells of a query token; passages that probing keeps
INSTRUCTIONS, WIDE = 8, 6  # of a residual; in a cycle, on Zen 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 passages, 3 repeats")
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=24, help="of the query")
    parser.add_argument("--ghz", type=float, help="the processor's clock; what Linux says")
    parser.add_argument("--isa", action="append", help="an instruction set; all but scalar")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    if args.quick:
        args.passages, args.repeats = 100, 3
    restart_with_plain_blas()
    bench(args)


def bench(args: argparse.Namespace) -> None:
    import numpy as np

    from tokret.evaluation.record import environment
    from tokret.kernels import native

    chosen = args.isa or native.cpu_features()[1:] or native.cpu_features()
    peaks = {isa: native.multiply_add_peak(isa, "int8", 0.3) for isa in chosen}
    lengths = np.random.default_rng(0).integers(200, 335, args.passages)
    say(
        environment=environment(),
        threads=1,
        instruction_sets=native.cpu_features(),
        chosen=native.simd(),
        passages=args.passages,
        width=WIDTH,
        ghz=args.ghz or cpu_ghz(),
        repeats=args.repeats,
    )
    bench_stages(args, peaks, lengths)


def bench_stages(args: argparse.Namespace, peaks: dict[str, float], lengths: Ints) -> None:
    """Cells scored, passages found and compared by them, and codes read."""
    import numpy as np

    from tokret.indexes.codebook import _shares
    from tokret.kernels import stages
    from tokret.kernels.coding import FINE, SYMBOLS, TABLES, UNIT, Coding, batch
    from tokret.types import quantise_rows

    rng = np.random.default_rng(1)
    tokens, cells = args.tokens, args.cells
    centroids = np.rint(rng.normal(0, 20, (cells, WIDTH))).clip(-127, 127).astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    topics = rng.integers(0, cells - 200, len(lengths))  # a passage's cells are like each other
    numbers = np.repeat(topics, lengths) + rng.integers(0, 200, offsets[-1])
    fine = centroids[numbers] * float(FINE) + np.rint(rng.normal(0, FINE, (len(numbers), WIDTH)))
    fine = fine.clip(-127 * FINE, 127 * FINE).astype(np.int16)
    made = batch(fine, np.zeros_like(fine), numbers.astype(np.int32), offsets)
    tables = [np.zeros(WIDTH // UNIT, np.int32), np.full(WIDTH // UNIT, 256, np.int32)]
    nothing = np.zeros((TABLES, SYMBOLS), np.int64)
    counts = Coding(centroids, *tables, _shares(nothing)).count(made)
    coding = Coding(centroids, *tables, _shares(counts))
    codes, ends, _ = coding.encode(made)
    owners = np.repeat(np.arange(len(lengths)), np.diff(made.cell_offsets))
    order = np.argsort(made.cells, kind="stable")
    posting_offsets = np.bincount(made.cells, minlength=cells).cumsum()
    block = stages.block(
        coding,
        np.concatenate([[0], posting_offsets]).astype(np.int64),
        owners[order].astype(np.uint16),
        made.cell_offsets,
        made.cells,
        made.token_offsets,
        codes,
        np.concatenate([[0], ends]).astype(np.int64),
    )
    query, scales = quantise_rows(rng.standard_normal((tokens, WIDTH), dtype=np.float32))
    none, no_scales = query[:0], scales[:0]
    everything = np.arange(len(lengths))
    expected = np.zeros(len(lengths), np.float32)
    scored = stages.score_cells(coding, query, scales, NPROBE, 1e3)

    def read(query: Codes, scales: Floats) -> Floats:
        whose = np.zeros(len(lengths), np.int64)
        given = (query, scales, whose, everything, expected, 1, np.inf, 1)
        return stages.refine(coding, [block], *given)

    entries, width = len(made.cells), scored.table.shape[1]
    residuals = len(numbers) * WIDTH
    rate = read_rate(scored.table.nbytes)
    clock = args.ghz or cpu_ghz()
    missing = np.ascontiguousarray(scored.sims[:, -1])
    hits = np.diff(np.concatenate([[0], posting_offsets]))[scored.nearest].sum()
    of_cells = {"cells": cells, "query_tokens": tokens}
    of_codes = {"tokens": len(numbers), "bits": round(8 * len(codes) / residuals, 3)}
    tasks: list[tuple[str, Callable[[], Any], dict[str, int], dict[str, Any], str, int]] = [
        (
            "score_cells",
            lambda: stages.score_cells(coding, query, scales, NPROBE, 1e3),
            {"multiply_adds": cells * tokens * WIDTH, "bytes": centroids.nbytes + cells * width},
            of_cells,
            "cell",
            cells,
        ),
        (
            "probe",
            lambda: stages.probe(coding, block, scored, missing, None, COMPARED),
            {"bytes": 2 * int(hits)},
            {**of_cells, "nprobe": NPROBE},
            "posting",
            int(hits),
        ),
        (
            "interact",
            lambda: stages.interact(coding, block, scored, tokens, None),
            {"bytes": entries * (width + 2)},
            {**of_cells, "cells_a_passage": round(entries / len(lengths), 1)},
            "passage",
            len(lengths),
        ),
        (
            "decode",
            lambda: read(none, no_scales),
            {"bytes": len(codes), "residuals": residuals},
            of_codes,
            "token",
            len(numbers),
        ),
        (
            "refine",
            lambda: read(query, scales),
            {
                "bytes": len(codes),
                "residuals": residuals,
                "multiply_adds": len(numbers) * tokens * WIDTH,
            },
            {**of_codes, "query_tokens": tokens},
            "token",
            len(numbers),
        ),
    ]
    for stage, task, needs, shape, unit, count in tasks:
        runs = {isa: lambda _, i=isa, f=task: with_isa(i, f) for isa in peaks}
        for isa, took in interleaved(runs, [None], args.repeats).items():
            peak = peaks[isa]
            floors = {
                "multiply_adds": needs.get("multiply_adds", 0) / peak / 1e9,
                "bytes": needs["bytes"] / rate,
                "residuals": needs.get("residuals", 0) * INSTRUCTIONS / WIDE / clock / 1e9,
            }
            work = needs.get("multiply_adds")
            say(
                kernel=stage,
                isa=isa,
                **shape,
                ms=round(took * 1e3, 4),
                **{f"ns_a_{unit}": round(took * 1e9 / max(count, 1), 2)},
                **(
                    {"gmacs": round(work / took / 1e9, 1), "peak_gmacs": round(peak, 1)}
                    if work
                    else {}
                ),
                **needs,
                floor_ms=round(max(floors.values()) * 1e3, 4),
                floor_of=max(floors, key=lambda name: floors[name]),
            )


def with_isa(isa: str, task: Callable[[], object]) -> None:
    """Run a task on an instruction set."""
    before = os.environ.get("TOKRET_SIMD")
    os.environ["TOKRET_SIMD"] = isa
    try:
        task()
    finally:
        os.environ.pop("TOKRET_SIMD")
        if before is not None:
            os.environ["TOKRET_SIMD"] = before


def read_rate(size: int) -> float:
    """Bytes a second of the maximum of so many bytes, read again and again."""
    import numpy as np

    values = np.ones(size, np.uint8)
    return size / interleaved({"max": lambda _: values.max()}, [None], 50)["max"]


def cpu_ghz() -> float:
    """The clock that Linux reports for the fastest core; 3.0 where it reports none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    except OSError:
        found = []
    return max(found, default=3000.0) / 1000


if __name__ == "__main__":
    main()
