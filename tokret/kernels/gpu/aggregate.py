"""XTR's reduction of retrieved tokens to passages, on the device.

Does: sorts what was retrieved by passage and query token, keeps the best of each pair, and
    a Triton kernel walks each passage's pairs in the order of query tokens, adding the
    missing similarity where there is none.
Costs: a sort of Q * K' integers; memory of that order, whatever the number of passages.
Departs: nothing; the answer has the reference's bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tokret.kernels.gpu.device import choose, on, upload
from tokret.kernels.reference import check_retrieved
from tokret.types import Floats, Ints

WALKED = 128  # passages that one program adds up


def xtr_aggregate(
    tokens: Ints, sims: Floats, offsets: Ints, missing: Floats
) -> tuple[Ints, Floats, Ints]:
    """Add up as reference.xtr_aggregate does, to the bit.

    Raises InputError as the reference does, ResourceError where there is no device.
    """
    check_retrieved(tokens, sims, offsets, missing)
    device = choose()
    found = device_aggregate(*(upload(x, device) for x in (tokens, sims, offsets, missing)))
    passages, scores, matched = (part.cpu().numpy() for part in found)
    return passages, scores, matched


def device_aggregate(
    tokens: torch.Tensor, sims: torch.Tensor, offsets: torch.Tensor, missing: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Add up what ``device_topk`` gives -> passages [C], scores [C], matched [C]."""
    count = len(tokens)
    owner = torch.searchsorted(offsets, tokens, right=True) - 1
    asked = torch.arange(count, device=tokens.device)[:, None]
    pairs, pair = torch.unique(owner * max(1, count) + asked, return_inverse=True)
    best = sims.new_full((len(pairs),), float("-inf"))
    # What is not a number counts for nothing retrieved, as an infinity does.
    numbers = torch.where(sims.isnan(), torch.inf, sims)
    best.scatter_reduce_(0, pair.flatten(), numbers.flatten(), "amax")
    passages, lengths = torch.unique_consecutive(pairs // max(1, count), return_counts=True)
    scores = torch.empty(len(passages), dtype=torch.float32, device=tokens.device)
    matched = torch.empty(len(passages), dtype=torch.int64, device=tokens.device)
    if len(passages):
        with on(tokens.device):
            _walk[(triton.cdiv(len(passages), WALKED),)](
                pairs % count,
                best,
                lengths.cumsum(0),
                lengths,
                missing,
                scores,
                matched,
                len(passages),
                count,
                WALKED,
            )
    return passages, scores, matched


@triton.jit
def _walk(
    asked,
    best,
    ends,
    lengths,
    missing,
    scores,
    matched,
    passages,
    count,
    BLOCK_C: tl.constexpr,
):
    c = tl.program_id(0).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    there = c < passages
    end = tl.load(ends + c, mask=there, other=0)
    at = end - tl.load(lengths + c, mask=there, other=0)
    total = tl.zeros([BLOCK_C], tl.float64)
    hits = tl.zeros([BLOCK_C], tl.int64)
    for q in range(count):
        left = at < end
        here = left & (tl.load(asked + at, mask=left, other=-1) == q)
        sim = tl.load(best + at, mask=here, other=float("inf"))
        present = tl.abs(sim) < float("inf")
        total += tl.where(present, sim, tl.load(missing + q)).to(tl.float64)
        hits += present.to(tl.int64)
        at += here.to(tl.int64)
    tl.store(scores + c, total.to(tl.float32), mask=there)
    tl.store(matched + c, hits, mask=there)
