"""Recall and time that are asked for, and what was measured to answer them."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes import Index, ivf
from tokret.indexes.calibrate import QUERY_TOKENS, K, Searched, curve, pseudo_queries
from tokret.indexes.codebook import LAYOUT, Codebook
from tokret.indexes.effort import (
    COMPARED,
    DEFAULT,
    MARGINS,
    PROBES,
    Effort,
    Setting,
    Target,
    choose,
    settings_of,
)
from tokret.indexes.store import Store
from tokret.types import Tokens

CURVE = [
    Setting(0.5, 2, 0.0, 1.0),
    Setting(0.8, 4, 0.05, 2.0),
    Setting(0.95, 8, 0.1, 4.0),
]


def test_the_cheapest_setting_that_reaches_a_recall_is_taken():
    for recall, nprobe in [(0.1, 2), (0.5, 2), (0.51, 4), (0.95, 8), (1.0, 8)]:
        assert choose(CURVE, Target(recall=recall), 0.97).nprobe == nprobe
        assert choose(CURVE, Target(), recall).nprobe == nprobe  # that of the index


def test_the_best_setting_within_a_time_is_taken_and_the_cheapest_if_none_is():
    for ms, nprobe in [(0.1, 2), (1.0, 2), (3.9, 4), (4.0, 8), (1e9, 8)]:
        assert choose(CURVE, Target(budget_ms=ms), 0.1).nprobe == nprobe


def test_without_a_measurement_there_is_a_default():
    assert choose([], Target(recall=1.0), 0.9) == DEFAULT
    assert settings_of({}) == []


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


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1), st.integers(1, 99), st.floats(0, 1), st.floats(0, 99, allow_nan=False)
        )
    )
)
def test_settings_survive_being_written_as_json(rows):
    wanted = [Setting(*row) for row in rows]
    text = json.dumps({"calibration": [list(setting) for setting in wanted]}, allow_nan=False)
    assert settings_of(json.loads(text)) == wanted


def passages(count, tokens=30, width=8, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count * tokens, width)).astype(np.float32)
    return Tokens(rows, np.arange(0, count * tokens + 1, tokens, dtype=np.int64))


def test_pseudo_queries_are_runs_of_tokens_of_their_source():
    held = passages(60)
    asked = pseudo_queries(held.gather, held.offsets, 3, 1)
    again = pseudo_queries(held.gather, held.offsets, 3, 2)
    assert 8 <= len(asked) <= 60 and len({source for _, source in asked}) == len(asked)
    for (query, source), (same, _) in zip(asked, again, strict=True):
        assert query.shape == (QUERY_TOKENS, 8) and np.array_equal(query, same)
        starts = [np.array_equal(held[source][s : s + QUERY_TOKENS], query) for s in range(7)]
        assert sum(starts) == 1


def test_short_passages_are_asked_whole():
    held = passages(9, tokens=4)
    for query, source in pseudo_queries(held.gather, held.offsets, 0, 1):
        assert np.array_equal(query, held[source])


def test_a_curve_holds_what_pays_and_rises_in_recall_and_time():
    # 100 passages, the best is 0; what is expected of passage p is 1 - p / 100 too little.
    asked = pseudo_queries(*(lambda held: (held.gather, held.offsets))(passages(9)), 0, 1)
    asked = [one._replace(source=-1) for one in asked]
    truths = [np.arange(K)] * len(asked)

    def search(request, effort):
        found = np.roll(np.arange(10 * effort.nprobe), 7)  # the best come late: margins pay
        scores = -found.astype(np.float32)
        expected = -np.arange(len(found), dtype=np.float32) / 100
        return Searched(found, scores, expected, effort.nprobe * 1e-3, 1e-3 * len(found))

    settings = curve(asked, truths, search)
    assert all(setting.nprobe in PROBES and setting.margin in MARGINS for setting in settings)
    for low, high in pairwise(settings):
        assert low.recall < high.recall and low.ms < high.ms
    assert settings[-1].recall == 1.0


def test_the_source_of_a_query_does_not_count():
    held = passages(9)
    asked = pseudo_queries(held.gather, held.offsets, 0, 1)

    def search(request, effort):
        scores = np.arange(20, 0, -1, dtype=np.float32)
        return Searched(np.arange(20), scores, scores, 1e-3, 1e-3)

    truths = [np.array([p for p in range(11) if p != source][:K]) for _, source in asked]
    assert curve(asked, truths, search)[-1].recall == 1.0


@pytest.fixture
def index(tmp_path, monkeypatch):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 500)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, 32))
    vectors = [points[rng.integers(0, 30, 20)] + rng.normal(0, 0.5, (20, 32)) for _ in range(150)]
    index = Index.create(tmp_path / "i", encoder="precomputed(dim=32)", backend="ivf(bits=3)")
    index.add([(f"d{i:03}", "x") for i in range(150)], vectors=vectors)
    return index


def test_a_build_measures_and_a_search_keeps_to_it(index):
    facts = Codebook.read(Store(index.path).open().derived).facts
    settings = settings_of(facts)
    assert settings and facts["trained_on"] == 3000 and facts["bits"] <= 3 * 1.1
    assert [s.recall for s in settings] == sorted({s.recall for s in settings})
    assert [s.ms for s in settings] == sorted({s.ms for s in settings})
    searcher = index._state.searcher
    low, high = settings[0].recall, settings[-1].recall
    assert searcher.effort(Target(recall=low)) == settings[0].effort
    assert searcher.effort(Target(recall=high)) == settings[-1].effort
    assert searcher.effort(Target(budget_ms=settings[0].ms / 2)) == settings[0].effort
    assert searcher.effort(Target(budget_ms=1e9)) == settings[-1].effort


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
