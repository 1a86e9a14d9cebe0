"""XTR at search: the method's invariants, values by hand, and a dictionary reference."""

from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.kernels import xtr_aggregate
from tokret.scoring import MaxSim, Part, Xtr, scorers
from tokret.scoring.xtr import Impute, passage_offsets, retrieve
from tokret.types import Floats, Mask, Tokens

WIDTH = 3
IMPUTES = get_args(Impute)
quick = settings(deadline=None, max_examples=60)


@dataclass
class Drawn:
    """A small collection on a coarse grid, where float32 sums are exact and ties abound."""

    query: Floats
    passages: list[Floats]
    alive: Mask

    def cut(self, places: list[int], dtype: str = "fp32") -> list[Part]:
        edges = sorted({0, len(self.passages), *(p % (len(self.passages) + 1) for p in places)})
        return [
            Part(Tokens.of(self.passages[a:b], width=WIDTH).to(dtype), self.alive[a:b])
            for a, b in pairwise(edges)
        ]

    @property
    def whole(self) -> list[Part]:
        return self.cut([])

    def similarities(self) -> list[list[tuple[float, int, int]]]:
        """For each query token, (similarity, token number, passage) of all living tokens."""
        flat = [(i, t) for i, passage in enumerate(self.passages) for t in passage]
        return [
            [(float(q @ t), n, i) for n, (i, t) in enumerate(flat) if self.alive[i]]
            for q in self.query.astype(np.float64)
        ]


@st.composite
def drawn(draw, *, all_alive: bool = False) -> Drawn:
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    alive = [all_alive or draw(st.booleans()) for _ in lengths]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def grid(n: int) -> Floats:
        return (rng.integers(-4, 5, (n, WIDTH)) / 4).astype(np.float32)

    return Drawn(grid(draw(st.integers(1, 5))), [grid(n) for n in lengths], np.array(alive))


def by_dictionary(c: Drawn, scorer: Xtr) -> dict[int, float]:
    """The definition, one passage and one query token at a time."""
    best: dict[int, dict[int, float]] = {}
    kth = []
    for i, row in enumerate(c.similarities()):
        kept = sorted(row, key=lambda entry: (-entry[0], entry[1]))[: scorer.k_prime]
        kth.append(kept[-1][0] if kept else 0.0)
        for sim, _, passage in kept:
            mine = best.setdefault(passage, {})
            mine[i] = max(sim, mine.get(i, -np.inf))
    scores = {}
    for passage, mine in best.items():
        total = 0.0
        for i, q in enumerate(c.query.astype(np.float64)):
            true = float((c.passages[passage] @ q).max())
            filled = {
                "kth": kth[i],
                "kth*gamma": scorer.gamma * kth[i],
                "zero": 0.0,
                "const": scorer.const,
                "none": 0.0,
                "exact": true,
            }
            total += mine.get(i, filled[scorer.impute])
        scores[passage] = total / (len(mine) if scorer.impute == "none" else len(c.query))
    return scores


def as_dict(answer: tuple[np.ndarray, np.ndarray]) -> dict[int, float]:
    passages, scores = answer
    assert passages.dtype == np.int64 and scores.dtype == np.float32
    assert (np.diff(passages) > 0).all()
    return dict(zip(passages.tolist(), scores.tolist(), strict=True))


# Three passages of unit vectors on two axes; by hand. Passage 0 = {x, y}, 1 = {x}, 2 = {-x}.
X, Y = [1.0, 0.0], [0.0, 1.0]
THREE = [Part(Tokens.of([[X, Y], [X], [[-1.0, 0.0]]]))]
X_AND_Y = np.array([X, Y], np.float32)


@pytest.mark.parametrize(
    ("spec", "scores"),
    [
        # Token x retrieves x (0), x (1): kth 1. Token y retrieves y (0) at 1, then x (0) at 0.
        ('xtr(k_prime=2, impute="kth")', {0: 1.0, 1: (1 + 0) / 2}),
        ('xtr(k_prime=2, impute="const", const=0.5)', {0: 1.0, 1: (1 + 0.5) / 2}),
        ('xtr(k_prime=2, impute="zero")', {0: 1.0, 1: 0.5}),
        ('xtr(k_prime=2, impute="none")', {0: 1.0, 1: 1.0}),
        ('xtr(k_prime=1, impute="kth")', {0: 1.0}),
        ('xtr(k_prime=1, impute="kth*gamma", gamma=0.5)', {0: 1.0}),
        ('xtr(k_prime=3, impute="kth*gamma", gamma=0.5)', {0: 1.0, 1: 0.5}),
        ("xtr", {0: 1.0, 1: 0.5, 2: -0.5}),
    ],
)
def test_scores_are_those_computed_by_hand(spec, scores):
    assert as_dict(scorers.build(spec).score(X_AND_Y, THREE)) == scores


def test_gamma_scales_the_imputed_value_only():
    query = np.array([X, [0.6, 0.8]], np.float32)
    parts = [Part(Tokens.of([[X], [Y]]))]
    # x retrieves passage 0 at 1; the second token retrieves y in passage 1 at 0.8.
    got = as_dict(Xtr(k_prime=1, impute="kth*gamma", gamma=0.5).score(query, parts))
    assert got == pytest.approx({0: (1 + 0.5 * 0.8) / 2, 1: (0.5 * 1 + 0.8) / 2})


def test_a_retrieved_negative_is_not_taken_for_a_missing_one():
    parts = [Part(Tokens.of([[[-1.0, 0.0]]]))]
    for impute in IMPUTES:
        got = as_dict(Xtr(impute=impute, const=0.9).score(np.array([X], np.float32), parts))
        assert got == {0: -1.0}


@quick
@given(drawn(), st.integers(1, 40), st.sampled_from(IMPUTES))
def test_scores_equal_those_of_a_dictionary(c, k_prime, impute):
    scorer = Xtr(k_prime, impute, gamma=0.5, const=0.25)
    assert as_dict(scorer.score(c.query, c.whole)) == pytest.approx(
        by_dictionary(c, scorer), abs=1e-6
    )


@quick
@given(drawn(), st.integers(1, 40))
def test_aggregation_equals_that_of_a_dictionary(c, k_prime):
    tokens, sims = retrieve(c.query, c.whole, k_prime)
    if tokens.size == 0:
        return
    scorer = Xtr(k_prime, "kth")
    candidates, sums, counts = xtr_aggregate(tokens, sims, passage_offsets(c.whole), sims[:, -1])
    wanted = by_dictionary(c, scorer)
    assert dict(zip(candidates.tolist(), (sums / len(c.query)).tolist(), strict=True)) == (
        pytest.approx(wanted, abs=1e-6)
    )
    assert ((counts >= 1) & (counts <= len(c.query))).all()


@quick
@given(drawn(), st.sampled_from(IMPUTES))
def test_with_every_token_retrieved_scores_are_mean_maxsim(c, impute):
    everything = Xtr(k_prime=48, impute=impute, gamma=0.3).score(c.query, c.whole)
    exact = MaxSim(mean=True).score(c.query, c.whole)
    assert as_dict(everything) == pytest.approx(as_dict(exact), abs=1e-6)


@quick
@given(drawn(), st.integers(1, 40))
def test_kth_scores_are_never_below_mean_maxsim(c, k_prime):
    exact = as_dict(MaxSim(mean=True).score(c.query, c.whole))
    for passage, score in as_dict(Xtr(k_prime).score(c.query, c.whole)).items():
        assert score >= exact[passage] - 1e-6


@quick
@given(drawn(), st.integers(1, 40))
def test_exact_imputation_is_mean_maxsim_on_the_candidates(c, k_prime):
    exact = as_dict(MaxSim(mean=True).score(c.query, c.whole))
    got = as_dict(Xtr(k_prime, "exact").score(c.query, c.whole))
    assert got == {passage: exact[passage] for passage in got}


@quick
@given(drawn(), st.integers(1, 20), st.integers(0, 20))
def test_more_tokens_keep_the_candidates_and_never_raise_a_kth_score(c, k_prime, more):
    few = as_dict(Xtr(k_prime).score(c.query, c.whole))
    many = as_dict(Xtr(k_prime + more).score(c.query, c.whole))
    assert few.keys() <= many.keys()
    assert all(many[passage] <= few[passage] + 1e-6 for passage in few)


@pytest.mark.parametrize("impute", IMPUTES)
@pytest.mark.parametrize("seed", range(5))
def test_order_of_passages_and_tokens_does_not_matter(impute, seed):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(4, 8)).astype(np.float32)  # no grid: no ties at the cut
    passages = [rng.normal(size=(n, 8)).astype(np.float32) for n in (3, 5, 1, 4, 2)]
    order = rng.permutation(len(passages))
    shuffled = [rng.permutation(passages[i]) for i in order]
    scorer = Xtr(k_prime=4, impute=impute)
    there = as_dict(scorer.score(query, [Part(Tokens.of(passages))]))
    here = as_dict(scorer.score(query, [Part(Tokens.of(shuffled))]))
    assert {int(order[i]): score for i, score in here.items()} == pytest.approx(there, abs=1e-6)


@quick
@given(drawn(all_alive=True), st.integers(1, 40))
def test_a_duplicate_passage_gets_the_same_kth_score(c, k_prime):
    twice = Tokens.of([*c.passages, *c.passages], width=WIDTH)
    got = as_dict(Xtr(k_prime).score(c.query, [Part(twice)]))
    n = len(c.passages)
    for i in range(n):
        if i in got and i + n in got:
            assert got[i] == got[i + n]


@quick
@given(
    drawn(),
    st.integers(1, 40),
    st.sampled_from(IMPUTES),
    st.lists(st.integers(0, 20), max_size=4),
    st.sampled_from(["fp32", "fp16", "int8"]),
)
def test_scores_do_not_depend_on_how_the_collection_is_cut(c, k_prime, impute, places, dtype):
    scorer = Xtr(k_prime, impute)
    whole, shares = c.cut([], dtype), c.cut(places, dtype)
    assert as_dict(scorer.score(c.query, shares)) == as_dict(scorer.score(c.query, whole))


@quick
@given(drawn(), st.integers(1, 40))
def test_passages_that_are_not_alive_leave_no_trace(c, k_prime):
    living = [p for p, here in zip(c.passages, c.alive, strict=True) if here]
    got = as_dict(Xtr(k_prime).score(c.query, c.whole))
    alone = as_dict(Xtr(k_prime).score(c.query, [Part(Tokens.of(living, width=WIDTH))]))
    numbers = np.flatnonzero(c.alive).tolist()
    assert got == {numbers[i]: score for i, score in alone.items()}


def test_ties_at_the_cut_go_to_the_earlier_token_across_parts():
    parts = [Part(Tokens.of([[Y]])), Part(Tokens.of([[X]])), Part(Tokens.of([[X], [X]]))]
    tokens, sims = retrieve(np.array([X], np.float32), parts, 2)
    assert tokens.tolist() == [[1, 2]] and sims.tolist() == [[1.0, 1.0]]
    many = [Part(Tokens.of([[X], [Y]] * n)) for n in (7, 13, 20)]
    assert retrieve(np.array([X], np.float32), many, 25)[0].tolist() == [list(range(0, 50, 2))]


def test_a_query_without_tokens_has_no_candidates():
    passages, scores = Xtr().score(np.empty((0, 2), np.float32), THREE)
    assert passages.tolist() == [] and scores.tolist() == []


def test_a_collection_without_tokens_has_no_candidates():
    empty = Tokens.of([np.empty((0, 2)), np.empty((0, 2))])
    for parts in ([], [Part(empty)], [Part(empty), Part(empty)]):
        assert as_dict(Xtr().score(X_AND_Y, parts)) == {}


def test_a_query_of_another_width_is_refused():
    with pytest.raises(InputError, match=r"must be \[Q, 2\]"):
        Xtr().score(np.ones((2, 3), np.float32), THREE)


@pytest.mark.parametrize(
    "wrong", [{"k_prime": 0}, {"impute": "mean"}, {"gamma": float("nan")}, {"const": float("inf")}]
)
def test_a_parameter_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError, match="xtr"):
        Xtr(**wrong)


def test_the_spec_reads_back():
    scorer = Xtr(k_prime=100, impute="kth*gamma", gamma=0.9)
    assert str(scorer) == 'xtr(k_prime=100, impute="kth*gamma", gamma=0.9)'
    assert scorers.build(str(scorer)) == scorer
