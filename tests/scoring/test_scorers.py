"""What holds for every registered scorer, and MaxSim by hand and against others."""

import numpy as np
import pytest

from tokret.errors import InputError
from tokret.scoring import MaxSim, Part, scorers
from tokret.scoring.base import take
from tokret.types import Tokens

X, Y = [1.0, 0.0], [0.0, 1.0]
QUERY = np.array([X, Y], np.float32)
LENGTHS = (3, 0, 5, 1, 4)


def grid(seed: int, n: int) -> np.ndarray:
    """Rows on a coarse grid, where float32 sums are exact."""
    return (np.random.default_rng(seed).integers(-4, 5, (n, 2)) / 4).astype(np.float32)


def collection() -> list[np.ndarray]:
    return [grid(i, n) for i, n in enumerate(LENGTHS)]


def test_maxsim_is_the_sum_and_on_request_the_mean_of_best_matches():
    parts = [Part(Tokens.of([[X], [X, [0.6, 0.8]]]))]
    passages, sums = MaxSim().score(QUERY, parts)
    assert passages.tolist() == [0, 1] and sums == pytest.approx([1.0, 1.8])
    assert MaxSim(mean=True).score(QUERY, parts)[1] == pytest.approx([0.5, 0.9])


@pytest.mark.parametrize("name", scorers.names())
def test_candidates_rise_and_are_alive_and_hold_tokens(name):
    alive = np.array([True, True, False, True, True])
    passages, scores = scorers.build(name).score(QUERY, [Part(Tokens.of(collection()), alive)])
    assert passages.tolist() == [0, 3, 4]
    assert passages.dtype == np.int64 and scores.dtype == np.float32
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", scorers.names())
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_the_cut_into_parts_does_not_matter(name, dtype):
    docs = collection()
    whole = scorers.build(name).score(QUERY, [Part(Tokens.of(docs).to(dtype))])
    cut = [Part(Tokens.of(some, width=2).to(dtype)) for some in (docs[:2], [], docs[2:3], docs[3:])]
    passages, scores = scorers.build(name).score(QUERY, cut)
    assert passages.tolist() == whole[0].tolist() and scores.tolist() == whole[1].tolist()


@pytest.mark.parametrize("name", scorers.names())
def test_threads_do_not_change_the_answer(name):
    parts = [Part(Tokens.of(collection()))]
    one = scorers.build(name).score(QUERY, parts, threads=1)
    two = scorers.build(name).score(QUERY, parts, threads=2)
    assert [a.tolist() for a in one] == [a.tolist() for a in two]


@pytest.mark.parametrize("name", scorers.names())
def test_a_query_without_tokens_and_an_empty_collection_have_no_candidates(name):
    parts = [Part(Tokens.of(collection()))]
    for query, those in ((np.empty((0, 2), np.float32), parts), (QUERY, [])):
        passages, scores = scorers.build(name).score(query, those)
        assert passages.shape == scores.shape == (0,)


@pytest.mark.parametrize("name", scorers.names())
@pytest.mark.parametrize("query", [np.ones((2, 3)), np.full((1, 2), np.nan), np.ones(2)])
def test_a_query_of_the_wrong_form_is_refused(name, query):
    with pytest.raises(InputError, match="query"):
        scorers.build(name).score(query.astype(np.float32), [Part(Tokens.of(collection()))])


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(InputError, match="alive"):
        Part(Tokens.of(collection()), np.ones(3, bool))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_taking_passages_keeps_their_vectors_and_their_storage(dtype):
    tokens = Tokens.of(collection()).to(dtype)
    chosen = take(tokens, np.array([0, 1, 4]))
    assert chosen.dtype == dtype
    for mine, i in zip(chosen, (0, 1, 4), strict=True):
        assert mine.tolist() == tokens[i].tolist()
    assert len(take(tokens, np.empty(0, np.int64))) == 0


@pytest.mark.st
def test_maxsim_agrees_with_sentence_transformers():
    # The one difference: a passage without tokens is no candidate here, a sentinel there.
    torch = pytest.importorskip("torch")
    similarity = pytest.importorskip("sentence_transformers.util.similarity")
    rng = np.random.default_rng(3)
    docs = [rng.normal(size=(n, 8)).astype(np.float32) for n in (2, 7, 1)]
    query = rng.normal(size=(4, 8)).astype(np.float32)
    for mean in (False, True):
        ours = MaxSim(mean=mean).score(query, [Part(Tokens.of(docs))])[1]
        theirs = similarity.maxsim(
            [torch.tensor(query)], [torch.tensor(d) for d in docs], length_normalize=mean
        )
        np.testing.assert_allclose(ours, theirs[0].numpy(), rtol=1e-5)  # float32 sums
