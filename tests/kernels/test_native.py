"""The compiled kernels against the reference, on each instruction set of this machine."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import UsageError
from tokret.kernels import reference
from tokret.types import Tokens

native = pytest.importorskip("tokret.kernels.native", exc_type=ImportError)

QUERY_TOKENS = [0, 1, 2, 8, 9, 16, 23, 24, 32, 33, 48, 64, 65, 129, 500]
WIDTHS = [1, 2, 7, 16, 63, 64, 96, 128, 768]
EPS = float(np.finfo(np.float32).eps)


def unit(rng, count, width):
    rows = rng.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_tokens(rng, lengths, width):
    return Tokens.of([unit(rng, n, width) for n in lengths], width=width)


def exact(query, docs):
    """Similarities in float64 of what is stored -> [Q, T]."""
    return query.astype(np.float64) @ docs.vectors.astype(np.float64).T


def slack(width):
    """How far float32 sums of ``width`` products of unit vectors may be off."""
    return (width + 2) * EPS


cases = {
    "tokens": st.sampled_from(QUERY_TOKENS),
    "width": st.sampled_from(WIDTHS),
    "lengths": st.lists(st.integers(0, 40), max_size=8),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.mark.parametrize("isa", native.cpu_features())
@settings(max_examples=30, deadline=None)
@given(**cases, dtype=st.sampled_from(["fp32", "fp16"]))
def test_float_scores_are_near_those_of_float64(isa, tokens, width, lengths, seed, dtype):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to(dtype)
    sims = exact(query, docs)
    want = [
        sims[:, a:b].max(axis=1).sum() if b > a else -np.inf
        for a, b in zip(docs.offsets[:-1], docs.offsets[1:], strict=True)
    ]
    got = native._maxsim(isa, query, docs, 1)
    np.testing.assert_allclose(got, want, rtol=EPS, atol=max(tokens, 1) * slack(width))


@pytest.mark.parametrize("isa", native.cpu_features())
@settings(max_examples=30, deadline=None)
@given(**cases, dtype=st.sampled_from(["fp32", "fp16"]), k_prime=st.sampled_from([1, 5, 60, 999]))
def test_float_tokens_are_the_best_of_float64(isa, tokens, width, lengths, seed, dtype, k_prime):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to(dtype)
    sims = exact(query, docs)
    found, got = native._token_topk(isa, query, docs, k_prime, None, 1)
    near = slack(width)
    np.testing.assert_allclose(got, -np.sort(-sims, axis=1)[:, :k_prime], atol=near, rtol=EPS)
    np.testing.assert_allclose(np.take_along_axis(sims, found, axis=1), got, atol=near, rtol=EPS)
    assert all(len(set(row)) == len(row) for row in found.tolist())


@settings(max_examples=60, deadline=None)
@given(**cases, threads=st.sampled_from([1, 2, 5]))
def test_int8_scores_are_those_of_the_reference_to_the_bit(tokens, width, lengths, seed, threads):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to("int8")
    want = reference.maxsim(query, docs)
    for isa in native.cpu_features():
        assert native._maxsim(isa, query, docs, threads).tobytes() == want.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    **cases,
    threads=st.sampled_from([1, 2, 5]),
    k_prime=st.sampled_from([1, 2, 7, 60, 10**9]),
    dead=st.sets(st.integers(0, 7)),
    coarse=st.booleans(),
)
def test_int8_tokens_are_those_of_the_reference_to_the_bit(
    tokens, width, lengths, seed, threads, k_prime, dead, coarse
):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to("int8")
    if coarse:  # many ties
        docs = Tokens(docs.vectors // 64, docs.offsets, np.ones(len(docs.vectors), np.float32))
    alive = np.array([n not in dead for n in range(len(docs))], np.bool_)
    want = reference.token_topk(query, docs, k_prime, alive=alive)
    for isa in native.cpu_features():
        got = native._token_topk(isa, query, docs, k_prime, alive, threads)
        assert np.array_equal(got[0], want[0]) and np.array_equal(got[1], want[1])


@settings(max_examples=60, deadline=None)
@given(
    q=st.integers(0, 5),
    k=st.integers(0, 30),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_aggregates_are_those_of_the_reference_to_the_bit(q, k, lengths, seed):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    tokens = rng.integers(0, offsets[-1], (q, k)) if offsets[-1] else np.empty((q, 0), np.int64)
    sims = rng.standard_normal(tokens.shape).astype(np.float32)
    missing = rng.standard_normal(q).astype(np.float32)
    want = reference.xtr_aggregate(tokens, sims, offsets, missing)
    got = native.xtr_aggregate(tokens, sims, offsets, missing)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


@pytest.fixture(scope="module")
def large():
    """Enough work for five threads, and a threshold that is set many times."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 400, 60)
    return unit(rng, 33, 128), random_tokens(rng, lengths, 128)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("isa", native.cpu_features())
def test_the_bits_do_not_depend_on_the_number_of_threads(isa, dtype, large):
    query, docs = large[0], large[1].to(dtype)
    scores = native._maxsim(isa, query, docs, 1)
    tokens, sims = native._token_topk(isa, query, docs, 100, None, 1)
    for threads in [2, 5]:
        assert native._maxsim(isa, query, docs, threads).tobytes() == scores.tobytes()
        again = native._token_topk(isa, query, docs, 100, None, threads)
        assert again[0].tobytes() == tokens.tobytes()
        assert again[1].tobytes() == sims.tobytes()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("isa", native.cpu_features())
def test_a_score_has_the_same_bits_beside_other_passages(isa, dtype, large):
    query, docs = large[0], large[1].to(dtype)
    scores = native._maxsim(isa, query, docs, 1)
    for n in [0, 7, 59]:
        rows = slice(docs.offsets[n], docs.offsets[n + 1])
        scales = None if docs.scales is None else docs.scales[rows]
        alone = Tokens(docs.vectors[rows], docs.offsets[[n, n + 1]] - docs.offsets[n], scales)
        assert native._maxsim(isa, query, alone, 1).tobytes() == scores[n : n + 1].tobytes()


@pytest.mark.parametrize("k_prime", [1, 255, 300, 2000])
@pytest.mark.parametrize("isa", native.cpu_features())
def test_topk_of_many_tokens_is_that_of_the_reference(isa, k_prime, large):
    query, docs = large[0], large[1].to("int8")
    want = reference.token_topk(query, docs, k_prime)
    got = native._token_topk(isa, query, docs, k_prime, None, 2)
    assert np.array_equal(got[0], want[0]) and np.array_equal(got[1], want[1])


def test_rising_similarities_replace_all_that_came_before():
    rising = np.linspace(0, 1, 5000, dtype=np.float32)[:, None]
    tokens, _ = native.token_topk(np.ones((1, 1)), Tokens.of([rising]), 3)
    assert tokens.tolist() == [[4999, 4998, 4997]]


@pytest.mark.parametrize("isa", native.cpu_features())
def test_every_float16_is_read_as_numpy_reads_it(isa):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    docs = Tokens(halves[:, None], np.arange(len(halves) + 1))
    assert np.array_equal(native._maxsim(isa, np.ones((1, 1)), docs, 1), halves.astype(np.float32))


@pytest.mark.parametrize("isa", native.cpu_features())
def test_the_widest_codes_are_summed_exactly(isa):
    codes = np.tile(np.array([-128, 127], np.int8), (3, 384))
    docs = Tokens(codes, np.array([0, 1, 3]), np.ones(3, np.float32))
    query = np.tile(np.array([-1, 1], np.float32), (2, 384))
    assert native._maxsim(isa, query, docs, 1).tobytes() == reference.maxsim(query, docs).tobytes()


@pytest.mark.parametrize("isa", native.cpu_features())
def test_not_a_number_in_a_passage_is_the_least_similar(isa):
    vectors = np.linspace(-1, 1, 3000, dtype=np.float32)[:, None].copy()
    vectors[::2] = np.nan
    docs = Tokens(vectors, np.array([0, 3000]))
    tokens, _ = native._token_topk(isa, np.ones((1, 1)), docs, 1501, None, 1)
    assert tokens[0, :3].tolist() == [2999, 2997, 2995] and tokens[0, 1500] == 0


def test_more_tokens_than_32_bits_can_number(tmp_path):
    dead, count = 2**32 + 5, 2**32 + 10
    path = tmp_path / "vectors"
    with path.open("wb") as file:  # sparse: its 8 GiB take no room
        file.truncate(2 * count)
        file.seek(2 * dead)
        file.write(np.array([0.25, 1, 0.5, 1, -1], np.float16).tobytes())
    vectors = np.memmap(path, np.float16, "r", shape=(count, 1))
    docs = Tokens(vectors, np.array([0, dead, count]))
    tokens, sims = native.token_topk(
        np.ones((1, 1)), docs, 4, alive=np.array([False, True]), threads=2
    )
    assert (tokens - dead).tolist() == [[1, 3, 2, 0]]
    assert sims.tolist() == [[1, 1, 0.5, 0.25]]
    passages, scores, _ = native.xtr_aggregate(tokens, sims, docs.offsets, np.zeros(1, np.float32))
    assert passages.tolist() == [1] and scores.tolist() == [1]


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    for isa in native.cpu_features():
        monkeypatch.setenv("TOKRET_SIMD", isa)
        assert native.simd() == isa
    monkeypatch.delenv("TOKRET_SIMD")
    assert native.simd() == native.cpu_features()[-1]


@pytest.mark.parametrize("name", ["scaler", "sve2"])
def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setenv("TOKRET_SIMD", name)
    with pytest.raises(UsageError, match=rf"TOKRET_SIMD='{name}' is not .* runs scalar"):
        native.maxsim([[1, 0]], Tokens.of([[[1, 0]]]))


def test_the_peak_is_a_positive_number_and_unknown_names_are_refused():
    for isa in native.cpu_features():
        assert native.multiply_add_peak(isa, "int8", 0.001) > 0
    with pytest.raises(UsageError, match="known: scalar"):
        native.multiply_add_peak("mmx", "int8", 0.001)
    with pytest.raises(UsageError, match="fp32, fp16, int8"):
        native.multiply_add_peak("scalar", "fp64", 0.001)


def test_scoring_lets_other_threads_run():
    rng = np.random.default_rng(6)
    docs, query = random_tokens(rng, [4000] * 4, 64), unit(rng, 500, 64)
    done = threading.Event()

    def score():
        native._maxsim("scalar", query, docs, 1)  # some tenths of a second
        done.set()

    worker = threading.Thread(target=score)
    worker.start()
    steps = 0
    while not done.wait(0.001):
        steps += 1
    worker.join()
    assert steps > 4


def test_queries_at_the_same_time_do_not_disturb_each_other(large):
    query, docs = large
    want = native.token_topk(query, docs, 50)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: native.token_topk(query, docs, 50), range(12)):
            assert got[0].tobytes() == want[0].tobytes()
            assert got[1].tobytes() == want[1].tobytes()


def test_without_memory_there_is_a_memory_error():
    code = """
import resource
import numpy as np
from tokret.kernels import native
from tokret.types import Tokens
docs = Tokens(np.ones((2**21, 1), np.int8), np.array([0, 2**21]), np.ones(2**21, np.float32))
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 96 * 2**20, -1))
try:  # 50 MiB for what is returned; beside it, 64 MiB for what may yet fall out
    native.token_topk(np.ones((64, 1)), docs, 2**16)
except MemoryError as error:
    print(type(error).__name__, "from", "numpy" if "allocate" in str(error) else "native")
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("limits memory as Linux does")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "MemoryError from native\n", done.stderr


def without_native(code, **environment):
    hide = "import sys; sys.modules['tokret.kernels._native'] = None; "
    return subprocess.run(
        [sys.executable, "-c", hide + code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_without_the_compiled_module_the_reference_serves():
    code = "from tokret import kernels; print(kernels.NATIVE, kernels.maxsim.__module__)"
    done = without_native(code, TOKRET_REQUIRE_NATIVE="")
    assert done.stdout == "False tokret.kernels.reference\n", done.stderr
    assert "computes in NumPy" in done.stderr


def test_the_command_line_says_in_one_line_that_it_computes_in_numpy(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "whale"}')
    words = ["index", str(tmp_path / "c.jsonl"), "-o", str(tmp_path / "i"), "-b", "bm25"]
    code = f"from tokret.cli import main; sys.argv[1:] = {words!r}; main()"
    done = without_native(code, TOKRET_REQUIRE_NATIVE="")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "computes in NumPy" in line]
    assert ".py" not in line


def test_where_the_compiled_module_is_required_its_absence_is_an_error():
    done = without_native("import tokret.kernels", TOKRET_REQUIRE_NATIVE="1")
    assert done.returncode != 0 and "where there is a C++17 compiler" in done.stderr
