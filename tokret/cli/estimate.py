"""What ``index --dry-run`` tells: what the index would hold, and what it would take."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokret.cli.clean import counted
from tokret.cli.corpus import Reading
from tokret.cli.info import size
from tokret.cli.progress import duration
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokret.types import Floats


def tell_estimate(
    talk: Talk,
    reading: Reading,
    out: Path,
    vectors: Iterator[Floats] | None,
    max_memory: int | None,
    **plan: Any,  # noqa: ANN401
) -> None:
    """Read a part of the corpus, encode a little of it, and write nothing to stay."""
    from tokret.indexes.estimate import estimate

    def share() -> float | None:
        stats = reading.stats
        return stats.bytes_read / stats.total_bytes if stats.total_bytes else None

    found = estimate(
        reading.documents(keep=False),
        vectors=vectors,
        share=share,
        at_most=reading.limit,
        **plan,
    )
    free = shutil.disk_usage(_existing(out)).free
    memory = _memory()
    talk.result(
        {
            "index": str(out),
            "dry_run": True,
            "whole_corpus_read": found.whole,
            "documents": found.documents,
            "characters": found.characters,
            "left_out": reading.left_out,
            "passages_estimate": found.passages,
            "tokens_estimate": found.tokens,
            "bytes_estimate": found.bytes,
            "seconds_estimate": round(found.seconds, 1),
            "memory_estimate": found.memory,
            "max_memory": max_memory,
            "bytes_free": free,
        }
    )
    if not talk.json:
        about = "" if found.whole else "about "
        counts = f"{counted(found.documents, 'document')}, {counted(found.characters, 'character')}"
        talk.line(about + counts)
        tokens = f"{counted(found.tokens, 'token')}, " if found.tokens else ""
        most = "" if max_memory is None else f" (codes at most {size(max_memory)})"
        needs = f"{size(found.memory)} of memory{most}"
        talk.line(f"about {tokens}{duration(found.seconds)}, {needs}")
        talk.line(f"about {size(found.bytes)} on disk, {size(free)} free; nothing was written")
    if reading.left_out:
        talk.warn(f"Unreadable: {counted(reading.left_out, 'record')}.")
    if found.bytes > free:
        talk.warn(f"{out}: the disk has {size(free)} left, about {size(found.bytes)} are needed.")
    if memory and found.memory > memory:
        talk.warn(f"This machine has {size(memory)} of memory, about {size(found.memory)} needed.")


def _existing(path: Path) -> Path:
    """Find the nearest folder above that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def _memory() -> int | None:
    """Bytes of memory of this machine, where the system tells."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
