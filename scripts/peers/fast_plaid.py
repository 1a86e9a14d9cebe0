"""fast-plaid: PLAID in Rust over libtorch, made for GPUs; here on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.data import Data
from peers.xtr_warp import PIP as PIP  # one environment serves both
from peers.xtr_warp import VENV as VENV

REQUIREMENTS = ("fast-plaid==1.7.0.2110",)
QUERIES = 200  # slow: fewer than the collections have
REPEATS = 1
POINTS: dict[str, list[dict[str, Any]]] = {
    "auto": [{"k": 100}, {"k": 100, "n_full_scores": 512}],
}


def engine() -> None:
    import fast_plaid.search  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    import torch
    from fast_plaid.search import FastPlaid

    torch.set_num_threads(threads)
    documents = [torch.tensor(rows) for rows in data.documents()]
    FastPlaid(str(folder), device="cpu").create(documents)


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import torch
    from fast_plaid.search import FastPlaid

    torch.set_num_threads(threads)
    k = settings.pop("k")
    index = FastPlaid(str(folder), device="cpu")
    options = {"show_progress": False, "n_processes": 1, **settings}

    def find(query: Any) -> Any:  # noqa: ANN401
        asked = torch.from_numpy(query)[None]
        return [place for place, _ in index.search(asked, top_k=k, **options)[0]]

    return find
