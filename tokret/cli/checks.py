"""What doctor looks at: one function, one check or a few."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Status = Literal["ok", "note", "warn", "fail"]

CORE = ("numpy", "onnxruntime", "tokenizers", "bm25s", "ir-measures", "safetensors", "zstandard")
EXTRAS = {"st": ("sentence-transformers", "torch"), "datasets": ("ir-datasets",)}
FAISS = ("faiss", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
OURS = (
    "TOKRET_DEBUG",
    "TOKRET_MODEL",
    "TOKRET_REQUIRE_NATIVE",
    "TOKRET_SIMD",
    "TOKRET_THREADS",
)
BUILD = "pip install --force-reinstall --no-binary tokret tokret"
LOW_MEMORY = 2 << 30  # bytes below which indexing may not fit beside other programs
LOW_DISK = 1 << 30


class Check(NamedTuple):
    """One finding: ``ok``, a ``note``, a ``warn`` or a ``fail``, and what to do about it."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def checks() -> Iterator[Check]:
    """Every check in turn; one that breaks is itself a finding."""
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("tokret", _versions),
        ("kernels", _kernels),
        ("model", _model),
        ("extras", _extras),
        ("faiss", _faiss),
        ("environment", _environment),
        ("memory", _resources),
    ]
    for name, part in parts:
        try:
            yield from part()
        except Exception as error:
            yield Check(name, "fail", f"{type(error).__name__}: {error}")


def _versions() -> Iterator[Check]:
    from tokret import __version__

    place = Path(__file__).parents[1]
    yield Check("tokret", "ok", f"{__version__} in {place}")
    yield Check(
        "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    missing = [name for name in CORE if _version(name) is None]
    have = ", ".join(f"{name} {version}" for name in CORE if (version := _version(name)))
    if missing:
        lacking = " ".join(missing)
        yield Check("packages", "fail", f"missing: {lacking}", f"pip install {lacking}")
    else:
        yield Check("packages", "ok", have)


def _kernels() -> Iterator[Check]:
    from tokret import kernels

    if kernels.NATIVE:
        from tokret.kernels import native

        others = ", ".join(native.cpu_features())
        yield Check("kernels", "ok", f"native, {native.simd()} in use; this machine runs {others}")
    else:
        yield Check(
            "kernels",
            "warn",
            f"NumPy reference, correct but slower: {_why_not_native()}",
            f"For the native ones, with a C++17 compiler at hand: {BUILD}",
        )
    worst = _self_test()
    status: Status = "ok" if worst <= TOLERANCE else "fail"
    yield Check(
        "self-test",
        status,
        f"largest relative difference from the reference: {worst:.1e}",
        "" if status == "ok" else "Set TOKRET_SIMD=scalar, and report this machine.",
    )


TOLERANCE = 1e-5  # of a float32 sum, taken in another order than the reference's


def _self_test() -> float:
    """Largest relative difference between the kernels in use and their definition."""
    import numpy as np

    from tokret import kernels
    from tokret.kernels import reference
    from tokret.types import Dtype, Tokens

    rng = np.random.default_rng(20)
    worst = 0.0
    dtypes: tuple[Dtype, ...] = ("fp32", "fp16", "int8")
    for width in (1, 48, 128, 131):
        rows = rng.standard_normal((180, width)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        query, rows = rows[:7], rows[7:]
        for dtype in dtypes:
            docs = Tokens.of(np.split(rows, [0, 1, 4, 133])).to(dtype)
            want = reference.maxsim(query, docs)
            _, want_sims = reference.token_topk(query, docs, 20)
            for threads in (1, 2):
                got = kernels.maxsim(query, docs, threads=threads)
                finite = np.isfinite(want)
                if not np.array_equal(np.isfinite(got), finite):
                    return float("inf")
                scale = np.maximum(np.abs(want[finite]), 1)
                worst = max(worst, float((np.abs(got[finite] - want[finite]) / scale).max()))
                _, got_sims = kernels.token_topk(query, docs, 20, threads=threads)
                worst = max(worst, float(np.abs(got_sims - want_sims).max()))
    return worst


def _why_not_native() -> str:
    try:
        from tokret.kernels import native  # noqa: F401
    except ImportError as error:
        return str(error)
    return "unknown"


def _model() -> Iterator[Check]:
    import time

    from tokret.encoders import encoders
    from tokret.encoders.mini import runtime

    onnxruntime = runtime()
    providers = ", ".join(onnxruntime.get_available_providers())
    yield Check("onnxruntime", "ok", f"{onnxruntime.__version__}, {providers}")
    began = time.monotonic()
    encoder = encoders.build("tokret-mini")
    encoded = encoder.encode_queries(["Does it work?"])
    seconds = time.monotonic() - began
    identity = encoder.identity
    yield Check(
        "tokret-mini",
        "ok",
        f"loads and encodes {len(encoded.tokens.vectors)} tokens of width {identity.dim} "
        f"in {seconds:.1f} s; sha256 {identity.sha256[:12]}",
    )


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        have = {name: version for name in packages if (version := _version(name))}
        missing = [name for name in packages if name not in have]
        shown = ", ".join(f"{name} {version}" for name, version in have.items())
        if missing:
            yield Check(
                f"[{extra}]",
                "note",
                f"not installed: {', '.join(missing)}{'; present: ' + shown if shown else ''}",
                f"pip install 'tokret[{extra}]'",
            )
        else:
            yield Check(f"[{extra}]", "ok", shown)
    torch = _version("torch")
    if torch and tuple(int(n) for n in torch.split("+")[0].split(".")[:2]) < (2, 10):
        yield Check(
            "torch", "warn", f"{torch} has known holes in torch.load", "pip install 'torch>=2.10'"
        )


def _faiss() -> Iterator[Check]:
    have = {name: version for name in FAISS if (version := _version(name))}
    shown = ", ".join(f"{name} {version}" for name, version in have.items())
    if len(have) > 1:
        yield Check(
            "faiss",
            "warn",
            f"{shown}: these overwrite each other's files",
            f"pip uninstall {' '.join(have)}, then install one: 'tokret[faiss]' or 'tokret[gpu]'",
        )
        return
    from tokret.errors import MissingExtraError
    from tokret.indexes import faiss_index

    try:
        found = faiss_index.described()
    except MissingExtraError as error:
        if have:
            why = f"{shown} is installed and cannot be imported: {error.__cause__}"
            yield Check("faiss", "warn", why, f"pip install --force-reinstall {shown.split()[0]}")
        else:
            advice = "pip install 'tokret[faiss]', or 'tokret[gpu]' for an NVIDIA GPU on Linux"
            yield Check("faiss", "note", "not installed; backend faiss(...) needs it", advice)
    else:
        yield Check("faiss", "ok", f"{next(iter(have), 'faiss, by hand,')} {found}")


def _environment() -> Iterator[Check]:
    ours = [f"{name}={os.environ[name]}" for name in OURS if name in os.environ]
    yield Check("settings", "note", ", ".join(ours) or "no TOKRET_ variable is set")
    offline = [name for name in OFFLINE if os.environ.get(name, "") not in ("", "0")]
    yield Check(
        "network",
        "note",
        f"offline by {', '.join(offline)}: models are taken from the cache alone"
        if offline
        else "tokret never uses it; [st] may download models, HF_HUB_OFFLINE=1 forbids it",
    )
    home = os.path.expanduser(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")  # perhaps without a home
    state = "exists" if cache.is_dir() else "does not exist yet"
    yield Check("model cache", "note", f"{cache} {state}")


def _resources() -> Iterator[Check]:
    from tokret.cli.info import size
    from tokret.cli.options import cpus

    free = _free_memory()
    detail = f"{cpus()} processors"
    if free is not None:
        detail += f", {size(free)} of memory free"
    low = free is not None and free < LOW_MEMORY
    yield Check("machine", "warn" if low else "ok", detail)
    places = [("disk here", Path.cwd())]
    try:
        places.append(("temporary", Path(tempfile.gettempdir())))
    except FileNotFoundError:
        advice = "Set TMPDIR to a folder that can be written; searching needs none."
        yield Check("temporary", "warn", "no folder for temporary files can be written", advice)
    for name, folder in places:
        space = shutil.disk_usage(folder).free
        writable = os.access(folder, os.W_OK)
        status: Status = "ok" if space >= LOW_DISK and writable else "warn"
        yield Check(
            name, status, f"{size(space)} free in {folder}{'' if writable else ', read-only'}"
        )
    encoding = getattr(sys.stdout, "encoding", None) or "unknown"
    yield Check("output", "ok", f"standard output in {encoding}")


def _free_memory() -> int | None:
    """Bytes this process may still take, its control group's limit counted; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    facts = {line.split(":")[0]: line.split()[1] for line in lines if ":" in line}
    free = int(facts.get("MemAvailable", 0)) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
