"""A short sample of scripts/fuzz.py, and what its long runs have found."""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tokret.encoders import open_vectors
from tokret.encoders.model_files import layout
from tokret.encoders.torch_zip import read_matrix
from tokret.errors import InputError, ModelError, UsageError
from tokret.evaluation.experiment_file import read_experiment
from tokret.evaluation.work_folder import WorkFolder
from tokret.indexes import backends

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from fuzzing import Target
from fuzzing.engines import mutated
from fuzzing.readers import READERS
from fuzzing.trial import Tally, strictly

BY_NAME = {target.name: target for target in READERS}


@pytest.mark.parametrize("name", BY_NAME)
def test_mutated_inputs_are_read_or_refused_in_our_words(name):
    tally = Tally(BY_NAME[name])
    with strictly():
        for number in range(150):
            tally.attempt(mutated(tally.target, number))
    assert tally.faults == {}


@pytest.mark.parametrize("name", BY_NAME)
def test_mutations_begin_with_inputs_that_are_read(name):
    tally = Tally(BY_NAME[name])
    for data in tally.target.seeds:
        tally.attempt(data)
    assert tally.faults == {} and tally.accepted == len(tally.target.seeds)


def test_any_other_error_is_a_fault_and_its_shortest_input_is_kept():
    tally = Tally(Target("int", lambda data: int(data)))
    for data in (b"12", b"one", b"x", b"two"):
        tally.attempt(data)
    assert tally.accepted == 1
    assert list(tally.faults.values()) == [b"x"] and "ValueError" in next(iter(tally.faults))


def test_a_number_of_400_digits_is_no_parameter():
    with pytest.raises(UsageError, match="400 digits"):
        backends.build(f"bm25(k1={'9' * 400})")


@pytest.mark.parametrize(
    ("text", "what"),
    [("k = " + "9" * 5000, "not TOML"), ('[[system]]\nname = "a"\nrecipe = "\\u0000"', "null")],
)
def test_an_experiment_of_endless_numbers_or_names_with_nul_is_refused(tmp_path, text, what):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        read_experiment(path)


def test_a_record_nested_too_deep_is_as_none(tmp_path):
    work = WorkFolder(tmp_path)
    path = work.slot("run", {}, ".jsonl").path
    path.touch()
    path.with_suffix(".json").write_text("[" * 100_000)
    assert work.slot("run", {}, ".jsonl").record is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modules.json", [None]),
        ("config.json", {"architectures": 1}),
        ("2_Dense/config.json", {"out_features": "2", "in_features": [4]}),
    ],
)
def test_a_model_whose_configs_hold_other_types_is_none_of_ours(tmp_path, name, value):
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="not a multi-vector model"):
        layout(tmp_path)


def zipped(path, order, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("m/data/0", np.ones(2, "<f4").tobytes())
        archive.writestr("m/byteorder", order)


def test_a_byte_order_without_end_is_not_unpacked(tmp_path):
    zipped(tmp_path / "a.bin", b" " * (1 << 20) + b"little", zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="little-endian"):
        read_matrix(tmp_path / "a.bin", 1, 2)


@pytest.mark.parametrize("change", [(8, 99), (6, 1), (10, 1)])  # packing, flags: encrypted, dates
def test_archives_that_cannot_be_unpacked_are_refused(tmp_path, change):
    path = tmp_path / "a.bin"
    zipped(path, b"little")
    data, (at, value) = bytearray(path.read_bytes()), change
    for head, skip in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = data.find(head)
        data[place + at + skip] = value
    data[data.find(b"m/data/0")] = 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match="zip form"):
        read_matrix(path, 1, 2)


@pytest.mark.parametrize(
    "head", [b"\x93NUMPY\x02\x00\xff\xff\xff\xff", b"\x93NUMPY\x01\x27\xff\xff"]
)
def test_an_array_whose_header_would_fill_the_memory_is_refused(tmp_path, head):
    (tmp_path / "a.npy").write_bytes(head + b"{}")
    with pytest.raises(InputError, match=r"a\.npy"):
        next(open_vectors(tmp_path / "a.npy", np.array([1])))


def test_an_array_in_columns_is_read_as_it_was_written(tmp_path):
    rows = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    out = io.BytesIO()
    np.save(out, rows)
    (tmp_path / "a.npy").write_bytes(out.getvalue())
    first, second = open_vectors(tmp_path / "a.npy", np.array([1, 2]))
    assert first.tolist() == [[0, 1]] and second.tolist() == [[2, 3], [4, 5]]


def test_a_shape_without_end_is_refused(tmp_path):
    header = b'{"vectors": {"dtype": "F32", "shape": [0, Infinity], "data_offsets": [0, 0]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="not a readable"):
        next(open_vectors(tmp_path / "a.safetensors"))
