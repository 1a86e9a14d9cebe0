"""XTR's training score: what a passage keeps of a batch-wide token search.

Paper   Lee et al.: Rethinking the Role of Token Retrieval in Multi-Vector Retrieval.
        NeurIPS 2023, arXiv:2304.01982.
Does    Lets each query token retrieve its k_train nearest tokens of all passages of the
        batch, and scores a passage by the best of those it owns, summed and divided by Z,
        the number of query tokens that retrieved from it. The definition in NumPy, without
        gradients, that a trainer is held to.
Costs   O(B D Q T log T): the similarities are sorted whole.
Departs Padding is never retrieved. A retrieved similarity below 0 counts as it is, and
        counts in Z, unless ``clip_negative``; ties go to the earlier token.
"""

from __future__ import annotations

import numpy as np

from tokret.errors import InputError, UsageError
from tokret.types import Floats, Mask

SMALLEST_Z = 1e-3  # the paper's clip; a passage that nobody retrieved scores 0


def training_scores(
    sims: Floats,
    k_train: int,
    *,
    query_mask: Mask | None = None,
    passage_mask: Mask | None = None,
    clip_negative: bool = False,
) -> Floats:
    """Score D passages for each of B queries from sims [B, Q, D, T] -> [B, D].

    ``query_mask`` [B, Q] and ``passage_mask`` [D, T] are True on real tokens. A passage
    without real tokens scores -inf. Raises UsageError where k_train < 1, InputError for
    masks of another shape or similarities that are not finite.
    """
    keep = retrieved(sims, k_train, query_mask=query_mask, passage_mask=passage_mask)
    best = np.where(keep, sims, -np.inf).max(axis=3, initial=-np.inf)
    present = keep.any(axis=3)
    best = np.where(present, np.maximum(best, 0) if clip_negative else best, 0)
    z = np.maximum(present.sum(axis=1), SMALLEST_Z)
    scores = best.sum(axis=1, dtype=np.float64) / z
    if passage_mask is not None:
        scores[:, ~passage_mask.any(axis=1)] = -np.inf
    return np.asarray(scores, np.float32)


def retrieved(
    sims: Floats,
    k_train: int,
    *,
    query_mask: Mask | None = None,
    passage_mask: Mask | None = None,
) -> Mask:
    """Mark the k_train best real passage tokens of each real query token: [B, Q, D, T]."""
    b, q, d, t = _shape(sims)
    if k_train < 1:
        raise UsageError(f"k_train must be at least 1, got {k_train}.")
    valid = np.ones((b, q, d, t), bool)
    if query_mask is not None:
        valid &= _mask(query_mask, (b, q), "query_mask")[:, :, None, None]
    if passage_mask is not None:
        valid &= _mask(passage_mask, (d, t), "passage_mask")
    if not np.isfinite(sims[valid]).all():
        raise InputError("The similarities hold NaN or infinity.")
    masked = np.where(valid, sims, -np.inf).reshape(b, q, d * t)
    order = np.argsort(-masked, axis=2, kind="stable")[:, :, :k_train]
    keep = np.zeros((b, q, d * t), bool)
    np.put_along_axis(keep, order, True, axis=2)
    return keep.reshape(b, q, d, t) & valid


def _shape(sims: Floats) -> tuple[int, int, int, int]:
    if sims.ndim != 4:
        raise InputError(f"Similarities must be [B, Q, D, T], got {list(sims.shape)}.")
    b, q, d, t = sims.shape
    return b, q, d, t


def _mask(mask: Mask, shape: tuple[int, int], name: str) -> Mask:
    if mask.shape != shape or mask.dtype != np.bool_:
        raise InputError(f"{name} must be bool {list(shape)}, got {list(mask.shape)}.")
    return mask
