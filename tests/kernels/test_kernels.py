"""What every build of the kernels answers: by hand, and what it refuses."""

import numpy as np
import pytest

from tokret.errors import InputError, UsageError
from tokret.kernels import reference
from tokret.types import Tokens

INF = np.inf


@pytest.fixture(params=["reference", "native", "gpu"])
def kernels(request):
    if request.param == "reference":
        return reference
    if request.param == "gpu":
        return request.getfixturevalue("gpu")
    return pytest.importorskip("tokret.kernels.native", exc_type=ImportError)


def of(*passages, dtype="fp32"):
    return Tokens.of([np.array(p, np.float32).reshape(-1, 2) for p in passages]).to(dtype)


def test_maxsim_adds_the_best_match_of_each_query_token(kernels):
    query = [[1, 0], [0, 1]]
    assert kernels.maxsim(query, of([[0.5, 0], [0.25, 0.75]])).tolist() == [0.5 + 0.75]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_a_passage_without_tokens_comes_last_and_a_bad_match_before_it(kernels, dtype):
    docs = of([], [[-1, -1]], [], dtype=dtype)
    assert kernels.maxsim([[1, 0]], docs).tolist() == [-INF, -1, -INF]


def test_a_query_without_tokens_scores_nothing(kernels):
    assert kernels.maxsim(np.empty((0, 2)), of([[1, 0]], [])).tolist() == [0, -INF]


def test_no_passages_have_no_scores(kernels):
    docs = Tokens.of([], width=2)
    assert kernels.maxsim([[1, 0]], docs).shape == (0,)
    tokens, sims = kernels.token_topk([[1, 0]], docs, 5)
    assert tokens.shape == sims.shape == (1, 0)
    assert tokens.dtype == np.int64 and sims.dtype == np.float32


def test_a_score_does_not_depend_on_the_other_passages(kernels):
    alone = kernels.maxsim([[1, 0]], of([[-0.5, 0.25]]))
    beside = kernels.maxsim([[1, 0]], of([[-0.5, 0.25]], np.ones((9, 2))))
    assert alone[0] == beside[0] == -0.5


def test_topk_gives_the_best_tokens_first_and_ties_in_their_order(kernels):
    docs = of([[0.5, 0], [1, 0]], [], [[0.5, 0], [-1, 0], [1, 0]])
    tokens, sims = kernels.token_topk([[1, 0], [-1, 0]], docs, 4)
    assert tokens.tolist() == [[1, 4, 0, 2], [3, 0, 2, 1]]
    assert sims.tolist() == [[1, 1, 0.5, 0.5], [1, -0.5, -0.5, -1]]


def test_topk_takes_the_two_zeros_for_one(kernels):
    codes, tiny = np.array([[-1], [1], [-1]], np.int8), np.full(3, 1e-38, np.float32)
    docs = Tokens(codes, np.array([0, 3]), tiny)  # products too small for float32: -0, 0, -0
    tokens, sims = kernels.token_topk([[1e-20]], docs, 3)
    assert tokens.tolist() == [[0, 1, 2]] and sims.tolist() == [[0, 0, 0]]


def test_topk_passes_over_passages_that_are_not_alive(kernels):
    docs = of([[1, 0]], [[0.5, 0], [0.25, 0]], [[0.75, 0]])
    alive = np.array([False, True, True])
    tokens, _ = kernels.token_topk([[1, 0]], docs, 9, alive=alive)
    assert tokens.tolist() == [[3, 1, 2]]
    none_left = kernels.token_topk([[1, 0]], docs, 9, alive=np.zeros(3, np.bool_))
    assert none_left[0].shape == none_left[1].shape == (1, 0)


def test_infinite_similarities_have_their_places(kernels):
    big = 3e38
    docs = of([[0, 1], [big, 0], [-big, 0]])
    with np.errstate(over="ignore"):
        tokens, sims = kernels.token_topk([[big, 0]], docs, 3)
    assert tokens.tolist() == [[1, 0, 2]] and sims.tolist() == [[INF, 0, -INF]]


def test_aggregation_fills_in_what_was_not_retrieved(kernels):
    # Passage 0 has tokens 0 and 1, passage 1 none, passage 2 tokens 2 and 3.
    tokens = np.array([[1, 0], [0, 3]])
    sims = np.array([[0.5, 0.25], [1, 0.75]], np.float32)
    missing = np.array([0.125, 0.0], np.float32)
    passages, scores, matched = kernels.xtr_aggregate(tokens, sims, np.array([0, 2, 2, 4]), missing)
    assert passages.tolist() == [0, 2]
    assert scores.tolist() == [0.5 + 1, 0.125 + 0.75]
    assert matched.tolist() == [2, 1]


def test_aggregation_does_not_need_tokens_in_order(kernels):
    tokens, sims = np.array([[0, 1]]), np.array([[0.25, 0.5]], np.float32)
    out = kernels.xtr_aggregate(tokens, sims, np.array([0, 2]), np.zeros(1, np.float32))
    assert [part.tolist() for part in out] == [[0], [0.5], [1]]


def test_aggregation_of_nothing_is_empty(kernels):
    for shape in [(0, 0), (3, 0)]:
        out = kernels.xtr_aggregate(
            np.empty(shape, np.int64),
            np.empty(shape, np.float32),
            np.array([0, 4]),
            np.zeros(shape[0], np.float32),
        )
        assert [len(part) for part in out] == [0, 0, 0]


@pytest.mark.parametrize("token", [-1, 4, 2**62])
def test_aggregation_refuses_a_token_that_no_passage_has(kernels, token):
    with pytest.raises(InputError, match=r"must be 0 to 3, got"):
        kernels.xtr_aggregate(
            np.array([[token]]),
            np.ones((1, 1), np.float32),
            np.array([0, 4]),
            np.zeros(1, np.float32),
        )


def test_aggregation_refuses_shapes_that_do_not_fit(kernels):
    with pytest.raises(InputError, match=r"missing \[Q\], got \[1, 1\], \[1, 1\] and \[2\]"):
        kernels.xtr_aggregate(
            np.array([[0]]), np.ones((1, 1), np.float32), np.array([0, 1]), np.zeros(2, np.float32)
        )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones((3, 5)), r"query must be \[Q, 2\], got \[3, 5\]"),
        (np.ones(2), r"query must be \[Q, 2\], got \[2\]"),
        ([[np.nan, 0]], "NaN or infinity"),
        ([[np.inf, 0]], "NaN or infinity"),
    ],
)
def test_a_query_of_another_form_is_refused(kernels, query, message):
    docs = of([[1, 0]])
    with pytest.raises(InputError, match=message):
        kernels.maxsim(query, docs)
    with pytest.raises(InputError, match=message):
        kernels.token_topk(query, docs, 1)


def test_counts_below_one_are_refused(kernels):
    docs = of([[1, 0]])
    with pytest.raises(UsageError, match="k_prime must be at least 1, got 0"):
        kernels.token_topk([[1, 0]], docs, 0)
    with pytest.raises(UsageError, match="threads must be at least 1, got 0"):
        kernels.maxsim([[1, 0]], docs, threads=0)
    with pytest.raises(UsageError, match="threads must be at least 1, got -1"):
        kernels.token_topk([[1, 0]], docs, 1, threads=-1)


@pytest.mark.parametrize("alive", [np.ones(2, np.bool_), np.ones(1, np.int64)])
def test_a_mask_of_another_form_is_refused(kernels, alive):
    with pytest.raises(InputError, match=r"alive must be bool \[1\]"):
        kernels.token_topk([[1, 0]], of([[1, 0]]), 1, alive=alive)


def big_endian(x):
    return x.astype(x.dtype.newbyteorder(">"))


def backwards(x):
    return x[::-1].copy()[::-1]


def a_view_of_every_other(x):
    return np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2]


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def at_an_odd_address(x):
    room = np.empty(x.nbytes + 1, np.uint8)
    out = room[1:].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


FORMS = [np.asfortranarray, backwards, a_view_of_every_other, read_only, at_an_odd_address]


@pytest.mark.parametrize("form", [*FORMS, big_endian, np.float64], ids=lambda f: f.__name__)
def test_a_query_may_lie_in_memory_as_it_likes(kernels, form):
    rng = np.random.default_rng(3)
    query = rng.standard_normal((5, 6)).astype(np.float32)
    docs = Tokens.of([rng.standard_normal((4, 6))])
    assert kernels.maxsim(form(query), docs).tolist() == kernels.maxsim(query, docs).tolist()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_passages_may_lie_in_memory_as_they_like(kernels, form, dtype):
    rng = np.random.default_rng(4)
    query = rng.standard_normal((5, 6)).astype(np.float32)
    docs = Tokens.of([rng.standard_normal((4, 6)), rng.standard_normal((3, 6))]).to(dtype)
    lying = Tokens(form(docs.vectors), read_only(docs.offsets), docs.scales)
    near = {"fp32": 1e-5, "fp16": 1e-5, "int8": 0}[dtype]
    np.testing.assert_allclose(
        kernels.maxsim(query, lying), kernels.maxsim(query, docs), rtol=near, atol=near
    )
    tokens, _ = kernels.token_topk(query, lying, 3)
    assert tokens.tolist() == kernels.token_topk(query, docs, 3)[0].tolist()


def test_big_endian_passages_are_refused():
    with pytest.raises(InputError, match="in float32, float16 or int8"):
        Tokens(np.ones((1, 2), ">f4"), np.array([0, 1]))


def test_lists_of_arrays_are_taken_for_passages(kernels):
    passages = [np.eye(2), np.zeros((0, 2)), [[0.5, 0.25]]]
    query = [[1, 0], [0, 1]]
    assert kernels.maxsim(query, passages).tolist() == [2, -INF, 0.75]
    tokens, _ = kernels.token_topk(query, passages, 1)
    assert tokens.tolist() == [[0], [1]]
