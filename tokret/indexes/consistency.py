"""What must agree between files that are each what was written, checked value by value.

Digests say that bytes are those that a writer gave; this says that they make sense, whoever
the writer was. Full verification asks, and so does repair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from tokret.errors import IndexCorruptError, MissingExtraError, UsageError
from tokret.indexes.base import Checker
from tokret.indexes.files import Array
from tokret.indexes.segment import Segment, id_hash
from tokret.indexes.store import Snapshot
from tokret.indexes.view import View, backend_of
from tokret.types import rising

ROWS = 1 << 16  # looked at together


def check_segment(segment: Segment) -> None:
    """Read all that a segment says about its documents. Raises IndexCorruptError."""
    segment.fields.check()
    if "doc_ids" in segment.columns:
        _check_documents(segment)
    for name in ("vectors", "scales", "errors"):
        if name in segment.columns and segment.columns[name].dtype[1] == "f":
            for rows in _chunks(segment.map(name)):
                if not np.isfinite(rows).all():
                    raise _corrupt(segment, name, "a value is no number")
    if "token_spans" in segment.columns:
        segment.token_offsets  # noqa: B018  (reading checks it)
        for rows in _chunks(segment.map("token_spans")):
            if (rows[:, 0] < 0).any() or (rows[:, 0] > rows[:, 1]).any():
                raise _corrupt(
                    segment, "token_spans", "a range of characters ends before it begins"
                )


def _check_documents(segment: Segment) -> None:
    segment.passage_offsets  # noqa: B018  (reading checks it)
    spans = segment.passage_spans
    if (spans[:, 0] < 0).any() or (spans[:, 0] > spans[:, 1]).any():
        raise _corrupt(segment, "passage_spans", "a range of characters ends before it begins")
    order, hashes = segment.read("id_order"), segment.read("id_hashes")
    if not np.array_equal(np.sort(order), np.arange(segment.documents)):
        raise _corrupt(segment, "id_order", "does not name every document once")
    if not rising(hashes):
        raise _corrupt(segment, "id_hashes", "the hashes do not rise")
    found = np.array([id_hash(segment.doc_id(d)) for d in range(segment.documents)], np.uint64)
    if not np.array_equal(found[order], hashes):
        raise _corrupt(segment, "id_hashes", "a hash is not that of its document's id")
    for d in range(segment.documents):
        segment.text(d)


def check_searcher(snapshot: Snapshot, *, full: bool) -> None:
    """Make a version ready for queries, and ``full`` read what they might read.

    What needs a part that is not installed is left out. Raises IndexCorruptError, and
    IndexFormatError for a backend that this tokret does not have.
    """
    backend = backend_of(snapshot)
    with contextlib.suppress(MissingExtraError, UsageError):
        searcher = View.of(snapshot, backend).searcher
        if full and isinstance(searcher, Checker):
            searcher.check()


def _chunks(values: Array) -> Iterator[Array]:
    return (values[at : at + ROWS] for at in range(0, len(values), ROWS))


def _corrupt(segment: Segment, name: str, what: str) -> IndexCorruptError:
    return IndexCorruptError(f"{segment.path / name}.bin: {what}.")
