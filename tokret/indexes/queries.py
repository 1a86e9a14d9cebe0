"""From what a caller asks to what a backend gets: texts encoded, vectors checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from numpy.typing import ArrayLike

from tokret.encoders import Encoded, Encoder
from tokret.errors import InputError
from tokret.indexes.base import Request
from tokret.indexes.ingest import unit_rows
from tokret.types import Floats, Mask, Tokens


def requests_of(
    queries: Sequence[str | ArrayLike],
    encoder: Callable[[], Encoder | None],
    normalize: bool,
    allowed: Mask | None,
) -> list[Request]:
    """Make a request of each query; ``encoder`` is asked for only where one is a text.

    Raises InputError that counts the queries, for vectors that are none.
    """
    texts = [clean(query) for query in queries if isinstance(query, str)]
    model = encoder() if texts else None
    none: list[Floats | None] = [None] * len(texts)
    vectors = iter(none) if model is None else _meant(model.encode_queries(texts))
    return [
        Request(query, next(vectors), allowed)
        if isinstance(query, str)
        else Request(None, _query_vectors(query, i, normalize), allowed)
        for i, query in enumerate(queries)
    ]


def clean(text: str) -> str:
    """A query with lone surrogates replaced: it may come from anywhere."""
    return "".join("�" if "\ud800" <= c <= "\udfff" else c for c in text)


def _query_vectors(query: ArrayLike, i: int, normalize: bool) -> Floats:
    try:
        rows = Tokens.of([query])[0]
    except InputError as error:
        message = str(error).replace("Passage 0", f"Query {i}")
        raise InputError(f"{message} A query is a text, or vectors [Q, H].") from error
    return unit_rows(rows)[0] if normalize else rows


def _meant(encoded: Encoded) -> Iterator[Floats | None]:
    """Vectors of each query; none where no token stands for text, but special ones alone."""
    for i, vectors in enumerate(encoded.tokens):
        spans = encoded.spans[encoded.tokens.offsets[i] : encoded.tokens.offsets[i + 1]]
        yield vectors if (spans[:, 1] > spans[:, 0]).any() else vectors[:0]
