"""LanceDB: a column of multi-vectors, an IVF_PQ index over all of them, MaxSim by cosine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peers.data import WIDTH, Data

REQUIREMENTS = ("lancedb==0.40.0",)
PIP = ("numpy==2.4.6", *REQUIREMENTS)
VENV = "lancedb"
QUERIES = 200
REPEATS = 1
POINTS: dict[str, list[dict[str, Any]]] = {
    "IVF_PQ": [{"k": 100}],
    "IVF_PQ 1024x32": [
        {"k": 100, "nprobes": 32},
        {"k": 100, "nprobes": 32, "refine_factor": 4},
        {"k": 10, "nprobes": 32, "refine_factor": 4},
    ],
}
TABLE = "passages"


def engine() -> None:
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    """Index all tokens: into ``partitions x sub-vectors`` of the variant, else by its defaults.

    Those count rows, not tokens: 5,183 passages get one partition, of 8 sub-vectors.
    """
    import lancedb
    import pyarrow as pa

    vector = pa.list_(pa.float32(), WIDTH)
    schema = pa.schema([("id", pa.int32()), ("vector", pa.list_(vector))])

    def batches() -> Iterator[Any]:
        for first, last in data.blocks():
            flat = pa.FixedSizeListArray.from_arrays(
                pa.array(data.rows(first, last).reshape(-1)), WIDTH
            )
            starts = (data.offsets[first : last + 1] - data.offsets[first]).astype(np.int32)
            lists = pa.ListArray.from_arrays(pa.array(starts), flat)
            ids = pa.array(np.arange(first, last, dtype=np.int32))
            yield pa.RecordBatch.from_arrays([ids, lists], schema=schema)

    database = lancedb.connect(str(folder))
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = database.create_table(TABLE, reader, schema=schema)
    kind, _, shape = variant.partition(" ")
    options = {"metric": "cosine", "vector_column_name": "vector", "index_type": kind}
    if shape:
        partitions, parts = map(int, shape.split("x"))
        options |= {"num_partitions": partitions, "num_sub_vectors": parts}
    table.create_index(**options)


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import lancedb

    table = lancedb.connect(str(folder)).open_table(TABLE)

    def find(query: Any) -> Any:  # noqa: ANN401
        asked = table.search(query, vector_column_name="vector").limit(settings["k"])
        if "nprobes" in settings:
            asked = asked.nprobes(settings["nprobes"])
        if "refine_factor" in settings:
            asked = asked.refine_factor(settings["refine_factor"])
        return asked.select(["id", "_distance"]).to_arrow()["id"].to_pylist()

    return find
