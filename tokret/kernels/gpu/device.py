"""Which device computes, and what has been uploaded to it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import triton
from numpy.typing import ArrayLike, NDArray

from tokret.errors import ResourceError
from tokret.kernels.reference import checked_query
from tokret.types import Floats, Tokens

OLDEST = (8, 0)  # before it Triton cannot multiply int8
STAGED = 2**26  # bytes copied at a time: an index mapped from disk is never whole in memory


def interpreted() -> bool:
    """Whether Triton was told to run kernels in its interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)


def choose(name: str | None = None) -> torch.device:
    """Give the device that kernels run on: the one named, or the current CUDA device.

    Under the interpreter it is the CPU, whatever the name. Raises ResourceError where
    there is no such device, or it is too old.
    """
    if interpreted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ResourceError(
            f"GPU kernels need a CUDA device, and torch {torch.__version__} finds none. Score with "
            "tokret.kernels on the CPU, install a torch built for your GPU, or set "
            "TRITON_INTERPRET=1 before Python starts to try the kernels here, slowly."
        )
    here = f"cuda:{torch.cuda.current_device()}"
    known = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    wanted = here if name in (None, "cuda") else str(name)
    if wanted not in known:
        raise ResourceError(f"No device {name!r}; this machine has {', '.join(known)}.")
    capability = torch.cuda.get_device_capability(wanted)
    if torch.version.hip is None and capability < OLDEST:
        raise ResourceError(
            f"GPU kernels need compute capability {OLDEST[0]}.{OLDEST[1]} (Ampere) or later; "
            f"{wanted} has {capability[0]}.{capability[1]}. Score with tokret.kernels on the CPU."
        )
    return torch.device(wanted)


@dataclass(frozen=True, eq=False)
class DeviceTokens:
    """A collection's ``Tokens`` on the device: upload an index once, ask it often."""

    vectors: torch.Tensor
    offsets: torch.Tensor
    scales: torch.Tensor | None = None

    @classmethod
    def of(
        cls, docs: DeviceTokens | Tokens | Sequence[ArrayLike], device: str | None = None
    ) -> DeviceTokens:
        """Copy ``docs`` to the device; what is there passes through.

        Raises InputError as ``Tokens.of`` does, ResourceError where there is no device or
        no room on it.
        """
        if isinstance(docs, DeviceTokens):
            return docs
        docs = Tokens.of(docs)
        where = choose(device)
        scales = None if docs.scales is None else upload(docs.scales, where)
        return cls(upload(docs.vectors, where), upload(docs.offsets, where), scales)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """H, the width of a vector."""
        return int(self.vectors.shape[1])

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.vectors.device


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array, mapped from disk or not, to the device."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    try:
        out = torch.empty(array.shape, dtype=dtype, device=device)
    except torch.OutOfMemoryError as error:
        free, whole = torch.cuda.mem_get_info(device)
        raise ResourceError(
            f"{array.nbytes / 1e9:.1f} GB do not fit on {device}, of whose {whole / 1e9:.1f} GB "
            f"{free / 1e9:.1f} are free; store int8, upload in parts or score on the CPU."
        ) from error
    rows = max(1, STAGED // max(1, array.nbytes // max(1, len(array))))
    for first in range(0, len(array), rows):
        part = np.array(array[first : first + rows], order="C")  # torch wants to own it
        out[first : first + rows] = torch.from_numpy(part)
    return out


def query_rows(query: ArrayLike, docs: DeviceTokens) -> Floats:
    """Check a query, which may be a tensor on a device, as the reference does."""
    if isinstance(query, torch.Tensor):
        query = query.detach().to("cpu", torch.float32).numpy()
    return checked_query(query, cast(Tokens, docs))  # of docs it asks the width alone


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make launches go to ``device``: Triton launches on the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def power_of_two(count: int, least: int, most: int) -> int:
    """Give the block for ``count`` items: a power of two from ``least`` to ``most``."""
    return min(max(least, 1 << max(0, count - 1).bit_length()), most)
