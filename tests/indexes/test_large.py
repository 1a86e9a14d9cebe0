"""More than 2^31 tokens and 2^32 bytes: files with holes, which take no space."""

import hashlib
import json

import numpy as np
import pytest

from tokret.indexes import Index, ivf, verify
from tokret.indexes.files import BLOCK, block_digest, to_json

H = 2
MANY = (1 << 31) + 12_345  # tokens
FAR = (1 << 32) + 12_345  # bytes
VECTORS = [np.eye(H)[[0]], np.array([[0.6, 0.8], [0.0, 1.0]]), np.eye(H)[[1, 0, 1]]]


def make(folder, backend):
    """An index of three documents, the first of them deleted."""
    with Index.create(folder, encoder=f"precomputed(dim={H})", backend=backend) as index:
        index.add([(f"d{i}", f"text {i}") for i in range(3)], vectors=VECTORS)
        index.delete(["d0"])
        return index.search(VECTORS[1])


def enlarge(folder, names, hole, ends):
    """Put ``hole`` rows of zeros before those that columns have, all of them the first one's."""
    pointer = json.loads((folder / "CURRENT").read_text())
    manifest = json.loads((folder / pointer["manifest"]).read_text())
    (entry,) = manifest["segments"]
    place = folder / "segments" / entry["id"]
    described = json.loads((place / "segment.json").read_text())
    for name in names:
        column, file = described["columns"][name], place / f"{name}.bin"
        row = np.dtype(column["dtype"]).itemsize * int(np.prod(column["shape"][1:]))
        data = file.read_bytes()
        file.unlink()
        with open(file, "wb") as out:
            out.seek(hole * row)
            out.write(data)
        first = hole * row // BLOCK  # block in which the data begins
        with open(file, "rb") as back:
            back.seek(first * BLOCK)
            last = [block_digest(block) for block in iter(lambda: back.read(BLOCK), b"")]
        column["blocks"] = [block_digest(bytes(BLOCK))] * first + last
        column["shape"][0] += hole
    moved = np.fromfile(place / f"{ends}.bin", "<i8") + hole
    moved.tofile(place / f"{ends}.bin")
    described["columns"][ends]["blocks"] = [block_digest(moved.tobytes())]
    data = to_json(described)
    (place / "segment.json").write_bytes(data)
    entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    data = to_json(manifest)
    (folder / pointer["manifest"]).write_bytes(data)
    pointer["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "CURRENT").write_bytes(to_json(pointer))


def check(folder, want, cells=0):
    assert verify(folder, "quick") == []
    with Index.open(folder) as index:
        assert index.search(VECTORS[1]) == want
        tokens = index._state.searcher.passage_tokens(2)
        np.testing.assert_allclose(tokens, VECTORS[2], atol=0.02)
        index.add([("new", "text")], vectors=[VECTORS[2]])
        assert index.search(VECTORS[2], k=3)[2].doc_id == "d1"


def test_tokens_beyond_32_bits_are_found_and_copied(tmp_path):
    want = make(tmp_path / "i", "exact")
    columns = ["token_ids", "token_spans", "vectors"]
    enlarge(tmp_path / "i", columns, MANY, "token_ends")
    with Index.open(tmp_path / "i") as index:
        assert index.info()["tokens"] == MANY + 6
    check(tmp_path / "i", want)
    with Index.open(tmp_path / "i") as index:
        index.compact(force=True)
        assert index.info()["tokens"] == 8
        assert index.search(VECTORS[1], k=2) == want
    assert verify(tmp_path / "i") == []


def test_codes_beyond_32_bits_are_read(tmp_path, monkeypatch):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 1)
    want = make(tmp_path / "i", "ivf(bits=4)")
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 1000)
    enlarge(tmp_path / "i", ["codes"], FAR, "code_ends")
    check(tmp_path / "i", want)
