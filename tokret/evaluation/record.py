"""What a number was made with: versions, machine and time, for results and scripts."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokret.evaluation.measures import Report

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "bm25s", "ir_measures", "pytrec_eval-terrier")
INSTRUCTIONS = (  # of all that a processor lists, those that kernels choose by
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


def now() -> str:
    """Return the time in UTC, to the second: ``2026-01-31T12:00:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment() -> dict[str, Any]:
    """Describe this process: versions and machine, ready for ``json.dumps``.

    Nothing in it names a user, a host or a path.
    """
    return {"versions": versions(), "machine": machine()}


def numbers_of(report: Report, **made_with: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Every value of a report with all that it stands on, so that it can be quoted alone.

    ``made_with`` are facts of the run that its report cannot know: files and their digests,
    model, index, command.
    """
    from tokret.evaluation.definition import definition
    from tokret.evaluation.names import measure_named

    p = report.policy
    return [
        {
            "measure": measure,
            "value": value,
            "definition": definition(measure_named(measure)),
            "queries": p["n_queries"],
            "missing_queries": {"policy": p["missing_queries"], "count": p["n_missing"]},
            "unjudged_queries": {"policy": "ignored", "count": p["n_unjudged"]},
            "ties": {
                "policy": p["ties"],
                "count": p["n_ties"],
                "queries": p["n_tied_queries"],
                "range": found and dict(found._asdict()),
            },
            "self_matches": {"policy": p["self_matches"], "count": p["n_self"]},
            "judged_share": report.judged.get(measure),
            **made_with,
        }
        for measure, value in report.values.items()
        for found in [report.ties.get(measure)]
    ]


def file_digest(path: str | Path) -> str | None:
    """SHA-256 of a file as it lies there; None for standard input and what is no file."""
    if str(path) == "-" or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str | None]:
    """Versions of Python, tokret and what numbers depend on; None where not installed."""
    import tokret

    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "tokret": tokret.__version__,
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, instruction sets, kernels, system."""
    model, flags = _processor()
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "cores": cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "kernels": _kernels(),
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _kernels() -> str:
    """Which build scores, and by which instructions: ``native avx512`` or ``reference``."""
    from tokret import kernels

    if not kernels.NATIVE:
        return "reference"
    from tokret.kernels import native

    return f"native {native.simd()}"


@lru_cache(maxsize=1)
def _processor() -> tuple[str, frozenset[str]]:
    """Name of the processor and the instruction sets it lists."""
    if sys.platform == "darwin":
        brand = _said("sysctl", "-n", "machdep.cpu.brand_string")
        flags = _said("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features")
        return brand or platform.machine(), frozenset(flags.lower().replace(".", "_").split())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return name, frozenset(fields.get("flags", fields.get("Features", "")).split())


def _said(*command: str) -> str:
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.stdout.strip()
