"""What tokret leaderboard shows, and what it refuses."""

import json

import pytest

TABLE = "system,x,y,z\na,3,1,3\nb,2,3,2\nc,1,2,1\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def runs(tmp_path):
    """Two systems on two collections, and their judgements."""
    (tmp_path / "c.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n2\tb\t1\n")
    (tmp_path / "d.tsv").write_text("query-id\tcorpus-id\tscore\n1\tx\t1\n")
    for folder, lines in {
        "c": {"good": "1 Q0 a 1 2 t\n2 Q0 b 1 2 t\n", "bad": "1 Q0 z 1 2 t\n1 Q0 a 2 1 t\n"},
        "d": {"good": "1 Q0 x 1 2 t\n", "bad": "1 Q0 y 1 2 t\n1 Q0 x 2 1 t\n"},
    }.items():
        (tmp_path / folder).mkdir()
        for name, text in lines.items():
            (tmp_path / folder / f"{name}.trec").write_text(text)
    return sorted(tmp_path.glob("*/*.trec"))


def test_the_table_shows_places_points_and_the_other_rules(tokret, table):
    result = tokret("leaderboard", table)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert rows[0] == ["place", "95%", "tier", "system", "borda", "points", "kemeny", "mean"]
    assert [row[0] for row in rows[2:5]] == ["1.5", "1.5", "3"]
    assert "a wins all duels" in result.stderr
    assert "shares its place" in result.stderr
    assert "3 collections are few to draw from" in result.stderr


def test_json_holds_everything(tokret, table):
    result = tokret("leaderboard", table, "--json", "--noise", "--bootstrap", "20")
    found = json.loads(result.stdout)
    assert (found["schema_version"], found["command"]) == (1, "leaderboard")
    assert found["condorcet_winner"] == "a"
    assert found["kemeny"]["exact"] and found["kemeny"]["order"][0] == "a"
    assert found["bootstrap"]["samples"] == 20
    assert {row["rule"] for row in found["noise"]} == {"borda", "kemeny", "mean"}
    assert len(found["won"]) == 3


def test_pairs_and_noise_are_shown_on_request(tokret, table):
    plain = tokret("leaderboard", table).stdout
    result = tokret("leaderboard", table, "--pairs", "--noise")
    assert "Per cent of ballots" not in plain and "Per cent of ballots" in result.stdout
    assert "1 task of 3 reversed" in result.stdout


def test_runs_are_ranked_over_the_collections_that_their_folders_name(tokret, runs, tmp_path):
    qrels = ["--qrels", tmp_path / "c.tsv", "--qrels", f"d={tmp_path / 'd.tsv'}"]
    result = tokret("leaderboard", *runs, *qrels, "-m", "RR@10", "--json")
    found = json.loads(result.stdout)
    assert found["systems"] == ["good", "bad"]
    assert [task["name"] for task in found["tasks"]] == ["c RR@10", "d RR@10"]
    assert [task["queries"] for task in found["tasks"]] == [2, 1]
    one = tokret("leaderboard", *runs[:2], "--qrels", tmp_path / "c.tsv", "--json")
    assert json.loads(one.stdout)["systems"] == ["good", "bad"]


def test_a_run_in_another_folder_is_refused(tokret, runs, tmp_path):
    words = ["--qrels", tmp_path / "c.tsv", "--qrels", f"e={tmp_path / 'd.tsv'}"]
    result = tokret("leaderboard", *runs, *words)
    assert result.exit_code == 2
    assert "its folder is called 'd', and no --qrels are" in result.stderr
    again = tokret("leaderboard", *runs, "--qrels", tmp_path / "c.tsv")
    assert again.exit_code == 2 and "a second run of 'bad'" in again.stderr


def test_missing_scores_are_explained_in_options(tokret, tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text(TABLE.replace("b,2,3,2", "b,2,,2"))
    result = tokret("leaderboard", path)
    assert result.exit_code == 3
    assert "--missing drop leaves such systems out, --missing partial" in result.stderr
    assert tokret("leaderboard", path, "--missing", "partial").exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--rule", "bordo"], 2, "Did you mean 'borda'?"),
        (["--rule", "kemeny", "--resample", "collections"], 2, "too slow"),
        (["--resample", "queries"], 2, "--resample collections"),
        (["--confidence", "95"], 2, "a share between 0 and 1"),
        (["--plot", "board.pdf"], 2, "written as .png or .svg"),
        (["--plot", "none/board.png"], 2, "there is no folder"),
        (["--system", "model"], 2, "no column 'model'"),
        (["--bootstrap", "-1"], 2, "greater than or equal to 0"),
    ],
)
def test_a_wrong_request_is_refused(tokret, table, words, status, message):
    result = tokret("leaderboard", table, *words)
    assert result.exit_code == status
    assert message in result.stderr


def test_names_cannot_steer_the_terminal(tokret, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"\x1b[31ma": {"x": 2, "y": 2}, "b": {"x": 1, "y": 1}}))
    result = tokret("leaderboard", path, "--pairs")
    assert "\x1b" not in result.stdout + result.stderr and "\\x1b[31ma" in result.stdout


def test_a_picture_is_drawn(tokret, table, tmp_path):
    pytest.importorskip("matplotlib")
    result = tokret("leaderboard", table, "--plot", tmp_path / "a.svg")
    assert result.exit_code == 0 and (tmp_path / "a.svg").stat().st_size > 1000
