"""Streams are bounded, damaged or foreign files are refused, and writing is all or nothing."""

import errno
import gzip
import json
import os
import random
import tarfile
import tracemalloc
import zipfile

import pytest
import zstandard

from tokret.collections import files, read_corpus
from tokret.collections.files import open_output
from tokret.errors import InputError, ResourceError, UsageError

LINE = b'{"id": "1", "text": "x"}\n'
RNG = random.Random(7)
NOISE = "".join(
    json.dumps({"id": str(i), "text": RNG.randbytes(200).hex()}) + "\n" for i in range(500)
).encode()


def peak_of(stream):
    tracemalloc.start()
    try:
        count = sum(1 for _ in stream)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_cut_file_is_told_with_its_place_after_the_whole_records(tmp_path, packed):
    path = tmp_path / f"c.jsonl{packed}"
    whole = gzip.compress(NOISE) if packed == ".gz" else zstandard.compress(NOISE)
    for size in (len(whole) - 1, len(whole) - 6, len(whole) // 2, 30):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"the compressed data (ends too early|is damaged)"):
            list(read_corpus(path, on_error="skip"))
    path.write_bytes(whole[: len(whole) - 6])
    with pytest.raises(InputError, match=rf"c\.jsonl{packed}:\d+: "):
        list(read_corpus(path))


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_damaged_compression_is_refused(tmp_path, packed):
    path = tmp_path / f"c.jsonl{packed}"
    raw = bytearray(gzip.compress(NOISE) if packed == ".gz" else zstandard.compress(NOISE))
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(InputError):
        list(read_corpus(path))


def test_the_name_of_a_compressed_file_does_not_matter(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(gzip.compress(LINE))
    (tmp_path / "d.jsonl.gz").write_bytes(LINE)
    assert len(list(read_corpus(tmp_path / "c.jsonl"))) == 1
    assert len(list(read_corpus(tmp_path / "d.jsonl.gz"))) == 1


def test_archives_are_refused_with_what_to_do_and_nothing_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("../evil.jsonl", LINE)
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        (tmp_path / "member").write_bytes(LINE)
        with tarfile.open(tmp_path / name, mode) as packed:
            packed.add(tmp_path / "member", "../evil.jsonl")
    (tmp_path / "member").unlink()
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        with pytest.raises(InputError, match=f"{name}: a (zip|tar) archive; unpack it first"):
            list(read_corpus(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "a.tar.gz", "a.zip"]
    assert not (tmp_path.parent / "evil.jsonl").exists()


@pytest.mark.parametrize("name", ["c.pt", "c.pkl", "c.pth", "c.pickle", "c.pkl.gz"])
def test_files_that_can_run_code_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(LINE)
    with pytest.raises(InputError, match="can run code when it is opened and is never read"):
        list(read_corpus(tmp_path / name))


@pytest.mark.parametrize("raw", [b"\x80\x04\x95", b"PAR1\x15..", b"\x93NUMPY\x01", b"%PDF-1.7"])
def test_binary_files_are_refused_by_content(tmp_path, raw):
    (tmp_path / "c.jsonl").write_bytes(raw)
    with pytest.raises(InputError, match="wanted JSONL, JSON, TSV or text"):
        list(read_corpus(tmp_path / "c.jsonl"))


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        for i in range(40):  # 40 MB in 20,000 records
            body = json.dumps({"id": str(i), "text": RNG.randbytes(1000).hex()}) + "\n"
            out.write(body.encode() * 500)
    count, peak = peak_of(read_corpus(path))
    assert count == 20_000
    assert peak < 4 << 20


def test_memory_does_not_grow_with_a_json_array(tmp_path):
    path = tmp_path / "c.json"
    row = json.dumps({"id": "1", "text": "x" * 1000})
    path.write_text("[" + ",".join([row] * 20_000) + "]")
    count, peak = peak_of(read_corpus(path))
    assert count == 20_000
    assert peak < 4 << 20


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.json"])
def test_a_line_of_100_mb_is_left_out_in_bounded_memory(tmp_path, name, packed):
    path = tmp_path / (name + packed)
    opening = gzip.open if packed == ".gz" else zstandard.open
    with opening(path, "wb") as out:
        out.write((b"[" if name == "c.json" else b"") + LINE.strip())
        out.write(b",\n" if name == "c.json" else b"\n")
        out.write(b'{"id": "2", "text": "')
        for _ in range(100):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + LINE)
    limit = 1 << 20

    def stream():
        try:
            yield from read_corpus(path, on_error="skip", max_line_bytes=limit)
        except InputError as error:  # an array cannot be read on
            assert "longer than 1,048,576 characters" in str(error)

    count, peak = peak_of(stream())
    assert count == (2 if name == "c.jsonl" else 1)
    assert peak < 32 << 20


def test_a_bomb_is_refused_in_bounded_memory(tmp_path):
    path = tmp_path / "c.jsonl.zst"
    with zstandard.open(path, "wb") as out:
        for _ in range(300):
            out.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000

    def stream():
        with pytest.raises(InputError, match=r"c\.jsonl\.zst:\d: .* as in a decompression bomb"):
            yield from read_corpus(path, max_line_bytes=1 << 20)

    assert peak_of(stream())[1] < 32 << 20


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c.tsv"])
def test_a_bomb_of_good_records_is_refused_with_the_line_it_came_to(
    tmp_path, monkeypatch, name, packed
):
    monkeypatch.setattr(files, "SWELLING_FROM", 4 << 20)
    text = "x" * (1 << 20)
    record = f"1\t{text}\n" if name == "c.tsv" else json.dumps({"id": "1", "text": text}) + "\n"
    opening = gzip.open if packed == ".gz" else zstandard.open
    with opening(tmp_path / (name + packed), "wb") as out:
        for _ in range(9):
            out.write(record.encode())
    read = []
    with pytest.raises(InputError, match=rf"{name}{packed}:\d: .*bomb; over 200 times") as caught:
        read += read_corpus(tmp_path / (name + packed), on_error="skip")
    assert "unpack it and give the file" in str(caught.value)
    monkeypatch.setattr(files, "SWELLING_FROM", 64 << 20)  # a small file may swell as it likes
    assert len(list(read_corpus(tmp_path / (name + packed)))) == 9


@pytest.mark.parametrize(
    ("name", "unpack"), [("o", bytes), ("o.gz", gzip.decompress), ("o.zst", zstandard.decompress)]
)
def test_output_appears_whole_and_compressed_by_its_name(tmp_path, name, unpack):
    with open_output(tmp_path / name) as out:
        out.write(LINE)
        assert not (tmp_path / name).exists()
    got = (tmp_path / name).read_bytes()
    if name == "o.zst":
        got = zstandard.ZstdDecompressor().decompressobj().decompress(got)
        assert got == LINE
    else:
        assert unpack(got) == LINE
    assert os.listdir(tmp_path) == [name]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    (tmp_path / "o").write_text("old")
    with pytest.raises(RuntimeError), open_output(tmp_path / "o") as out:
        out.write(b"new")
        raise RuntimeError
    assert (tmp_path / "o").read_text() == "old"
    assert os.listdir(tmp_path) == ["o"]


def test_a_full_disk_is_a_resource_error(tmp_path):
    with pytest.raises(ResourceError, match="No space left"), open_output(tmp_path / "o"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_a_device_is_written_straight_into():
    with open_output("/dev/null") as out:
        out.write(LINE)
    assert os.path.exists("/dev/null")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "to").write_text("old")
    (tmp_path / "o").symlink_to(tmp_path / "to")
    with open_output(tmp_path / "o") as out:
        out.write(b"new")
    assert (tmp_path / "o").is_symlink()
    assert (tmp_path / "to").read_text() == "new"


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"), open_output(tmp_path / "no/o"):
        pass
    with pytest.raises(UsageError, match="cannot be written"), open_output(tmp_path):
        pass
