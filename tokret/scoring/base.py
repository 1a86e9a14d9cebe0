"""What every scorer answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tokret.registry import Registry
from tokret.types import Floats, Ints, Mask, Tokens


@dataclass(frozen=True, eq=False)
class Part:
    """A share of a collection: passages laid end to end, and which of them count.

    ``alive`` [N] is None where all do. The passages of several parts are numbered on,
    part after part.
    """

    tokens: Tokens
    alive: Mask | None = None


class Scorer(Protocol):
    """Scores the passages of a collection for one query, from token vectors alone."""

    name: str

    def score(
        self, query: Floats, parts: Sequence[Part], *, threads: int = 1
    ) -> tuple[Ints, Floats]:
        """Query [Q, H] -> candidate passages [C], rising, and their scores [C].

        A passage that is not alive is no candidate; one without tokens scores -inf or
        is no candidate. The answer does not depend on how passages are cut into parts,
        nor on the number of threads.
        """
        ...


scorers: Registry[Scorer] = Registry("scorer")
