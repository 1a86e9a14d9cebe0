"""Write the golden indexes of the current format, once a release.

    python scripts/make_golden.py indexes/golden/v1

A later version must open every one of them for ever, so those that are there stay as they
are.
"""

import sys
from pathlib import Path

import numpy as np

from tokret.indexes import Index

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
}


def vectors() -> list[np.ndarray]:
    """One-hot rows, so that every score can be worked out in the head."""
    rows = np.eye(8, dtype=np.float32)
    return [rows[[0, 1, 2]], rows[[3, 2]], rows[[4]], rows[[]], rows[[5]]]


def main(folder: Path) -> None:
    """Write one index a backend: two segments, one deleted document."""
    for name, backend in BACKENDS.items():
        if (folder / name).exists():
            continue
        with Index.create(folder / name, encoder="precomputed(dim=8)", backend=backend) as index:
            given = vectors() if index.backend.encodes else None
            index.add(DOCS[:2], vectors=given and given[:2])
            index.add(DOCS[2:], vectors=given and given[2:])
            index.delete(["gone"])
        (folder / name / "writer.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
