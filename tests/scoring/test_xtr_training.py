"""XTR's training score: the method's invariants, and parity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.scoring.xtr_training import retrieved, training_scores


def draw_sims(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_with_every_token_retrieved_the_score_is_the_mean_of_all_maxima():
    sims = draw_sims(0, (2, 3, 4, 5))
    for k_train in (20, 1000):
        got = training_scores(sims, k_train)
        np.testing.assert_allclose(got, sims.max(axis=3).mean(axis=1), atol=1e-6)


def test_negative_maxima_count_as_they_are():
    assert training_scores(np.full((1, 2, 1, 1), -0.5, np.float32), 1).tolist() == [[-0.5]]
    clipped = training_scores(np.full((1, 2, 1, 1), -0.5, np.float32), 1, clip_negative=True)
    assert clipped.tolist() == [[0.0]]


def test_z_counts_the_query_tokens_that_retrieved():
    # One query token finds the passage at 0.9; the other finds the rival.
    sims = np.array([[[[0.9], [0.1]], [[0.2], [0.6]]]], np.float32)
    np.testing.assert_allclose(training_scores(sims, 1), [[0.9, 0.6]])


def test_a_token_that_was_not_retrieved_has_no_influence():
    sims = draw_sims(1, (2, 3, 4, 5))
    keep = retrieved(sims, 6)
    moved = np.where(keep, sims, sims - 0.5)
    assert training_scores(moved, 6).tolist() == training_scores(sims, 6).tolist()
    assert keep.sum(axis=(2, 3)).tolist() == [[6] * 3] * 2


def test_the_papers_failure_case_scores_the_positive_zero():
    # The positive matches every query token at 0.8; each of 4 negatives matches one at 0.9.
    n = 4
    sims = np.zeros((1, n, 1 + n, n), np.float32)
    sims[:, :, 0] = 0.8
    sims[0, range(n), range(1, n + 1), 0] = 0.9
    scores = training_scores(sims, 1)[0]
    assert scores[0] == 0 and scores[1:] == pytest.approx([0.9] * n)
    mean_of_maxima = sims.max(axis=3).mean(axis=1)[0]
    assert mean_of_maxima == pytest.approx([0.8, *[0.9 / n] * n])

    def loss(s):
        return float(np.log(np.exp(20 * s).sum()) - 20 * s[0])

    assert loss(scores) > 15 and loss(mean_of_maxima) < 0.01


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_padding_is_never_retrieved_and_changes_nothing(seed, k_train):
    rng = np.random.default_rng(seed)
    sims = draw_sims(seed, (2, 3, 4, 5))
    query_mask = rng.random((2, 3)) < 0.7
    passage_mask = rng.random((4, 5)) < 0.6
    masks = {"query_mask": query_mask, "passage_mask": passage_mask}
    keep = retrieved(sims, k_train, **masks)
    assert not keep[~query_mask].any() and not keep[:, :, ~passage_mask].any()
    assert (keep.sum(axis=(2, 3))[query_mask] == min(k_train, passage_mask.sum())).all()
    valid = query_mask[:, :, None, None] & passage_mask
    loud = np.where(valid, sims, np.float32(100))
    assert training_scores(loud, k_train, **masks).tolist() == (
        training_scores(sims, k_train, **masks).tolist()
    )


def test_a_passage_of_padding_alone_scores_minus_infinity():
    mask = np.array([[True], [False]])
    scores = training_scores(np.ones((1, 1, 2, 1), np.float32), 5, passage_mask=mask)
    assert scores.tolist() == [[1.0, -np.inf]]


def test_wrong_requests_are_refused():
    sims = np.ones((1, 1, 2, 1), np.float32)
    with pytest.raises(UsageError, match="k_train"):
        training_scores(sims, 0)
    with pytest.raises(InputError, match="passage_mask"):
        training_scores(sims, 1, passage_mask=np.ones((1, 2), bool))
    with pytest.raises(InputError, match="NaN"):
        training_scores(sims * np.nan, 1)
    with pytest.raises(InputError, match=r"\[B, Q, D, T\]"):
        training_scores(sims[0], 1)


@pytest.mark.st
@pytest.mark.parametrize("top_k", [1, 7, 30, 500])
def test_it_agrees_with_sentence_transformers_on_real_passages(top_k):
    # The one difference: a passage of padding alone has a large negative sentinel there.
    torch = pytest.importorskip("torch")
    scoring = pytest.importorskip("sentence_transformers.multi_vector_encoder.scoring")
    rng = np.random.default_rng(top_k)
    queries = rng.normal(size=(3, 4, 8)).astype(np.float32)
    passages = rng.normal(size=(3, 2, 5, 8)).astype(np.float32)
    query_mask = np.arange(4) < np.array([[4], [2], [3]])
    passage_mask = np.arange(5) < np.array([[[5], [1]], [[3], [4]], [[2], [5]]])
    theirs = scoring.XTRScores(top_k=top_k)(
        torch.tensor(queries),
        torch.tensor(passages),
        queries_mask=torch.tensor(query_mask),
        documents_mask=torch.tensor(passage_mask),
    ).numpy()
    sims = np.einsum("bqh,dth->bqdt", queries, passages.reshape(6, 5, 8))
    ours = training_scores(
        sims, top_k, query_mask=query_mask, passage_mask=passage_mask.reshape(6, 5)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32 sums
