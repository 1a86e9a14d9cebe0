"""What ``index --dry-run`` tells: counts, and an estimate of tokens, time and disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokret.cli.clean import counted
from tokret.cli.corpus import Reading
from tokret.cli.info import size
from tokret.cli.progress import duration
from tokret.cli.talk import Talk
from tokret.types import DTYPES, Dtype

if TYPE_CHECKING:
    from tokret.types import Document

SAMPLE = 64  # documents that are encoded, to see how fast it goes
SPAN_BYTES = 12  # of each token: its character range and its number in the vocabulary


def estimate(talk: Talk, reading: Reading, out: Path, backend: str, encoder: str) -> None:
    """Read the whole corpus, encode a little of it, and write nothing."""
    from tokret.encoders import encoders
    from tokret.indexes import backends

    chosen = backends.build(backend)
    documents = characters = text_bytes = 0
    sample: list[Document] = []
    for document in reading.documents(keep=False):
        documents += 1
        characters += len(document.contents)
        text_bytes += len(document.contents.encode())
        if len(sample) < SAMPLE:
            sample.append(document)
    tokens = seconds = 0.0
    total = text_bytes
    if chosen.encodes and not encoder.startswith("precomputed"):
        model = encoders.build(encoder)
        model.encode_documents([sample[0].contents])  # the first call also warms up
        began = time.monotonic()
        encoded = model.encode_documents([document.contents for document in sample])
        spent = time.monotonic() - began
        seen = sum(len(document.contents) for document in sample)
        scale = characters / max(seen, 1)
        tokens = len(encoded.tokens.vectors) * scale
        seconds = spent * scale
        dtype: Dtype = getattr(chosen, "dtype", "fp32")
        width = DTYPES[dtype].itemsize * model.identity.dim
        total += round(tokens * (width + SPAN_BYTES + 4 * (dtype == "int8")))
    free = shutil.disk_usage(_existing(out)).free
    talk.result(
        {
            "index": str(out),
            "dry_run": True,
            "documents": documents,
            "characters": characters,
            "left_out": reading.left_out,
            "tokens_estimate": round(tokens),
            "bytes_estimate": total,
            "seconds_estimate": round(seconds, 1),
            "bytes_free": free,
        }
    )
    if not talk.json:
        talk.line(f"{counted(documents, 'document')}, {counted(characters, 'character')}")
        if tokens:
            talk.line(f"about {tokens:,.0f} tokens, {duration(seconds)} to encode")
        talk.line(f"about {size(total)} on disk, {size(free)} free; nothing was written")
    if reading.left_out:
        talk.warn(f"Unreadable: {counted(reading.left_out, 'record')}.")
    if total > free:
        talk.warn(f"{out}: the disk has {size(free)} left, about {size(total)} are needed.")


def _existing(path: Path) -> Path:
    """Find the nearest folder above that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
