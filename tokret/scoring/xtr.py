"""XTR: score with the retrieved tokens alone, and impute what is missing.

Paper   Lee, Dai, Duddu, Lei, Naim, Chang, Zhao: Rethinking the Role of Token Retrieval
        in Multi-Vector Retrieval. NeurIPS 2023, arXiv:2304.01982.
Code    google-deepmind/xtr (inference notebook).
Does    Each query token retrieves its k_prime nearest tokens of the whole collection.
        A passage that owns one of them is a candidate; it scores the mean, over query
        tokens, of its best retrieved similarity, or of an imputed one where it has none.
Costs   2 Q T H operations to retrieve by brute force over all T tokens, then O(Q k_prime)
        to score; only impute="exact" reads vectors of candidates again.
Departs The paper scores queries by the k_prime-th similarity alone (impute="kth"). A value
        is imputed only where a passage has no retrieved token for a query token; the
        paper's printed max with the imputed value would differ for "const" and "zero".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tokret import kernels
from tokret.errors import UsageError
from tokret.registry import Spec
from tokret.scoring.base import Part, no_candidates, scorers, take
from tokret.types import Floats, Ints

Impute = Literal["kth", "kth*gamma", "zero", "const", "none", "exact"]


@scorers.register("xtr")
@dataclass(frozen=True)
class Xtr(Spec):
    """Token retrieval with ``k_prime`` tokens, and one of six ways to fill the gaps.

    ``impute`` gives a query token without a retrieved token in the passage:
    ``kth`` its k_prime-th similarity, an upper bound of the true one; ``kth*gamma`` that,
    times ``gamma``; ``zero``; ``const`` the value of ``const``; ``none`` no weight (mean over
    the query tokens that did retrieve); ``exact`` the true one, read from the vectors.
    """

    k_prime: int = 1000
    impute: Impute = "kth"
    gamma: float = 1.0
    const: float = 0.2

    def __post_init__(self) -> None:
        if self.k_prime < 1:
            raise UsageError(f"xtr: k_prime must be at least 1, got {self.k_prime}.")
        if self.impute not in get_args(Impute):
            known = ", ".join(map(repr, get_args(Impute)))
            raise UsageError(f"xtr: impute must be one of {known}; got {self.impute!r}.")
        if not (math.isfinite(self.gamma) and math.isfinite(self.const)):
            raise UsageError(f"xtr: gamma and const must be finite, got {self}.")

    def score(
        self, query: Floats, parts: Sequence[Part], *, threads: int = 1
    ) -> tuple[Ints, Floats]:
        """Query [Q, H] -> passages that own a retrieved token [C], rising, and scores [C].

        Raises InputError for a query of another width or with values that are not finite.
        """
        tokens, sims = retrieve(query, parts, self.k_prime, threads=threads)
        return self.from_retrieved(query, tokens, sims, parts, threads=threads)

    def from_retrieved(
        self,
        query: Floats,
        tokens: Ints,
        sims: Floats,
        parts: Sequence[Part],
        offsets: Ints | None = None,
        *,
        threads: int = 1,
    ) -> tuple[Ints, Floats]:
        """Score what ``retrieve`` found, or an index in its place.

        tokens [Q, K'], numbered on from part to part, and similarities [Q, K'], best first;
        a token may stand in a row more than once. ``offsets`` [N + 1] are the parts'
        ``passage_offsets``, for who has them already.
        """
        if tokens.size == 0:
            return no_candidates()
        if offsets is None:
            offsets = passage_offsets(parts)
        candidates, sums, present = kernels.xtr_aggregate(
            tokens, sims, offsets, self._missing(sims)
        )
        if self.impute == "exact":
            sums = rescore(query, parts, candidates, threads=threads)
        counts = present if self.impute == "none" else len(query)
        return candidates, (sums / counts).astype(np.float32)

    def _missing(self, sims: Floats) -> Floats:
        """Fill in for a query token without a retrieved one: sims [Q, K'] -> [Q]."""
        kth = sims[:, -1]
        if self.impute == "kth":
            return kth
        if self.impute == "kth*gamma":
            return kth * np.float32(self.gamma)
        return np.full_like(kth, self.const if self.impute == "const" else 0)


def retrieve(
    query: Floats, parts: Sequence[Part], k_prime: int, *, threads: int = 1
) -> tuple[Ints, Floats]:
    """Find each query token's ``k_prime`` nearest tokens over all parts.

    query [Q, H] -> token numbers [Q, K'], counted on from part to part, and similarities
    [Q, K'], best first, ties in the order of tokens; K' = min(k_prime, living tokens).
    """
    tokens, sims = np.empty((len(query), 0), np.int64), np.empty((len(query), 0), np.float32)
    first = 0
    for part in parts:
        found, near = kernels.token_topk(
            query, part.tokens, k_prime, alive=part.alive, threads=threads
        )
        if tokens.size == 0:  # nothing to merge with, and both arrive in order
            tokens, sims = first + found, near
        else:
            tokens = np.concatenate([tokens, first + found], axis=1)
            sims = np.concatenate([sims, near], axis=1)
            # Stable: earlier parts hold lower token numbers, so equal similarities stay in order.
            order = np.argsort(-sims, axis=1, kind="stable")[:, :k_prime]
            tokens = np.take_along_axis(tokens, order, axis=1)
            sims = np.take_along_axis(sims, order, axis=1)
        first += len(part.tokens.vectors)
    return tokens, sims


def passage_offsets(parts: Sequence[Part]) -> Ints:
    """Token offsets [N + 1] of the passages of all parts, numbered on."""
    if len(parts) == 1:
        return parts[0].tokens.offsets
    lengths = [np.diff(part.tokens.offsets) for part in parts]
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])


def rescore(query: Floats, parts: Sequence[Part], candidates: Ints, *, threads: int = 1) -> Floats:
    """Gather the candidates' vectors and sum true best matches: [C] numbers -> [C]."""
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)])
    cuts = np.searchsorted(candidates, starts)
    shares = [
        kernels.maxsim(query, take(part.tokens, candidates[a:b] - start), threads=threads)
        for part, a, b, start in zip(parts, cuts[:-1], cuts[1:], starts[:-1], strict=True)
    ]
    return np.concatenate(shares)
