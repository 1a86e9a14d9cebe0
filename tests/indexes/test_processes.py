"""An open index in other processes: forked, spawned, pickled."""

# ruff: noqa: S301  (what is unpickled was pickled the line before)

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokret import errors
from tokret.encoders import encoders
from tokret.errors import MissingExtraError, UsageError
from tokret.indexes import Index, backends, ivf
from tokret.scoring import scorers
from tokret.types import Hit, Hits

WORKERS = Path(__file__).with_name("with_workers.py")
DOCS = [(f"d{i}", f"w{i % 13} w{i % 7} w{i}", "", {"n": i}) for i in range(60)]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(ivf, "BRUTE_TOKENS", 300)
    names = ["bm25", "exact", 'exact(dtype="int8")']
    try:
        from tokret.kernels import native  # noqa: F401

        names += ["ivf", 'ivf(store="fp16")']
    except ImportError:
        pass
    try:
        import faiss  # noqa: F401

        names.append('faiss(factory="IVF8,Flat")')
    except ImportError:
        pass
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((8, 16)).astype(np.float32) for _ in DOCS]
    made = []
    for i, backend in enumerate(names):
        given = {} if backend == "bm25" else {"vectors": vectors}
        encoder = "precomputed(dim=16)"
        with Index.create(tmp_path / str(i), encoder=encoder, backend=backend) as index:
            index.add(DOCS, **given)
        made.append(tmp_path / str(i))
    return made


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_answer_from_the_version_they_got_while_commits_happen(folders, method):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    words = [sys.executable, str(WORKERS), method, *map(str, folders)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] == [True, True] and found["parent"] and all(found["changed"])
    assert found["open"] == []  # a file that is open would share its place with the parent
    assert found["ended"] == [0, 0]


def test_a_pickled_index_is_its_folder_and_how_it_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Index.create("i", encoder="toy").add([("a", "red green"), ("b", "blue")])
    data = pickle.dumps(Index.open("i", encoder="toy", any_model=True))
    assert len(data) < 1000 and b"red green" not in data
    monkeypatch.chdir("/")
    copy = pickle.loads(data)
    assert copy.search("green", k=1)[0].doc_id == "a" and len(copy) == 2


def test_a_pickled_index_opens_the_version_that_is_current_then(tmp_path):
    index = Index.create(tmp_path / "i", backend="bm25")
    data = pickle.dumps(index)
    Index.open(tmp_path / "i").add([("a", "whale")])
    assert len(pickle.loads(data)) == 1 and len(index) == 0


def test_a_pickled_index_keeps_its_options_of_searching(folders):
    coded = [f for f in folders if Index.open(f).backend.name == "ivf"]
    if not coded:
        pytest.skip("needs the compiled kernels")
    index = Index.open(coded[0], tune={"nprobe": 3})
    assert (
        pickle.loads(pickle.dumps(index)).backend == index.backend != Index.open(coded[0]).backend
    )


def test_a_closed_index_is_not_pickled(tmp_path):
    index = Index.create(tmp_path / "i", backend="bm25")
    index.close()
    with pytest.raises(UsageError, match="is closed"):
        pickle.dumps(index)


def test_hits_travel_between_processes_with_their_bounds():
    hits = Hits([Hit("a", 1.0, 0, 3, "red")], [(0.5, 1.5)], 1)
    copy = pickle.loads(pickle.dumps(hits))
    assert copy == hits and copy.bounds == hits.bounds and copy.proven == 1


@pytest.mark.parametrize(
    "spec",
    [
        *(encoders.build(spec) for spec in ("tokret-mini", "precomputed(dim=8)", 'st(model="m")')),
        *(backends.build(spec) for spec in ("exact", "bm25", "ivf")),
        *(scorers.build(spec) for spec in ("maxsim", "xtr(k_prime=7)")),
    ],
    ids=str,
)
def test_a_component_is_pickled_by_its_fields_alone(spec):
    if hasattr(spec, "__dict__"):
        spec.__dict__["_loaded"] = lambda: None  # what a cached property keeps
    try:
        copy = pickle.loads(pickle.dumps(spec))
    finally:
        spec.__dict__.pop("_loaded", None)
    assert copy == spec and str(copy) == str(spec)


def test_every_error_travels_between_processes():
    kinds = [
        e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__
    ]
    for kind in kinds:
        error = MissingExtraError("It", "faiss") if kind is MissingExtraError else kind("why")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind and str(copy) == str(error)
    assert pickle.loads(pickle.dumps(MissingExtraError("It", "st"))).extra == "st"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child():
    code = """
import os, threading
from tokret.encoders import encoders, mini
encoder = encoders.build("tokret-mini")
encoder.encode_queries(["warm"])
held, end = threading.Event(), threading.Event()
def hold():
    with mini._lock:
        held.set()
        end.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    encoder.encode_queries(["a query"])
    os._exit(7)
status = os.waitpid(child, 0)[1]
end.set()
thread.join()
print(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600)
    assert done.stdout == b"7\n", done.stderr
