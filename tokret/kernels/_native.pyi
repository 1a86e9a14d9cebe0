import numpy as np
from numpy.typing import NDArray

from tokret.kernels.reference import Codes, Ints32
from tokret.types import Floats, Ints, Mask, Vectors

def instruction_sets() -> list[str]: ...
def maxsim(
    isa: str,
    query: Vectors,
    query_scales: Floats | None,
    vectors: Vectors,
    scales: Floats | None,
    offsets: Ints,
    threads: int,
    scores: Floats,
    /,
) -> None: ...
def live_tokens(offsets: Ints, alive: Mask | None, /) -> int: ...
def token_topk(
    isa: str,
    query: Vectors,
    query_scales: Floats | None,
    vectors: Vectors,
    scales: Floats | None,
    offsets: Ints,
    alive: Mask | None,
    threads: int,
    tokens: Ints,
    sims: Floats,
    /,
) -> None: ...
def xtr_aggregate(
    tokens: Ints, sims: Floats, offsets: Ints, missing: Floats, /
) -> tuple[Ints, Floats, Ints]: ...
def nearest(
    isa: str,
    rows: Codes,
    centroids: Codes,
    offsets: Ints | None,
    centres: Codes | None,
    probes: int,
    threads: int,
    numbers: Ints32,
    distances: Ints32,
    /,
) -> None: ...
def cell_sums(rows: Codes, numbers: Ints32, threads: int, sums: Ints32, /) -> None: ...
def multiply_add_peak(isa: str, dtype: str, seconds: float, /) -> float: ...

class Lattice:
    """Centroids, shifts, weights, shares and penalties."""

    def __init__(self, *arrays: object) -> None: ...

class CodedSegment:
    """Postings, cells, tokens and codes, with their offsets."""

    def __init__(self, *arrays: object) -> None: ...

# What these take stands in coding.py and stages.py, which call them.
def count_symbols(*arguments: object) -> None: ...
def encode_passages(*arguments: object) -> NDArray[np.uint8]: ...
def decode_passage(*arguments: object) -> bool: ...
def score_cells(*arguments: object) -> None: ...
def probe(*arguments: object) -> tuple[Ints, Floats]: ...
def interact(*arguments: object) -> None: ...
def refine(*arguments: object) -> int: ...
