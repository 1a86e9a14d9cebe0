"""A few seconds of the soak, and that it would see what is wrong."""

import importlib.util
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tokret.indexes import Index

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak_test.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readers_find_what_the_model_holds_while_a_writer_commits():
    words = [sys.executable, str(SCRIPT), "--minutes", "0.06", "--readers", "2", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["lost"] == 0 and found["injected"] > 20
    assert all(n > 0 for n in found["answers"].values()) and sum(found["commits"].values()) > 4


@pytest.fixture
def reader(soak, tmp_path):
    """A reader of one index of eight documents, and the contents that its model has."""
    contents = dict.fromkeys(range(8), 0)
    with Index.create(tmp_path / "exact", encoder=f"precomputed(dim={soak.WIDTH})") as index:
        documents = [(f"d{n}", soak.text(n, g), "", soak.fields(n, g)) for n, g in contents.items()]
        index.add(documents, vectors=[soak.vectors(n, g) for n, g in contents.items()])
    model = soak.Model(tmp_path)
    reader = soak.Reader(tmp_path, model, random.Random(0))
    reader.held = [("exact", Index.open(tmp_path / "exact"))]
    reader._taken = lambda: ("exact", reader.held[0][1], "kept")
    return reader, model, contents


def seen(reader, steps=40):
    for _ in range(steps):
        reader.step()
    return {kind: count for kind, count in reader.counts.items() if kind in ("wrong", "missing")}


def test_what_is_right_has_no_faults(reader):
    reader, model, contents = reader
    model.write("exact", 2, contents)
    assert seen(reader) == {} and reader.faults == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda c: c.pop(3), "wrong"),
        (lambda c: c.update({9: 0}), "missing"),
        (lambda c: c.update({5: 1}), "wrong"),
    ],
)
def test_a_document_too_many_or_too_few_or_old_is_seen(reader, change, kind):
    reader, model, contents = reader
    change(contents)
    model.write("exact", 2, contents)
    reader._document = lambda *_: iter(())  # it asks for a document that may not be there
    assert seen(reader)[kind] > 0


def test_a_hit_that_comes_twice_is_seen(soak):
    assert Counter(kind for kind, _ in soak.differences(["a", "a"], ["a"])) == {"duplicate": 1}
