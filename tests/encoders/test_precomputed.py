"""Vectors made elsewhere: read exactly, or refused with the file and the reason."""

import json
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from tokret.encoders.base import encoders
from tokret.encoders.precomputed import Precomputed, open_vectors
from tokret.errors import InputError, UsageError
from tokret.types import Tokens

LENGTHS = np.array([2, 0, 3], np.int32)
FLAT = np.arange(20, dtype=np.float32).reshape(5, 4) / 8
PASSAGES = [FLAT[:2].tolist(), [], FLAT[2:].tolist()]


def listed(path, **kwargs):
    got = list(open_vectors(path, **kwargs))
    assert all(rows.dtype == np.float32 and rows.shape[1] == 4 for rows in got)
    return [rows.tolist() for rows in got]


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "v.npy", FLAT)
    np.save(tmp_path / "v.doclens.npy", LENGTHS)
    return tmp_path / "v.npy"


def test_an_npy_is_cut_by_the_lengths_beside_it(npy):
    assert listed(npy) == PASSAGES
    assert len(Tokens.of(list(open_vectors(str(npy))))) == 3


def test_lengths_can_be_given_as_an_array_or_a_file(npy, tmp_path):
    np.save(tmp_path / "other.npy", np.array([5]))
    assert listed(npy, lengths=np.array([5])) == [FLAT.tolist()]
    assert listed(npy, lengths=tmp_path / "other.npy") == [FLAT.tolist()]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_every_float_of_either_byte_order_is_read(npy, dtype):
    np.save(npy, FLAT.astype(dtype))
    assert listed(npy) == PASSAGES  # eighths are exact in float16


def test_columns_laid_first_are_read_as_rows(npy):
    np.save(npy, np.asfortranarray(FLAT))
    assert listed(npy) == PASSAGES


@pytest.mark.parametrize(
    "cut", [{"lengths": LENGTHS}, {"offsets": np.array([0, 2, 2, 5], np.int64)}]
)
def test_safetensors_hold_vectors_and_lengths_or_offsets(tmp_path, cut):
    save_file({"vectors": FLAT.astype(np.float16), **cut}, tmp_path / "v.safetensors")
    assert listed(tmp_path / "v.safetensors") == PASSAGES


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for name, first in (("b", 2), ("a", 0)):
        np.save(tmp_path / f"{name}.npy", FLAT[first : first + 2])
        np.save(tmp_path / f"{name}.doclens.npy", np.array([1, 1]))
    save_file({"vectors": FLAT[4:], "lengths": np.array([1])}, tmp_path / "c.safetensors")
    assert listed(tmp_path) == [[row.tolist()] for row in FLAT]


def test_no_passages_are_no_passages(tmp_path):
    np.save(tmp_path / "v.npy", np.empty((0, 4), np.float32))
    assert listed(tmp_path / "v.npy", lengths=np.empty(0, int)) == []
    save_file(
        {"vectors": np.empty((0, 4), np.float32), "lengths": np.zeros(2, np.int64)},
        tmp_path / "v.safetensors",
    )
    assert listed(tmp_path / "v.safetensors") == [[], []]


def test_reading_is_lazy_and_faults_come_before_the_first_passage(npy):
    vectors = open_vectors(npy)
    assert next(vectors).tolist() == PASSAGES[0]
    with pytest.raises(InputError, match="add up to 4"):
        open_vectors(npy, lengths=np.array([4]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_passage(npy, bad):
    spoilt = FLAT.copy()
    spoilt[3, 1] = bad
    np.save(npy, spoilt)
    with pytest.raises(InputError, match=r"passage 2 .* token 1 \(row 3\)"):
        list(open_vectors(npy))


def test_a_float64_beyond_float32_is_refused(npy):
    np.save(npy, FLAT.astype(np.float64) + 1e300)
    with pytest.raises(InputError, match="passage 0"):
        list(open_vectors(npy))


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([2, -1, 4], "negative"),
        ([2.0, 3.0], "integers"),
        ([[5]], "integers"),
        ([2, 2], "add up to 4"),
        ([2**62, 5], "or more"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(npy, lengths, said):
    with pytest.raises(InputError, match=said):
        open_vectors(npy, lengths=np.array(lengths))


@pytest.mark.parametrize("suffix", ["pt", "pkl", "pickle", "npz", "bin"])
def test_files_that_may_be_pickled_are_refused_unread(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    path.write_bytes(pickle.dumps(FLAT))
    for where in (path, tmp_path):
        with pytest.raises(InputError, match="pickle"):
            open_vectors(where)


def test_an_npy_of_objects_is_refused(npy):
    np.save(npy, np.array([FLAT[:2], FLAT[2:]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="that is, pickles"):
        open_vectors(npy)


@pytest.mark.parametrize("keep", [0, 5, 40, 130, -1])
def test_a_file_cut_short_is_refused(npy, keep):
    npy.write_bytes(npy.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"v\.npy"):
        open_vectors(npy)


@pytest.mark.parametrize("shape", ["(10**9, 10**9)", "(-1, 4)", "(5,", "(9223372036854775807, 4)"])
def test_a_header_that_lies_is_refused_before_anything_is_allocated(npy, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (118 - len(header) - 1) + b"\n"
    npy.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 80)
    with pytest.raises(InputError, match=r"v\.npy"):
        open_vectors(npy)


@pytest.mark.parametrize("values", [np.arange(5), np.zeros((5, 4), int), np.zeros((5, 2, 2))])
def test_vectors_of_another_form_are_refused(npy, values):
    np.save(npy, values)
    with pytest.raises(InputError, match="floats"):
        open_vectors(npy)


def test_files_of_different_widths_are_refused(tmp_path):
    for name, width in (("a", 4), ("b", 3)):
        np.save(tmp_path / f"{name}.npy", np.zeros((1, width), np.float32))
        np.save(tmp_path / f"{name}.doclens.npy", np.array([1]))
    with pytest.raises(InputError, match="differ in width"):
        open_vectors(tmp_path)


def test_missing_parts_are_named(tmp_path):
    np.save(tmp_path / "v.npy", FLAT)
    with pytest.raises(InputError, match=r"v\.doclens\.npy"):
        open_vectors(tmp_path / "v.npy")
    with pytest.raises(InputError, match="No vectors"):
        open_vectors(tmp_path / "w.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no"):
        open_vectors(tmp_path / "empty")
    with pytest.raises(InputError, match="folder"):
        open_vectors(tmp_path, lengths=LENGTHS)
    (tmp_path / "v.csv").write_text("1,2")
    with pytest.raises(InputError, match="neither"):
        open_vectors(tmp_path / "v.csv")


def entry(**changes):
    return {"dtype": "F32", "shape": [5, 4], "data_offsets": [0, 80], **changes}


@pytest.mark.parametrize(
    "vectors",
    [
        entry(shape=[6, 4]),
        entry(shape=[-5, -4]),
        entry(shape=[2**60, 2**60]),
        entry(data_offsets=[0, 8000]),
        entry(data_offsets=[-80, 0]),
        entry(data_offsets=[80, 0]),
        entry(dtype="BF16"),
        entry(shape="ab"),
        {},
        [],
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, vectors):
    lengths = {"dtype": "I64", "shape": [1], "data_offsets": [80, 88]}
    header = json.dumps({"vectors": vectors, "lengths": lengths}).encode()
    body = FLAT.tobytes() + np.array([5]).tobytes()
    path = tmp_path / "v.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    with pytest.raises(InputError, match=r"v\.safetensors"):
        open_vectors(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2) + b"[]"]
)
def test_a_safetensors_without_contents_is_refused(tmp_path, content):
    (tmp_path / "v.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"v\.safetensors"):
        open_vectors(tmp_path / "v.safetensors")


@pytest.mark.parametrize("offsets", [[1, 5], [0, 3, 2, 5], [], [[0, 5]]])
def test_offsets_that_do_not_rise_from_0_are_refused(tmp_path, offsets):
    tensors = {"vectors": FLAT, "offsets": np.array(offsets, np.int64)}
    save_file(tensors, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match="offsets"):
        open_vectors(tmp_path / "v.safetensors")


def test_the_encoder_names_the_vectors_and_encodes_nothing():
    encoder = encoders.build('precomputed(dim=128, model="my-model")')
    assert encoder.identity.dim == 128 and "my-model" in encoder.identity.spec
    assert encoder.identity == Precomputed(128, "my-model").identity
    assert encoder.identity.sha256 != Precomputed(128, "other").identity.sha256
    for call in (encoder.encode_queries, encoder.encode_documents, encoder.token_spans):
        with pytest.raises(UsageError, match="vectors"):
            call(["text"])
    with pytest.raises(UsageError, match="dim"):
        Precomputed(0)
