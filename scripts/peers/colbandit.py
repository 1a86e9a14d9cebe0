"""Col-Bandit: all documents in int8, scored only as far as the best ones need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.data import Data

REQUIREMENTS = ("colbandit==0.1.0",)
PIP = ("numpy==2.4.6", *REQUIREMENTS)
VENV = "colbandit"
QUERIES = 200
REPEATS = 1
POINTS: dict[str, list[dict[str, Any]]] = {
    "index": [{"k": 100}, {"k": 10}, {"k": 100, "alpha_ef": 1.0}],
}
FILE = "index.npz"


def engine() -> None:
    import colbandit  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    from colbandit import ColBandit

    ColBandit(n_threads=threads).index(data.documents()).save(str(folder / FILE))


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    from colbandit import ColBandit

    index = ColBandit.load(str(folder / FILE))
    index.n_threads = threads
    index.alpha_ef = settings.get("alpha_ef", index.alpha_ef)
    k = settings["k"]

    def find(query: Any) -> Any:  # noqa: ANN401
        return index.search(query, k=k)[0]

    return find
