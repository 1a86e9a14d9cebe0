"""What every scorer answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tokret.kernels.reference import check_alive
from tokret.registry import Registry
from tokret.types import Floats, Ints, Mask, Tokens


@dataclass(frozen=True, eq=False)
class Part:
    """A share of a collection: passages laid end to end, and which of them count.

    ``alive`` [N] is None where all do. The passages of several parts are numbered on,
    part after part. Raises InputError for a mask that is not one bool a passage.
    """

    tokens: Tokens
    alive: Mask | None = None

    def __post_init__(self) -> None:
        if self.alive is not None:
            check_alive(self.tokens, self.alive)

    def only(self, allowed: Mask) -> Part:
        """The same part, in which passages count that do now and are ``allowed`` [N]."""
        return Part(self.tokens, allowed if self.alive is None else self.alive & allowed)

    def scorable(self) -> Ints:
        """Passages of this part that are alive and have tokens."""
        full = np.diff(self.tokens.offsets) > 0
        return np.flatnonzero(full if self.alive is None else full & self.alive)


class Scorer(Protocol):
    """Scores the passages of a collection for one query, from token vectors alone."""

    name: str

    def score(
        self, query: Floats, parts: Sequence[Part], *, threads: int = 1
    ) -> tuple[Ints, Floats]:
        """Query [Q, H] -> candidate passages [C], rising, and their scores [C].

        A passage that is not alive, or has no tokens, is no candidate; a query without
        tokens has none. The answer does not depend on how passages are cut into parts,
        nor on the number of threads.
        """
        ...


scorers: Registry[Scorer] = Registry("scorer")


def no_candidates() -> tuple[Ints, Floats]:
    """Give the answer that names no passage."""
    return np.empty(0, np.int64), np.empty(0, np.float32)


def take(tokens: Tokens, passages: Ints) -> Tokens:
    """Lay the chosen passages [C] end to end, stored as they were."""
    lengths = np.diff(tokens.offsets)[passages]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    rows = np.arange(offsets[-1]) + np.repeat(tokens.offsets[passages] - offsets[:-1], lengths)
    scales = None if tokens.scales is None else tokens.scales[rows]
    return Tokens(tokens.vectors[rows], offsets, scales)
