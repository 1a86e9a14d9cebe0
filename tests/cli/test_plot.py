"""What tokret plot draws, and what it refuses."""

import json

import pytest

LONG = "system,task,query,score\n" + "".join(
    f"{s},x,{q},{(q % 3) * v}\n" for s, v in (("a", 0.3), ("b", 0.5)) for q in range(9)
)


def test_bars_are_drawn_and_told_in_json(tokret, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "t.csv").write_text(LONG)
    result = tokret("plot", "bars", tmp_path / "t.csv", "-o", tmp_path / "a.png", "--json")
    found = json.loads(result.stdout)
    assert found["kind"] == "bars" and (tmp_path / "a.png").stat().st_size > 1000
    low, mean, high = (found["shown"][1][key] for key in ("low", "mean", "high"))
    assert low < mean < high and mean == pytest.approx(0.5)


def test_a_pareto_is_drawn_and_says_which_points_are_beaten(tokret, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "t.csv").write_text("system,ms,nDCG@10\na,1,0.5\nb,2,0.4\nc,3,0.6\n")
    result = tokret("plot", "pareto", tmp_path / "t.csv", "-o", tmp_path / "a.svg", "--json")
    shown = json.loads(result.stdout)["shown"]
    assert [(p["label"], p["front"]) for p in shown] == [("a", True), ("b", False), ("c", True)]
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pareto", "t.csv", "-o", "a.gif"], "written as .png or .svg"),
        (["pareto", "t.csv", "-o", "none/a.png"], "there is no folder"),
        (["pareto", "t.csv", "-o", "a.png", "--where", "row"], "--where takes COLUMN=VALUE"),
        (["pareto", "t.csv", "-o", "a.png", "-x", "mss"], "Did you mean 'ms'?"),
        (["cake", "t.csv", "-o", "a.png"], "'bars'"),
    ],
)
def test_a_wrong_request_is_refused(tokret, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("system,ms,nDCG@10\na,1,0.5\nb,2,0.4\n")
    result = tokret("plot", *words)
    assert result.exit_code == 2 and message in result.stderr
