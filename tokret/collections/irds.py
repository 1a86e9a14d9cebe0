"""Collections by their ir_datasets id, such as ``beir/scifact/test``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokret.errors import InputError, MissingExtraError
from tokret.registry import did_you_mean
from tokret.types import Document, Query

_ID = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-zA-Z0-9._-]+)*")
_KNOWN = {  # first parts that mean ir_datasets even where it is not installed
    "antique",
    "beir",
    "bright",
    "codesearchnet",
    "cord19",
    "cranfield",
    "kilt",
    "lotte",
    "miracl",
    "mmarco",
    "msmarco-document",
    "msmarco-passage",
    "nano-beir",
    "natural-questions",
    "neuclir",
    "nfcorpus",
    "tripclick",
    "vaswani",
    "wikir",
}


def is_id(source: str | Path) -> bool:
    """Whether ``source`` is meant as an id: no such path, and a first part that is known."""
    text = str(source)
    if isinstance(source, Path) or not _ID.fullmatch(text) or Path(text).exists():
        return False
    first = text.partition("/")[0]
    if first in _KNOWN:
        return True
    try:
        import ir_datasets
    except (ImportError, OSError):  # it makes its folder when it is imported
        return False
    return any(name.partition("/")[0] == first for name in ir_datasets.registry)


def load(dataset_id: str) -> Any:  # noqa: ANN401
    """Find the dataset; MissingExtraError without the package, InputError for an unknown id."""
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingExtraError(f"The ir_datasets collection {dataset_id!r}", "datasets") from error
    except OSError as error:
        raise InputError(
            f"{dataset_id}: ir_datasets has no place to keep data ({error}); set IR_DATASETS_HOME."
        ) from error
    try:
        return ir_datasets.load(dataset_id)
    except KeyError as error:
        raise InputError(
            f"No ir_datasets collection {dataset_id!r}."
            f"{did_you_mean(dataset_id, ir_datasets.registry)}"
        ) from error


def splits(dataset_id: str) -> list[str]:
    """Ids that refine ``dataset_id`` by one part, such as ``test``."""
    load(dataset_id)
    import ir_datasets

    below = [
        name[len(dataset_id) + 1 :]
        for name in ir_datasets.registry
        if name.startswith(dataset_id + "/")
    ]
    return sorted(below)


def documents(dataset_id: str) -> Iterator[Document]:
    """Stream the documents, with titles where the collection has them."""
    dataset = _with(dataset_id, "docs")  # judged at the call, not at the first document
    return map(_document, _rows(dataset_id, dataset.docs_iter))


def _document(doc: Any) -> Document:  # noqa: ANN401
    title, text = getattr(doc, "title", None), getattr(doc, "text", None)
    if isinstance(text, str):
        return Document(doc.doc_id, text, title if isinstance(title, str) else "")
    return Document(doc.doc_id, doc.default_text())


def queries(dataset_id: str) -> Iterator[Query]:
    """Stream the queries."""
    dataset = _with(dataset_id, "queries")
    for query in _rows(dataset_id, dataset.queries_iter):
        yield Query(query.query_id, query.default_text())


def judgements(dataset_id: str) -> Iterator[tuple[str, str, int]]:
    """Stream query id, document id and grade."""
    dataset = _with(dataset_id, "qrels")
    for qrel in _rows(dataset_id, dataset.qrels_iter):
        yield qrel.query_id, qrel.doc_id, int(qrel.relevance)


def has(dataset_id: str, part: str) -> bool:
    """Whether the dataset has ``docs``, ``queries`` or ``qrels``."""
    return bool(getattr(load(dataset_id), f"has_{part}")())


def _with(dataset_id: str, part: str) -> Any:  # noqa: ANN401
    if not has(dataset_id, part):
        raise InputError(
            f"{dataset_id}: this ir_datasets collection has no {part}; below it are: "
            f"{', '.join(splits(dataset_id)) or 'none'}."
        )
    return load(dataset_id)


def _rows(dataset_id: str, start: Any) -> Iterator[Any]:  # noqa: ANN401
    try:
        yield from start()
    except (OSError, RuntimeError) as error:  # what ir_datasets raises for a failed download
        raise InputError(
            f"{dataset_id}: ir_datasets could not fetch it ({type(error).__name__}); it is not on "
            "this machine and needs the network once. A BEIR folder on disk works without."
        ) from error
