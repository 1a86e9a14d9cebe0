"""TACHIOM: token-aware centroids, a graph over them, reranking by product quantisation.

Its Linux wheel asks for glibc 2.39 and loads on older ones, so it is unpacked by hand.
``search`` uses one thread whatever it is given.
"""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.data import Data

REQUIREMENTS = ("tachiom==0.4.0",)
PIP = ("numpy==2.4.6",)
PLATFORM = "manylinux_2_39_x86_64"
VENV = "tachiom"
POINTS: dict[str, list[dict[str, Any]]] = {
    "auto": [
        {"k": 100},
        {"k": 10},
        {"k": 10, "k_docs_to_score": 100, "alpha": 0.2},
        {"k": 10, "k_docs_to_score": 40, "alpha": 0.1, "k_centroids": 10, "ef_search": 15},
    ]
}
FILE = "index.bin"


def install(python: Path, site: Path) -> None:
    """Unpack the wheel that pip refuses into ``site``."""
    wheels = site.parent / "wheels"
    command = [python, "-m", "pip", "download", "-q", *REQUIREMENTS, "--no-deps"]
    command += ["--only-binary=:all:", "--platform", PLATFORM, "-d", wheels]
    subprocess.run(command, check=True, capture_output=True, text=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def engine() -> None:
    import tachiom  # noqa: F401


def build(data: Data, folder: Path, variant: str, threads: int) -> None:
    """``auto`` takes every default."""
    import tachiom

    vectors = np.empty(data.vectors.shape, np.float16)
    for first, last in data.blocks():
        vectors[data.offsets[first] : data.offsets[last]] = data.rows(first, last)
    index = tachiom.Tachiom.build_from_arrays(
        vectors.view(np.uint16),  # how it takes float16
        np.asarray(data.array("token_ids"), np.uint32),
        data.lengths.astype(np.int32),
    )
    index.save(str(folder / FILE))


def opened(
    data: Data, folder: Path, variant: str, threads: int, settings: dict[str, Any]
) -> Callable[[Any], Any]:
    import tachiom

    index = tachiom.Tachiom.load(str(folder / FILE))
    count = len(data.lengths)

    def find(query: Any) -> Any:  # noqa: ANN401
        _, places = index.search(query, **settings)
        return places[places < count]  # the rest are fillers

    return find
