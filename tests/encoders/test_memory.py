"""Encoders without enough memory: batches are halved, and one text too many is told."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tokret.cli.failure import explained
from tokret.encoders.memory import Sparing, out_of_memory
from tokret.errors import ResourceError
from tokret.indexes import Index, build, verify

TEXTS = [f"word{i} and number {i * i}" for i in range(13)]


@dataclass(frozen=True)
class Cramped:
    """The tests' encoder, with room for ``fits`` texts at a time."""

    inner: object
    fits: int
    asked: list
    error: BaseException | None = None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode_documents(self, texts):
        self.asked.append(len(texts))
        if len(texts) > self.fits:
            raise self.error or MemoryError
        return self.inner.encode_documents(texts)


@pytest.mark.parametrize("fits", [1, 2, 5, 13])
def test_smaller_batches_give_the_same_tokens(toy, fits):
    asked = []
    sparing = Sparing(Cramped(toy, fits, asked))
    parts = list(sparing.encode(TEXTS))
    whole = toy.encode_documents(TEXTS)
    vectors = np.concatenate([part.tokens.vectors for part in parts])
    np.testing.assert_array_equal(vectors, whole.tokens.vectors)
    assert sum(len(part.tokens) for part in parts) == len(TEXTS)
    asked.clear()
    list(sparing.encode(TEXTS))
    assert max(asked) <= fits  # what did not fit is not tried again


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("[ONNXRuntimeError] : 6 : std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_what_libraries_say_of_memory_is_understood(toy, error):
    assert out_of_memory(error)
    assert len(list(Sparing(Cramped(toy, 2, [], error)).encode(TEXTS))) > 6
    assert explained(error)[0] == 5


def test_another_error_is_passed_on(toy):
    with pytest.raises(RuntimeError, match="wrong shape"):
        list(Sparing(Cramped(toy, 2, [], RuntimeError("wrong shape"))).encode(TEXTS))
    assert explained(RuntimeError("wrong shape"))[0] == 2


def test_an_index_built_with_little_memory_is_the_same(toy, tmp_path):
    documents = [(str(i), text) for i, text in enumerate(TEXTS)]
    asked = []
    build(tmp_path / "a", documents, encoder=Cramped(toy, 3, asked), backend="exact")
    build(tmp_path / "b", documents, encoder=toy, backend="exact")
    assert max(asked) == 13 and min(asked[1:]) <= 3
    hits = [Index.open(tmp_path / name).search(TEXTS[4], k=13) for name in "ab"]
    assert hits[0] == hits[1]


def test_memory_for_not_even_one_text_costs_nothing_that_was_there(toy, tmp_path):
    index = Index.create(tmp_path / "i", encoder=toy, backend="exact")
    index.add([("a", "one cat"), ("b", "two dogs")])
    before = sorted(path.name for path in (tmp_path / "i").rglob("*"))
    index.encoder  # noqa: B018  (it is loaded when first asked for)
    index._encoder = Cramped(toy, 0, [])
    with pytest.raises(ResourceError, match="encoding one text of 11 characters") as error:
        index.add([("c", "three birds")])
    assert error.value.exit_code == 5
    assert sorted(path.name for path in (tmp_path / "i").rglob("*")) == before
    assert verify(tmp_path / "i", "full") == []


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import conftest, numpy as np
from tokret.cli.failure import explained
from tokret.indexes import Index, build
class Hungry(conftest.Toy):
    def encode_documents(self, texts):
        asked.append(len(texts))
        held = np.ones((len(texts), each << 20), np.uint8)
        return super().encode_documents(texts)
asked, toy, each = [], Hungry(), int(sys.argv[4])
build(sys.argv[2] + "/warm", [("a", "b")], encoder=toy, backend="exact")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
room = int(sys.argv[3]) << 20
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
try:
    build(sys.argv[2] + "/i", [(str(i), f"text {i}") for i in range(64)], encoder=toy,
          backend="exact")
except Exception as error:
    status, message = explained(error)
    print(message)
    sys.exit(status)
print(min(asked[2:]), len(Index.open(sys.argv[2] + "/i")))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="ulimit -v of Linux")
@pytest.mark.parametrize(("room", "each", "status"), [(70, 4, 0), (40, 64, 5)])
def test_a_limit_on_memory_halves_batches_or_is_told(tmp_path, room, each, status):
    words = [str(Path(__file__).parents[1]), str(tmp_path), str(room), str(each)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    if status == 0:
        fewest, documents = map(int, done.stdout.split())
        assert 1 <= fewest <= 16 and documents == 64
    else:
        assert "memory" in done.stdout and not (tmp_path / "i" / "CURRENT").exists()
