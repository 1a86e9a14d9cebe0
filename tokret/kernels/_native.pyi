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
def multiply_add_peak(isa: str, dtype: str, seconds: float, /) -> float: ...
