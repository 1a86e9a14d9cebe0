"""Segments written anew: the same answers from fewer rows and files."""

import os
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokret.errors import (
    IndexCorruptError,
    IndexStateError,
    InputError,
    LockedError,
    ResourceError,
    UnconfirmedError,
    UsageError,
)
from tokret.indexes import Compacted, Exact, Index, Interrupted, build, compact, verify
from tokret.indexes.files import BLOCK, Column, ColumnWriter
from tokret.indexes.manifest import Entry
from tokret.indexes.merge import merge, sources
from tokret.indexes.store import Store

BACKENDS = ["exact", 'exact(dtype="int8")', "bm25"]
WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
QUERIES = ["ant bee", "cat", "dog elk fox gnu", "hen ant"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def open_new(path, backend="exact"):
    return Index.create(path, encoder="toy", backend=backend)


def contents(index, doc_id):
    return index.document(doc_id).contents


def answers(index):
    """All that can be asked of an index."""
    hits = index.search_many(QUERIES, k=20)
    ids = sorted({hit.doc_id for found in hits for hit in found})
    told = [index.explain(query, doc_id) for query in QUERIES for doc_id in ids]
    return len(index), hits, told, [contents(index, doc_id) for doc_id in ids]


def with_deletions(path, backend="exact", documents=60):
    """An index of a few segments of which half the documents are deleted."""
    texts = [" ".join(WORDS[(i * k) % 8] for k in range(1, 7)) for i in range(documents)]
    index = open_new(path, backend)
    for part in range(3):
        index.add([(f"d{i:02}", text) for i, text in enumerate(texts)][part::3])
    index.delete([f"d{i:02}" for i in range(0, documents, 2)])
    return index


# -- answers -------------------------------------------------------------------------------

names = st.integers(0, 9).map(lambda i: f"d{i}")
texts = st.lists(st.sampled_from(WORDS), min_size=0, max_size=30).map(" ".join)
documents = st.dictionaries(names, texts, min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("update"), documents),
    st.tuples(st.just("delete"), st.sets(names, min_size=1, max_size=3)),
    st.tuples(st.just("compact"), st.booleans()),
)


@settings(max_examples=25)
@given(backend=st.sampled_from(BACKENDS), work=st.lists(steps, min_size=1, max_size=14))
def test_an_index_answers_as_one_made_at_once_of_what_is_in_it(tmp_path_factory, backend, work):
    folder, model = tmp_path_factory.mktemp("model"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "FANOUT", 3)
        patch.setattr(compact, "FLOOR", 1)
        index = open_new(folder / "i", backend)
        for step, given_ in work:
            if step == "update":
                added = index.update(given_.items())
                assert added.replaced == len(model.keys() & given_.keys())
                model |= given_
            elif step == "delete":
                assert index.delete(given_, missing="skip") == len(model.keys() & given_)
                model = {k: v for k, v in model.items() if k not in given_}
            else:
                before = answers(index)
                done = index.compact(force=given_)
                assert answers(index) == before and done.documents == len(model)
                assert not given_ or index.info()["deleted"] == 0
    fresh = open_new(folder / "fresh", backend)
    fresh.add(sorted(model.items()))
    assert answers(index) == answers(fresh) == answers(Index.open(folder / "i"))
    assert sorted(model) == sorted(name for name in (f"d{i}" for i in range(10)) if name in index)
    assert verify(folder / "i") == []


def test_compaction_drops_deleted_rows_and_joins_segments(tmp_path, backend):
    index = with_deletions(tmp_path / "i", backend)
    before, info = answers(index), index.info()
    done = index.compact()
    assert answers(index) == answers(Index.open(tmp_path / "i")) == before
    after = index.info()
    assert done == Compacted(30, info["bytes"], after["bytes"], 3, 1)
    assert (after["segments"], after["deleted"], after["passages"]) == (1, 0, 30)
    assert done.bytes_after < info["bytes"] and verify(tmp_path / "i") == []
    assert not list((tmp_path / "i").glob("deletes-*"))


def test_documents_of_several_passages_stay_whole(tmp_path):
    index = open_new(tmp_path / "i")
    for d in range(4):
        index.add([(f"long{d}", " ".join(f"w{d}x{i}" for i in range(40))), (f"s{d}", "a")])
    index.delete(["long1", "s2"])
    index.compact(force=True)
    for d in (0, 2, 3):
        for word in (f"w{d}x0", f"w{d}x39"):
            (hit,) = index.search(word, k=1)
            assert hit.doc_id == f"long{d}" and word in hit.text.split()
            match = index.explain(word, hit.doc_id)[0]
            assert contents(index, hit.doc_id)[match.start : match.end] == word


def test_metadata_stays_with_its_document(tmp_path, backend):
    index = open_new(tmp_path / "i", backend)
    for part in range(3):
        index.add(
            {"id": f"{part}{d}", "text": "ant", "fields": {"n": d, "part": [f"p{part}", "all"]}}
            for d in range(6)
        )
    index.add([("bare", "ant")])
    index.delete(["00", "13", "25"])
    wheres = ["n >= 3", 'part == "p1"', 'part == "all" and n < 2']
    before = [index.search("ant", k=20, where=where) for where in wheres]
    index.compact(force=True)
    assert [index.search("ant", k=20, where=where) for where in wheres] == before
    assert dict(index.document("24").fields) == {"n": 4, "part": ("p2", "all")}
    assert not index.document("bare").fields and verify(tmp_path / "i") == []


def test_nothing_to_gain_makes_no_version(tmp_path, backend):
    index = open_new(tmp_path / "i", backend)
    assert index.compact(force=True) == Compacted(0, 0, 0, 0, 0)
    index.add([("a", "b")])
    before = index.info()
    for force in (False, True):
        done = index.compact(force=force)
        assert done.bytes_before == done.bytes_after and index.info() == before


def test_a_few_deletions_are_left_unless_forced(tmp_path):
    index = open_new(tmp_path / "i")
    index.add([(f"d{i:02}", "ant bee") for i in range(20)])
    index.delete(["d07"])
    index.compact()
    assert index.info()["deleted"] == 1
    index.compact(force=True)
    assert index.info()["deleted"] == 0 and index.info()["tokens"] == 38


def test_deleting_all_and_compacting_leaves_an_empty_index(tmp_path, backend):
    index = with_deletions(tmp_path / "i", backend)
    index.delete([f"d{i:02}" for i in range(1, 60, 2)])
    index.compact(force=True)
    assert len(index) == 0 and index.search("ant") == []
    index.add([("new", "ant")])
    assert index.search("ant", k=1)[0].doc_id == "new"


def test_a_segment_grows_to_its_limits_only(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "SEGMENT_DOCUMENTS", 25)
    index = with_deletions(tmp_path / "i")
    assert index.compact(force=True).segments_after == 2  # of ten documents and ten, and of ten
    monkeypatch.setattr(compact, "SEGMENT_BYTES", 10)
    assert index.compact(force=True).segments_after == 2


def test_progress_rises_to_the_end(tmp_path):
    told = []
    with_deletions(tmp_path / "i").compact(progress=lambda *now: told.append(now))
    assert {step for step, _, _ in told} == {"merge"}
    done = [done for _, done, _ in told]
    assert done == sorted(done) and 0 < done[-1] <= told[-1][2]


# -- who else is there -----------------------------------------------------------------------


def test_a_reader_goes_on_with_its_version(tmp_path, backend):
    writer = with_deletions(tmp_path / "i", backend)
    reader = Index.open(tmp_path / "i")
    before = answers(writer)
    writer.compact(force=True)
    writer.delete(["d01"])
    assert answers(reader) == before and reader.refresh() and len(reader) == 29


def test_only_the_writer_compacts(tmp_path):
    index = with_deletions(tmp_path / "i")
    with Store(index.path).lock(), pytest.raises(LockedError):
        index.compact()
    with pytest.raises(Interrupted):
        build(tmp_path / "i", [("x", "y")], encoder="toy", overwrite=True, stop=lambda: True)
    with pytest.raises(IndexStateError, match="unfinished"):
        index.compact()


# -- updates --------------------------------------------------------------------------------


def test_an_update_replaces_and_adds_in_one_commit(tmp_path, backend):
    index = open_new(tmp_path / "i", backend)
    index.add([("a", "old"), ("b", "b")])
    version = index.info()["version"]
    added = index.update([("a", "new"), ("c", "c"), ("c", "later")])
    assert (added.documents, added.replaced) == (2, 2)
    assert contents(index, "a") == "new" and contents(index, "c") == "later" and len(index) == 3
    assert index.info()["version"] == version + 1


def test_an_update_of_what_is_not_there_is_refused_where_asked(tmp_path, backend):
    index = open_new(tmp_path / "i", backend)
    index.add([("a", "old")])
    with pytest.raises(InputError, match="Document 1: there is no 'b' to replace"):
        index.update([("a", "new"), ("b", "x")], missing="error")
    assert contents(index, "a") == "old"
    assert index.update([("a", "new"), ("a", "newer")], missing="error").replaced == 2
    with pytest.raises(UsageError, match="missing must be 'add' or 'error', got 'skip'"):
        index.update([("a", "x")], missing="skip")
    assert contents(index, "a") == "newer"


# -- what a commit merges ---------------------------------------------------------------------


def test_many_small_additions_leave_few_segments(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(compact, "FANOUT", 3)
    index = open_new(tmp_path / "i", backend)
    seen = []
    for i in range(28):
        index.add([(f"d{i:02}", f"ant w{i}")])
        seen.append(index.info()["segments"])
    assert max(seen) < 3 and len(index) == 28
    fresh = open_new(tmp_path / "fresh", backend)
    fresh.add([(f"d{i:02}", f"ant w{i}") for i in range(28)])
    assert answers(index) == answers(fresh)


@dataclass
class Sized:
    """As much of a source as a plan asks for."""

    size: int
    documents: int = 1
    kind: str = "tokens"
    share: float = 1.0
    layout: ClassVar = {}


MIB = 1 << 20


@pytest.mark.parametrize(
    ("given_", "want"),
    [
        ([], []),
        ([Sized(9)] * 7, []),
        ([Sized(9)] * 8, [list(range(8))]),
        ([Sized(9), Sized(2 * MIB)] * 7, []),
        ([Sized(9)] * 7 + [Sized(9, kind="ivf")] * 7, []),
        # Eight of 2 MiB join the seven of 9 MiB: one copy, not two.
        ([Sized(9 * MIB)] * 7 + [Sized(2 * MIB)] * 8, [list(range(15))]),
        ([Sized(600 * MIB)] * 8, [[0, 1, 2], [3, 4, 5], [6, 7]]),
        ([Sized(1100 * MIB)] * 20, []),
        ([Sized(9, documents=1 << 19)] * 8, [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ],
)
def test_eight_segments_of_one_size_become_one(given_, want):
    assert compact.tiers(given_) == want


@pytest.mark.parametrize("size", [9, 40_000, 3 * MIB])
def test_additions_are_copied_a_logarithmic_number_of_times(size):
    present, copied, most = [], 0, 0
    for n in range(1, 1001):
        present.append(Sized(size))
        for places in sorted(compact.tiers(present), reverse=True):
            copied += sum(present[i].size for i in places)
            joined = Sized(sum(present[i].size for i in places))
            present = [s for i, s in enumerate(present) if i not in places] + [joined]
        most = max(most, len(present))
        assert sum(s.size for s in present) == n * size
    tiers_ = 1 + max(0, np.ceil(np.log(1000 * size / MIB) / np.log(8)))
    within = max(1, min(1000, MIB / size) / 7)  # copies in the lowest tier, of a few kilobytes
    assert most <= 7 * tiers_ + 1 and copied <= (tiers_ + within) * 1000 * size


# -- what is copied -----------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "width"), [("<i4", 3), ("|u1", None), ("<f2", 128)])
def test_rows_are_read_from_any_ranges(tmp_path, dtype, width):
    rng = np.random.default_rng(0)
    rows = 3 * BLOCK // (np.dtype(dtype).itemsize * (width or 1))
    values = rng.integers(0, 100, (rows, width) if width else rows).astype(dtype)
    writer = ColumnWriter(tmp_path / "c", dtype, width)
    writer.append(values)
    column = writer.close()
    for cuts in ([], [0, rows], [1, 2], [0, 0, 5, 5], sorted(rng.choice(rows, 40, replace=False))):
        ranges = np.array(cuts, np.int64).reshape(-1, 2)
        got = list(column.read_rows(tmp_path / "c", ranges))
        want = np.concatenate([values[:0], *(values[a:b] for a, b in ranges)])
        np.testing.assert_array_equal(np.concatenate([values[:0], *got]), want)
        assert all(piece.nbytes < 2 * BLOCK for piece in got)


def two_large_segments(path):
    """About 24 MB in two segments, a third of it deleted."""
    rng = np.random.default_rng(0)
    index = Index.create(path, encoder="precomputed(dim=64)", backend="exact")
    for part in range(2):
        vectors = [rng.standard_normal((200, 64)) for _ in range(450)]
        index.add([(f"{part}-{d}", "x" * 50) for d in range(450)], vectors=vectors)
    index.delete([f"{part}-{d}" for part in range(2) for d in range(0, 450, 3)])
    return index


def test_damage_is_found_before_it_is_copied_and_changes_nothing(tmp_path):
    index = two_large_segments(tmp_path / "i")
    info = index.info()
    file = sorted((tmp_path / "i").rglob("vectors.bin"))[1]
    good = file.read_bytes()
    file.write_bytes(good[: 3 * BLOCK + 5] + b"\xff\x00\xff" + good[3 * BLOCK + 8 :])
    listing = sorted(tmp_path.rglob("*"))
    where = rf"{file.parent.name}/vectors\.bin: damaged between byte {3 * BLOCK} and {4 * BLOCK}"
    with pytest.raises(IndexCorruptError, match=where):
        index.compact()
    assert index.info() == info and sorted(tmp_path.rglob("*")) == listing
    file.write_bytes(good)
    assert index.compact().segments_after == 1 and verify(tmp_path / "i") == []


def test_memory_does_not_grow_with_the_segments(tmp_path):
    index = two_large_segments(tmp_path / "i")
    assert index.info()["bytes"] > 20e6
    tracemalloc.start()
    try:
        index.compact()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.info()["segments"] == 1 and peak < 10e6


def test_a_backend_finishes_what_was_added_and_what_was_merged(tmp_path):
    calls = []

    class Lists(Exact):
        def finish(self, writer):
            ids = writer.map("token_ids")
            calls.append(len(ids))
            writer.add_columns({"lists": ("<i8", None)}, lists=np.argsort(ids, kind="stable"))

    index = with_deletions(tmp_path / "i")
    store, snapshot = Store(index.path), index._state.snapshot
    entry = merge(store, Lists(), sources(snapshot))
    segment = store.segment(entry)
    want = np.argsort(segment.read("token_ids"), kind="stable")
    np.testing.assert_array_equal(segment.read("lists"), want)
    again = merge(store, Exact(), [type(sources(snapshot)[0])(segment, "tokens", None)])
    assert isinstance(again, Entry) and calls == [30 * 6]
    assert "lists" not in store.segment(again).columns  # it is no row, so it is not copied
    assert isinstance(segment.columns["lists"], Column)


# -- stops ----------------------------------------------------------------------------------------

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
folder, backend = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, sys.argv[3])
import conftest
from tokret.indexes import Index, compact, verify
compact.FANOUT = 3
index = Index.create(folder / "start", encoder="toy", backend=backend)
for i in range(2):
    index.add([(f"{i}{j}", f"ant w{i} w{j}") for j in range(4)])
index.delete(["00", "11"])
found = lambda index: index.search_many(["ant w1", "w2", "w9"])
works = {
    "compact": lambda index: index.compact(force=True),
    "update": lambda index: index.update([("new", "ant w9"), ("02", "w9")]),  # and merge
}
count, last = 0, None
def counted(real):
    def run(*args, **kw):
        global count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kw)
    return run
os.replace, os.fsync, os.unlink = counted(os.replace), counted(os.fsync), counted(os.unlink)
for name, work in works.items():
    shutil.copytree(folder / "start", folder / name)
    states, count = [found(Index.open(folder / name))], 0
    work(Index.open(folder / name))
    all_steps, index = count, Index.open(folder / name)
    assert index.info()["segments"] == 1 and verify(folder / name) == []
    states.append(found(index))
    steps = {*range(1, all_steps, 11), *range(all_steps - 9, all_steps + 1)}
    for step in sorted(steps):
        path = folder / f"{name}{step}"
        shutil.copytree(folder / "start", path)
        child = os.fork()
        if child == 0:
            count, last = 0, step
            work(Index.open(path))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -signal.SIGKILL, status
        index = Index.open(path)
        assert verify(path) == [] and found(index) in states, (name, step)
        print(name, step, states.index(found(index)))
        index.update([("after", "w9")])
        assert verify(path) == [] and "after" in Index.open(path)
        shutil.rmtree(path)
"""


@pytest.mark.parametrize("backend", ["exact", "bm25"])
def test_a_kill_at_any_step_leaves_the_version_before_or_after(tmp_path, backend):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), backend, str(Path(__file__).parents[1])],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ran = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _, _ in ran} == {"compact", "update"} and len(ran) > 20
    assert {state for name, _, state in ran if name == "update"} == {"0", "1"}


@pytest.mark.parametrize("fails", range(0, 30, 3))
def test_a_failure_at_any_step_leaves_no_file_behind(tmp_path, monkeypatch, fails):
    index = with_deletions(tmp_path / "i")
    listing, before = sorted(tmp_path.rglob("*")), answers(index)
    real, left = os.fsync, [fails]

    def failing(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", failing)
    try:
        index.compact()
    except ResourceError as error:
        monkeypatch.undo()
        if not isinstance(error, UnconfirmedError):
            assert sorted(tmp_path.rglob("*")) == listing
        assert answers(index) == answers(Index.open(tmp_path / "i")) == before
        index.compact()
    assert index.info()["segments"] == 1 and answers(index) == before
