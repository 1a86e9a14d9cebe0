"""Measure additions of one document each: their time, and what they leave behind.

    python scripts/bench_updates.py [--backend exact] [--encoder tokret-mini] [--adds 200]
        [--base 0] [--words 60]

``--base`` documents of ``--words`` words are there before. With a ``precomputed(dim=...)``
encoder, vectors are random. Prints JSON lines: seconds an addition at the start and at the
end, segments, and milliseconds to open the index; then what compaction takes and leaves.
Run it on a quiet machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tokret.encoders import encoders
from tokret.evaluation.record import environment
from tokret.indexes import Index

WINDOW = 20  # additions of a median


def main() -> None:
    """Add, time, open, compact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="exact")
    parser.add_argument("--encoder", default="tokret-mini")
    parser.add_argument("--adds", type=int, default=200)
    parser.add_argument("--base", type=int, default=0)
    parser.add_argument("--words", type=int, default=60)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(20_000)])
    dim = None
    if args.encoder.startswith("precomputed"):
        dim = encoders.build(args.encoder).identity.dim

    def documents(first: int, count: int) -> dict[str, object]:
        texts = [" ".join(rng.choice(words, args.words)) for _ in range(count)]
        given = None if dim is None else [rng.standard_normal((args.words, dim)) for _ in texts]
        return {
            "documents": [(f"d{i}", text) for i, text in enumerate(texts, first)],
            "vectors": given,
        }

    print(json.dumps({"environment": environment(), "spec": vars(args)}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index = Index.create(path, encoder=args.encoder, backend=args.backend)
        for first in range(0, args.base, 1000):
            index.add(**documents(first, min(1000, args.base - first)))
        index.add(**documents(args.base, 1))  # loads the model
        seconds, most = [], 0
        for i in range(args.base + 1, args.base + args.adds):
            given = documents(i, 1)
            began = time.perf_counter()
            index.add(**given)
            seconds.append(time.perf_counter() - began)
            most = max(most, index.info()["segments"])
        opened = []
        for _ in range(WINDOW):
            began = time.perf_counter()
            with Index.open(path) as reader:
                opened.append(time.perf_counter() - began)
                facts = reader.info()
        row = {
            "what": "add",
            "first_s": round(statistics.median(seconds[:WINDOW]), 4),
            "last_s": round(statistics.median(seconds[-WINDOW:]), 4),
            "mean_s": round(statistics.mean(seconds), 4),
            "most_s": round(max(seconds), 3),
            "segments": facts["segments"],
            "most_segments": most,
            "tokens": facts["tokens"],
            "MB": round(facts["bytes"] / 1e6, 2),
            "open_ms": round(1e3 * statistics.median(opened), 1),
        }
        print(json.dumps(row))
        index.delete([f"d{i}" for i in range(0, args.base + args.adds, 3)])
        began = time.perf_counter()
        done = index.compact(force=True)
        row = {"what": "compact", "seconds": round(time.perf_counter() - began, 3), **vars(done)}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
