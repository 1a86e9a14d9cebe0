import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokret.errors import InputError, UsageError
from tokret.evaluation.plots import Point, draw_pareto, front, points_of

few = st.integers(0, 4).map(float)


def at(x, y):
    return Point(f"{x},{y}", "", x, y)


def test_the_front_holds_what_nothing_beats():
    cheap, middling, beaten, best = at(1, 0.5), at(2, 0.7), at(3, 0.6), at(9, 0.9)
    assert front([best, beaten, middling, cheap]) == [cheap, middling, best]


@given(st.lists(st.builds(at, few, few), min_size=1, max_size=12))
def test_a_point_is_on_the_front_if_and_only_if_none_is_better(points):
    def beaten(p):
        return any(q.x <= p.x and q.y >= p.y and (q.x, q.y) != (p.x, p.y) for q in points)

    assert sorted(front(points)) == sorted(p for p in points if not beaten(p))


def test_points_are_read_from_the_lines_of_a_benchmark(tmp_path):
    lines = [
        {"row": "head", "time": "now"},
        {"row": "search", "spec": "ivf", "target": {"recall": 0.9}, "ms": 2.5, "nDCG@10": 0.7},
        {"row": "build", "spec": "ivf", "target": {}, "ms": 9, "nDCG@10": 0},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = points_of(
        [tmp_path / "a.jsonl"], "ms", "nDCG@10", label="target", group="spec",
        where={"row": "search"},
    )  # fmt: skip
    assert found == [Point("recall=0.9", "ivf", 2.5, 0.7)]


def test_a_fused_system_costs_what_it_fuses_too(tmp_path):
    speeds = {"a": 100.0, "b": 50.0, "both": 1000.0, "lost": None}
    keys = {"collection": "c", "backend": None, "index_seconds": None, "measure": "nDCG@10"}
    record = {
        "kind": "tokret.experiment",
        "numbers": [{**keys, "system": s, "value": 0.5} for s in speeds],
        "systems": [
            {
                "system": s,
                "fuse": ["a", "b"] if s == "both" else None,
                "run": {"queries_per_second": speed},
            }
            for s, speed in speeds.items()
        ],
    }
    (tmp_path / "r.json").write_text(json.dumps(record))
    found = points_of([tmp_path / "r.json"], "ms", "nDCG@10", group="collection")
    assert {p.label: p.x for p in found} == {"a": 10, "b": 20, "both": 31}
    assert {p.group for p in found} == {"c"}


def test_what_is_no_number_and_what_is_not_there_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("system,ms,ndcg\na,fast,0.5\n")
    with pytest.raises(InputError, match=r"a.csv:2: 'fast' in the column 'ms'"):
        points_of([tmp_path / "a.csv"], "ms", "ndcg")
    with pytest.raises(UsageError, match=r"No column 'ndgc'. Did you mean 'ndcg'\?"):
        points_of([tmp_path / "a.csv"], "ms", "ndgc")
    with pytest.raises(UsageError, match="No row is left"):
        points_of([tmp_path / "a.csv"], "ms", "ndcg", where={"system": "b"})


def test_points_and_their_names_are_drawn():
    pytest.importorskip("matplotlib")
    points = [Point(f"s{i}", "g" if i else "h$_^", 1.0 + i, 0.1 * i) for i in range(6)]
    points.append(Point("over another", "g", 3.0, 0.2))
    figure = draw_pareto(points, "ms", "nDCG@10")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "ms (less is better)"
    assert {"s1", "s5"} <= {text.get_text() for text in axes.texts}


def test_nothing_and_a_logarithm_of_nought_are_refused():
    with pytest.raises(UsageError, match="no points"):
        draw_pareto([])
    with pytest.raises(UsageError, match="a logarithmic axis takes none"):
        draw_pareto([at(0, 1)], "ms", "y")
