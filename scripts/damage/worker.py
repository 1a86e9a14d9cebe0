"""Does to an index all that a user might, and says what came of each step.

    python worker.py < paths > answers

A line of standard input is a JSON object with the ``path`` of an index; a line of standard
output holds, for each step, a digest of its answer, the name of tokret's error, or
``foreign: ...`` for any other. A step that takes more than CPU seconds ends the process.
"""

import hashlib
import json
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from damage.samples import BRUTE, H, documents

from tokret.errors import TokretError
from tokret.indexes import Index, build, ivf, verify

CPU = 30.0  # seconds of a step
MEMORY = 6 << 30  # bytes of address space
QUERY = documents(9000, 1, False)[1][0][:3]


def steps(path: str, write: bool = True) -> dict[str, str]:
    """Every step on one index, in order; ``write``: also those that change it."""
    said: dict[str, str] = {}
    held: list[Index] = []

    def step(name: str, work: Callable[[], object]) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU)
        try:
            said[name] = _digest(work())
        except TokretError as error:
            said[name] = type(error).__name__
        except Exception as error:
            said[name] = f"foreign: {type(error).__name__}: {error}"[:300]

    def opened(mode: str) -> str:
        held[:] = [Index.open(path, verify=mode)]
        return str(held[0].backend)

    step("verify quick", lambda: [d.file for d in verify(path, "quick")])
    step("verify full", lambda: [d.file for d in verify(path, "full")])
    step("open full", lambda: opened("full"))
    step("open quick", lambda: opened("quick"))
    if held:
        index = held[0]
        lexical = not index.backend.encodes
        query = "word1 word2 word3" if lexical else QUERY
        step("info", lambda: {**index.info(), "path": ""})
        step("ids", index.ids)
        step("search", lambda: index.search(query, 20))
        step("search where", lambda: index.search(query, 5, where='year > 1910 and lang == "en"'))
        if not lexical:
            step("search xtr", lambda: index.search(query, 5, scorer="xtr"))
            step("search threads", lambda: index.search_many([query] * 3, 5, threads=2))
            step("search exact", lambda: index.search(query, 5, exact=True))
            step("certify", lambda: (index.search(query, 5, certify=True)).bounds)
            step("tokens", lambda: _tokens(index))
        for i in (0, 5, 1001, 2004):
            step(f"document {i}", lambda i=i: index.document(f"doc-{i}"))
        step("explain", lambda: index.explain("word1 word2", "doc-5") if lexical else None)
    if held and write:
        docs, vectors = documents(5000, 3, False)
        step("add", lambda: index.add(docs, vectors=None if lexical else vectors))
        step("delete", lambda: index.delete(["doc-5"]))
        step("compact", lambda: index.compact(force=True))
        step("verify after", lambda: verify(path))
    if write and (Path(path) / "build.json").exists():
        docs, vectors = documents(3000, 300, False)
        encoder = f"precomputed(dim={H})"
        options = {"vectors": vectors, "encoder": encoder, "backend": "exact", "overwrite": True}
        step("build", lambda: build(path, docs, **options))
        step("verify built", lambda: verify(path))
        step("built", lambda: Index.open(path).search(QUERY, 20))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return said


def _tokens(index: Index) -> str:
    """All vectors, through the searcher, as explain reads them."""
    view = index._state
    rows = [view.searcher.passage_tokens(n) for n in range(0, len(view.doc_of), 7)]
    return hashlib.sha256(b"".join(np.asarray(row).tobytes() for row in rows)).hexdigest()


def _digest(answer: object) -> str:
    return "= " + hashlib.sha256(repr(answer).encode("utf-8", "replace")).hexdigest()[:16]


def main() -> None:
    """Answer each line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ivf.BRUTE_TOKENS = BRUTE
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answer = steps(**json.loads(line))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
