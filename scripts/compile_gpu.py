"""Compile the GPU kernels as they are launched, without a GPU.

    python scripts/compile_gpu.py [--arch 80 90] [--query-tokens 64] [--width 128]

Compiles, with the assembler that comes in Triton's wheel, each kernel for each architecture
(80 Ampere, 89 Ada, 90 Hopper) with the arguments of a real call, and launches none. Prints
JSON lines: registers and stack of a thread (a stack means that registers ran out), KiB of
shared memory of a program, and how many instructions of some kinds there are: matrix products
on tensor cores, fused multiply-adds of float32 (which round once where two operations round
twice; those that the reference's bits rule out must not be there), asynchronous copies.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton.compiler import CompiledKernel

KINDS = {
    "tensor_core": r"wgmma\.mma_async|mma\.sync|tcgen05\.mma",
    "fused_multiply_add": r"fma\.rn\.f32",
    "async_copy": r"cp\.async\.c[ag]",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--query-tokens", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    if triton.knobs.runtime.interpret:
        sys.exit("TRITON_INTERPRET is set: nothing would be compiled; set it to 0.")
    compiled: list[Any] = []
    run = JITFunction.run

    def only_compile(self: object, *values: object, **options: object) -> None:
        compiled.append(run(self, *values, **{**options, "warmup": True}))

    JITFunction.run = only_compile
    for arch in args.arch:
        target = GPUTarget("cuda", arch, 32)
        driver.set_active(
            SimpleNamespace(
                get_current_target=lambda target=target: target,
                get_current_device=lambda arch=arch: arch,  # caches are kept by device
                get_current_stream=lambda device: 0,
            )
        )
        for name, call in calls(args.query_tokens, args.width).items():
            compiled.clear()
            call()
            for kernel in compiled:
                say(arch=arch, call=name, kernel=kernel.name, **facts(kernel))


def calls(count: int, width: int) -> dict[str, Any]:
    """One call of each kernel for each storage, on tensors of this machine."""
    import numpy as np
    import torch

    from tokret.kernels.gpu import aggregate, ragged, residual, topk
    from tokret.kernels.gpu.device import DeviceTokens
    from tokret.kernels.gpu.residual import DeviceResiduals

    offsets = torch.tensor([0, 64])
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((count, width)).astype(np.float32)
    half = whole.astype(np.float16).astype(np.float32)
    out: dict[str, Any] = {}
    for name, dtype, rows in [
        ("int8", torch.int8, whole),
        ("fp16", torch.float16, half),
        ("fp16, float32 query", torch.float16, whole),
        ("fp32", torch.float32, whole),
    ]:
        scales = torch.ones(64) if dtype == torch.int8 else None
        docs = DeviceTokens(torch.zeros((64, width), dtype=dtype), offsets, scales)
        query = ragged.DeviceQuery.of(rows, docs)
        out[f"maxsim {name}"] = lambda q=query, d=docs: ragged.best_matches(q, d)
        out[f"similarities {name}"] = lambda q=query, d=docs: topk.similarities(
            q, d, torch.arange(64)
        )
    for bits in (2, 4, 8):
        coded = DeviceResiduals(
            torch.zeros((64, width * bits // 8), dtype=torch.uint8),
            torch.zeros(64, dtype=torch.int32),
            offsets,
            torch.zeros(256, dtype=torch.int32),
            1.0,
            bits,
            1,
        )
        planes = torch.zeros((8 // bits, count, width * bits // 8), dtype=torch.int8)
        out[f"residual {bits} bits"] = lambda p=planes, d=coded: residual.device_residual(
            p, torch.ones(count), torch.zeros((16, count)), d
        )
    out["sum"] = lambda: ragged.sum_in_order(torch.zeros((1, count)), offsets)
    found = torch.zeros((count, 4), dtype=torch.int64)
    out["aggregate"] = lambda: aggregate.device_aggregate(
        found, torch.zeros((count, 4)), offsets, torch.zeros(count)
    )
    return out


def facts(kernel: CompiledKernel) -> dict[str, Any]:
    """What the compiled kernel needs, and what it is made of."""
    import triton

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        command = [str(tools / "cuobjdump"), "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(re.findall(rf"{key}:(\d+)", usage)[-1]) for key in ("REG", "STACK")}
    return {
        "registers": found["REG"],
        "stack": found["STACK"],
        "shared_kib": kernel.metadata.shared / 1024,
        **{kind: len(re.findall(text, kernel.asm["ptx"])) for kind, text in KINDS.items()},
    }


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
