"""Repair: what is whole is kept, what is lost is named, and the damaged files are kept too."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes import Index, ivf, repair, verify
from tokret.indexes import files as files_of
from tokret.indexes.repair import mended

WORDS = [f"word{i}" for i in range(50)]
BACKENDS = ["exact", "bm25", "ivf(bits=4)", 'ivf(bits=4, store="int8")']


def documents(first, count):
    rng = np.random.default_rng(first)
    return [
        (f"d{i}", " ".join(rng.choice(WORDS, 5)), "", {"year": 1900 + i, "lang": "en"})
        for i in range(first, first + count)
    ]


def make(folder, backend):
    with Index.create(folder, encoder="toy", backend=backend) as index:
        for first, count in ((0, 40), (100, 10)):
            index.add(documents(first, count))
        index.delete(["d3", "d105"])
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 64 bytes, so that small columns have many; codes from few tokens on."""
    monkeypatch.setattr(files_of, "BLOCK", 64)
    monkeypatch.setattr("tokret.indexes.salvage.BLOCK", 64)
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 100)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_of, "BLOCK", 64)
        patch.setattr(ivf, "BRUTE_TOKENS", 100)
        folder = tmp_path_factory.mktemp("originals")
        return {backend: make(folder / str(i), backend) for i, backend in enumerate(BACKENDS)}


@pytest.fixture(params=BACKENDS)
def original(request, originals):
    if request.param.startswith("ivf"):
        pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    return originals[request.param]


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "index"))


def contents(folder):
    """Documents by id, with their fields and vectors."""
    held = {}
    with Index.open(folder, verify="full") as index:
        view = index._state
        for doc_id in index.ids():
            s, d = view.snapshot.find(doc_id)
            first, last = view.snapshot.segments[s].passage_offsets[d : d + 2]
            base = int(view.first_passage[s])
            rows = [view.searcher.passage_tokens(base + n) for n in range(first, last)]
            vectors = [None if row is None else row.tobytes() for row in rows]
            held[doc_id] = index.document(doc_id), vectors
    return held


def files(folder, name="*"):
    return sorted(p for p in (folder / "segments").rglob(name) if p.is_file())


def damage(file, place, value=0x40):
    data = bytearray(file.read_bytes())
    data[place] ^= value
    file.write_bytes(data)


def without_fields(documents):
    return {doc_id: (doc._replace(fields={}), rows) for doc_id, (doc, rows) in documents.items()}


def check(folder, before, done):
    after = contents(folder)
    assert verify(folder) == []
    assert len(after) == done.kept
    assert set(after) <= set(before)
    assert without_fields(after).items() <= without_fields(before).items()
    if not done.fields:
        assert after.items() <= before.items()
    assert set(done.lost) <= set(before) - set(after)
    if not done.unknown:
        assert len(before) == len(after) + len(done.lost) + done.unnamed


def test_a_whole_index_is_left_alone(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    done = repair(folder)
    assert done.complete and done.written is None and not done.damage
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_documents_with_a_damaged_block_are_lost_and_named_and_no_others(folder):
    before = contents(folder)
    damage(max(files(folder, "texts.bin"), key=os.path.getsize), 130)
    done = repair(folder)
    assert 1 <= len(done.lost) <= 4 and not done.unnamed and not done.unknown
    check(folder, before, done)
    original = Path(done.original)
    assert verify(original) and Index.open(original).ids()  # as it was


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.data())
def test_what_is_kept_is_what_was_there_whatever_is_damaged(original, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "index"
    before = contents(original)
    shutil.copytree(original, folder)
    for _ in range(data.draw(st.integers(1, 3))):
        file = data.draw(st.sampled_from([p for p in files(folder) if p.stat().st_size]))
        size = file.stat().st_size
        place = data.draw(st.integers(0, size - 1))
        how = data.draw(st.sampled_from(["flip", "flip", "cut", "grow", "gone"]))
        if how == "flip":
            damage(file, place)
        elif how == "gone":
            file.unlink()
        else:
            os.truncate(file, place if how == "cut" else size + 100)
    done = repair(folder)
    check(folder, before, done) if done.kept else None


def test_a_dry_run_writes_nothing_and_says_what_repair_then_does(folder):
    for file in files(folder, "passage_ends.bin"):
        damage(file, 0)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    told = repair(folder, dry_run=True)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    done = repair(folder)
    assert told.lost == done.lost and told.kept == done.kept and told.written is None


def test_a_repaired_copy_leaves_the_original_untouched(folder, tmp_path):
    known = contents(folder)
    damage(files(folder, "doc_ids.bin")[0], 5)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = repair(folder, tmp_path / "out")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    check(tmp_path / "out", known, done)
    with pytest.raises(UsageError, match="is not empty"):
        repair(folder, tmp_path / "out")


def test_what_belongs_to_all_segments_is_made_again(originals, tmp_path):
    folder = Path(shutil.copytree(originals["bm25"], tmp_path / "index"))
    want = Index.open(folder).search("word1 word7")
    (data,) = files(folder, "data.bin")
    damage(data, 9)
    done = repair(folder)
    assert done.complete and done.written and Index.open(folder).search("word1 word7") == want


def test_codes_without_their_codebook_are_lost_but_vectors_are_not(originals, tmp_path):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    for backend, kept in (("ivf(bits=4)", 0), ('ivf(bits=4, store="int8")', 48)):
        folder = Path(shutil.copytree(originals[backend], tmp_path / str(kept)))
        (shares,) = files(folder, "shares.bin")
        damage(shares, 0)
        done = repair(folder)
        coded = sum(Index.open(folder).document(i) is not None for i in Index.open(folder).ids())
        assert done.kept == coded >= kept and len(done.lost) == 48 - done.kept
        assert verify(folder) == []


def test_a_damaged_list_of_deletions_brings_nothing_back_unless_asked(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for place in (folder, copy):
        for file in place.glob("deletes-*.bin"):
            file.write_bytes(bytes(8))  # more than a bit
    done = repair(folder)
    assert "d3" not in Index.open(folder) and "d105" not in Index.open(folder)
    assert not done.kept and len(done.lost) == 50
    done = repair(copy, undelete=True)
    assert "d3" in Index.open(copy) and done.complete and "came back" in done.notes[0]


def test_one_flipped_bit_in_a_pointer_a_manifest_or_a_list_of_deletions_is_put_right(
    folder, tmp_path
):
    before = contents(folder)
    (manifest,) = folder.glob("manifest-*.json")
    for i, file in enumerate([folder / "CURRENT", manifest, *folder.glob("deletes-*.bin")]):
        for place in (0, file.stat().st_size // 2, file.stat().st_size - 1):
            copy = Path(shutil.copytree(folder, tmp_path / f"{i}-{place}"))
            damage(copy / file.name, place, 0x04)
            assert verify(copy)
            done = repair(copy)
            assert done.complete and done.written, (file.name, place, done)
            assert contents(copy) == before


def test_one_flipped_bit_in_the_description_of_a_segment_is_put_right(folder):
    before = contents(folder)
    for file in files(folder, "segment.json"):
        if json.loads(file.read_text())["kind"] != "codebook":
            damage(file, file.stat().st_size // 2, 0x04)
    done = repair(folder)
    assert done.complete and contents(folder) == before


def test_without_any_manifest_that_is_whole_nothing_is_claimed(folder):
    (manifest,) = folder.glob("manifest-*.json")
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(IndexCorruptError, match="no manifest is whole"):
        repair(folder)


def test_a_repaired_index_can_be_written_to(folder):
    damage(files(folder, "doc_ids.bin")[0], 0)
    repair(folder)
    with Index.open(folder) as index:
        index.add([("new", "zebra zebra")])
        assert index.search("zebra", k=1)[0].doc_id == "new"
    assert verify(folder) == []


def test_a_bit_is_put_right_by_its_digest():
    data = os.urandom(300)
    wanted = hashlib.sha256(data).digest()
    for bit in (0, 1207, 2399):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        assert mended(bytes(other), lambda d: hashlib.sha256(d).digest() == wanted) == data
    assert mended(b"x" * 300, lambda d: hashlib.sha256(d).digest() == wanted) == b"x" * 300
