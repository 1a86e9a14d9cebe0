"""Measure the kernels on one thread, against NumPy and the machine's own peak.

    python scripts/bench_kernels.py [--quick] [--tokens 32] [--isa avx2 ...]

The vectors are random unit vectors shaped as SciFact is: 5,183 passages of about 267 tokens,
128 wide, and queries of 23 tokens. Prints JSON lines: first the machine, then one line for each
kernel, instruction set and storage. ``gmacs`` is 1e9 multiply-adds a second that the task needs
(lanes that hold no query token are not counted), ``share_of_peak`` its part of what the same
instructions reach with all operands in registers, ``times_numpy`` the ratio to ``query @
vectors.T`` with ``np.maximum.reduceat`` in float32, timed in turn with it, and
``times_numpy_blocks`` that to the fastest NumPy form known: ``vectors @ query.T`` for sixteen
passages at a time. ``nearest`` compares rows with int8 centroids, and its ``gmacs`` count those
that are compared. Times are medians, over repeats, of the processor time of the one thread,
which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokret.kernels.reference import Codes

ONE_THREAD = {name: "1" for name in ["OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"]}
TUNING = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]  # would hold BLAS below what it can do
WIDTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="400 passages, 3 queries")
    parser.add_argument("--passages", type=int, default=5183)
    parser.add_argument("--queries", type=int, default=5, help="how many of 300 are timed")
    parser.add_argument("--tokens", type=int, default=23, help="of one query")
    parser.add_argument("--k-prime", type=int, default=1000)
    parser.add_argument("--isa", action="append", help="an instruction set; all but scalar")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.passages, args.queries, args.repeats = 400, 3, 3
    restart_with_plain_blas()
    bench(args)


def restart_with_plain_blas() -> None:
    """BLAS reads its settings as it is loaded, so they must be there before Python is."""
    if all(os.environ.get(k) == v for k, v in ONE_THREAD.items()) and not any(
        name in os.environ for name in TUNING
    ):
        return
    plain = {k: v for k, v in os.environ.items() if k not in TUNING}
    os.execve(sys.executable, [sys.executable, *sys.argv], {**plain, **ONE_THREAD})


def bench(args: argparse.Namespace) -> None:
    import numpy as np

    from tokret.evaluation.record import environment
    from tokret.kernels import native
    from tokret.types import Tokens

    rng = np.random.default_rng(0)

    def unit(count: int) -> np.ndarray:
        rows = rng.standard_normal((count, WIDTH), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    lengths = rng.integers(200, 335, args.passages)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    docs = Tokens(unit(int(offsets[-1])), offsets)
    queries = [unit(args.tokens) for _ in range(args.queries)]
    every_chosen = [
        (isa, dtype, docs.to(dtype))
        for dtype in ("fp32", "fp16", "int8")
        for isa in args.isa or native.cpu_features()[1:] or native.cpu_features()
    ]
    peaks = {
        (isa, dtype): native.multiply_add_peak(isa, dtype, 0.3) for isa, dtype, _ in every_chosen
    }
    say(
        environment=environment(),
        threads=1,
        blas=blas(),
        instruction_sets=native.cpu_features(),
        chosen=native.simd(),
        passages=args.passages,
        tokens=len(docs.vectors),
        width=WIDTH,
        query_tokens=args.tokens,
        queries=args.queries,
        repeats=args.repeats,
    )

    def numpy_maxsim(query: np.ndarray) -> np.ndarray:
        return np.maximum.reduceat(query @ docs.vectors.T, offsets[:-1], axis=1).sum(axis=0)

    def numpy_blocks(query: np.ndarray) -> np.ndarray:
        scores = np.empty(args.passages, np.float32)
        for n in range(0, args.passages, 16):
            starts = offsets[n : n + 17]
            sims = docs.vectors[starts[0] : starts[-1]] @ query.T
            best = np.maximum.reduceat(sims, starts[:-1] - starts[0], axis=0)
            scores[n : n + 16] = best.sum(axis=1)
        return scores

    def numpy_topk(query: np.ndarray) -> np.ndarray:
        sims = query @ docs.vectors.T
        best = np.argpartition(sims, -args.k_prime, axis=1)[:, -args.k_prime :]
        order = np.argsort(-np.take_along_axis(sims, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    work = args.tokens * WIDTH * len(docs.vectors) / 1e9
    for kernel, ours, theirs in [
        (
            "maxsim",
            lambda isa, d, q: native._maxsim(isa, q, d, 1),
            {"numpy": numpy_maxsim, "numpy_blocks": numpy_blocks},
        ),
        (
            "token_topk",
            lambda isa, d, q: native._token_topk(isa, q, d, args.k_prime, None, 1),
            {"numpy": numpy_topk},
        ),
    ]:
        tasks: dict[Any, Callable[[Any], Any]] = dict(theirs)
        for isa, dtype, stored in every_chosen:
            tasks[isa, dtype] = lambda q, i=isa, d=stored, f=ours: f(i, d, q)
        seconds = interleaved(tasks, queries, args.repeats)
        for name in theirs:
            say(
                kernel=kernel,
                isa=name,
                dtype="fp32",
                seconds=round(seconds[name], 6),
                gmacs=round(work / seconds[name], 1),
            )
        for (isa, dtype), peak in peaks.items():
            took = seconds[isa, dtype]
            say(
                kernel=kernel,
                isa=isa,
                dtype=dtype,
                seconds=round(took, 6),
                gmacs=round(work / took, 1),
                peak_gmacs=round(peak, 1),
                share_of_peak=round(work / took / peak, 3),
                **{f"times_{name}": round(seconds[name] / took, 2) for name in theirs},
                **({"k_prime": args.k_prime} if kernel == "token_topk" else {}),
            )
    bench_nearest(args, peaks, docs.to("int8").vectors)


def bench_nearest(args: argparse.Namespace, peaks: dict[Any, float], rows: Codes) -> None:
    """All of 4096 centroids for some rows; then those of 12 of 64 groups for all of them."""
    import numpy as np

    from tokret.kernels import native
    from tokret.kernels.reference import Groups

    cells, groups, probes = 4096, 64, 12
    centroids, centres = rows[:cells], rows[cells : cells + groups]
    grouped = Groups(np.linspace(0, cells, groups + 1).astype(np.int64), centres)
    few = rows[: len(rows) // 8]
    for form, compared, task in [
        ("all", len(few) * cells, lambda isa: native._nearest(isa, few, centroids, None, 1, 1)),
        (
            "groups",
            len(rows) * (groups + probes * cells // groups),
            lambda isa: native._nearest(isa, rows, centroids, grouped, probes, 1),
        ),
    ]:
        chosen = [isa for isa, dtype in peaks if dtype == "int8"]
        tasks = {isa: lambda _, i=isa, f=task: f(i) for isa in chosen}
        for isa, took in interleaved(tasks, [None], args.repeats).items():
            rate = compared * WIDTH / took / 1e9
            say(
                kernel="nearest",
                among=form,
                isa=isa,
                dtype="int8",
                seconds=round(took, 6),
                gmacs=round(rate, 1),
                peak_gmacs=round(peaks[isa, "int8"], 1),
                share_of_peak=round(rate / peaks[isa, "int8"], 3),
            )


def interleaved(
    tasks: dict[Any, Callable[[Any], Any]], queries: list[Any], repeats: int
) -> dict[Any, float]:
    """Seconds of one query: all tasks take turns, so that none has the quiet hour."""
    times: dict[Any, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task(queries[0])
    for _ in range(repeats):
        for query in queries:
            for name, task in tasks.items():
                start = time.thread_time()
                task(query)
                times[name].append(time.thread_time() - start)
    return {name: sorted(taken)[len(taken) // 2] for name, taken in times.items()}


def blas() -> list[str]:
    """Which BLAS NumPy runs, and which of its kernels, if threadpoolctl is there to tell."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return [
        f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip()
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    ]


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
