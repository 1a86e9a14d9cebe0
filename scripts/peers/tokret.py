"""tokret itself, through its public Python API and vectors made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.data import WIDTH, Data

REQUIREMENTS: tuple[str, ...] = ()
VENV = ""  # the Python that runs bench_peers.py
POINTS: dict[str, list[dict[str, Any]]] = {
    'exact(dtype="int8")': [{"k": 100}, {"k": 10}],
    "ivf": [
        {"k": 10, "recall": 0.8},
        {"k": 10, "recall": 0.91},
        {"k": 10, "recall": 0.95},
        {"k": 10, "recall": 0.97},
        {"k": 100, "recall": 0.97},
    ],
    "ivf(bits=1)": [{"k": 10, "recall": 0.8}, {"k": 10, "recall": 0.97}],
    'ivf(store="int8")': [
        {"k": 10, "recall": 0.91},
        {"k": 10, "recall": 0.95},
        {"k": 10, "recall": 0.97},
        {"k": 100, "recall": 0.97},
    ],
}


def engine() -> None:
    import tokret.indexes  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    from tokret.indexes import build as built

    ids = (f"{i:08d}" for i in range(len(data.lengths)))
    built(
        folder / "index",
        ((name, "") for name in ids),
        encoder=f"precomputed(dim={WIDTH})",
        backend=variant,
        vectors=data.documents(),
    )


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    """``settings`` but ``k`` and ``scorer`` are options of searching of the backend."""
    from tokret.indexes import Index

    k, scorer = settings.pop("k"), settings.pop("scorer", None)
    index = Index.open(folder / "index", tune=settings)

    def find(query: Any) -> Any:  # noqa: ANN401
        hits = index.search(query, k, scorer=scorer, threads=threads, text=False)
        return [int(hit.doc_id) for hit in hits]

    return find
