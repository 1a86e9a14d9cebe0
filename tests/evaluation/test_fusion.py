import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.evaluation.fusion import RRF, Convex, fusers
from tokret.types import Hit


@pytest.fixture(params=fusers.names())
def fuser(request):
    return fusers.build(request.param)


def fuse(spec, *results):
    return fusers.build(spec).fuse([{"q": result} for result in results]).ranking["q"]


# By hand


def test_rrf_adds_one_over_sixty_plus_rank():
    fused = fuse("rrf", {"a": 9.0, "b": 8.0}, {"b": 0.3, "c": 0.2})
    assert fused == {"b": 1 / 62 + 1 / 61, "a": 1 / 61, "c": 1 / 62}
    assert list(fused) == ["b", "a", "c"]


def test_rrf_with_k_zero_is_the_sum_of_reciprocal_ranks():
    assert fuse("rrf(k=0)", {"a": 2.0, "b": 1.0}, {"b": 1.0}) == {"b": 1.5, "a": 1.0}


def test_combsum_adds_scores_brought_to_nought_and_one():
    fused = fuse("combsum", {"a": 10.0, "b": 5.0, "c": 0.0}, {"b": 3.0, "d": 1.0})
    assert fused == {"b": 1.5, "a": 1.0, "c": 0.0, "d": 0.0}


def test_combmnz_multiplies_by_the_number_of_runs_that_agree():
    fused = fuse("combmnz", {"a": 10.0, "b": 5.0, "c": 0.0}, {"b": 3.0, "d": 1.0})
    assert fused == {"b": 3.0, "a": 1.0, "c": 0.0, "d": 0.0}


def test_convex_weighs_the_first_run_by_alpha():
    fused = fuse("convex(alpha=0.25)", {"a": 2.0, "b": 0.0}, {"b": 7.0, "c": 5.0})
    assert fused == {"b": 0.75, "a": 0.25, "c": 0.0}


def test_weighted_adds_up_weighted_scores_or_reciprocal_ranks():
    runs = [{"a": 2.0, "b": 0.0}, {"b": 7.0, "c": 5.0}, {"b": 1.0}]
    assert fuse("weighted(weights=(2, 1, 0.5))", *runs) == {"a": 2.0, "b": 1.5, "c": 0.0}
    ranks = fuse('weighted(weights=(2, 1, 0.5), of="ranks", k=0)', *runs)
    assert ranks == {"b": 1 + 1 + 0.5, "a": 2.0, "c": 0.5}


@settings(max_examples=20, deadline=None)
@given(first=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-50, 50).map(float)))
def test_equal_weights_are_combsum_and_rrf(first):
    second = {"a": 3.0, "x": 1.0}
    assert fuse("weighted", first, second) == fuse("combsum", first, second)
    assert fuse('weighted(of="ranks")', first, second) == fuse("rrf", first, second)


def test_a_lone_result_is_the_best_one_not_nought():
    assert fuse("combsum", {"a": 3.0}, {"b": 2.0, "c": 1.0}) == {"a": 1.0, "b": 1.0, "c": 0.0}


def test_tied_results_take_their_ranks_by_document_id():
    assert list(fuse("rrf", {"z": 1.0, "a": 1.0})) == ["a", "z"]


def test_the_widest_range_of_scores_does_not_overflow():
    assert fuse("combsum", {"a": 1.7e308, "b": 0.0, "c": -1.7e308}) == {"a": 1, "b": 0.5, "c": 0}


def test_hits_are_fused_like_mappings():
    assert fuse("rrf", [Hit("b", 1.0), Hit("a", 2.0)]) == fuse("rrf", {"a": 2.0, "b": 1.0})


# Contract: a fuser is tested by being registered


def test_a_query_that_a_run_lacks_is_fused_from_the_others(fuser):
    fused = fuser.fuse([{"q": {"a": 1.0}}, {"p": {"b": 1.0}, "q": {}}])
    assert {query: list(docs) for query, docs in fused.ranking.items()} == {"q": ["a"], "p": ["b"]}


def test_no_run_is_refused(fuser):
    with pytest.raises(UsageError):
        fuser.fuse([])


def test_a_run_with_nan_is_refused(fuser):
    with pytest.raises(InputError, match="nan"):
        fuser.fuse([{"q": {"a": float("nan")}}, {"q": {"a": 1.0}}])


def test_prints_as_the_string_that_builds_it(fuser):
    assert fusers.build(str(fuser)) == fuser


RESULTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-50, 50).map(float), max_size=8)


@settings(max_examples=40, deadline=None)
@given(first=RESULTS, second=RESULTS)
@pytest.mark.parametrize("name", fusers.names())
def test_results_stand_best_first_and_are_those_of_any_run(name, first, second):
    fused = fuse(name, first, second)
    assert set(fused) == {*first, *second}
    assert list(fused.items()) == sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))


@settings(max_examples=40, deadline=None)
@given(runs=st.lists(RESULTS, min_size=3, max_size=4), data=st.data())
@pytest.mark.parametrize("name", ["rrf", "combsum", "combmnz"])
def test_the_order_of_the_runs_changes_no_bit(name, runs, data):
    other = data.draw(st.permutations(runs))
    assert list(fuse(name, *runs).items()) == list(fuse(name, *other).items())


@settings(max_examples=40, deadline=None)
@given(first=RESULTS, second=RESULTS)
@pytest.mark.parametrize("name", fusers.names())
def test_a_document_ahead_in_every_run_is_never_behind(name, first, second):
    fused = fuse(name, first, second)
    for a in fused:
        for b in fused:
            if all(a in r and r[a] > r.get(b, float("-inf")) for r in (first, second)):
                assert fused[a] >= fused[b]


@settings(max_examples=40, deadline=None)
@given(results=RESULTS)
@pytest.mark.parametrize("name", ["rrf", "combsum", "combmnz"])
def test_a_run_fused_alone_or_with_itself_keeps_its_order(name, results):
    order = sorted(results, key=lambda d: (-results[d], d))
    assert list(fuse(name, results)) == list(fuse(name, results, results)) == order


@settings(max_examples=40, deadline=None)
@given(first=RESULTS, second=RESULTS, scale=st.sampled_from([0.5, 2.0, 8.0]))
@pytest.mark.parametrize("name", fusers.names())
def test_the_scale_of_a_runs_scores_does_not_matter(name, first, second, scale):
    scaled = {d: s * scale for d, s in second.items()}
    assert fuse(name, first, second) == fuse(name, first, scaled)


# Requests


@pytest.mark.parametrize(
    "spec",
    [
        "rrf(k=-1)",
        "convex(alpha=1.5)",
        "convex(alpha=-0.1)",
        "weighted(weights=(1, -1))",
        "weighted(weights=(0, 0))",
    ],
)
def test_a_parameter_out_of_range_is_refused(spec):
    with pytest.raises(UsageError, match="needs"):
        fusers.build(spec)


def test_convex_takes_two_runs_and_says_so():
    with pytest.raises(UsageError, match="two runs, got 3"):
        Convex().fuse([{}, {}, {}])


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"No fusion method 'rff'\. Did you mean 'rrf'"):
        fusers.build("rff")
    assert fusers.build("rrf(k=10)") == RRF(k=10)


def test_weights_are_as_many_as_runs():
    with pytest.raises(UsageError, match="has 2 weights, and there are 3 runs"):
        fuse("weighted(weights=(1, 2))", {"a": 1.0}, {"a": 1.0}, {"a": 1.0})


def test_weights_that_are_no_list_of_numbers_are_refused():
    with pytest.raises(UsageError, match=r"must be a list such as \(1, 2\); got 0.5"):
        fusers.build("weighted(weights=0.5)")
    with pytest.raises(UsageError, match="weights must be float; got 'a'"):
        fusers.build('weighted(weights=("a", 1))')
    assert fusers.build("weighted(weights=[1, 2])").weights == (1.0, 2.0)
