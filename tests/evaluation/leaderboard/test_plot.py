import builtins
import xml.etree.ElementTree as ET

import pytest

from tokret.errors import MissingExtraError, UsageError
from tokret.evaluation.leaderboard import Scores, rank_systems
from tokret.evaluation.leaderboard.plot import draw, plot


@pytest.fixture
def board():
    queries = {str(q): q % 3 for q in range(9)}
    return rank_systems(
        Scores.of({f"s{i} <&$_^": {"t": {q: v * i for q, v in queries.items()}} for i in range(4)}),
        samples=50,
    )


@pytest.mark.parametrize("suffix", ["png", "svg", "SVG"])
def test_the_same_board_gives_the_same_file(board, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    for name in ("a", "b"):
        plot(board, tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second and len(first) > 1000
    if suffix != "png":
        assert "s3 <&$_^" in "".join(ET.fromstring(first).itertext())


def test_systems_stand_from_the_best_down_with_their_intervals(board):
    pytest.importorskip("matplotlib")
    (axes,) = draw(board).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [name[:2] for name in names] == ["s3", "s2", "s1", "s0"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_letters_that_the_font_lacks_do_not_stop_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    plot(
        rank_systems(Scores.of({"金斌": {"x": 1, "y": 1}, "b": {"x": 2, "y": 2}})),
        tmp_path / "a.png",
    )


def test_what_cannot_be_drawn_is_refused(board, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=r"written as .png or .svg"):
        plot(board, tmp_path / "a.pdf")
    many = rank_systems(Scores.of({f"s{i}": {"x": i} for i in range(61)}), samples=0)
    with pytest.raises(UsageError, match="61 systems do not fit"):
        plot(many, tmp_path / "a.png")


def test_without_matplotlib_the_extra_is_named(board, tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"tokret\[plot\]"):
        plot(board, tmp_path / "a.png")
