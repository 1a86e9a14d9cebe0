"""The cells of a codebook as bytes: passages of rows, predicted from the centres of groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokret.kernels import coding, stages
from tokret.kernels.coding import FINE, Coding, Rows
from tokret.types import Ints

RUN = 256  # cells that are coded as one passage


def pack(coder: Coding, cells: Rows, groups: NDArray[np.int32]) -> tuple[NDArray[np.uint8], Ints]:
    """Bytes of cells [C, W] in groups [C], and where each run of them ends.

    ``coder`` codes rows by the centres of the groups. Whole rows lose nothing.
    """
    fine = cells.astype(np.int16) * FINE
    codes, ends, _ = coder.encode(
        coding.batch(fine, np.zeros_like(fine), groups, _runs(len(cells)))
    )
    return codes, ends


def unpack(coder: Coding, codes: NDArray[np.uint8], ends: Ints, groups: NDArray[np.int32]) -> Rows:
    """Cells [C, W] from their bytes. Raises ValueError for what ``pack`` does not write."""
    width = coder.centroids.shape[1]
    offsets = _runs(len(groups))
    code_offsets = np.concatenate([[0], ends]).astype(np.int64)
    if (
        len(code_offsets) != len(offsets)
        or (np.diff(code_offsets) < 0).any()
        or code_offsets[-1] != len(codes)
    ):
        raise ValueError("its cells do not fit their codes")
    nothing = np.zeros((len(groups), width), np.int16)
    laid = coding.batch(nothing, nothing, groups, offsets)  # for the groups of each run
    none = np.zeros(1, np.int64)
    block = stages.block(
        coder,
        none,
        np.empty(0, np.uint16),
        laid.cell_offsets,
        laid.cells,
        offsets,
        codes,
        code_offsets,
    )
    runs = [stages.decode(coder, block, n, int(count)) for n, count in enumerate(np.diff(offsets))]
    return np.concatenate([np.empty((0, width), np.int8), *runs])


def _runs(cells: int) -> Ints:
    return np.minimum(np.arange(0, cells + RUN, RUN), cells).astype(np.int64)
