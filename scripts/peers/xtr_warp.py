"""xtr-warp-rs: WARP in Rust over libtorch; one wheel for one minor version of torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.data import Data

REQUIREMENTS = ("xtr-warp-rs==2.1.0.2110",)
PIP = ("numpy==2.4.6", "torch==2.11.0", "fast-plaid==1.7.0.2110", *REQUIREMENTS)
VENV = "torch211"  # 5 GB: shared
POINTS: dict[str, list[dict[str, Any]]] = {
    "auto": [
        {"k": 100},
        {"k": 10},
        {"k": 100, "nprobe": 32, "t_prime": 100_000},
    ]
}


def engine() -> None:
    import xtr_warp.search  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    """Hand over shards on disk, as the library wants them, and take every default."""
    import torch
    from xtr_warp.search import XTRWarp

    torch.set_num_threads(threads)
    shards = folder.with_name(folder.name + ".shards")
    shards.mkdir()
    try:
        for number, (first, last) in enumerate(data.blocks()):
            np.save(shards / f"{number:05d}.npy", data.rows(first, last))
            lengths = data.lengths[first:last].astype(np.int64)
            np.save(shards / f"{number:05d}.doclens.npy", lengths)
        XTRWarp(str(folder), device="cpu").create(str(shards), device="cpu", show_progress=False)
    finally:
        for file in shards.iterdir():
            file.unlink()
        shards.rmdir()


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import torch
    from xtr_warp.search import XTRWarp

    torch.set_num_threads(threads)
    k = settings.pop("k")
    index = XTRWarp(str(folder), device="cpu")
    index.load(device="cpu")
    options = {"num_threads": threads, "show_progress": False, **settings}

    def find(query: Any) -> Any:  # noqa: ANN401
        asked = torch.from_numpy(query)[None]
        return [place for place, _ in index.search(asked, k, **options)[0]]

    return find
