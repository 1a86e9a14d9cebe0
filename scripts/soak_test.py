"""Soak an index: one writer and some readers, held to a model of the contents.

    python scripts/soak_test.py [--minutes 3] [--readers 4] [--seed 0] [--json]
        [--output docs/reliability/soak.json]

The writer adds, updates, replaces, deletes and compacts at random in an index of every
backend; before a commit it notes what the version will hold. Readers, in processes of their
own, open, refresh or keep what they have, and compare every answer with the model of the
version that they read: no wrong, missing or duplicate hit, and no error, in any version
however old. Exit status 1 where one was found. Best run by ``nice``.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from tokret.errors import LockedError
from tokret.evaluation.record import environment, now
from tokret.indexes import Index, ivf, verify
from tokret.indexes.store import Store
from tokret.types import Hit

BACKENDS = {
    "exact": 'exact(dtype="fp32")',
    "int8": 'exact(dtype="int8")',
    "bm25": "bm25",
    "codes": 'ivf(store="fp32")',
}
BRUTE_TOKENS = 600  # so that a few hundred documents are kept as codes
WIDTH = 32
POINTS = np.random.default_rng(1).standard_normal((40, WIDTH))  # that token vectors are near to
LEAST, MOST = 100, 400  # documents of an index
KEPT = 6  # versions that a reader holds on to beside the newest
WORDS = 17  # common words, of which a document has two
Contents = dict[int, int]  # number of a document, and its generation
Faults = Iterator[tuple[str, str]]  # kind, and what was seen
FAULTS = ("wrong", "missing", "duplicate", "error")


def text(n: int, generation: int) -> str:
    """Words of a document: its own, its generation's, and two common ones."""
    return f"own{n}x{generation} word{n % WORDS} word{(n + generation) % WORDS}"


def vectors(n: int, generation: int) -> np.ndarray:
    """Token vectors of a document, unit rows; known from its number and generation."""
    rng = np.random.default_rng([n, generation])
    near = POINTS[rng.integers(0, len(POINTS), 3 + n % 4)]
    rows = (near + 0.5 * rng.standard_normal(near.shape)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fields(n: int, generation: int) -> dict[str, int]:
    """Metadata of a document."""
    return {"parity": n % 2, "generation": generation}


class Model:
    """What each version of each index holds: a file a version, there before the version is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, version: int, contents: Contents) -> None:
        """Note the contents, number to generation, whole or not at all."""
        partial = self.folder / f"{name}-{version}.part"
        partial.write_text(json.dumps(contents))
        partial.rename(self.folder / f"{name}-{version}.json")

    def read(self, name: str, version: int) -> Contents:
        """Contents of a version."""
        value = json.loads((self.folder / f"{name}-{version}.json").read_text())
        return {int(n): generation for n, generation in value.items()}


class Writer:
    """Random changes of one index, each noted in the model before it is committed."""

    def __init__(self, name: str, folder: Path, model: Model, rng: random.Random) -> None:
        self.name, self.model, self.rng = name, model, rng
        self.path = folder / name
        self.contents: Contents = {}
        self.next = self.version = 0
        self.done: Counter[str] = Counter()
        self._note({})
        encoder = f"precomputed(dim={WIDTH})"
        self.index = Index.create(self.path, encoder=encoder, backend=BACKENDS[name])
        self.version = 1
        self._put("add", self._fresh(LEAST))

    def step(self) -> None:
        """Change something, unless a reader that tries to write was let in just now."""
        try:
            self._step()
        except LockedError:
            self.done["kept waiting"] += 1

    def _step(self) -> None:
        grow = 0.3 if len(self.contents) < MOST else 0.0
        shrink = 0.25 if len(self.contents) > LEAST else 0.0
        kinds = {"add": grow, "update": 0.2, "replace": 0.1, "delete": shrink, "compact": 0.15}
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        some = self.rng.sample(sorted(self.contents), min(len(self.contents), 12))
        if kind == "add":
            self._put("add", self._fresh(self.rng.randint(1, 20)))
        elif kind in ("update", "replace"):
            again = {n: self.contents[n] + 1 for n in some[: self.rng.randint(1, 12)]}
            self._put(kind, again | self._fresh(self.rng.randint(0, 3)))
        elif kind == "delete":
            self._delete(some)
        else:
            self._note(self.contents)
            self.index.compact(force=self.rng.random() < 0.5)
            self._committed("compact")

    def _fresh(self, count: int) -> Contents:
        first, self.next = self.next, self.next + count
        return dict.fromkeys(range(first, self.next), 0)

    def _put(self, kind: str, put: Contents) -> None:
        after = self.contents | put
        self._note(after)
        documents = [(f"d{n}", text(n, g), "", fields(n, g)) for n, g in put.items()]
        given = None if self.name == "bm25" else [vectors(n, g) for n, g in put.items()]
        if kind == "update":
            self.index.update(documents, vectors=given)
        else:
            known = "replace" if kind == "replace" else "error"
            self.index.add(documents, vectors=given, on_duplicate=known)
        self.contents = after
        self._committed(kind)

    def _delete(self, some: list[int]) -> None:
        where, gone = None, set(some[: self.rng.randint(1, 12)])
        if self.rng.random() < 0.2:
            where = f"generation == {max(self.contents.values())}"
            gone |= {n for n, g in self.contents.items() if g == max(self.contents.values())}
            if len(gone) > LEAST:
                return
        after = {n: g for n, g in self.contents.items() if n not in gone}
        self._note(after)
        listed = [f"d{n}" for n in some if n in gone]
        self.index.delete(listed, where=where, missing="skip")
        self.contents = after
        self._committed("delete")

    def _note(self, contents: Contents) -> None:
        self.model.write(self.name, self.version + 1, contents)

    def _committed(self, kind: str) -> None:
        self.version = Store(self.path).version()
        self.done[kind] += 1


class Reader:
    """One reader's index, and what it finds in it."""

    def __init__(self, folder: Path, model: Model, rng: random.Random) -> None:
        self.folder, self.model, self.rng = folder, model, rng
        self.held: list[tuple[str, Index]] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def step(self) -> None:
        """Take an index, new or old, and hold one answer to the model."""
        name, index, how = self._taken()
        self.counts[how] += 1
        version = index.info()["version"]
        contents = self.model.read(name, version)
        check = self.rng.choice([self._listed, self._document, self._searched, self._filtered])
        self.counts[check.__name__.strip("_")] += 1
        where = f"{name} version {version}, {how}, {check.__name__}"
        for fault, what in check(name, index, contents):
            self.counts[fault] += 1
            self.faults.append(f"{fault}: {where}: {what}")

    def _taken(self) -> tuple[str, Index, str]:
        if not self.held or self.rng.random() < 0.3:
            name = self.rng.choice(list(BACKENDS))
            self.held.append((name, Index.open(self.folder / name)))
            if len(self.held) > KEPT:
                self.held.pop(self.rng.randrange(KEPT))
            return *self.held[-1], "opened"
        name, index = self.rng.choice(self.held)
        if self.rng.random() < 0.3:
            return name, index, "refreshed" if index.refresh() else "current"
        return name, index, "kept"

    def _listed(self, name: str, index: Index, contents: Contents) -> Faults:
        yield from differences(index.ids(), [f"d{n}" for n in contents])
        if len(index) != len(contents):
            yield "wrong", f"{len(index)} documents, not {len(contents)}"

    def _document(self, name: str, index: Index, contents: Contents) -> Faults:
        for n in self.rng.sample(sorted(contents), 5):
            document = index.document(f"d{n}")
            if (document.text, dict(document.fields)) != told(n, contents[n]):
                yield "wrong", f"d{n} is {document}"
        if f"d{max(contents) + 1}" in index:
            yield "wrong", "a document that is not there yet"

    def _searched(self, name: str, index: Index, contents: Contents) -> Faults:
        n = self.rng.choice(sorted(contents))
        if name == "bm25":
            word = f"word{n % WORDS}"
            hits = index.search(word, k=MOST * 2)
            want = [f"d{m}" for m, g in contents.items() if word in text(m, g).split()]
            yield from differences([hit.doc_id for hit in hits], want)
        else:
            query = vectors(n, contents[n])
            yield from self._nearest(name, index, query, contents, None)
            hits = index.search(query, k=10)
            itself = [hit.doc_id for hit in hits[:1]] == [f"d{n}"]
            self.counts["sought by its own vectors"] += 1
            self.counts["found first by its own vectors"] += itself
            if not itself and name != "codes":  # whose answer is approximate unless exact is asked
                yield "missing", f"d{n} by its own vectors"
        yield from texts(hits, contents)

    def _filtered(self, name: str, index: Index, contents: Contents) -> Faults:
        where = f"parity == {self.rng.randint(0, 1)} and generation <= {self.rng.randint(0, 3)}"
        parity, most = int(where.split()[2]), int(where.split()[-1])
        allowed = {n: g for n, g in contents.items() if n % 2 == parity and g <= most}
        yield from differences(index.ids(where), [f"d{n}" for n in allowed])
        if name != "bm25" and allowed:
            query = vectors(self.rng.choice(sorted(contents)), 0)
            yield from self._nearest(name, index, query, allowed, where)

    def _nearest(
        self, name: str, index: Index, query: np.ndarray, contents: Contents, where: str | None
    ) -> Faults:
        """The ten best, all vectors compared, against those of the model."""
        hits = index.search(query, k=10, where=where, exact=name == "codes")
        yield from texts(hits, contents)
        scores = {n: (query @ vectors(n, g).T).max(axis=1).sum() for n, g in contents.items()}
        want = sorted(scores, key=lambda n: -scores[n])[:10]
        near = 0.05 if name == "int8" else 1e-3
        if len(hits) != len(want):
            yield "missing", f"{len(hits)} hits of {len(want)}"
        for hit, n in zip(hits, want, strict=False):
            own = scores.get(int(hit.doc_id[1:]))
            if own is None or abs(hit.score - own) > near or abs(scores[n] - own) > 2 * near:
                yield "wrong", f"{hit.doc_id} with {hit.score} in the place of d{n}: {scores[n]}"


def differences(got: list[str], want: list[str]) -> Faults:
    """Faults of a list that should hold the same, each once."""
    if len(set(got)) != len(got):
        yield "duplicate", str([d for d, count in Counter(got).items() if count > 1][:5])
    if set(got) - set(want):
        yield "wrong", f"{sorted(set(got) - set(want))[:5]} should not be there"
    if set(want) - set(got):
        yield "missing", str(sorted(set(want) - set(got))[:5])


def texts(hits: Iterable[Hit], contents: Contents) -> Faults:
    """Faults of hits that do not hold what their documents do, or come twice."""
    if len({hit.doc_id for hit in hits}) != len(hits):
        yield "duplicate", str([hit.doc_id for hit in hits])
    for hit in hits:
        n = int(hit.doc_id[1:])
        if n not in contents or hit.text != text(n, contents[n]):
            yield "wrong", f"{hit}"


def told(n: int, generation: int) -> tuple[str, dict[str, int]]:
    """Text and fields that a document must have."""
    return text(n, generation), fields(n, generation)


def write(folder: Path, seed: int, ready: Event, stop: Event, out: Queue) -> None:
    """Writer's process."""
    ivf.BRUTE_TOKENS = BRUTE_TOKENS
    rng, faults, commits = random.Random(seed), [], Counter()
    (folder / "model").mkdir()
    model = Model(folder / "model")
    try:
        writers = [Writer(name, folder, model, rng) for name in BACKENDS]
        ready.set()
        while not stop.is_set():
            rng.choice(writers).step()
        for writer in writers:
            commits += writer.done
            damages = verify(writer.path)
            faults += [f"error: {writer.name}: {damage}" for damage in damages]
        versions = {writer.name: writer.version for writer in writers}
        kinds = {s.kind for writer in writers for s in Store(writer.path).manifest().segments}
    except BaseException:
        faults.append(f"error: the writer: {traceback.format_exc()}")
        versions, kinds = {}, set()
    ready.set()
    seen = {"commits": dict(commits), "versions": versions, "segment_kinds": sorted(kinds)}
    out.put({**seen, "faults": faults})


def read(folder: Path, seed: int, ready: Event, stop: Event, out: Queue) -> None:
    """Reader's process."""
    ready.wait()
    reader = Reader(folder, Model(folder / "model"), random.Random(seed))
    while not stop.is_set():
        try:
            reader.step()
            if reader.rng.random() < 0.01:
                second_writer(folder, reader)
        except BaseException:
            reader.counts["error"] += 1
            reader.faults.append(f"error: a reader: {traceback.format_exc()}")
            if reader.counts["error"] >= 3:
                break
    out.put({"counts": dict(reader.counts), "faults": reader.faults})


def second_writer(folder: Path, reader: Reader) -> None:
    """Try to write as well, nothing; it is refused in words where the writer is at work."""
    index = Index.open(folder / reader.rng.choice(list(BACKENDS)))
    try:
        index.delete([])
        reader.counts["second writer let in between"] += 1
    except LockedError as error:
        reader.counts["second writer refused"] += 1
        if str(os.getppid()) not in str(error) and "process" not in str(error):
            reader.counts["writer not yet named"] += 1


def soak(seconds: float, readers: int, seed: int) -> dict:
    """Run writer and readers for so long; what they did and found."""
    context = multiprocessing.get_context("spawn")
    ready, stop, out = context.Event(), context.Event(), context.Queue()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [(write, seed), *((read, seed * 1000 + i) for i in range(1, readers + 1))]
        processes = [
            context.Process(target=job, args=(folder, own, ready, stop, out)) for job, own in jobs
        ]
        for process in processes:
            process.start()
        ready.wait()
        time.sleep(seconds)
        stop.set()
        reports = [out.get() for _ in processes]
        for process in processes:
            process.join()
    counts = sum((Counter(report.get("counts", {})) for report in reports), Counter())
    writer = next(report for report in reports if "commits" in report)
    faults = [fault for report in reports for fault in report["faults"]]
    checks = {name: counts[name] for name in ("listed", "document", "searched", "filtered")}
    found = {kind: sum(f.startswith(kind) for f in faults) for kind in FAULTS}
    return {
        "readers": readers,
        "seconds": seconds,
        "seed": seed,
        "backends": list(BACKENDS.values()),
        "commits": writer["commits"],
        "versions": writer["versions"],
        "segment_kinds": writer["segment_kinds"],
        "answers": checks,
        "answers_of": {how: counts[how] for how in ("opened", "refreshed", "current", "kept")},
        "own_vectors": {how: n for how, n in counts.items() if "own vectors" in how},
        "second_writers": {name: n for name, n in counts.items() if "writer" in name},
        "faults": found,
        "injected": sum(checks.values()),
        "lost": sum(found.values()),
        "first_faults": faults[:10],
    }


def main() -> int:
    """Soak, print, and keep the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the whole record")
    parser.add_argument("--output", type=Path, help="write the record here")
    args = parser.parse_args()
    found = soak(60 * args.minutes, args.readers, args.seed)
    command = f"python scripts/soak_test.py --minutes {args.minutes:g} --readers {args.readers}"
    record = {"command": f"{command} --seed {args.seed}", "when": now(), **found}
    record["environment"] = environment()
    if args.output:
        args.output.write_text(json.dumps(record, indent=1) + "\n")
    if args.json:
        print(json.dumps(record, indent=1))
    else:
        print(
            f"{sum(found['commits'].values())} commits, {found['injected']} answers of "
            f"{args.readers} readers; faults: {found['faults']}"
        )
    for fault in found["first_faults"]:
        print(fault, file=sys.stderr)
    return 1 if found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
