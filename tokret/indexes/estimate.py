"""What a build will cost, from a little of the corpus: bytes, seconds, memory.

Does    Reads the beginning of the corpus, builds an index of some of its documents in a
        temporary folder, and scales what that took. What a backend makes only of many
        tokens, such as a trained quantiser, is not seen in so few.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tokret.encoders import Encoder
from tokret.errors import InputError
from tokret.indexes.base import Backend, backends
from tokret.indexes.build import build
from tokret.indexes.documents import as_document
from tokret.indexes.index import encoder_for
from tokret.indexes.ingest import SEGMENT_DOCUMENTS, WINDOW_CHARACTERS
from tokret.indexes.segment import (
    BESIDE,
    DOCUMENT_COLUMNS,
    ENDS,
    LOOKUP_COLUMNS,
    TOKEN_COLUMNS,
    Layout,
)
from tokret.indexes.store import Snapshot, Store
from tokret.types import Document, Floats

READ_DOCUMENTS = 50_000  # read from the beginning of a corpus, or
READ_BYTES = 64 << 20  # this much text: about a second
KEPT = 256  # documents of these that are remembered
ENCODED = 32_000  # characters that are encoded, to see how fast it goes: about 8,000 tokens
STORED = 512_000  # characters that are stored where nothing is encoded
ID_BYTES = 260  # of memory beside an id in the segment being written: strings, a list, a dict
LOOKUP_BYTES = 32  # of memory beside an id in a sealed segment, where ids are looked up
WINDOWS = 4  # times the vectors of a window, on their way from the encoder to the disk
WORKING = 4  # times the bytes of what belongs to all segments, while it is made


@dataclass(frozen=True)
class Estimate:
    """What a build will hold and take; exact where ``whole``: the corpus was read to its end."""

    documents: int
    passages: int
    tokens: int
    characters: int
    bytes: int  # on disk
    seconds: float
    memory: int  # bytes at the peak, the model among them
    whole: bool


@dataclass
class _Seen:
    """What a corpus holds as far as it was read, and some of its documents, evenly spread."""

    weigh: Callable[[Document, int], int]  # what the cost of a document goes by
    budget: int  # characters of the sample
    documents: int = 0
    characters: int = 0
    text_bytes: int = 0
    id_bytes: int = 0
    weight: int = 0

    def __post_init__(self) -> None:
        self._kept: list[tuple[Document, Floats | None]] = []
        self._step = 1

    def see(self, document: Document, rows: Floats | None) -> None:
        if self.documents % self._step == 0:
            self._kept.append((document, rows))
            if len(self._kept) > KEPT:
                self._kept, self._step = self._kept[::2], 2 * self._step
        contents = document.contents
        self.documents += 1
        self.characters += len(contents)
        self.text_bytes += len(contents.encode())
        self.id_bytes += len(document.doc_id.encode())
        self.weight += self.weigh(document, 0 if rows is None else len(rows))

    @property
    def full(self) -> bool:
        return self.documents >= READ_DOCUMENTS or self.text_bytes >= READ_BYTES

    def sample(self) -> tuple[list[Document], list[Floats | None], float]:
        """Some documents, of few characters in all; their vectors; how often all is as much."""
        usual = sum(len(document.contents) for document, _ in self._kept) / len(self._kept)
        count = min(len(self._kept), max(1, round(self.budget / max(usual, 1))))
        places = np.linspace(0, len(self._kept) - 1, count).round().astype(int).tolist()
        picked = [self._kept[place] for place in places]
        documents = [
            document._replace(doc_id=str(i), text=document.text[: self.budget])
            for i, (document, _) in enumerate(picked)
        ]
        rows = [rows for _, rows in picked]
        lengths = [0 if r is None else len(r) for r in rows]
        weight = sum(map(self.weigh, documents, lengths))
        return documents, rows, self.weight / weight if weight else self.documents / count


def estimate(
    documents: Iterable[Any],
    *,
    encoder: str | Encoder | None = "tokret-mini",
    backend: str | Backend = "ivf",
    long: Literal["split", "truncate"] = "split",
    max_tokens: int | None = None,
    overlap: int = 0,
    normalize: bool = True,
    vectors: Iterable[ArrayLike] | None = None,
    share: Callable[[], float | None] = lambda: None,
    at_most: int | None = None,
) -> Estimate:
    """Estimate what ``build`` with the same arguments will hold and take.

    Reads up to READ_DOCUMENTS or READ_BYTES and then asks ``share`` what part of the corpus
    that was; where nobody knows (None), it counts on to the end. ``at_most`` says that the
    corpus has no more documents than that. Raises what ``build`` raises for a bad document.
    """
    chosen = backends.build(backend)
    model = encoder_for(encoder, chosen)
    encodes = model is not None and vectors is None
    seen = _Seen(_weight(vectors is not None, long), ENCODED if encodes else STORED)
    pairs = _pairs(documents, vectors)
    for document, rows in pairs:
        seen.see(document, rows)
        if seen.full:
            break
    if not seen.documents:
        return Estimate(0, 0, 0, 0, 0, 0.0, _peak(), whole=True)
    factor, whole = _factor(seen, pairs, share, at_most) if seen.full else (1.0, True)
    sample, given, scale = seen.sample()
    if model is not None and encodes:
        model.encode_documents([sample[0].contents])  # the first call also warms up
    with (
        tempfile.TemporaryDirectory(prefix="tokret-estimate-") as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of how little there is
        began = time.perf_counter()
        added = build(
            folder,
            sample,
            encoder=model,
            backend=chosen,
            long=long,
            max_tokens=max_tokens,
            overlap=overlap,
            normalize=normalize,
            vectors=None if vectors is None else [rows for rows in given if rows is not None],
        )
        seconds = time.perf_counter() - began
        snapshot = Store(folder).open()
    width = 0 if model is None else model.identity.dim
    columns = {**TOKEN_COLUMNS, **chosen.layout(width)} if model is not None else {}
    rest = _unknown(snapshot, columns) * scale * factor
    passages = seen.documents + (added.passages - len(sample)) * scale
    tokens = added.tokens * scale
    stored = (
        seen.text_bytes
        + seen.id_bytes
        + seen.documents * _row_bytes({**DOCUMENT_COLUMNS, **LOOKUP_COLUMNS}, BESIDE[0])
        + passages * _row_bytes({**DOCUMENT_COLUMNS, **columns}, BESIDE[1])
        + tokens * _row_bytes(columns, columns.keys() - set(BESIDE[1]))
    )
    held = seen.documents * factor * (LOOKUP_BYTES + seen.id_bytes / seen.documents)
    held += min(seen.documents * factor, SEGMENT_DOCUMENTS) * ID_BYTES
    held += tokens / max(seen.characters, 1) * WINDOW_CHARACTERS * 4 * width * WINDOWS
    held += WORKING * rest if snapshot.derived else 0
    return Estimate(
        round(seen.documents * factor),
        round(passages * factor),
        round(tokens * factor),
        round(seen.characters * factor),
        round(stored * factor + rest),
        seconds * scale * factor,
        round(_peak() + held),
        whole,
    )


def _unknown(snapshot: Snapshot, columns: Layout) -> int:
    """Bytes of the columns whose size is measured and not counted, such as derived ones."""
    known = {*BESIDE[0], *BESIDE[1], *ENDS.values(), *columns}
    segments = [*snapshot.segments, *([snapshot.derived] if snapshot.derived else [])]
    return sum(
        column.size
        for segment in segments
        for name, column in segment.columns.items()
        if name not in known
    )


def _weight(vectors: bool, long: str) -> Callable[[Document, int], int]:
    if vectors:
        return lambda document, rows: rows
    if long == "truncate":  # the number of documents counts, and not their length
        return lambda document, rows: 1
    return lambda document, rows: len(document.contents)


def _pairs(
    documents: Iterable[Any], vectors: Iterable[ArrayLike] | None
) -> Iterator[tuple[Document, Floats | None]]:
    rows = None if vectors is None else iter(vectors)
    for i, record in enumerate(documents):
        document = as_document(record, i)
        if rows is None:
            yield document, None
        elif (own := next(rows, None)) is not None:
            yield document, np.asarray(own)
        else:
            raise InputError(f"There are fewer vectors ({i}) than documents.")


def _factor(
    seen: _Seen,
    pairs: Iterator[tuple[Document, Floats | None]],
    share: Callable[[], float | None],
    at_most: int | None,
) -> tuple[float, bool]:
    """How often the corpus is as much as was read; whether it was read to its end."""
    part = share()
    if part is not None and 0 < part < 1:
        most = at_most / seen.documents if at_most else math.inf
        return max(1.0, min(1 / part, most)), False
    for document, rows in pairs:
        seen.see(document, rows)
    return 1.0, True


def _row_bytes(layout: Layout, names: Iterable[str]) -> int:
    """Bytes of a row of some columns."""
    chosen = [layout[name] for name in names if name in layout]
    return sum(np.dtype(dtype).itemsize * (width or 1) for dtype, width in chosen)


def _peak() -> int:
    """Most bytes that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
