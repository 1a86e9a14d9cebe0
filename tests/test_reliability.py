"""The page of faults: every test that it names is there, and every figure was printed."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reliability.md"
ROW = re.compile(r"\| (\d+) \|.*\| (.+) \|")


@pytest.fixture(scope="module")
def render():
    path = ROOT / "scripts" / "render_reliability.py"
    spec = importlib.util.spec_from_file_location("render_reliability", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(path):
    """Names of the functions of a file, if there is one."""
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if hasattr(node, "decorator_list")
    }


def test_every_row_names_tests_and_every_one_is_there():
    rows = [
        row for line in PAGE.read_text(encoding="utf-8").splitlines() if (row := ROW.match(line))
    ]
    assert [int(row[1]) for row in rows] == list(range(1, 40))
    missing = []
    for row in rows:
        for of_file in row[2].split("<br>"):
            file, sentences = re.fullmatch(r"`(\S+)`: (.+)", of_file).groups()
            for sentence in sentences.split("; "):
                if f"test_{sentence.replace(' ', '_')}" not in functions(TESTS / file):
                    missing.append(f"{row[1]}: {file}: {sentence}")
    assert missing == []


def test_every_figure_is_what_a_script_printed(render):
    assert PAGE.read_text() == render.page()


def test_nothing_was_lost(render):
    for name in ("crash", "damage", "soak", "fuzz"):
        rows = list(getattr(render, name)(render.records(name)))
        assert all(lost == 0 and injected > 0 for *_, injected, _, lost in rows), name


def test_figures_are_added_up_and_what_was_not_run_is_said(render, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "RECORDS", tmp_path)
    assert render.figures().count("*not run yet*") == 4
    lines = [
        {"target": "a", "inputs": 5, "faults": {}},
        {"target": "native_b", "inputs": 7, "faults": {"x": "0"}},
    ]
    (tmp_path / "fuzz.json").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "crash.json").write_text(
        json.dumps({"kinds": {"new kind": {"injected": 3, "survived": 2, "lost": 1}}})
    )
    shown = render.figures()
    assert (
        "1 readers and 1 compiled functions | 12 | 11 | 1 |" in shown
        and "| new kind | 3 | 2 | 1 |" in shown
    )


def test_nothing_brings_an_openmp_run_time_or_tells_one_to_tolerate_another():
    sources = [*(ROOT / "tokret").rglob("*.py"), *(ROOT / "kernels").iterdir()]
    for path in sources:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert "KMP_DUPLICATE_LIB_OK" not in text and "-fopenmp " not in text, path
    native = pytest.importorskip("tokret.kernels._native", exc_type=ImportError)
    compiled = Path(native.__file__).read_bytes()
    assert not any(name in compiled for name in (b"libgomp", b"libiomp", b"libomp"))


def test_nothing_measures_time_by_a_clock_that_jumps():
    for path in (ROOT / "tokret").rglob("*.py"):
        calls = [
            n
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.Call)
        ]
        assert not [c for c in calls if ast.unparse(c.func) in ("time.time", "time.time_ns")], path
