"""Recall and time that are asked for, and what was measured to answer them."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.errors import IndexCorruptError, InputError, UsageError
from tokret.indexes import Index, build, ivf
from tokret.indexes.calibrate import (
    GIVEN,
    NOISE,
    QUERY_TOKENS,
    Found,
    Query,
    given_queries,
    measured,
    pseudo_queries,
)
from tokret.indexes.codebook import LAYOUT, Codebook, train
from tokret.indexes.effort import (
    CHUNK,
    COMPARED,
    DEFAULT,
    DEPTHS,
    MARGINS,
    PROBES,
    WEIGHTS,
    Calibration,
    Effort,
    Setting,
    Speed,
    Target,
    Work,
    calibration_of,
    choose,
)
from tokret.indexes.store import Store
from tokret.types import Tokens

CURVE = [
    Setting(0.5, 2, 0.0, 100.0),
    Setting(0.8, 4, 0.05, 200.0),
    Setting(0.95, 8, 0.1, 400.0),
]


def here():
    return Speed(constant=1.0, unit=0.01)  # 2, 3 and 5 ms


def not_asked():
    raise AssertionError("the speed was measured though no time was given")


def test_the_least_work_that_reaches_a_recall_is_taken():
    for recall, nprobe in [(0.1, 2), (0.5, 2), (0.51, 4), (0.95, 8), (1.0, 8)]:
        assert choose(CURVE, Target(recall=recall), 0.97, not_asked).nprobe == nprobe
        assert choose(CURVE, Target(), recall, not_asked).nprobe == nprobe  # that of the index


def test_the_best_setting_within_a_time_is_taken_and_the_cheapest_if_none_is():
    for ms, nprobe in [(0.1, 2), (2.0, 2), (4.9, 4), (5.1, 8), (1e9, 8)]:
        assert choose(CURVE, Target(budget_ms=ms), 0.1, here).nprobe == nprobe


def test_without_a_measurement_there_is_a_default():
    assert choose([], Target(recall=1.0), 0.9, not_asked) == DEFAULT
    assert calibration_of({}) is None


def test_the_curve_of_the_next_larger_number_of_documents_is_taken():
    curves = {10: CURVE[:1], 100: CURVE}
    found = Calibration(1000, 5, False, {10: 1.0, 100: 1.0}, curves)
    for k, depth in [(1, 10), (10, 10), (11, 100), (100, 100), (5000, 100)]:
        assert found.curve(k) is curves[depth]
    assert not found.stale(1500) and found.stale(1501)


def test_work_is_a_weighed_count():
    assert Work(1, 0, 0, 0).weighed(128) == WEIGHTS.cells
    assert Work(0, 10, 100, 0).weighed(64) == 10 * WEIGHTS.postings + 100 * WEIGHTS.entries
    assert Work(2, 0, 0, 4).weighed(64) == WEIGHTS.cells + 2 * WEIGHTS.tokens


def test_an_effort_compares_more_passages_than_it_reads():
    assert Effort(4, 100, 0.1).compared == 100 * COMPARED


@pytest.mark.parametrize(
    "target",
    [
        Target(recall=0.0),
        Target(recall=1.01),
        Target(recall=float("nan")),
        Target(budget_ms=0.0),
        Target(budget_ms=float("nan")),
        Target(recall=0.9, exact=True),
        Target(recall=0.9, budget_ms=1.0),
        Target(budget_ms=1.0, exact=True),
    ],
)
def test_wishes_that_nothing_meets_are_refused(target):
    with pytest.raises(UsageError):
        target.checked()


settings_lists = st.lists(
    st.builds(Setting, st.floats(0, 1), st.integers(1, 99), st.floats(0, 1), st.floats(0, 1e9)),
    min_size=1,
)


@given(st.dictionaries(st.integers(1, 1000), settings_lists, min_size=1), st.booleans())
def test_a_calibration_survives_being_written_as_json(curves, real):
    wanted = Calibration(7, 3, real, {k: c[-1].recall for k, c in curves.items()}, curves)
    text = json.dumps({"calibration": wanted.facts()}, allow_nan=False)
    assert calibration_of(json.loads(text)) == wanted


def passages(count, tokens=30, width=8, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count * tokens, width)).astype(np.float32)
    return Tokens(rows, np.arange(0, count * tokens + 1, tokens, dtype=np.int64))


def asked_of(held, seed=0):
    return pseudo_queries(held.gather, held.offsets, seed)


def test_pseudo_queries_are_runs_of_tokens_of_their_source_moved_towards_others():
    held = passages(90)
    asked, again = asked_of(held, 3), asked_of(held, 3)
    assert len(asked) == 64 and len({source for _, source in asked}) == len(asked)
    for (query, source), (same, _) in zip(asked, again, strict=True):
        assert query.shape == (QUERY_TOKENS, 8) and np.array_equal(query, same)
        runs = [held[source][s : s + QUERY_TOKENS] for s in range(7)]
        lengths = [np.linalg.norm(run, axis=1) for run in runs]
        (run,) = [r for r, n in zip(runs, lengths, strict=True) if near(n, query)]
        cosines = (run * query).sum(axis=1) / np.square(np.linalg.norm(run, axis=1))
        assert (cosines >= np.sqrt(1 - NOISE**2) - 1e-5).all() and cosines.min() < 0.999


def near(lengths, query):
    return np.allclose(lengths, np.linalg.norm(query, axis=1), rtol=1e-5)


def test_short_passages_are_asked_whole():
    held = passages(9, tokens=4)
    for query, source in asked_of(held):
        assert near(np.linalg.norm(held[source], axis=1), query)


def test_more_queries_than_are_wanted_are_drawn_evenly():
    rows = [np.full((1, 2), i) for i in range(1000)] + [np.empty((0, 2))]
    drawn = given_queries(rows)
    values = [int(query.vectors[0, 0]) for query in drawn]
    assert len(drawn) == GIVEN - 1 and values[0] == 0 and values == sorted(set(values))
    assert all(query.source == -1 for query in drawn)


def a_search(order, expected, score):
    """Finds a prefix of ``order`` that grows with the number of cells."""

    def search(query):
        runs = []
        for nprobe in PROBES:
            found = order[: 12 * nprobe]
            found = found[found != query.source]
            work = nprobe + np.arange(len(found) + 1.0)
            runs.append(Found(found, expected(found), work))
        return runs, {int(n): score(n) for n in order}

    return search


def test_a_curve_holds_what_pays_and_rises_in_recall_and_work():
    # 400 passages, the best is 0; of passage n is expected what falls by its place.
    order = np.roll(np.arange(400), 7)  # the best come late: margins pay
    asked = [Query(np.ones((QUERY_TOKENS, 2), np.float32), -1)] * 5
    found = measured(
        asked,
        lambda query: -np.arange(400.0),
        a_search(order, lambda found: -np.arange(len(found)) / 1.0, lambda n: -float(n)),
        tokens=99,
        given=True,
    )
    assert (found.tokens, found.queries, found.given) == (99, 5, True)
    for depth in DEPTHS:
        curve = found.curves[depth]
        assert all(one.nprobe in PROBES and one.margin in MARGINS for one in curve)
        for low, high in pairwise(curve):
            assert low.recall < high.recall and low.work < high.work
        assert curve[-1].recall == found.ceilings[depth] == 1.0
        # As the stage does: no look before so many as are wanted, then every CHUNK.
        least = -(-depth // CHUNK) * CHUNK
        assert curve[-1].work >= curve[-1].nprobe + least
    assert found.curve(10)[-1].work < found.curve(100)[-1].work


def test_the_source_of_a_query_does_not_count():
    asked = [Query(np.ones((3, 2), np.float32), n) for n in (0, 4, 9)]
    search = a_search(np.arange(24), lambda found: np.zeros(len(found)), lambda n: -float(n))
    truth = lambda query: -np.arange(24.0)  # noqa: E731
    found = measured(asked, truth, search, tokens=1, given=False)
    assert found.curve(10)[-1].recall == 1.0


def test_a_recall_is_less_than_the_mean_by_what_chance_may_have_added():
    asked = [Query(np.ones((3, 2), np.float32), -1)] * 400  # finding none, or all, of the best
    turn = iter([np.arange(24.0), -np.arange(24.0)] * 200)
    search = a_search(np.arange(12), lambda found: np.zeros(len(found)), lambda n: -float(n))
    found = measured(asked, lambda query: next(turn), search, tokens=1, given=False)
    assert found.ceilings[10] == 0.5
    assert found.curve(10)[-1].recall == pytest.approx(0.5 - 2 * 0.5 / np.sqrt(399))


def test_true_scores_and_ceilings_are_used_where_there_are_any():
    asked = [Query(np.ones((3, 2), np.float32), -1)] * 2
    wrong = a_search(np.arange(24), lambda found: np.zeros(len(found)), lambda n: float(n))
    truth = lambda query: -np.arange(24.0)  # noqa: E731
    options = {"tokens": 1, "given": False}
    assert measured(asked, truth, wrong, **options).curve(10)[-1].recall < 0.5
    by_vectors = measured(asked, truth, wrong, **options, rescored=lambda k: 24)
    assert by_vectors.curve(10)[-1].recall == 1.0
    right = a_search(np.arange(24), lambda found: np.zeros(len(found)), lambda n: -float(n))
    again = measured(asked, truth, right, **options, ceilings={10: 0.9, 100: 0.8})
    assert [again.curve(k)[-1].recall for k in DEPTHS] == [0.9, 0.8]
    assert again.ceilings == {10: 0.9, 100: 0.8}


H = 32


def clouds(count, seed=0):
    rng = np.random.default_rng(seed)
    points = np.random.default_rng(0).standard_normal((30, H))
    return [points[rng.integers(0, 30, 20)] + rng.normal(0, 0.5, (20, H)) for _ in range(count)]


def documents(count, first=0):
    return [(f"d{i:03}", "x") for i in range(first, first + count)]


@pytest.fixture
def few(monkeypatch):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 500)


@pytest.fixture
def index(tmp_path, few):
    index = Index.create(tmp_path / "i", encoder="precomputed(dim=32)", backend="ivf(bits=3)")
    index.add(documents(150), vectors=clouds(150))
    return index


def held_by(index):
    return Codebook.read(Store(index.path).open().derived).facts


def test_a_build_measures_and_a_search_keeps_to_it(index):
    facts = held_by(index)
    found = calibration_of(facts)
    assert facts["trained_on"] == found.tokens == 3000 and facts["bits"] <= 3 * 1.1
    assert not found.given and found.queries == 64
    searcher = index._state.searcher
    for k, depth in ((10, 10), (11, 100)):
        curve = found.curves[depth]
        low, high = curve[0], curve[-1]
        assert searcher.effort(Target(recall=low.recall), k) == low.effort
        assert searcher.effort(Target(recall=high.recall), k) == high.effort
        assert searcher.effort(Target(budget_ms=1e-9), k) == low.effort
        assert searcher.effort(Target(budget_ms=1e9), k) == high.effort
    assert searcher.speed.constant >= 0 and searcher.speed.unit >= 0
    assert searcher.speed is searcher.speed  # measured once


def test_the_same_data_choose_alike_however_long_it_takes(index, tmp_path):
    other = Index.create(tmp_path / "o", encoder="precomputed(dim=32)", backend="ivf(bits=3)")
    other.add(documents(150), vectors=clouds(150))
    assert held_by(other) == held_by(index)


@pytest.mark.parametrize("store", ["none", "int8"])
def test_compact_measures_anew_what_has_grown_by_more_than_half(tmp_path, few, store):
    backend = f'ivf(bits=3, store="{store}")'
    index = Index.create(tmp_path / "i", encoder="precomputed(dim=32)", backend=backend)
    index.add(documents(100), vectors=clouds(100))
    before = calibration_of(held_by(index))
    index.add(documents(40, 100), vectors=clouds(40, 1))
    assert index.info()["measured"]["tokens"] == 2000 and not index.info()["measured"]["stale"]
    index.compact()
    assert calibration_of(held_by(index)) == before
    index.add(documents(60, 140), vectors=clouds(60, 2))
    assert index.info()["measured"]["stale"]
    index.compact()
    after = calibration_of(held_by(index))
    assert after.tokens == 4000 and index.info()["measured"]["tokens"] == 4000
    assert not index.info()["measured"]["stale"]
    if store == "none":  # codes do not say more of vectors than they did
        assert after.ceilings == before.ceilings
        assert after.curve(10)[-1].recall <= before.ceilings[10]


def test_queries_that_are_given_are_measured(tmp_path, few, index):
    options = {"encoder": "precomputed(dim=32)", "backend": "ivf(bits=3)", "vectors": clouds(150)}
    given = clouds(30, seed=5)
    build(tmp_path / "g", documents(150), calibrate=given, **options)
    found = calibration_of(held_by(Index.open(tmp_path / "g")))
    assert found.given and found.queries == 30
    assert found.curves != calibration_of(held_by(index)).curves
    assert Index.open(tmp_path / "g").info()["measured"]["asked"] == "given"


@pytest.mark.parametrize(
    ("queries", "backend", "error"),
    [
        ([], "ivf", InputError),
        ([np.zeros((0, 32))], "ivf", InputError),
        ([np.ones((2, 31))], "ivf", InputError),
        ([np.ones((2, 32))], "exact", UsageError),
    ],
)
def test_queries_that_cannot_be_measured_are_refused_before_anything_is_built(
    tmp_path, queries, backend, error
):
    options = {"encoder": "precomputed(dim=32)", "vectors": clouds(2)}
    with pytest.raises(error, match="calibrate"):
        build(tmp_path / "g", documents(2), calibrate=queries, backend=backend, **options)
    assert not (tmp_path / "g").exists()


def test_a_small_index_says_that_queries_are_of_no_use_to_it(tmp_path, few):
    options = {"encoder": "precomputed(dim=32)", "vectors": clouds(2)}
    with pytest.warns(UserWarning, match="so few are searched whole"):
        build(tmp_path / "g", documents(2), calibrate=clouds(1), **options)


def test_options_of_searching_stand_above_what_was_measured(index):
    options = {"nprobe": 3, "candidates": 17, "margin": 0.5}
    tuned = Index.open(index.path, tune=options)
    assert tuned._state.searcher.effort(Target(recall=0.1)) == Effort(3, 17, 0.5)


def test_a_codebook_survives_a_round_trip(index, tmp_path):
    from tokret.indexes.manifest import Entry
    from tokret.indexes.segment import Segment, SegmentWriter

    book = Codebook.read(Store(index.path).open().derived)

    def written(name, facts):
        writer = SegmentWriter(Store(tmp_path / name).new_segment_path(), "codebook", LAYOUT)
        Codebook(**{**vars_of(book), "facts": facts}).write(writer)
        return Segment(writer.path, vars(Entry.from_dict(writer.seal(), writer.path.name)))

    again = Codebook.read(written("same", book.facts))
    assert again.facts == book.facts and again.reach == book.reach
    assert np.array_equal(again.cells.centroids, book.cells.centroids)
    for name in ("rotation", "inverse", "shifts", "weights", "shares"):
        assert np.array_equal(getattr(again, name), getattr(book, name))
    with pytest.raises(IndexCorruptError, match="not a codebook"):
        Codebook.read(written("foreign", {"height": 32, "calibration": [["a", "b"]]}))


def vars_of(book):
    return {name: getattr(book, name) for name in Codebook.__dataclass_fields__}


def test_memory_bounds_the_sample_that_cells_are_found_in():
    rows = np.random.default_rng(0).standard_normal((300_000, 16)).astype(np.float32)
    held = Tokens(rows, np.arange(0, len(rows) + 1, 50, dtype=np.int64))
    sizes = []
    for memory in (1, 1 << 30):  # the least, and more than there is
        asked = []

        def take(numbers, asked=asked):
            asked.append(50 * len(numbers))
            return held.gather(numbers)

        tracemalloc.start()
        train(held.offsets, take, bits=3, cells=4096, memory=memory)
        sizes.append((sum(asked), tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    (few, small), (many, large) = sizes
    assert few < many
    assert max(small, large) < 20e6  # bytes: no array is of all that was drawn in float64
