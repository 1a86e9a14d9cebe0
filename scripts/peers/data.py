"""The vectors that every peer is given, as files; read with NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 128
DEPTH = 100  # documents of an exact ranking
BLOCK = 1 << 18  # tokens worked on at once


@dataclass(frozen=True)
class Data:
    """A folder that ``bench_peers.py prepare`` made; arrays are mapped, not read."""

    path: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        file = self.path / "about.json"
        if not file.exists():
            raise SystemExit(f"{self.path} holds no vectors yet: run `bench_peers.py prepare`.")
        return json.loads(file.read_text("utf-8"))

    def array(self, name: str) -> Any:  # noqa: ANN401
        return np.load(self.path / f"{name}.npy", mmap_mode="r")

    @cached_property
    def vectors(self) -> Any:  # noqa: ANN401
        """Unit vectors [T, 128] of all documents, float32, or float16 in the largest."""
        return self.array("vectors")

    @cached_property
    def offsets(self) -> Any:  # noqa: ANN401
        """Document i owns rows ``offsets[i]:offsets[i + 1]``."""
        return np.asarray(self.array("offsets"))

    @cached_property
    def queries(self) -> list[Any]:
        """Query vectors, each float32 [Q, 128]."""
        flat, offsets = np.array(self.array("queries")), self.array("query_offsets")
        return [flat[a:b] for a, b in pairwise(offsets)]

    @cached_property
    def lengths(self) -> Any:  # noqa: ANN401
        return np.diff(self.offsets)

    def owners(self) -> Any:  # noqa: ANN401
        """The document of every row, int32 [T]."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)

    def names(self, kind: str) -> list[str]:
        """Ids of ``documents`` or of ``queries``."""
        return json.loads((self.path / f"{kind}.json").read_text("utf-8"))

    @property
    def qrels(self) -> dict[str, dict[str, int]] | None:
        file = self.path / "qrels.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of documents, each of about BLOCK tokens."""
        first, count = 0, len(self.lengths)
        while first < count:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK, "right")) - 1
            last = min(max(last, first + 1), count)
            yield first, last
            first = last

    def rows(self, first: int, last: int) -> Any:  # noqa: ANN401
        """Vectors of documents ``first:last`` as float32 [t, 128]."""
        return np.asarray(self.vectors[self.offsets[first] : self.offsets[last]], np.float32)

    def documents(self) -> Iterator[Any]:
        """Vectors of each document, float32 [t, 128], in order."""
        for first, last in self.blocks():
            rows = self.rows(first, last)
            cuts = self.offsets[first + 1 : last] - self.offsets[first]
            yield from np.split(rows, cuts)


class Writer:
    """Appends rows to an .npy file whose length is known only at the end."""

    def __init__(self, path: Path, dtype: str, width: int | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = () if width is None else (width,)
        self.count = 0
        self.file = path.open("w+b")
        self._head()

    def _head(self) -> None:
        self.file.seek(0)
        head = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self.file, head)  # its size does not follow the count

    def add(self, rows: Any) -> None:  # noqa: ANN401
        self.file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.count += len(rows)

    def close(self) -> None:
        self._head()
        self.file.close()
