"""Measure the GPU kernels against plain PyTorch and late-interaction-kernels, on one GPU.

    python scripts/bench_gpu.py [--quick] [--json] [--sweep] [--device cuda:0]
    python scripts/bench_gpu.py --interpret   # tiny, on the CPU: shows that it runs, times nothing

Three shapes, of random unit vectors 128 wide: ``colpali`` (queries and passages of 1,024
tokens), ``colbert`` (32 and 300) and ``scifact`` (23, and ragged passages of about 267).
Every system scores the same passages for the same query, both on the device. ``ms`` is the median
time on the device, by its own events; ``call_ms`` of our kernels the median of the whole call from
NumPy query to NumPy scores. ``tflops`` and ``gbytes`` are operations and bytes that the task needs
in 1e12 and 1e9 a second: two operations for each dimension of each pair of tokens; the passages
as stored, read once. ``floor_ms`` is the time of the slower of the two at the rates that torch's
own copy and matrix products reach here, and ``of_floor`` its share of ``ms``. ``off`` is the
largest distance of a score from float64's. ``same_bits`` says whether integer scores are those of
the CPU kernels. --sweep times every tiling and prints the best.
Leaves with 5 where there is no GPU and 2 where the extra [gpu] is not installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

    from tokret.types import Floats, Tokens

WIDTH = 128
K_PRIME = 1000
SETTLE = 5  # calls before the first that is timed: compiling, tuning, clocks


class Shape(NamedTuple):
    name: str
    query_tokens: int
    shortest: int
    longest: int
    passages: int


SHAPES = [
    Shape("colpali", 1024, 1024, 1024, 500),
    Shape("colbert", 32, 300, 300, 10_000),
    Shape("scifact", 23, 200, 334, 5183),
]
TINY = [Shape("colpali", 70, 80, 80, 3), Shape("colbert", 32, 30, 30, 4)]
TINY += [Shape("scifact", 23, 0, 70, 5)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the passages")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--sweep", action="store_true", help="time every tiling of maxsim")
    parser.add_argument("--interpret", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--device", help="cuda:0, ...; the current one")
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # read as Triton is imported
        args.repeats = 1
    from tokret.errors import TokretError

    try:
        bench(args)
    except TokretError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def bench(args: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from tokret.evaluation.record import environment
    from tokret.kernels import gpu
    from tokret.types import Tokens

    device = gpu.choose(args.device)
    shapes = TINY if args.interpret else SHAPES
    if args.quick:
        shapes = [shape._replace(passages=max(1, shape.passages // 10)) for shape in shapes]
    rates = {} if args.interpret else peaks(device)
    say = print_json if args.json else print_row
    say(
        device=torch.cuda.get_device_name(device) if rates else "interpreter, on the CPU",
        **gpu.VERSIONS,
        late_interaction_kernels=version("late-interaction-kernels"),
        rates={name: round(rate, 1) for name, rate in rates.items()},
        repeats=args.repeats,
        environment=environment(),
    )
    rng = np.random.default_rng(0)

    def unit(count: int) -> np.ndarray:
        rows = rng.standard_normal((count, WIDTH), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    for shape in shapes:
        lengths = rng.integers(shape.shortest, shape.longest + 1, shape.passages)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        docs = Tokens(unit(int(offsets[-1])), offsets)
        query = unit(shape.query_tokens).astype(np.float16).astype(np.float32)
        told = {"shape": shape.name, "query_tokens": shape.query_tokens}
        told |= {"passages": shape.passages, "tokens": len(docs.vectors)}
        for kernel, system, dtype, run, more in systems(query, docs, device, args.interpret):
            moved = row_bytes(dtype) * len(docs.vectors)
            work = 2 * WIDTH * shape.query_tokens * len(docs.vectors) / 1e12
            ms = timed(run, device, args.repeats)
            times: dict[str, float] = {}
            if rates:
                floor = 1e3 * max(work / rates[dtype], moved / 1e9 / rates["copy"])
                times = {"ms": round(ms, 4)}
                if kernel != "aggregate":
                    times |= speed(ms, work, moved, floor)
            facts = {name: fact() for name, fact in more.items()}
            say(**told, kernel=kernel, system=system, dtype=dtype, **times, **facts)
        for kernel, system, why in absent(args.interpret):
            say(**told, kernel=kernel, system=system, absent=why)
        if args.sweep:
            sweep(say, told, query, docs, device, args)


def speed(ms: float, work: float, moved: float, floor: float) -> dict[str, float]:
    """Rates of a task, and how near it comes to what the device can."""
    return {
        "tflops": round(work / ms * 1e3, 3),
        "gbytes": round(moved / ms / 1e6, 2),
        "floor_ms": round(floor, 4),
        "of_floor": round(floor / ms, 3),
    }


def systems(
    query: Floats,
    docs: Tokens,
    device: torch.device,
    tiny: bool,
) -> Iterator[tuple[str, str, str, Callable[[], Any], dict[str, Callable[[], Any]]]]:
    """Kernel, system, storage, a call on the device, and what else is to be said of it."""
    import numpy as np

    from tokret import kernels
    from tokret.kernels import gpu
    from tokret.kernels.gpu import ragged, topk
    from tokret.kernels.gpu.aggregate import device_aggregate

    want = float64_scores(query, docs)

    def off(scores: torch.Tensor) -> float:
        full = np.isfinite(want)
        return float(np.abs(np.asarray(scores.cpu(), np.float64)[full] - want[full]).max())

    for dtype, exact_query in [("int8", True), ("fp16", True), ("fp16", False), ("fp32", True)]:
        stored = docs.to(dtype)
        there = gpu.DeviceTokens.of(stored, str(device))
        asked = query if exact_query else query * np.float32(1.0001)  # does not fit float16
        rows = ragged.DeviceQuery.of(asked, there)
        whole = wall(lambda a=asked, t=there: gpu.maxsim(a, t), 1 if tiny else 20)
        more: dict[str, Callable[[], Any]] = {}
        if not tiny:
            more["call_ms"] = lambda w=whole: round(w, 4)
        if exact_query:
            more["off"] = lambda r=rows, t=there: off(ragged.device_maxsim(r, t))
        if dtype == "int8":
            more["same_bits"] = lambda s=stored, t=there: bool(
                gpu.maxsim(query, t).tobytes() == kernels.maxsim(query, s).tobytes()
            )
        name = "tokret" if exact_query else "tokret, float32 query"
        yield "maxsim", name, dtype, lambda r=rows, t=there: ragged.device_maxsim(r, t), more
        if dtype == "int8":
            yield (
                "topk",
                "tokret",
                dtype,
                lambda r=rows, t=there: topk.device_topk(r, t, K_PRIME),
                {"k_prime": lambda: K_PRIME},
            )
            found = topk.device_topk(rows, there, K_PRIME)
            missing = found[1][:, -1].contiguous()
            yield (
                "aggregate",
                "tokret",
                dtype,
                lambda f=found, t=there, m=missing: device_aggregate(*f, t.offsets, m),
                {"k_prime": lambda: K_PRIME},
            )
    yield "residual", "tokret", "4 bits", residual_call(query, docs, device), {}
    for dtype in ("fp16", "fp32"):
        for name, call in plain_torch(query, docs, device, dtype).items():
            yield "maxsim", name, dtype, call, {"off": lambda c=call: off(c())}
    if not tiny and version("late-interaction-kernels"):
        for name, call in theirs(query, docs, device).items():
            yield "maxsim", name, "fp16", call, {"off": lambda c=call: off(c())}


def float64_scores(query: Floats, docs: Tokens) -> np.ndarray:
    """MaxSim in float64, one passage at a time -> [N]."""
    import numpy as np

    return np.array(
        [(query.astype(np.float64) @ p.T).max(axis=1).sum() if len(p) else -np.inf for p in docs]
    )


def residual_call(query: Floats, docs: Tokens, device: torch.device) -> Callable[[], Any]:
    """Scan of random 4-bit codes of the same passages, with 4,096 centroids."""
    import numpy as np
    import torch

    from tokret.kernels.gpu import residual
    from tokret.kernels.gpu.device import upload
    from tokret.kernels.residual import Residuals, query_parts

    rng = np.random.default_rng(1)
    count, cells = len(docs.vectors), 4096
    coded = Residuals(
        rng.integers(0, 256, (count, WIDTH // 2), dtype=np.uint8),
        rng.integers(0, cells, count, dtype=np.int32),
        docs.offsets,
        np.arange(-120, 121, 16).astype(np.int8),
        1e-3,
    )
    there = residual.DeviceResiduals.of(coded, str(device))
    codes, factors = query_parts(query, coded.scale)
    planes = upload(residual.query_planes(codes, 4), device)
    weights = upload(factors, device)
    start = torch.rand((cells, len(query)), device=device)
    return lambda: residual.device_residual(planes, weights, start, there)


def plain_torch(
    query: Floats,
    docs: Tokens,
    device: torch.device,
    dtype: str,
) -> dict[str, Callable[[], Any]]:
    """What one writes without a kernel: padded, and with torch.segment_reduce."""
    import torch

    kind = torch.float16 if dtype == "fp16" else torch.float32
    asked = torch.from_numpy(query).to(device, kind)
    flat = torch.from_numpy(docs.vectors).to(device, kind)
    offsets = torch.from_numpy(docs.offsets).to(device)
    lengths = offsets.diff()
    padded = torch.nn.utils.rnn.pad_sequence(list(flat.split(lengths.tolist())), batch_first=True)
    absent = torch.arange(padded.shape[1], device=device)[None, :] >= lengths[:, None]
    step = max(1, 2**30 // max(1, padded.shape[1] * len(query)))  # passages at a time

    def by_padding() -> torch.Tensor:
        parts = []
        for first in range(0, len(padded), step):
            last = first + step
            sims = torch.einsum("qh,nth->nqt", asked, padded[first:last])
            sims = sims.masked_fill(absent[first:last, None, :], float("-inf"))
            parts.append(sims.amax(dim=2).float().sum(dim=1))
        return torch.cat(parts)

    def by_segments() -> torch.Tensor:
        best = torch.segment_reduce(
            flat @ asked.T, "max", lengths=lengths, axis=0, unsafe=True, initial=float("-inf")
        )
        return best.float().sum(dim=1)

    return {"torch, padded": by_padding, "torch, segment_reduce": by_segments}


def theirs(query: Floats, docs: Tokens, device: torch.device) -> dict[str, Callable[[], Any]]:
    """late-interaction-kernels: ragged, and padded where all passages are as long."""
    import numpy as np
    import torch
    from late_interaction_kernels import maxsim, maxsim_varlen

    asked = torch.from_numpy(query).to(device, torch.float16)
    flat = torch.from_numpy(docs.vectors).to(device, torch.float16)
    ends = torch.tensor([0, len(query)], dtype=torch.int32, device=device)
    offsets = torch.from_numpy(docs.offsets.astype(np.int32)).to(device)
    lengths = np.diff(docs.offsets)
    longest = int(lengths.max())
    out = {
        "late-interaction-kernels, ragged": lambda: maxsim_varlen(
            asked, flat, ends, offsets, len(query), longest
        )[0]
    }
    if (lengths == longest).all():
        stacked = flat.view(len(docs), longest, -1)
        out["late-interaction-kernels, padded"] = lambda: maxsim(asked[None], stacked)[0]
    return out


def absent(tiny: bool) -> Iterator[tuple[str, str, str]]:
    """Systems that were not run, and why."""
    if version("late-interaction-kernels") is None:
        yield "maxsim", "late-interaction-kernels", "not installed"
    elif tiny:
        yield "maxsim", "late-interaction-kernels", "not run in the interpreter"


def sweep(
    say: Callable[..., None],
    told: dict[str, Any],
    query: Floats,
    docs: Tokens,
    device: torch.device,
    args: argparse.Namespace,
) -> None:
    """Time every tiling of maxsim and say the best three of each storage."""
    from triton.runtime.errors import OutOfResources

    from tokret.kernels import gpu
    from tokret.kernels.gpu import ragged

    choices = [(32, 64), (64, 128), (4,), (2,)] if args.interpret else [
        (16, 32, 64, 128), (32, 64, 128), (4, 8), (2, 3, 4)
    ]  # fmt: skip
    for dtype in ("int8", "fp16", "fp32"):
        there = gpu.DeviceTokens.of(docs.to(dtype), str(device))
        rows = ragged.DeviceQuery.of(query, there)
        found = []
        for tiling in itertools.starmap(ragged.Tiling, itertools.product(*choices)):
            try:
                ms = timed(
                    lambda r=rows, t=there, c=tiling: ragged.device_maxsim(r, t, c),
                    device,
                    max(1, args.repeats // 5),
                )
            except OutOfResources:
                continue
            found.append((ms, tiling))
        for ms, tiling in sorted(found, key=lambda pair: pair[0])[:3]:
            times = {} if args.interpret else {"ms": round(ms, 4)}
            say(**told, kernel="maxsim", dtype=dtype, tiling=str(tiling), **times)


def timed(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median milliseconds on the device."""
    import torch

    if device.type != "cuda":
        return wall(call, repeats)
    with torch.cuda.device(device):
        for _ in range(SETTLE):
            call()
        marks = [[torch.cuda.Event(enable_timing=True) for _ in "ab"] for _ in range(repeats)]
        for first, last in marks:
            first.record()
            call()
            last.record()
        torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(last) for first, last in marks)


def wall(call: Callable[[], Any], repeats: int) -> float:
    """Median milliseconds by the clock; the call waits for its answer."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def peaks(device: torch.device) -> dict[str, float]:
    """1e9 bytes a second of a copy, 1e12 operations a second of matrix products, by torch."""
    import torch

    torch.set_float32_matmul_precision("highest")
    source = torch.empty(2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates = {"copy": 2 * len(source) / timed(lambda: target.copy_(source), device, 20) / 1e6}
    side = 8192
    for name, kind in [("fp16", torch.float16), ("fp32", torch.float32)]:
        a = torch.randn((side, side), device=device).to(kind)
        rates[name] = 2 * side**3 / timed(lambda a=a: a @ a, device, 10) / 1e9
    b = torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)
    rates["int8"] = 2 * side**3 / timed(lambda: torch._int_mm(b, b.t()), device, 10) / 1e9
    return {**rates, "4 bits": rates["int8"]}


def row_bytes(dtype: str) -> int:
    """Bytes of one stored token: int8 has its scale, a 4-bit code its cell."""
    return {"fp32": 4 * WIDTH, "fp16": 2 * WIDTH, "int8": WIDTH + 4, "4 bits": WIDTH // 2 + 4}[
        dtype
    ]


def version(package: str) -> str | None:
    """Give the version of a package, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def print_json(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def print_row(**fields: object) -> None:
    words = [f"{fields[key]:<9}" for key in ("shape", "kernel", "dtype") if key in fields]
    words += [str(fields.get("system", "")).ljust(34)] if "system" in fields else []
    skipped = ("shape", "kernel", "dtype", "system", "environment", "passages", "tokens")
    words += [
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in fields.items()
        if key not in (*skipped, "query_tokens")
    ]
    print(" ".join(words), flush=True)


if __name__ == "__main__":
    main()
