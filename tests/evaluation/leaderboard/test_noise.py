import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tokret.errors import UsageError
from tokret.evaluation.leaderboard import (
    Scores,
    Setting,
    left_out,
    rank_systems,
    reversed_tasks,
    rules,
    simulate,
)

ROOT = Path(__file__).parents[3]
RULES = [rules.build(rule) for rule in ("mean", "borda(levels=1)", "borda")]


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "reproduce_leaderboards.py"
    spec = importlib.util.spec_from_file_location("reproduce_leaderboards", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    skill = {f"s{i}": i for i in range(6)}
    return Scores.of(
        {
            system: {
                f"t{t}": {str(q): float(i + rng.normal()) for q in range(10)} for t in range(7)
            }
            for system, i in skill.items()
        }
    )


def test_without_noise_and_lies_no_rule_errs():
    assert simulate(RULES, 0, Setting(phi=50.0), repetitions=2) == [0, 0, 0]


def test_when_all_tasks_lie_all_rules_are_all_wrong():
    assert simulate(RULES, 11, repetitions=2) == [1, 1, 1]


def test_two_levels_err_less_than_half_as_much_as_one_with_five_of_eleven_tasks_corrupt():
    mean, one, two = simulate(RULES, 5, Setting(phi=0.3), repetitions=30)
    assert two < one / 2 and one < mean


def test_one_loud_liar_is_enough_for_a_mean():
    mean, one, two = simulate(RULES, 1, scale=1000.0, repetitions=10)
    assert mean == 1 and max(one, two) < 0.05


def test_no_change_has_tau_one(scores):
    for row in reversed_tasks(scores, RULES, 0, repetitions=2):
        assert (row.tau, row.lowest, row.first_stays) == (1, 1, 1)
    for what in ("queries", "tasks", "systems"):
        for row in left_out(scores, RULES, what, kept=1.0, repetitions=2):
            assert (row.tau, row.first_stays) == (pytest.approx(1), 1), what


def test_more_lies_are_further_from_the_order(scores):
    taus = [reversed_tasks(scores, RULES[2:], k, repetitions=10)[0].tau for k in (1, 3, 7)]
    assert taus == sorted(taus, reverse=True)
    assert taus[-1] == pytest.approx(-1)


def test_impossible_requests_are_refused(scores):
    with pytest.raises(UsageError, match="0 to 11"):
        simulate(RULES, 12)
    with pytest.raises(UsageError, match="8 of 7"):
        reversed_tasks(scores, RULES, 8)
    with pytest.raises(UsageError, match="known: queries"):
        left_out(scores, RULES, "users")


@pytest.mark.shared
def test_the_orders_of_the_published_tables_are_as_far_apart_as_is_known(script, data):
    folder = data / "nlp-score-tables" / "final_df"
    if not folder.is_dir():
        pytest.skip("the published score tables are not here")
    known = {  # tau of mean and one level, mean and two levels, one and two; first, first three
        "DIALOG_pc": (1, 1, 1, 1, 1),
        "DIALOG_tc": (1, 1, 1, 1, 1),
        "FLICKR": (0.43, 0.43, 1, 1, 2 / 3),
        "MLQE": (1, 1, 1, 1, 1),
        "REAL_SUM": (0.94, 0.90, 0.89, 0, 1),
        "SUM_EVAL": (0.32, 0.30, 0.95, 0, 0),
        "TAC_08": (0.86, 0.86, 0.97, 0, 2 / 3),
        "TAC_09": (0.86, 0.87, 0.98, 0, 1),
        "TAC_11": (0.82, 0.81, 0.98, 0, 2 / 3),
    }
    systems = {"REAL_SUM": 25, "SUM_EVAL": 16, "TAC_08": 62, "TAC_09": 59, "TAC_11": 54}
    for file, expected in known.items():
        row = script.compared(file, script.by_instance(folder / f"{file}.csv"))
        tops = (row["top_mean_two"][k] for k in ("1", "3"))
        taus = (row[key] for key in ("tau_mean_one", "tau_mean_two", "tau_one_two"))
        assert (*taus, *tops) == pytest.approx(expected, abs=0.005), file
        assert row["systems"] == systems.get(file, row["systems"])
        assert row["kemeny"]["exact"], file


@pytest.mark.shared
def test_the_orders_of_the_published_leaderboards_are_as_far_apart_as_is_known(script, data):
    folder = data / "nlp-score-tables" / "data"
    if not folder.is_dir():
        pytest.skip("the published score tables are not here")
    known = {"glue": (105, 0.915, 1), "superglue": (24, 0.947, 1), "xtrem": (15, 0.914, 2 / 3)}
    for file, (systems, tau, top) in known.items():
        columns = 4 if file == "xtrem" else 14
        row = script.compared(file, script.task_level(folder / f"{file}.data", columns))
        assert row["systems"] == systems
        assert row["tau_mean_one"] == pytest.approx(tau, abs=0.001)
        assert row["top_mean_two"]["1"] == 1 and row["top_mean_two"]["3"] == top
        assert row["kemeny"]["exact"], file


def test_the_page_says_what_the_script_printed(script):
    page = ROOT / "docs" / "leaderboard.md"
    assert page.read_text() == script.filled(page.read_text())
    rows = [json.loads(line) for line in script.LINES.read_text().splitlines()]
    (row,) = [r for r in rows if r["row"] == "corruption" and (r["phi"], r["corrupt"]) == (0.3, 5)]
    assert row["two"] < row["one"] / 2


def test_a_leaderboard_of_all_rules_has_a_row_for_each_system(scores):
    board = rank_systems(scores, [r for r in rules.names() if r != "geometric"], samples=0)
    assert board.order[0] == "s5" and len(board.rows()) == 6
    assert json.loads(json.dumps(board.to_dict()))["kind"] == "tokret.leaderboard"
