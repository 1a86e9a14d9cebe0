"""What eight bits cost tokret-mini: nDCG@10 against its float32 weights, same projection.

    python scripts/bench_rounding.py BEIR_FOLDER [BEIR_FOLDER ...]

Encodes each collection twice, at most 300 tokens a document: by tokret-mini, and by torch in
float32 from the weights it was made from; searches both by exact MaxSim over fp16 vectors.
Needs the extras ``st`` and ``dev``. Prints JSON lines.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_encode import weights_folder

from tokret.collections import Collection, load_collection
from tokret.encoders import mini
from tokret.evaluation import evaluate
from tokret.evaluation.record import environment
from tokret.indexes import Index, build

BATCH = 256  # documents of one call


class Float32:
    """The same network and projection in torch float32."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(weights_folder()), device="cpu")
        graph = onnx.load(mini.DATA / "model.onnx").graph
        named = {tensor.name: tensor for tensor in graph.initializer}
        self.projection = onnx.numpy_helper.to_array(named["projection"]).astype(np.float32)

    def encode(self, texts: list[str], limit: int) -> list[np.ndarray]:
        """Unit token vectors [T, 128] of each text."""
        self.model.max_seq_length = limit
        hidden: list[Any] = self.model.encode(
            texts, output_value="token_embeddings", show_progress_bar=False, batch_size=32
        )
        rows = [h.numpy() @ self.projection for h in hidden]
        return [r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows]

    def documents(self, collection: Collection) -> Iterator[np.ndarray]:
        """Vectors of every document, a batch at a time."""
        batch: list[str] = []
        for document in collection.documents():
            batch.append(document.contents)
            if len(batch) == BATCH:
                yield from self.encode(batch, 300)
                batch = []
        if batch:
            yield from self.encode(batch, 300)


def quality(index: Index, collection: Collection, queries: list[Any]) -> float:
    """nDCG@10 of exact MaxSim."""
    hits = index.search_many(queries, k=100, threads=2, text=False)
    names = [query.query_id for query in collection.queries]
    run = dict(zip(names, hits, strict=True))
    drop = collection.self_matches.drop
    return evaluate(run, collection.qrels, ["nDCG@10"], remove_self=drop).values["nDCG@10"]


def main() -> None:
    """Print one line a collection."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    args = parser.parse_args()
    print(json.dumps({"environment": environment(), "model": mini.Mini().identity.sha256}))
    exact = Float32()
    for folder in args.folders:
        collection = load_collection(folder)
        texts = [query.text for query in collection.queries]
        with tempfile.TemporaryDirectory() as work:
            settings: dict[str, Any] = {"long": "truncate"}
            build(f"{work}/int8", collection.documents(), **settings)
            with Index.open(f"{work}/int8") as index:
                rounded = quality(index, collection, list(texts))
            vectors = exact.documents(collection)
            given = "precomputed(dim=128)"
            build(f"{work}/fp32", collection.documents(), encoder=given, vectors=vectors)
            with Index.open(f"{work}/fp32") as index:
                full = quality(index, collection, list(exact.encode(texts, 64)))
        row = {"collection": folder.name, "float32": full, "int8": rounded}
        print(json.dumps({**row, "difference": rounded - full}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
