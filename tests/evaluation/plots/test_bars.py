import numpy as np
import pytest
from scipy import stats

from tokret.errors import UsageError
from tokret.evaluation.leaderboard import Scores
from tokret.evaluation.plots import Bar, bars_of, draw_bars


def scores(queries=200, systems=3):
    rng = np.random.default_rng(0)
    values = rng.beta(2, 2, size=(systems, queries))
    return Scores.of(
        {
            f"s{i}": {"t": {str(q): float(v) for q, v in enumerate(row)}}
            for i, row in enumerate(values)
        }
    )


def test_a_bar_is_the_mean_and_its_interval_that_of_scipy():
    known = scores()
    bars = bars_of(known, samples=4000)
    for bar, row in zip(bars, known.values, strict=True):
        assert bar.mean == pytest.approx(row.mean())
        peer = stats.bootstrap(
            (row,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert (bar.low, bar.high) == pytest.approx(tuple(peer), abs=0.004)


def test_without_queries_there_is_no_interval():
    bars = bars_of(Scores.of({"a": {"x": 1}, "b": {"x": 2}}))
    assert bars == [Bar("x", "a", 1, None, None), Bar("x", "b", 2, None, None)]
    assert all(bar.low is None for bar in bars_of(scores(), samples=0))


def test_a_system_that_lacks_scores_of_a_task_has_no_bar_there():
    table = {"a": {"x": {"1": 1, "2": 0}, "y": {"1": 1}}, "b": {"x": {"1": 1}, "y": {"1": 0}}}
    assert [(b.task, b.system) for b in bars_of(Scores.of(table))] == [
        ("x", "a"),
        ("y", "a"),
        ("y", "b"),
    ]


def test_a_panel_for_each_task_holds_its_bars():
    pytest.importorskip("matplotlib")
    bars = [Bar(f"t{t}", s, 0.5, 0.4, 0.6) for t in range(4) for s in ("a", "b$_^")]
    figure = draw_bars(bars, "caption")
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in shown] == ["t0", "t1", "t2", "t3"]
    assert all(len(panel.patches) == 2 for panel in shown)


@pytest.mark.parametrize("bars", [[], [Bar("t", str(i), 0.0, None, None) for i in range(401)]])
def test_no_bars_and_too_many_are_refused(bars):
    with pytest.raises(UsageError, match="do not make a picture"):
        draw_bars(bars)
