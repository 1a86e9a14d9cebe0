"""tokret gives the values worked out by hand, those of evaluation/conformance/cases.toml."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("conformance", ROOT / "scripts" / "conformance.py")
conformance = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(conformance)


@pytest.mark.parametrize("case", conformance.cases(), ids=lambda case: case["name"])
def test_a_case_has_its_value_by_hand(case):
    if case["values"] == "refused":
        assert conformance.tokret(case, "nDCG@10") == "refused"
        return
    for measure, expected in case["values"].items():
        assert conformance.tokret(case, measure) == pytest.approx(expected, abs=1e-12), measure


def test_what_tools_agree_on_and_where_they_differ_is_told():
    rows = conformance.answers(["tokret", "ir_measures", "pytrec_eval"])
    off = {
        (row["case"], row["measure"]): row
        for row in rows
        if not conformance.agrees(row["by hand"], row["pytrec_eval"])
    }
    assert ("relevant second", "nDCG@10") not in off
    missing = off["a judged query that is missing counts 0", "nDCG@10"]
    assert missing["pytrec_eval"] == 1 and missing["ir_measures"] == pytest.approx(2 / 3)


def test_arithmetic_is_worked_out_and_nothing_else_is():
    assert conformance.arithmetic("(1 + 3/log2(4)) * 2") == 5
    with pytest.raises(ValueError, match="no arithmetic"):
        conformance.arithmetic("__import__('os')")
