"""The options that commands share, and what a shell may complete in them."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from tokret.errors import UsageError


def cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def check_folder(file: Path | None) -> None:
    """Refuse a file that could not be written, before the work and not after it."""
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent} to write into.")


def complete_backend(incomplete: str) -> list[str]:
    """Names of index backends."""
    from tokret.indexes import backends

    return [name for name in backends.names() if name.startswith(incomplete)]


def complete_scorer(incomplete: str) -> list[str]:
    """Names of scorers."""
    from tokret.scoring import scorers

    return [name for name in scorers.names() if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Names of encoders."""
    from tokret.encoders import encoders

    return [name for name in encoders.names() if name.startswith(incomplete)]


def complete_measure(incomplete: str) -> list[str]:
    """Names of the measures that most tables show."""
    usual = ["nDCG@10", "R@100", "R@1000", "RR@10", "AP", "P@10", "Success@5", "Judged@10"]
    return [name for name in usual if name.startswith(incomplete)]


def memory_size(text: str) -> int:
    """Bytes that a text such as 500MB or 1.5GiB means; a number alone is bytes."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([kmgt]i?)?b?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--max-memory is a size such as 500MB or 1.5GiB, got {text!r:.100}.")
    unit = (found[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    power = " kmgt".index(unit[:1] or " ")
    return int(Decimal(found[1]) * base**power)


IndexDir = Annotated[
    Path, typer.Argument(metavar="DIR", help="An index that `tokret index` wrote.")
]
QrelsFile = Annotated[
    str,
    typer.Option(
        "--qrels", "-r", metavar="FILE", help="Judgements: a file, BEIR folder or ir_datasets id."
    ),
]
Split = Annotated[str, typer.Option(help="Which judgements of a BEIR folder.")]
RemoveSelf = Annotated[
    bool | None,
    typer.Option(
        "--remove-self/--keep-self",
        help="Drop a document whose id is the query's; default: for ArguAna and Quora only.",
    ),
]
K = Annotated[int, typer.Option("-k", "--k", min=1, help="Hits for each query.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, envvar="TOKRET_THREADS", help="Threads; default: all processors."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="TOKRET_MODEL",
        help="Encoder: a name, name(key=value), or a model folder; default: tokret-mini.",
        autocompletion=complete_model,
    ),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="maxsim, or e.g. 'xtr(k_prime=1000)'; default: what the index takes.",
        autocompletion=complete_scorer,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only documents whose fields pass, e.g. 'year >= 2019 and lang in [\"en\"]'.",
    ),
]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        parser=memory_size,
        help="Memory that making an ivf index may hold but for mapped files, e.g. 500MB, 2GiB; "
        "default: 1GiB.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
