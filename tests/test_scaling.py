"""The paper model of large indexes, by hand."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

BUILD = {
    "row": "build",
    "collection": "one",
    "spec": "ivf",
    "passages": 1000,
    "tokens": 100_000,
    "width": 128,
    "cells": 4096,
    "cpu_s": 10.0,
    "step_cpu_s": {"cells": 4.0, "codebook": 2.0, "code": 1.0, "calibrate": 2.5, "store": 0.5},
    "bytes_per_token": {"search": 47.0},
    "columns": {"codes": 3_500_000, "cells": 120_000, "doc_ids": 8000, "centroids": 4096 * 128},
}
SEARCH = {
    "row": "search",
    "collection": "one",
    "spec": "ivf",
    "target": {"recall": 0.97},
    "k": 10,
    "copy_gbs": 20.0,
    "mean_ms": 4.0,
    "stages": {
        "cells": {"ms": 0.5, "macs": 4096 * 20 * 128, "items": 4096},
        "probe": {"ms": 0.25, "ops": 6000, "items": 900},
        "compare": {"ms": 0.75, "ops": 54_000 * 32, "bytes": 54_000 * 34, "items": 900},
        "refine": {"ms": 2.0, "ops": 10_000 * 128, "items": 100},
        "rest": {"ms": 0.5},
    },
}


@pytest.fixture(scope="module")
def scaling():
    sys.path.insert(0, str(SCRIPTS))
    module = importlib.import_module("scaling")
    sys.path.pop(0)
    return module


def test_the_model_gives_back_the_collection_that_its_rates_are_of(scaling):
    (check,) = scaling.checks([BUILD, SEARCH])
    assert check["model"]["total_ms"] == pytest.approx(4.0)
    assert check["model"]["build_cpu_s"] == pytest.approx(10.0)
    assert check["model"]["bytes"]["codes"] == 3_500_000
    assert check["model"]["bytes"]["cells and postings"] == 2 * 120_000


def test_beyond_the_cap_of_cells_postings_grow_as_the_collection_does(scaling):
    small, large = scaling.sizes([BUILD, SEARCH])
    assert small["cells"] == large["cells"] == 65_536
    assert large["postings_read"] == pytest.approx(10 * small["postings_read"])
    assert large["ms"]["refine"] == small["ms"]["refine"]


def test_a_quick_try_is_no_measurement(scaling):
    assert scaling.checks([{**BUILD, "collection": "one (quick)"}, SEARCH]) == []
    assert scaling.sizes([]) == []


def test_a_shape_that_grows_keeps_its_passages(scaling):
    shape = scaling.shape(BUILD)
    assert replace(shape.grown(10**6), passages=1000, cells=4096) == shape
