"""Recipes: read, refused by name, and all that ship can be built."""

from pathlib import Path

import pytest

from tokret.errors import InputError, UsageError
from tokret.evaluation.experiment_file import read_experiment
from tokret.indexes import Index
from tokret.indexes.recipe import read_recipe

SHIPPED = sorted((Path(__file__).parents[2] / "indexes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_builds_an_index(path, tmp_path):
    recipe = read_recipe(path)
    recipe.pop("model", None)
    with Index.create(tmp_path / "index", encoder="toy", **recipe) as index:
        index.add([("a", "blue whale"), ("b", "red")])
        assert index.search("whale", k=1)[0].doc_id == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('bakend = "exact"', "no key 'bakend'. Did you mean 'backend'"),
        ('backend = "exakt"', "No backend 'exakt'. Did you mean 'exact'"),
        ("max_tokens = true", "max_tokens must be a whole number, got True"),
        ('long = "no"', "long must be 'split' or 'truncate'"),
        ('model = "a b c"', "Cannot read"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(tmp_path, text, says):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        read_recipe(tmp_path / "r.toml")
    assert str(tmp_path / "r.toml") in str(caught.value)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_an_experiment_may_name_a_recipe_from_where_it_lies(tmp_path):
    (tmp_path / "r.toml").write_text('backend = "exact"\nmax_tokens = 50\nlong = "truncate"')
    (tmp_path / "e.toml").write_text(
        'collection = "sample"\n[[system]]\nname = "a"\nrecipe = "r.toml"\nmax_tokens = 60\n'
    )
    (system,) = read_experiment(tmp_path / "e.toml").systems
    assert (system.index.backend, system.index.max_tokens, system.index.long) == (
        "exact",
        60,
        "truncate",
    )
