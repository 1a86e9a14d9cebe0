"""MaxSim: each query token takes its best match in the passage.

Paper   Khattab, Zaharia: ColBERT: Efficient and Effective Passage Search via
        Contextualized Late Interaction over BERT. SIGIR 2020, arXiv:2004.12832.
Does    Sums, over query tokens, the largest similarity to any token of the passage;
        scores every passage.
Costs   2 Q T H operations a passage; all token vectors are read.
Departs ``mean=True`` divides by Q, which is f_C of the XTR paper; ranks are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokret import kernels
from tokret.registry import Spec
from tokret.scoring.base import Part, no_candidates, scorers
from tokret.types import Floats, Ints


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
            every = kernels.maxsim(query, part.tokens, threads=threads)
            chosen = part.scorable()
            passages.append(first + chosen)
            scores.append(every[chosen])
            first += len(part.tokens)
        if not parts or len(query) == 0:
            return no_candidates()
        sums = np.concatenate(scores)
        if self.mean:
            sums = (sums / len(query)).astype(np.float32)
        return np.concatenate(passages), sums
