"""MaxSim: each query token takes its best match in the passage.

Paper   Khattab, Zaharia: ColBERT: Efficient and Effective Passage Search via
        Contextualized Late Interaction over BERT. SIGIR 2020, arXiv:2004.12832.
Does    Sums, over query tokens, the largest similarity to any token of the passage;
        scores every passage.
Costs   2 Q T H operations a passage; all token vectors are read, or where few passages
        count, theirs alone.
Departs ``mean=True`` divides by Q, which is f_C of the XTR paper; ranks are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokret import kernels
from tokret.registry import Spec
from tokret.scoring.base import Part, no_candidates, scorers, take
from tokret.types import Floats, Ints, Tokens

SPARSE = 2  # passages are gathered where they have less than one token in so many
GATHERED = 1 << 14  # tokens gathered at a time: a few MiB, so that they stay near


@scorers.register("maxsim")
@dataclass(frozen=True)
class MaxSim(Spec):
    """Sum of best matches over query tokens; ``mean=True`` takes their mean."""

    mean: bool = False

    def score(
        self, query: Floats, parts: Sequence[Part], *, threads: int = 1
    ) -> tuple[Ints, Floats]:
        """Query [Q, H] -> all scorable passages [C], rising, and their scores [C].

        Raises InputError for a query of another width or with values that are not finite.
        """
        first = 0
        passages, scores = [], []
        for part in parts:
            chosen = part.scorable()
            passages.append(first + chosen)
            scores.append(sums_of(query, part.tokens, chosen, threads=threads))
            first += len(part.tokens)
        if not parts or len(query) == 0:
            return no_candidates()
        sums = np.concatenate(scores)
        if self.mean:
            sums = (sums / len(query)).astype(np.float32)
        return np.concatenate(passages), sums


def sums_of(query: Floats, tokens: Tokens, passages: Ints, *, threads: int = 1) -> Floats:
    """MaxSim of chosen passages [C], rising -> [C], the same bits as of all of them.

    Raises InputError for a query of another width or with values that are not finite.
    """
    ends = np.cumsum(tokens.offsets[passages + 1] - tokens.offsets[passages])
    total = int(ends[-1]) if len(ends) else 0
    if total * SPARSE > len(tokens.vectors):
        return kernels.maxsim(query, tokens, threads=threads)[passages]
    cuts = np.searchsorted(ends, np.arange(GATHERED, total, GATHERED))
    shares = [
        kernels.maxsim(query, take(tokens, share), threads=threads)
        for share in np.split(passages, np.unique(cuts))
    ]
    return np.concatenate(shares)
