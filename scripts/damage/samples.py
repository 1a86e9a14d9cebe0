"""Small real indexes of every kind of segment, to be damaged."""

import contextlib
import shutil
import warnings
from pathlib import Path

import numpy as np

from tokret.errors import MissingExtraError
from tokret.indexes import Index, build, ivf
from tokret.indexes.ingest import Interrupted

H = 32
BRUTE = 300  # tokens from which on the samples are coded
KINDS = {
    "exact-fp32": 'exact(dtype="fp32")',
    "exact-fp16": "exact",
    "exact-int8": 'exact(dtype="int8")',
    "ivf-codes": "ivf(bits=3)",
    "ivf-stored": 'ivf(bits=3, store="int8")',
    "bm25": "bm25",
    "faiss": 'faiss(factory="IVF4,SQ8", nprobe=4)',
    "unfinished": "exact",  # a version, and a build that is to replace it
}
WORDS = [f"word{i}" for i in range(400)]


def documents(first: int, count: int, long: bool) -> tuple[list[object], list[np.ndarray]]:
    """Documents with fields, and their vectors; ``long`` ones need several blocks of a column."""
    rng = np.random.default_rng([first, count])
    docs, vectors = [], []
    for i in range(first, first + count):
        text = " ".join(rng.choice(WORDS, 40 if long else 8))
        fields = {"year": 1900 + i, "lang": ["en", "ru"][i % 2], "tags": ["a", f"t{i % 7}"]}
        docs.append((f"doc-{i}", text, "", fields | ({"share": i / 7} if i % 3 else {})))
        rows = rng.standard_normal((int(rng.integers(3, 30 if long else 12)), H))
        vectors.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return docs, vectors


def make(folder: Path, name: str) -> Path | None:
    """Write one sample: three segments, deletions, fields; None without what it needs.

    Beside it, in ``<name>.old``, lie the pointer and the manifests of the versions before.
    """
    ivf.BRUTE_TOKENS = BRUTE
    path, old = folder / name, folder / f"{name}.old"
    long = name in ("exact-fp32", "ivf-stored")
    old.mkdir(parents=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoder = f"precomputed(dim={H})"
            with Index.create(path, encoder=encoder, backend=KINDS[name]) as index:
                for first, count in ((0, 500 if long else 60), (1000, 25), (2000, 5)):
                    docs, vectors = documents(first, count, long)
                    index.add(docs, vectors=vectors if index.backend.encodes else None)
                    _keep(path, old)
                index.delete([f"doc-{i}" for i in (1, 3, 7, 1003)])
    except MissingExtraError:
        return None
    if name == "unfinished":
        docs, vectors = documents(3000, 300, long)
        with contextlib.suppress(Interrupted):
            build(
                path,
                docs,
                vectors=vectors,
                encoder=encoder,
                backend=KINDS[name],
                overwrite=True,
                stop=lambda: True,
            )
    return path


def _keep(path: Path, old: Path) -> None:
    for file in [path / "CURRENT", *path.glob("manifest-*.json")]:
        shutil.copy(file, old / f"{len(list(old.iterdir()))}-{file.name}")
