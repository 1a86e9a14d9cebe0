"""The experiments of the root folder: they can be read, and one of them is run in part."""

from dataclasses import replace
from pathlib import Path

import pytest

from tokret.encoders import encoders
from tokret.evaluation.experiment import Searched
from tokret.evaluation.experiment_file import read_experiment
from tokret.evaluation.runner import run_experiment
from tokret.registry import parse

FILES = sorted((Path(__file__).parents[2] / "evaluation").glob("*.toml"))


def test_there_are_experiments():
    assert {"cranfield", "sample", "scifact"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_experiment_can_be_read_and_names_known_models(path):
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    for system in experiment.systems:
        if isinstance(system, Searched) and system.index.model is not None:
            assert parse(system.index.model)[0] in encoders.names()


def test_bm25_on_the_sample_has_the_value_that_is_documented(tmp_path):
    path = next(path for path in FILES if path.stem == "sample")
    experiment = read_experiment(path)
    lexical = replace(experiment, systems=experiment.systems[:1], expected=experiment.expected[:1])
    result = run_experiment(lexical, tmp_path)
    assert [check.expected.system for check in result.checked] == ["BM25"]
    assert result.passed, result.checked


@pytest.mark.shared
@pytest.mark.parametrize(("name", "value"), [("scifact", 0.679), ("cranfield", 0.519)])
def test_bm25_on_a_whole_collection_has_the_value_that_is_documented(name, value, data, tmp_path):
    path = next(path for path in FILES if path.stem == name)
    experiment = read_experiment(path, collection=data / name)
    lexical = replace(experiment, systems=experiment.systems[:1], expected=(), k=100)
    result = run_experiment(lexical, tmp_path)
    assert result.rows[0]["nDCG@10"] == pytest.approx(value, abs=0.005)
