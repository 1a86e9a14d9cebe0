"""Changes of an index whose contents are known, and how to see that it holds just these.

A change is a call of the library and the contents that it must leave. ``small`` makes the
library do with few documents what it does with many: checkpoints, merges, cells and codes.
"""

import importlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from tokret.errors import TokretError
from tokret.indexes import Index, build, verify
from tokret.indexes.store import Store

BACKENDS = {
    "exact": 'exact(dtype="fp32")',
    "ivf": 'ivf(store="fp32", cells=16)',
    "bm25": 'bm25(stemmer="none", stopwords="none")',
}
SMALL = {  # module of tokret.indexes: what it is told to take for much
    "ivf": {"BRUTE_TOKENS": 120},
    "ingest": {"WINDOW_DOCUMENTS": 12},
    "build": {"CHECKPOINT_SECONDS": 0.0},
    "coded": {"WINDOW_TOKENS": 100},
    "compact": {"FANOUT": 3},
}


@contextmanager
def small() -> Iterator[None]:
    """Let a few documents be many."""
    changed = []
    for module, values in SMALL.items():
        place = importlib.import_module(f"tokret.indexes.{module}")
        for name, value in values.items():
            changed.append((place, name, getattr(place, name)))
            setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in changed:
            setattr(place, name, value)


@dataclass(frozen=True)
class Kept:
    """What an index keeps of a document: of its ``version``, as texts and vectors tell."""

    number: int
    version: int
    width: int

    @property
    def text(self) -> str:
        """Words that all share, words of its own, and a few that depend on chance."""
        rng = random.Random(f"{self.number} {self.version}")
        some = " ".join(f"word{rng.randrange(12)}" for _ in range(rng.randrange(1, 9)))
        return f"common only{self.number} at{self.version} {some}"

    @property
    def fields(self) -> dict[str, Any]:
        """Metadata of some kinds; every fifth document has none."""
        if self.number % 5 == 4:
            return {}
        return {"year": 2000 + self.number % 10, "tags": [f"t{self.version}", "é"]}

    @property
    def vectors(self) -> np.ndarray:
        """Unit vectors [T, H], float32."""
        return _vectors(self.number, self.version, self.width)


@cache
def _vectors(number: int, version: int, width: int) -> np.ndarray:
    rng = np.random.default_rng([number, version, width])
    rows = rng.standard_normal((int(rng.integers(2, 8)), width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


Contents = Mapping[str, Kept]  # by id


@dataclass(frozen=True)
class State:
    """What an index must hold, and of which backend it must be; None: there is no index."""

    spec: str | None = None
    width: int | None = None  # of vectors; None for a backend of texts
    contents: tuple[tuple[str, Kept], ...] = ()


@dataclass(frozen=True)
class Change:
    """A call that commits once, and the states before and after it."""

    name: str
    call: Callable[[Path], object]
    before: State
    after: State


class Story:
    """Makes changes, each on top of the one before."""

    def __init__(self, spec: str, width: int | None = 32) -> None:
        self.state = State()
        self.spec, self.width = spec, None if spec.startswith("bm25") else width
        self.count = 0  # documents so far
        self.version = 0

    def _new(self, count: int) -> dict[str, Kept]:
        first, self.count = self.count, self.count + count
        return {f"d{i:04}": self._kept(i) for i in range(first, self.count)}

    def _again(self, ids: Sequence[str]) -> dict[str, Kept]:
        self.version += 1
        return {doc_id: self._kept(int(doc_id[1:])) for doc_id in ids}

    def _kept(self, number: int) -> Kept:
        return Kept(number, self.version, self.width or 0)

    def _change(
        self, name: str, call: Callable[[Path], object], contents: Mapping[str, Kept]
    ) -> Change:
        before = self.state
        self.state = State(self.spec, self.width, tuple(sorted(contents.items())))
        return Change(name, call, before, self.state)

    def _given(self, kept: Mapping[str, Kept]) -> dict[str, Any]:
        documents = [(doc_id, one.text, "", one.fields) for doc_id, one in kept.items()]
        vectors = None if self.width is None else [one.vectors for one in kept.values()]
        return {"documents": documents, "vectors": vectors}

    @property
    def contents(self) -> dict[str, Kept]:
        """What is there now."""
        return dict(self.state.contents)

    def build(self, count: int, spec: str | None = None, width: int | None = None) -> Change:
        """Build an index, or build another, of another backend or model, over the one there."""
        name = "build" if self.state.spec is None else "model change"
        self.spec = spec or self.spec
        self.width = None if self.spec.startswith("bm25") else width or self.width
        encoder = None if self.width is None else f"precomputed(dim={self.width})"
        kept = self._new(count)
        options = {"encoder": encoder, "backend": self.spec, "overwrite": name != "build"}
        options |= self._given(kept)
        return self._change(name, lambda path: build(path, **options), kept)

    def add(self, count: int) -> Change:
        """Add new documents."""
        kept = self._new(count)
        given = self._given(kept)
        return self._change("add", lambda p: Index.open(p).add(**given), self.contents | kept)

    def update(self, ids: Sequence[str], more: int = 0) -> Change:
        """Put new versions in the place of documents, and add some."""
        kept = self._again(ids) | self._new(more)
        given = self._given(kept)
        return self._change("update", lambda p: Index.open(p).update(**given), self.contents | kept)

    def delete(self, ids: Sequence[str]) -> Change:
        """Delete documents by id."""
        left = {doc_id: one for doc_id, one in self.contents.items() if doc_id not in set(ids)}
        return self._change("delete", lambda p: Index.open(p).delete(list(ids)), left)

    def delete_year(self, year: int) -> Change:
        """Delete documents by a field."""
        left = {i: one for i, one in self.contents.items() if one.fields.get("year") != year}
        return self._change("delete", lambda p: Index.open(p).delete(where=f"year == {year}"), left)

    def compact(self) -> Change:
        """Drop all deleted rows and join segments."""
        return self._change("compact", lambda p: Index.open(p).compact(force=True), self.contents)


def story(backend: str) -> list[Change]:
    """One of each change, in an order in which segments are merged, coded and emptied."""
    told = Story(BACKENDS[backend])
    changes = [told.build(40), told.add(10)]
    changes.append(told.update([f"d{i:04}" for i in range(0, 40, 7)], more=2))
    changes.append(told.delete([f"d{i:04}" for i in (1, 2, 3, 41, 49)]))
    changes += [told.add(6), told.add(5), told.delete_year(2005), told.compact()]
    other = {"bm25": 'bm25(k1=1.5, stemmer="none", stopwords="none")'}
    changes.append(told.build(30, other.get(backend), 48))
    changes += [told.delete(sorted(told.contents)), told.add(9)]
    return changes


def drawn(told: Story, rng: random.Random) -> Change:
    """A change drawn by chance."""
    ids = sorted(told.contents)
    kinds = ["add", "add", "update", "delete", "compact", "build"]
    kind = "build" if not told.state.spec else rng.choice(kinds if len(ids) > 20 else ["add"])
    if kind == "build":
        return told.build(rng.randrange(5, 50), width=rng.choice([16, 32]))
    if kind == "add":
        return told.add(rng.randrange(1, 30))
    if kind == "update":
        return told.update(rng.sample(ids, rng.randrange(1, 10)), more=rng.randrange(3))
    if kind == "delete":
        return told.delete(rng.sample(ids, rng.randrange(1, 12)))
    return told.compact()


# -- what an index holds --------------------------------------------------------------------


def differences(path: Path, state: State) -> list[str]:
    """How the index at ``path`` differs from what it must hold, document by document."""
    try:
        return _differences(path, state)
    except TokretError as error:
        return [f"{type(error).__name__}: {error}"]


def _differences(path: Path, state: State) -> list[str]:
    store = Store(path)
    if state.spec is None:
        return ["there is an index"] if store.exists() else []
    if not store.exists():
        return ["there is no index"]
    index = Index.open(path)
    if str(index.backend) != state.spec:
        return [f"it is of {index.backend}"]
    contents = dict(state.contents)
    ids = index.ids()
    found = [f"ids {sorted(set(ids) ^ set(contents))}"] if sorted(ids) != sorted(contents) else []
    if found or len(index) != len(contents):
        return [*found, f"{len(index)} documents"]
    for doc_id, one in contents.items():
        document = index.document(doc_id)
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in document.fields.items()}
        if document.text != one.text or fields != one.fields:
            found.append(f"{doc_id}: its text or fields")
    if state.width is not None:
        for doc_id, vectors in _stored(store).items():
            if not np.array_equal(vectors, contents[doc_id].vectors):
                found.append(f"{doc_id}: its vectors")
    return [*found, *_answers(index, state)]


def _stored(store: Store) -> dict[str, np.ndarray]:
    """Vectors of all live documents as they lie on disk."""
    snapshot = store.open()
    vectors = {}
    for segment, alive in zip(snapshot.segments, snapshot.alive, strict=True):
        tokens, passages = segment.token_offsets, segment.passage_offsets
        rows = segment.read("vectors")
        for d in range(segment.documents):
            if alive is None or alive[d]:
                first, last = tokens[passages[d]], tokens[passages[d + 1]]
                vectors[segment.doc_id(d)] = rows[first:last]
    return vectors


def _answers(index: Index, state: State) -> list[str]:
    contents = dict(state.contents)
    found = []
    for query, wanted in _expected(state):
        exact = state.spec is not None and state.spec.startswith("ivf")
        hits = index.search(query, k=len(contents) + 9, exact=exact)
        scores = {hit.doc_id: hit.score for hit in hits}
        told = "text" if isinstance(query, str) else "vectors"
        if len(scores) != len(hits) or scores.keys() != wanted.keys():
            found.append(f"hits for {told}: {sorted(scores.keys() ^ wanted.keys())}")
        elif any(abs(scores[i] - wanted[i]) > 1e-3 for i in wanted):
            found.append(f"scores for {told}")
        if exact:
            near = [hit.doc_id for hit in index.search(query, k=5)]
            if len(set(near)) != min(5, len(contents)) or not set(near) <= set(contents):
                found.append(f"near hits: {near}")
    return found


@lru_cache(maxsize=64)
def _expected(state: State) -> list[tuple[Any, dict[str, float]]]:
    """Queries, and the score of every document that they must find."""
    contents = dict(state.contents)
    if state.width is None:
        k1 = 1.5 if "k1=1.5" in str(state.spec) else 1.2
        words = ["common", "word3", "only7", "at1", "word1 only12"]
        return [(word, _bm25(word.split(), contents, k1)) for word in words]
    queries = [np.asarray(Kept(i, 99, state.width).vectors) for i in range(3)]
    return [
        (query, {i: float((query @ one.vectors.T).max(1).sum()) for i, one in contents.items()})
        for query in queries
    ]


def _bm25(words: Sequence[str], contents: Contents, k1: float, b: float = 0.75) -> dict[str, float]:
    texts = {doc_id: one.text.split() for doc_id, one in contents.items()}
    mean = sum(map(len, texts.values())) / max(len(texts), 1)
    scores: dict[str, float] = {}
    for word in words:
        holding = [doc_id for doc_id, text in texts.items() if word in text]
        weight = log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for doc_id in holding:
            count, length = texts[doc_id].count(word), len(texts[doc_id])
            part = weight * count / (count + k1 * (1 - b + b * length / mean))
            scores[doc_id] = scores.get(doc_id, 0.0) + part
    return scores


def leftovers(path: Path) -> list[str]:
    """Files below an index that its current version does not name."""
    store = Store(path)
    manifest = store.manifest()
    entries = [*manifest.segments, *([manifest.derived] if manifest.derived else [])]
    named = {path / "CURRENT", path / store.current()[0], path / "segments"}
    named |= {path / entry.deletes for entry in entries if entry.deletes}
    for entry in entries:
        folder = store.segments / entry.id
        columns = store.segment(entry).columns
        named |= {folder, folder / "segment.json", *(folder / f"{c}.bin" for c in columns)}
    locks = {path / "writer.lock", path / "writer.json"}
    return sorted(str(p.relative_to(path)) for p in {*path.rglob("*")} - named - locks)


def faults(path: Path, state: State) -> list[str]:
    """All that is wrong with an index right after a commit."""
    wrong = differences(path, state)
    if state.spec is not None and not wrong:
        wrong += [f"verify: {damage}" for damage in verify(path, "full")]
        wrong += [f"left over: {name}" for name in leftovers(path)]
    return wrong
