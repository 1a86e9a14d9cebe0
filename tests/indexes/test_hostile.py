"""Indexes by somebody who knows the format and makes every digest fit."""

import hashlib
import json

import numpy as np
import pytest

from tokret.errors import IndexCorruptError, IndexFormatError, IndexMissingError, UsageError
from tokret.indexes import Index, manifest, verify
from tokret.indexes.files import Column, block_digest, to_json

DOCS = [("d1", "red green blue"), ("d2", "green tea"), ("d3", "a blue whale")]


@pytest.fixture(params=["exact", "bm25"])
def folder(request, tmp_path):
    with Index.create(tmp_path / "index", encoder="toy", backend=request.param) as index:
        index.add(DOCS)
    return tmp_path / "index"


def tamper(folder, change=lambda manifest: None, column=None, values=None):
    """Change the manifest, or the values of a column, and what vouches for them."""
    pointer = json.loads((folder / "CURRENT").read_text())
    path = folder / pointer["manifest"]
    value = json.loads(path.read_text())
    entries = [*value["segments"], *([value["derived"]] if value["derived"] else [])]
    for entry in entries if column else ():
        place = folder / "segments" / entry["id"]
        described = json.loads((place / "segment.json").read_text())
        if column in described["columns"]:
            file = place / f"{column}.bin"
            new = values(np.fromfile(file, described["columns"][column]["dtype"]))
            file.write_bytes(new.tobytes())
            shape = [len(new), *described["columns"][column]["shape"][1:]]
            digest = [block_digest(new.tobytes())] if new.size else []
            described["columns"][column].update(shape=shape, blocks=digest)
            data = to_json(described)
            (place / "segment.json").write_bytes(data)
            entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    change(value)
    path.write_bytes(json.dumps(value).encode())
    pointer["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "CURRENT").write_bytes(to_json(pointer))


def test_offsets_that_rise_only_because_differences_overflow_are_refused(folder):
    most, least = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    tamper(folder, column="passage_ends", values=lambda v: np.array([most, least + 1, v[-1]]))
    with pytest.raises(IndexCorruptError, match="must rise"):
        Index.open(folder)
    assert verify(folder)


@pytest.mark.parametrize("name", ["term_ends", "absent", "indptr", "passages"])
def test_parts_of_a_score_matrix_that_do_not_go_together_are_refused(tmp_path, name):
    Index.create(tmp_path / "i", backend='bm25(method="bm25l")').add(DOCS)
    tamper(tmp_path / "i", column=name, values=lambda v: np.append(v, v[-1:]))
    with pytest.raises(IndexCorruptError):
        Index.open(tmp_path / "i")


@pytest.mark.parametrize("text", ['{"manifest": 1e999}', '{"manifest": -1E400, "sha256": "x"}'])
def test_a_number_without_end_is_refused_wherever_it_stands(folder, text):
    (folder / "CURRENT").write_text(text)
    with pytest.raises(IndexCorruptError, match="no number here"):
        Index.open(folder)
    assert verify(folder)


def test_a_segment_that_stands_twice_is_refused(folder):
    tamper(folder, lambda m: m["segments"].append(m["segments"][0]))
    with pytest.raises(IndexCorruptError, match="names a segment twice"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["segments", "seg"])
def test_a_link_in_the_place_of_a_folder_is_refused(folder, name, tmp_path):
    place = folder / "segments"
    place = place if name == "segments" else next(place.iterdir())
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IndexCorruptError, match="a link in the place of a folder"):
        Index.open(folder)
    assert verify(folder, "quick")


def test_vectors_of_another_width_than_the_index_are_refused(tmp_path):
    with Index.create(tmp_path / "i", encoder="toy") as index:
        index.add(DOCS)
    tamper(tmp_path / "i", lambda m: m["encoder"].update(dim=8))
    with pytest.raises(IndexCorruptError, match=r"its vectors are \[\d+, 16\].* of width 8"):
        Index.open(tmp_path / "i")


def test_values_that_no_writer_writes_are_found_by_full_verification(folder):
    tamper(folder, column="id_order", values=lambda v: np.zeros_like(v))
    (damage,) = verify(folder)
    assert damage.file.endswith("id_order.bin") and "every document once" in damage.message


def test_vectors_that_are_no_numbers_are_found_by_full_verification(tmp_path):
    with Index.create(tmp_path / "i", encoder="toy", backend="exact") as index:
        index.add(DOCS)
        width = index.encoder.identity.dim

    def spoiled(values):
        values[3] = np.nan
        return values.reshape(-1, width)

    tamper(tmp_path / "i", column="vectors", values=spoiled)
    (damage,) = verify(tmp_path / "i")
    assert damage.file.endswith("vectors.bin") and "no number" in damage.message


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2"])
def test_big_endian_columns_are_refused_by_name(dtype):
    with pytest.raises(IndexCorruptError, match="big-endian"):
        Column.from_dict({"dtype": dtype, "shape": [0], "blocks": []}, "x")


def test_newer_unknown_and_older_formats_each_say_which_tokret_is_needed(folder, monkeypatch):
    tamper(folder, lambda m: m.update(format=7, needs="3.1.4"))
    with pytest.raises(IndexFormatError, match=r"has format 7;.*needs tokret 3\.1\.4 or later"):
        Index.open(folder)
    tamper(folder, lambda m: m.update(needs="\x1b[2J" * 100, written_by="tokret 9"))
    with pytest.raises(IndexFormatError, match="was written by 'tokret 9'"):
        Index.open(folder)
    tamper(folder, lambda m: m.update(format=1, features=["shrunk"], needs="2.0"))
    with pytest.raises(IndexFormatError, match=r"uses 'shrunk'.*needs tokret 2\.0 or later"):
        Index.open(folder)
    tamper(folder, lambda m: m.update(features=[]))
    monkeypatch.setattr(manifest, "OLDEST", 2)
    monkeypatch.setattr(manifest, "LAST", {1: "0.9"})
    with pytest.raises(IndexFormatError, match=r"reads from 2 on.* is tokret 0\.9"):
        Index.open(folder)


def test_a_manifest_says_which_tokret_reads_it(folder):
    (path,) = folder.glob("manifest-*.json")
    assert json.loads(path.read_text())["needs"] == "0.1.0"


@pytest.mark.parametrize("name", ["i.pkl", "i.pickle", "i.pt", "i.pth", "i.bin", "i.npy"])
def test_a_file_that_may_be_a_pickle_is_no_index_and_never_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(IndexMissingError, match="never loaded: they can run code"):
        Index.open(tmp_path / name)


def test_there_is_no_mode_that_verifies_nothing(folder):
    with pytest.raises(UsageError, match="'quick' or 'full'"):
        Index.open(folder, verify="none")
