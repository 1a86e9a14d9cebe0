"""Write the golden indexes of the current format, once a release.

    python scripts/make_golden.py indexes/golden/v1

A later version must open every one of them for ever, so those that are there stay as they
are.
"""

import sys
from pathlib import Path

import numpy as np

from tokret import Document
from tokret.indexes import Index, ivf

DOCS = [
    ("d1", "the white whale"),
    ("d2", "a red herring, and a whale of a time", "Idioms"),
    ("наука", "числа и слова"),
    ("d4", ""),
    ("gone", "deleted before anyone looked"),
]
BACKENDS = {
    "exact-fp32": 'exact(dtype="fp32")',
    "exact-fp16": "exact",
    "exact-int8": 'exact(dtype="int8")',
    "bm25": "bm25",
    "bm25l": 'bm25(method="bm25l")',
    "exact-fields": "exact",
    "ivf-vectors": "ivf",
    "ivf-codes": "ivf(bits=4)",
    "ivf-stored": 'ivf(bits=4, store="fp16")',
}
CODED = {"ivf-codes", "ivf-stored"}  # whose vectors are coded, few as they are
FIELDS = [  # of the documents of exact-fields
    {"year": 1851, "lang": "en", "tags": ["sea", "novel"]},
    {"year": 2020.5, "lang": "en", "open": True},
    {"year": -1, "lang": "ru", "год": "давно"},
    {},
    {"year": "unknown"},
]


def vectors() -> list[np.ndarray]:
    """One-hot rows, so that every score can be worked out in the head."""
    rows = np.eye(8, dtype=np.float32)
    return [rows[[0, 1, 2]], rows[[3, 2]], rows[[4]], rows[[]], rows[[5]]]


def main(folder: Path) -> None:
    """Write one index a backend: two segments, one deleted document."""
    for name, backend in BACKENDS.items():
        if (folder / name).exists():
            continue
        ivf.BRUTE_TOKENS = 1 if name in CODED else 50_000
        with Index.create(folder / name, encoder="precomputed(dim=8)", backend=backend) as index:
            given = vectors() if index.backend.encodes else None
            docs = [Document(*doc) for doc in DOCS]
            if name == "exact-fields":
                pairs = zip(docs, FIELDS, strict=True)
                docs = [doc._replace(fields=fields) for doc, fields in pairs]
            index.add(docs[:2], vectors=given and given[:2])
            index.add(docs[2:], vectors=given and given[2:])
            index.delete(["gone"])
        (folder / name / "writer.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
