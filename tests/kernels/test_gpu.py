"""The GPU kernels against the reference: here in Triton's interpreter, there on a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, ResourceError
from tokret.kernels import reference
from tokret.kernels.residual import Residuals, residual_maxsim, unpack
from tokret.types import Tokens

ROOT = Path(__file__).parents[2]
EPS = float(np.finfo(np.float32).eps)
# A program of the interpreter takes a millisecond; a tile is 64 tokens, 64 query tokens, and
# 256 bytes of a vector.
QUERY_TOKENS = [0, 1, 15, 16, 17, 64, 65, 130]
WIDTHS = [1, 2, 31, 32, 64, 65, 129, 300]
cases = {
    "tokens": st.sampled_from(QUERY_TOKENS),
    "width": st.sampled_from(WIDTHS),
    "lengths": st.lists(st.sampled_from([0, 0, 1, 2, 5, 63, 64, 65, 131]), max_size=5),
    "seed": st.integers(0, 2**32 - 1),
}


def unit(rng, count, width):
    rows = rng.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_tokens(rng, lengths, width):
    return Tokens.of([unit(rng, n, width) for n in lengths], width=width)


def exact(query, docs):
    """Similarities in float64 of what is stored -> [Q, T]."""
    return query.astype(np.float64) @ docs.vectors.astype(np.float64).T


def slack(width, dtype):
    """How far float32 sums of ``width`` products of unit vectors may be off.

    With float16 passages the query is kept to 22 bits, four times float32's step, and a
    GPU's tensor cores drop what float32 would round.
    """
    return (width + 2) * EPS * (4 if dtype == "fp16" else 1)


def same_bits(got, want):
    return [(x.dtype, x.tobytes()) for x in got] == [(x.dtype, x.tobytes()) for x in want]


@settings(max_examples=20)
@given(**cases, dtype=st.sampled_from(["fp32", "fp16"]))
def test_float_scores_are_near_those_of_float64(gpu, tokens, width, lengths, seed, dtype):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to(dtype)
    sims = exact(query, docs)
    want = [
        sims[:, a:b].max(axis=1).sum() if b > a else -np.inf
        for a, b in zip(docs.offsets[:-1], docs.offsets[1:], strict=True)
    ]
    got = gpu.maxsim(query, docs)
    atol = max(tokens, 1) * slack(width, dtype)
    np.testing.assert_allclose(got, want, rtol=EPS, atol=atol)


@settings(max_examples=25)
@given(**cases)
def test_int8_scores_are_those_of_the_reference_to_the_bit(gpu, tokens, width, lengths, seed):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to("int8")
    assert gpu.maxsim(query, docs).tobytes() == reference.maxsim(query, docs).tobytes()


@settings(max_examples=25)
@given(
    **cases,
    k_prime=st.sampled_from([1, 2, 7, 60, 10**9]),
    dead=st.sets(st.integers(0, 4)),
    coarse=st.booleans(),
    held=st.sampled_from([1, 64 * 17, 2**24]),
)
def test_int8_tokens_are_those_of_the_reference_to_the_bit(
    gpu, tokens, width, lengths, seed, k_prime, dead, coarse, held
):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to("int8")
    if coarse:  # many ties, within tiles and across them
        docs = Tokens(docs.vectors // 64, docs.offsets, np.ones(len(docs.vectors), np.float32))
    if held == 1:  # a token a tile
        docs = Tokens(docs.vectors[:9], docs.offsets.clip(max=9), docs.scales[:9])
    alive = np.array([i not in dead for i in range(len(lengths))], np.bool_) if dead else None
    topk = sys.modules["tokret.kernels.gpu.topk"]
    there = gpu.DeviceTokens.of(docs)
    asked = sys.modules["tokret.kernels.gpu.ragged"].DeviceQuery.of(query, there)
    got = topk.device_topk(asked, there, k_prime, topk.live_rows(there, alive), held=held)
    want = reference.token_topk(query, docs, k_prime, alive=alive)
    assert same_bits([part.cpu().numpy() for part in got], want)
    assert same_bits(gpu.token_topk(query, docs, k_prime, alive=alive), want)


@settings(max_examples=20)
@given(**cases, dtype=st.sampled_from(["fp32", "fp16"]), k_prime=st.sampled_from([1, 5, 60, 999]))
def test_float_tokens_are_the_best_of_float64(gpu, tokens, width, lengths, seed, dtype, k_prime):
    rng = np.random.default_rng(seed)
    query, docs = unit(rng, tokens, width), random_tokens(rng, lengths, width).to(dtype)
    sims = exact(query, docs)
    found, got = gpu.token_topk(query, docs, k_prime)
    near = slack(width, dtype)
    np.testing.assert_allclose(got, -np.sort(-sims, axis=1)[:, :k_prime], atol=near, rtol=EPS)
    np.testing.assert_allclose(np.take_along_axis(sims, found, axis=1), got, atol=near, rtol=EPS)
    assert all(len(set(row)) == len(row) for row in found.tolist())


similarity = st.one_of(
    st.floats(-1, 1, width=32), st.sampled_from([np.inf, -np.inf, np.nan, 0.0, -0.0])
)


@given(
    st.lists(st.lists(similarity, min_size=9, max_size=9), min_size=1, max_size=4),
    st.integers(0, 9),
    st.integers(0, 2**32 - 1),
)
def test_the_best_places_are_those_of_a_stable_sort(gpu, rows, keep, seed):
    import torch

    sims = np.array(rows, np.float32)
    best = sys.modules["tokret.kernels.gpu.topk"].best_places(torch.tensor(sims), keep)
    assert best.tolist() == np.argsort(-sims, axis=1, kind="stable")[:, :keep].tolist()


@given(
    tokens=st.integers(0, 70),
    keep=st.integers(0, 40),
    passages=st.integers(1, 400),
    seed=st.integers(0, 2**32 - 1),
    coarse=st.booleans(),
)
def test_aggregation_is_that_of_the_reference_to_the_bit(gpu, tokens, keep, passages, seed, coarse):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, passages))])
    offsets[-1] += 1  # there is a token
    found = rng.integers(0, offsets[-1], (tokens, keep))
    sims = rng.standard_normal((tokens, keep)).astype(np.float32)
    if coarse:
        sims = np.round(sims)
        sims[rng.random(sims.shape) < 0.1] = -np.inf
        sims[rng.random(sims.shape) < 0.1] = np.inf
        sims[rng.random(sims.shape) < 0.1] = np.nan
    missing = rng.standard_normal(tokens).astype(np.float32)
    want = reference.xtr_aggregate(found, sims, offsets, missing)
    assert same_bits(gpu.xtr_aggregate(found, sims, offsets, missing), want)


def test_aggregation_of_very_many_tokens(gpu):
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 300_001, 3)
    found = rng.integers(0, 300_000, (3, 40_000))
    sims = rng.standard_normal(found.shape).astype(np.float32)
    missing = np.zeros(3, np.float32)
    want = reference.xtr_aggregate(found, sims, offsets, missing)
    assert same_bits(gpu.xtr_aggregate(found, sims, offsets, missing), want)


def random_residuals(rng, lengths, width, bits):
    count = sum(lengths)
    return Residuals(
        rng.integers(0, 256, (count, width * bits // 8), dtype=np.uint8),
        rng.integers(0, 7, count, dtype=np.int32),
        np.cumsum([0, *lengths], dtype=np.int64),
        rng.integers(-127, 128, 2**bits).astype(np.int8),
        float(rng.random() / 127),
    )


def test_a_residual_similarity_by_hand():
    levels = np.zeros(16, np.int8)
    levels[[1, 2]] = [127, -127]
    docs = Residuals(
        np.array([[0x21], [0x12]], np.uint8),  # dimension 0 is the low half of a byte
        np.array([1, 0], np.int32),
        np.array([0, 1, 1, 2]),
        levels,
        0.5 / 127,
    )
    start = np.array([[0.25], [0.125]], np.float32)
    best = residual_maxsim([[1, 0]], start, docs)
    assert best.tolist() == [[0.125 + 0.5], [-np.inf], [0.25 - 0.5]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_residual_similarity_is_that_of_the_decoded_vector(bits):
    rng = np.random.default_rng(bits)
    docs = random_residuals(rng, [4, 0, 9], 64, bits)
    query, centroids = unit(rng, 5, 64), unit(rng, 7, 64)
    vectors = centroids[docs.cells] + docs.scale * unpack(docs).astype(np.float64)
    want = Tokens(vectors.astype(np.float32), docs.offsets)
    best = residual_maxsim(query, centroids @ query.T, docs)
    rounding = 64 * np.abs(query).max() / 254  # of the query, times levels of at most 1
    assert np.allclose(best.sum(axis=1)[[0, 2]], reference.maxsim(query, want)[[0, 2]], 0, rounding)


@settings(max_examples=25)
@given(
    tokens=cases["tokens"],
    width=st.sampled_from([4, 8, 60, 128, 132, 520]),
    lengths=cases["lengths"],
    seed=cases["seed"],
    bits=st.sampled_from([2, 4, 8]),
)
def test_residual_scans_are_those_of_the_reference_to_the_bit(
    gpu, tokens, width, lengths, seed, bits
):
    rng = np.random.default_rng(seed)
    docs, query = random_residuals(rng, lengths, width, bits), unit(rng, tokens, width)
    start = rng.standard_normal((7, tokens)).astype(np.float32)
    want = residual_maxsim(query, start, docs)
    assert gpu.residual_maxsim(query, start, docs).tobytes() == want.tobytes()


def test_residuals_that_do_not_fit_are_refused(gpu):
    rng = np.random.default_rng(1)
    docs = random_residuals(rng, [3], 8, 4)
    for scan in (residual_maxsim, gpu.residual_maxsim):
        with pytest.raises(InputError, match=r"query must be \[Q, 8\], got \[2, 9\]"):
            scan(np.ones((2, 9)), np.ones((7, 2), np.float32), docs)
        with pytest.raises(InputError, match=r"\[\d or more, 2\], got \[7, 3\]"):
            scan(np.ones((2, 8)), np.ones((7, 3), np.float32), docs)
        with pytest.raises(InputError, match="of another type"):
            scan(np.ones((2, 8)), np.ones((7, 2)), docs)
        with pytest.raises(InputError, match="NaN or infinity"):
            scan(np.full((2, 8), np.nan), np.ones((7, 2), np.float32), docs)
    with pytest.raises(InputError, match=r"Levels must be int8 \[4\], \[16\] or \[256\]"):
        Residuals(docs.codes, docs.cells, docs.offsets, np.zeros(3, np.int8), 1.0)
    with pytest.raises(InputError, match="rise from 0 to 3"):
        Residuals(docs.codes, docs.cells, docs.offsets[:-1], docs.levels, 1.0)


def test_what_is_uploaded_is_not_uploaded_again(gpu):
    rng = np.random.default_rng(2)
    docs = random_tokens(rng, [3, 0, 70], 16).to("int8")
    there = gpu.DeviceTokens.of(docs)
    assert gpu.DeviceTokens.of(there) is there and len(there) == 3 and there.width == 16
    query = unit(rng, 4, 16)
    assert gpu.maxsim(query, there).tobytes() == reference.maxsim(query, docs).tobytes()
    coded = gpu.DeviceResiduals.of(random_residuals(rng, [3], 8, 4))
    assert gpu.DeviceResiduals.of(coded) is coded and len(coded) == 1


def test_an_upload_in_pieces_is_the_array(gpu, monkeypatch):
    monkeypatch.setattr(sys.modules["tokret.kernels.gpu.device"], "STAGED", 100)
    array = np.arange(300, dtype=np.float32).reshape(50, 6)
    array.flags.writeable = False
    there = gpu.DeviceTokens.of(Tokens(array, np.array([0, 50])))
    assert there.vectors.cpu().numpy().tobytes() == array.tobytes()


def test_a_query_may_be_a_tensor_with_a_gradient(gpu):
    import torch

    query = torch.ones((2, 3), device=gpu.choose(), requires_grad=True)
    assert gpu.maxsim(query, [np.eye(3)]).tolist() == [2]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_float16_passages_take_queries_of_any_size(gpu, scale):
    rng = np.random.default_rng(3)
    query, docs = unit(rng, 5, 40), random_tokens(rng, [7], 40).to("fp16")
    want = exact(query * np.float32(scale), docs).max(axis=1).sum()
    np.testing.assert_allclose(gpu.maxsim(query * np.float32(scale), docs), want, rtol=1e-6)


def without(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("module", ["torch", "triton"])
def test_without_its_packages_the_error_names_the_extra(module):
    hide = f"import sys; sys.modules[{module!r}] = None; "
    done = without(hide + "import tokret.kernels.gpu")
    assert "MissingExtraError: A GPU kernel needs an optional part" in done.stderr
    assert "pip install 'tokret[gpu]'" in done.stderr


def test_without_a_gpu_or_the_interpreter_there_is_an_error(gpu):
    code = """
import torch
torch.cuda.is_available = lambda: False
from tokret.kernels import gpu
gpu.maxsim([[1.0]], [[[1.0]]])
"""
    done = without(code, TRITON_INTERPRET="0")
    assert "ResourceError: GPU kernels need a CUDA device" in done.stderr
    assert "TRITON_INTERPRET=1" in done.stderr


def test_a_device_that_is_not_there_or_too_old_is_refused(gpu, monkeypatch):
    import torch

    device = sys.modules["tokret.kernels.gpu.device"]
    monkeypatch.setattr(device, "interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: (7 + int(name[-1]), 5))
    assert str(device.choose()) == str(device.choose("cuda")) == "cuda:1"
    with pytest.raises(ResourceError, match=r"capability 8.0 .* or later; cuda:0 has 7.5"):
        device.choose("cuda:0")
    with pytest.raises(ResourceError, match="No device 'cuda:2'; this machine has cuda:0, cuda:1"):
        device.choose("cuda:2")


def test_every_kernel_compiles_with_tensor_cores_and_without_a_stack(gpu, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/compile_gpu.py")]
    command += ["--arch", "80", "--query-tokens", "32"]
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({k["kernel"] for k in kernels}) == 5
    for kernel in kernels:
        assert kernel["stack"] == 0 and kernel["shared_kib"] <= 99, kernel
        if any(word in kernel["call"] for word in ("int8", "fp16", "residual")):
            assert kernel["tensor_core"] > 0 and kernel["fused_multiply_add"] == 0, kernel
