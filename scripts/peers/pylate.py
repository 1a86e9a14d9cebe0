"""PyLate's own PLAID: the Stanford engine that it carries, compiled at first use.

A compilation that was stopped leaves a lock that the next one would wait for; bench_peers.py
removes it. PyLate's other indexes are earlier versions of peers measured by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.data import Data

REQUIREMENTS = ("pylate==1.6.0",)
PIP = ("numpy==2.4.6", *REQUIREMENTS)
VENV = "pylate"
QUERIES = 200
REPEATS = 1
POINTS: dict[str, list[dict[str, Any]]] = {"stanford": [{"k": 100}, {"k": 10}]}
NAME = "index"


def engine() -> None:
    """Import, and compile its extensions unless they are there."""
    from pylate.indexes.stanford_nlp.indexing.codecs.residual import ResidualCodec
    from pylate.indexes.stanford_nlp.modeling import colbert
    from pylate.indexes.stanford_nlp.search.index_storage import IndexScorer
    from pylate.indexes.stanford_nlp.search.strided_tensor import StridedTensor

    for part in (ResidualCodec, IndexScorer, StridedTensor):
        part.try_load_torch_extensions(False)
    colbert.try_load_torch_extensions(False)


def _index(folder: Path, override: bool) -> Any:  # noqa: ANN401
    from pylate import indexes

    options = {"use_fast": False, "device": "cpu", "show_progress": False}
    return indexes.PLAID(str(folder), NAME, override=override, **options)


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    documents = [rows.copy() for rows in data.documents()]
    names = [str(i) for i in range(len(documents))]
    _index(folder, True).add_documents(documents_ids=names, documents_embeddings=documents)


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import torch

    torch.set_num_threads(threads)
    index = _index(folder, False)
    k = settings["k"]

    def find(query: Any) -> Any:  # noqa: ANN401
        return [int(hit["id"]) for hit in index(torch.from_numpy(query)[None], k=k)[0]]

    return find
