"""tokret repair on the command line: what it says, and its exit statuses."""

import json

import pytest

from tokret.indexes import Index


@pytest.fixture
def damaged(tmp_path):
    with Index.create(tmp_path / "i", backend="bm25") as index:
        index.add([("d1", "red whale"), ("d2", "blue tea")])
        index.add([("d3", "a green pea")])
    (file,) = (p for p in (tmp_path / "i").rglob("texts.bin") if p.stat().st_size == 11)
    file.write_bytes(b"a green sea")
    return tmp_path / "i"


def test_a_repair_says_what_is_lost_and_ends_with_1(tokret, damaged):
    verified = tokret("verify", damaged)
    assert verified.exit_code == 1 and "`tokret repair` saves" in verified.stderr
    tried = tokret("repair", damaged, "--dry-run")
    assert tried.exit_code == 1 and "2 documents would be kept, 1 lost" in tried.stdout
    done = tokret("repair", damaged)
    assert done.exit_code == 1 and "lost: d3\n" in done.stdout
    assert "The damaged files are in" in done.stderr
    assert tokret("verify", damaged).exit_code == 0
    again = tokret("repair", damaged)
    assert again.exit_code == 0 and "nothing to repair" in again.stdout


def test_what_is_lost_is_also_json(tokret, damaged, tmp_path):
    done = tokret("repair", damaged, "--out", tmp_path / "out", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["lost"] == ["d3"] and told["kept"] == 2
    assert told["complete"] is False and told["original"] is None
    assert Index.open(tmp_path / "out").ids() == ["d1", "d2"]


def test_an_index_that_nothing_proves_ends_with_4(tokret, damaged):
    (path,) = damaged.glob("manifest-*.json")
    path.write_text("{}")
    done = tokret("repair", damaged)
    assert done.exit_code == 4 and "no manifest is whole" in done.stderr
