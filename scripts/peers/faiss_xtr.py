"""faiss over all tokens, and XTR's scoring of what it retrieves, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.data import WIDTH, Data

REQUIREMENTS = ("faiss-cpu==1.15.1",)
PIP = ("numpy==2.4.6", *REQUIREMENTS)
VENV = "faiss"
SAMPLE = 200_000  # tokens to train on
POINTS: dict[str, list[dict[str, Any]]] = {
    "IVF2048,PQ64x4fs": [
        {"k": 100, "nprobe": 32, "k_prime": 1_000},
        {"k": 100, "nprobe": 64, "k_prime": 10_000},
    ],
    "IVF2048,PQ32x8": [{"k": 100, "nprobe": 32, "k_prime": 1_000}],
}
FILE, OWNERS = "index.faiss", "owners.npy"


def engine() -> None:
    import faiss  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    """Train on a seeded sample, add all, keep the document of every token beside."""
    import faiss

    faiss.omp_set_num_threads(threads)
    total = len(data.vectors)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(total, min(SAMPLE, total), replace=False))
    index = faiss.index_factory(WIDTH, variant, faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(data.vectors[rows], np.float32))
    for first, last in data.blocks():
        index.add(data.rows(first, last))
    faiss.write_index(index, str(folder / FILE))
    np.save(folder / OWNERS, data.owners())


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.read_index(str(folder / FILE))
    index.nprobe = settings["nprobe"]
    owners = np.load(folder / OWNERS)
    k, k_prime = settings["k"], min(settings["k_prime"], len(owners))
    marked = np.zeros(int(owners.max()) + 1, bool)
    slots = np.zeros(len(marked), np.int64)

    def find(query: Any) -> Any:  # noqa: ANN401
        """Best similarity a (query token, document), else the last one retrieved; summed."""
        sims, tokens = index.search(query, k_prime)  # [Q, k'], falling; -1 where lists were short
        short = tokens < 0
        if short.any():
            tokens = np.where(short, tokens[:, :1], tokens)
            least = np.where(short, np.inf, sims).min(axis=1)
            sims = np.where(short, least[:, None], sims)
        else:
            least = sims[:, -1]
        held = owners[tokens]
        marked[held] = True
        documents = np.flatnonzero(marked)
        marked[documents] = False
        slots[documents] = np.arange(len(documents))
        table = np.repeat(least, len(documents))
        cells = slots[held] + (np.arange(len(query)) * len(documents))[:, None]
        rising = (cells[:, ::-1].ravel(), sims[:, ::-1].ravel())  # copies: views may be reordered
        table[rising[0]] = rising[1]  # the last one written, the best, stays
        scores = table.reshape(len(query), -1).sum(axis=0)
        if len(scores) > k:
            near = np.argpartition(-scores, k)[:k]
            return documents[near[np.argsort(-scores[near], kind="stable")]]
        return documents[np.argsort(-scores, kind="stable")]

    return find
