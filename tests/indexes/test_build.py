"""The resumable build: stopped, killed, resumed, and still the same index."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tokret.errors import IndexStateError, InputError, UsageError
from tokret.indexes import Index, Interrupted, build, ingest, verify
from tokret.indexes.files import sealed, to_json

DOCS = [(f"d{i:04}", f"word{i % 7} text{i % 11} number{i}") for i in range(300)]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(ingest, "WINDOW_DOCUMENTS", 16)
    monkeypatch.setattr(ingest, "SEGMENT_DOCUMENTS", 100)


@pytest.fixture(params=["exact", "bm25"])
def backend(request):
    return request.param


def contents(path):
    index = Index.open(path)
    queries = ["word3 text5", "number17", "word1"]
    return len(index), [index.search(query, k=20) for query in queries]


def test_builds_in_one_go_what_add_builds(tmp_path, backend):
    added = build(tmp_path / "a", iter(DOCS), encoder="toy", backend=backend)
    Index.create(tmp_path / "b", encoder="toy", backend=backend).add(DOCS)
    assert added.documents == 300
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not (tmp_path / "a" / "build.json").exists()


def test_a_stopped_build_goes_on_and_encodes_nothing_twice(tmp_path, backend, toy, monkeypatch):
    whole = tmp_path / "whole"
    build(whole, DOCS, encoder="toy", backend=backend)
    for stop_after in (1, 3, 9):
        path, calls = tmp_path / f"i{stop_after}", iter(range(1000))
        with pytest.raises(Interrupted, match="Run the same command again"):
            build(
                path,
                DOCS,
                encoder="toy",
                backend=backend,
                stop=lambda calls=calls, n=stop_after: next(calls) >= 2 * n,
            )
        encoded = []
        real = type(toy).encode_documents
        monkeypatch.setattr(
            type(toy),
            "encode_documents",
            lambda self, texts, seen=encoded, real=real: seen.extend(texts) or real(self, texts),
        )
        build(path, DOCS, encoder="toy", backend=backend)
        monkeypatch.undo()
        monkeypatch.setattr(ingest, "WINDOW_DOCUMENTS", 16)
        monkeypatch.setattr(ingest, "SEGMENT_DOCUMENTS", 100)
        assert contents(path) == contents(whole)
        assert verify(path) == []
        assert len(encoded) < 300


def test_an_unfinished_build_says_so_when_opened(tmp_path):
    with pytest.raises(Interrupted):
        build(tmp_path / "i", DOCS, encoder="toy", stop=lambda: True)
    with pytest.raises(IndexStateError, match="is not finished; run the same"):
        Index.open(tmp_path / "i")


def test_other_settings_or_another_corpus_do_not_go_on(tmp_path):
    with pytest.raises(Interrupted):
        build(tmp_path / "i", DOCS, encoder="toy", stop=lambda: True)
    with pytest.raises(IndexStateError, match=r"backend was 'ivf', is 'exact\(dtype=\"int8\"\)'"):
        build(tmp_path / "i", DOCS, encoder="toy", backend='exact(dtype="int8")')
    with pytest.raises(IndexStateError, match="The corpus is not the one"):
        build(tmp_path / "i", [("other", "x"), *DOCS], encoder="toy")
    build(tmp_path / "i", [("other", "x"), *DOCS], encoder="toy", restart=True)
    assert len(Index.open(tmp_path / "i")) == 301


def test_a_finished_index_is_replaced_only_when_asked_and_readable_until_then(tmp_path):
    path = tmp_path / "i"
    build(path, DOCS[:20], encoder="toy")
    with pytest.raises(UsageError, match="--overwrite"):
        build(path, DOCS, encoder="toy")
    with pytest.raises(Interrupted):
        build(path, DOCS, encoder="toy", overwrite=True, stop=lambda: True)
    assert len(Index.open(path)) == 20
    build(path, DOCS, encoder="toy", overwrite=True)
    assert len(Index.open(path)) == 300
    assert verify(path) == []


def test_a_bad_document_keeps_the_work_and_the_version_before(tmp_path):
    path = tmp_path / "i"
    build(path, DOCS[:20], encoder="toy")
    with pytest.raises(InputError, match="Document 200"):
        build(path, [*DOCS[:200], ("x", None)], encoder="toy", overwrite=True)
    assert len(Index.open(path)) == 20
    build(path, DOCS, encoder="toy", overwrite=True)
    assert len(Index.open(path)) == 300


def test_duplicates_across_segments_are_seen(tmp_path):
    docs = [*DOCS, ("d0003", "newer")]
    with pytest.raises(InputError, match="'d0003' is there already"):
        build(tmp_path / "i", docs, encoder="toy")
    added = build(tmp_path / "j", docs, encoder="toy", on_duplicate="replace")
    index = Index.open(tmp_path / "j")
    assert added.replaced == 1 and len(index) == 300 and index.document("d0003").text == "newer"
    added = build(tmp_path / "k", docs, encoder="toy", on_duplicate="skip")
    assert added.skipped == 1 and Index.open(tmp_path / "k").document("d0003").text == DOCS[3][1]


def test_vectors_stand_beside_documents_through_a_stop(tmp_path, toy):
    vectors = [toy.encode_documents([text]).tokens[0] for _, text in DOCS]
    for name, stop in (("a", None), ("b", iter([False, False, True, True]).__next__)):
        path = tmp_path / name
        options = {"encoder": "precomputed(dim=16)"}
        if stop:
            with pytest.raises(Interrupted):
                build(path, DOCS, vectors=iter(vectors), stop=stop, **options)
        build(path, DOCS, vectors=iter(vectors), **options)
        hit = Index.open(path).search(vectors[250], k=1)[0]
        assert hit.doc_id == "d0250"


def test_an_empty_corpus_makes_an_empty_index_that_can_be_searched(tmp_path, backend):
    build(tmp_path / "i", [], encoder="toy", backend=backend)
    assert Index.open(tmp_path / "i").search("anything") == []


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        build(tmp_path / "f", DOCS, encoder="toy")


def test_a_damaged_index_can_be_overwritten(tmp_path):
    path = tmp_path / "i"
    for damaged in ("CURRENT", "manifest-00000001.json", "segments/*/vectors.bin"):
        shutil.rmtree(path, ignore_errors=True)
        build(path, DOCS[:20], encoder="toy")
        next(path.glob(damaged)).write_bytes(b"{}")
        with pytest.raises(Interrupted):
            build(path, DOCS, encoder="toy", overwrite=True, stop=lambda: True)
        build(path, DOCS, encoder="toy", overwrite=True)
        assert len(Index.open(path)) == 300 and verify(path) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("text", ['{"base": 0, "ingest": 1}', "{}", "not JSON"])
def test_a_folder_with_a_build_file_of_another_program_is_left_alone(tmp_path, text, restart):
    (tmp_path / "build.json").write_text(text)
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "precious").write_text("mine")
    with pytest.raises(UsageError, match="not the state of an unfinished build"):
        build(tmp_path, DOCS, encoder="toy", restart=restart)
    assert (tmp_path / "build.json").read_text() == text
    assert (tmp_path / "segments" / "precious").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["ingest"].pop("consumed"),
        lambda s: s["ingest"].update(writing=7),
        lambda s: s["ingest"]["writing"].update(id="../../elsewhere"),
        lambda s: s["ingest"]["writing"]["columns"].update(
            {"../../precious": s["ingest"]["writing"]["columns"]["doc_ids"]}
        ),
        lambda s: s["ingest"]["writing"]["columns"]["doc_ids"].update(rows="1"),
        lambda s: s["ingest"].update(sealed=[{"id": "../x"}]),
    ],
)
def test_a_state_that_no_build_writes_is_refused_and_touches_nothing(tmp_path, change):
    path = tmp_path / "i"
    with pytest.raises(Interrupted):
        build(path, DOCS, encoder="toy", stop=lambda: True)
    (path / "precious.bin").write_bytes(b"x" * 10_000)
    state = json.loads((path / "build.json").read_text())
    state.pop("sha256")
    change(state)
    (path / "build.json").write_bytes(to_json(sealed(state)))
    with pytest.raises(IndexStateError, match="start again with --restart"):
        build(path, DOCS, encoder="toy")
    assert (path / "precious.bin").stat().st_size == 10_000
    build(path, DOCS, encoder="toy", restart=True)
    assert len(Index.open(path)) == 300


def test_damage_to_an_unfinished_build_is_found_and_never_built_upon(tmp_path):
    Index.create(tmp_path / "i", encoder="toy").close()
    with pytest.raises(Interrupted):
        build(tmp_path / "i", DOCS, encoder="toy", stop=lambda: True, overwrite=True)
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "i", whole)
    assert verify(whole) == []
    written = json.loads((whole / "build.json").read_text())["ingest"]["writing"]["id"]
    for file in [whole / "build.json", *(whole / "segments" / written).iterdir()]:
        path = Path(shutil.copytree(whole, tmp_path / file.name))
        target = path / file.relative_to(whole)
        data = bytearray(target.read_bytes())
        data[len(data) // 3] ^= 0x10
        target.write_bytes(data)
        (damage,) = verify(path)
        assert Path(damage.file).name == file.name
        with pytest.raises((IndexStateError, UsageError)):
            build(path, DOCS, encoder="toy", overwrite=True)


@pytest.mark.parametrize("grown", [1, 5 << 30])
def test_what_grew_behind_an_unfinished_build_is_cut_off_when_it_goes_on(tmp_path, grown):
    path, whole = tmp_path / "i", tmp_path / "whole"
    build(whole, DOCS, encoder="toy")
    with pytest.raises(Interrupted):
        build(path, DOCS, encoder="toy", stop=lambda: True)
    written = json.loads((path / "build.json").read_text())["ingest"]["writing"]["id"]
    files = list((path / "segments" / written).glob("*.bin"))
    for file in files:
        os.truncate(file, file.stat().st_size + grown)  # as an append that a kill cut short
    build(path, DOCS, encoder="toy")
    assert files and contents(path) == contents(whole)
    assert verify(path) == []


def test_a_build_that_stopped_among_duplicates_goes_on(tmp_path, backend):
    docs = [*DOCS[:112], *DOCS[:64], *DOCS[112:]]  # a segment is sealed, then nothing is new
    for windows in range(6, 13):
        path, calls = tmp_path / str(windows), iter(range(1000))
        options = {"encoder": "toy", "backend": backend, "on_duplicate": "skip"}
        with pytest.raises(Interrupted):
            build(path, docs, **options, stop=lambda c=calls, n=windows: next(c) >= n)
        assert build(path, docs, **options).skipped == 64
        assert len(Index.open(path)) == 300


def test_vectors_are_not_mixed_with_encoding_by_going_on(tmp_path, toy):
    vectors = [toy.encode_documents([text]).tokens[0] for _, text in DOCS]
    with pytest.raises(Interrupted):
        build(tmp_path / "i", DOCS, encoder="toy", vectors=vectors, stop=lambda: True)
    with pytest.raises(IndexStateError, match="vectors was True, is False"):
        build(tmp_path / "i", DOCS, encoder="toy")


def test_a_stop_between_two_questions_keeps_every_window(tmp_path):
    answers = iter([False, False, True])
    with pytest.raises(Interrupted, match="Stopped after 48 documents; all of them are kept"):
        build(tmp_path / "i", DOCS, encoder="toy", stop=lambda: next(answers))
    state = json.loads((tmp_path / "i" / "build.json").read_text())
    assert state["ingest"]["consumed"] == 48


KILLED = """
import os, sys, signal
sys.path.insert(0, sys.argv[3])
import conftest
from tokret.indexes import build, build as _, ingest, files
import tokret.indexes.build as module
ingest.WINDOW_DOCUMENTS, ingest.SEGMENT_DOCUMENTS, module.CHECKPOINT_SECONDS = 16, 100, 0
steps, last = 0, int(sys.argv[2])
def count(real):
    def step(*args, **kw):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kw)
    return step
os.replace, os.fsync = count(os.replace), count(os.fsync)
docs = [(f"d{i:04}", f"word{i % 7} text{i % 11} number{i}") for i in range(300)]
build(sys.argv[1], docs, encoder="toy", overwrite=True)
"""


def test_a_build_killed_at_any_step_goes_on_to_the_same_index(tmp_path):
    want_path = tmp_path / "want"
    build(want_path, DOCS, encoder="toy")
    want, path = contents(want_path), tmp_path / "i"
    build(path, DOCS[:10], encoder="toy")
    killed = 0
    for step in [1, 2, 5, 11, 23, 31, 47, 61, 79, 97, 120, 150, 200, 10_000]:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(step), str(Path(__file__).parents[1])],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        killed += 1
        # What was committed is there: the ten documents, or after the last commit all.
        assert len(Index.open(path)) in (10, 300)
        assert verify(path) == []
    assert killed >= 5 and contents(path) == want


def test_work_on_an_index_does_not_clear_away_an_unfinished_build(tmp_path):
    path = tmp_path / "i"
    build(path, DOCS[:20], encoder="toy")
    with pytest.raises(Interrupted):
        build(path, DOCS, encoder="toy", overwrite=True, stop=lambda: True)
    for change in (lambda i: i.add([("new", "x")]), lambda i: i.delete(["d0001"])):
        with pytest.raises(IndexStateError, match=r"unfinished.*removing .*build\.json"):
            change(Index.open(path))
    (path / "build.json").unlink()
    Index.open(path).add([("new", "x")])
    assert len(Index.open(path)) == 21
    with pytest.raises(Interrupted):
        build(tmp_path / "j", DOCS, encoder="toy", stop=lambda: True)
    with pytest.raises(IndexStateError, match="unfinished"):
        Index.create(tmp_path / "j", encoder="toy")


def test_what_a_finished_build_left_behind_is_in_nobodys_way(tmp_path):
    path = tmp_path / "i"
    with pytest.raises(Interrupted):
        build(path, DOCS, encoder="toy", stop=lambda: True)
    state = (path / "build.json").read_bytes()
    build(path, DOCS, encoder="toy")
    (path / "build.json").write_bytes(state)  # killed between the commit and the removal
    Index.open(path).add([("new", "x")])
    assert len(Index.open(path)) == 301


def test_a_build_that_did_nothing_binds_nobody(tmp_path):
    with pytest.raises(InputError, match="'a' is there already"):
        build(tmp_path / "i", [("a", "x"), ("a", "y")], encoder="toy")
    build(tmp_path / "i", [("a", "x"), ("a", "y")], encoder="toy", on_duplicate="skip")
    assert len(Index.open(tmp_path / "i")) == 1
