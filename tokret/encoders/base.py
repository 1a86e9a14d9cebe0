"""What every encoder answers, and the value it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokret.registry import Registry
from tokret.types import Ints, Tokens

Spans = NDArray[np.int32]  # [T, 2] character ranges; an empty range stands for no text


@dataclass(frozen=True)
class Identity:
    """Which model made the vectors; stored in an index and compared at search.

    ``sha256`` covers the weights, the tokenizer and every setting that changes a vector.
    """

    spec: str
    sha256: str
    dim: int


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token vectors of texts, with the place of each token in its text.

    ``tokens`` holds N texts; ``spans`` [T, 2] and ``token_ids`` [T] run beside its rows;
    ``truncated`` [N] is True where a text was longer than the encoder reads.
    """

    tokens: Tokens
    spans: Spans
    token_ids: NDArray[np.int32]
    truncated: NDArray[np.bool_]


class Encoder(Protocol):
    """Text to token vectors. Vectors of a text do not depend on its batch."""

    name: str

    @property
    def identity(self) -> Identity:
        """Which model this is."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest document it reads, in tokens, special ones counted."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Encode requests; each becomes float32 unit vectors [Q, H]."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """Encode passages; each becomes float32 unit vectors [T, H]."""
        ...

    def token_spans(self, text: str) -> Ints:
        """Character ranges [n, 2] of all tokens of ``text``, uncut, without special ones."""
        ...


encoders: Registry[Encoder] = Registry("encoder")
