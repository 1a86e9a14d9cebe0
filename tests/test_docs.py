"""The documentation says what is so."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.fixture(scope="module")
def render():
    sys.path.insert(0, str(ROOT / "scripts"))  # where a script finds the others
    spec = importlib.util.spec_from_file_location("render", ROOT / "scripts/render_benchmarks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.pop(0)
    return module


def test_every_figure_is_what_a_benchmark_printed(render):
    assert render.PAGE.read_text() == render.page()
    assert render.README.read_text() == render.readme()
    for page in render.FILLED:
        assert page.read_text() == render.render_engine.filled(page.read_text())


def test_the_expectations_of_the_shipped_experiments_hold(render):
    for name in ("scifact", "cranfield", "sample"):
        record = render.json.loads((render.RECORDS / f"{name}.json").read_text())
        assert record["expected"] and all(e["holds"] for e in record["expected"]), name


def test_eight_bits_stay_within_the_stated_tolerance(render):
    measured = render.lines("rounding")[1:]
    assert measured and all(abs(row["difference"]) <= 0.005 for row in measured)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    assert all(page.name in menu for page in (ROOT / "docs").glob("*.md"))
