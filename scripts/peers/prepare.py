"""Makes the vectors, the queries and the exact rankings, once, with tokret's own parts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from peers.data import DEPTH, WIDTH, Data, Writer
from peers.packages import collection as packages_of
from peers.packages import fetched

ENCODER = "tokret-mini"
WINDOW = 1024  # texts encoded at once
TIMES = 10  # passages of packages10 for one of packages
SEED = 0
RUN = (8, 24)  # tokens of a run in a mixed passage
NOISE = 0.02  # a component's; leaves a cosine of 0.975 to the vector that was copied


def prepare(name: str, out: Path, *, threads: int, source: Path | None = None) -> None:
    """Fill ``out`` with a collection's arrays; what is whole already is left."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "about.json").exists():
        about = Data(out).about
    else:
        if name == "scifact":
            about = scifact(out, threads)
        elif name == "packages":
            about = packages(out, threads)
        else:
            about = packages10(out, source or out.parent / "packages")
        _write(out, "about.json", about)
    if "exact" in about:
        say(f"{out.name} is prepared")
        return
    about["exact"] = exact(Data(out), threads)
    _write(out, "about.json", about)
    say(json.dumps(about))


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def scifact(out: Path, threads: int) -> dict[str, Any]:
    from tokret.collections import load_collection

    root = os.environ.get("TOKRET_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
    found = load_collection(Path(root) / "scifact")
    documents = [(d.doc_id, d.contents) for d in found.documents()]
    queries = [(q.query_id, q.text) for q in found.queries if q.query_id in found.qrels]
    _write(out, "qrels.json", {q: dict(found.qrels[q]) for q, _ in queries})
    return {"collection": "scifact", **encoded(out, documents, queries, threads)}


def packages(out: Path, threads: int) -> dict[str, Any]:
    documents, asked = packages_of(fetched(out / "apt"))
    _write(out, "qrels.json", {q: {document: 1} for q, _, document in asked})
    _write(out, "query_texts.json", {q: text for q, text, _ in asked})
    queries = [(q, text) for q, text, _ in asked]
    return {"collection": "packages", **encoded(out, documents, queries, threads)}


def encoded(
    out: Path,
    documents: Sequence[tuple[str, str]],
    queries: Sequence[tuple[str, str]],
    threads: int,
) -> dict[str, Any]:
    """Encode, and write vectors, token ids, offsets and names."""
    from tokret.encoders import encoders

    encoder = encoders.build(f"{ENCODER}(threads={threads})")
    vectors = Writer(out / "vectors.npy", "<f4", WIDTH)
    token_ids = Writer(out / "token_ids.npy", "<i4")
    lengths: list[int] = []
    texts = iter(text for _, text in documents)
    started = time.process_time()
    while window := list(islice(texts, WINDOW)):
        made = encoder.encode_documents(window)
        vectors.add(made.tokens.vectors)
        token_ids.add(made.token_ids)
        lengths += np.diff(made.tokens.offsets).tolist()
        say(f"encoded {len(lengths):,} of {len(documents):,} passages, {vectors.count:,} tokens")
    vectors.close()
    token_ids.close()
    np.save(out / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
    asked = encoder.encode_queries([text for _, text in queries]).tokens
    np.save(out / "queries.npy", np.asarray(asked.vectors, np.float32))
    np.save(out / "query_offsets.npy", asked.offsets)
    _write(out, "documents.json", [name for name, _ in documents])
    _write(out, "queries.json", [name for name, _ in queries])
    return {
        "encoder": ENCODER,
        "dtype": "fp32",
        "passages": len(documents),
        "tokens": vectors.count,
        "queries": len(queries),
        "query_tokens": round(len(asked.vectors) / len(queries), 1),
        "encode_cpu_s": round(time.process_time() - started, 1),
    }


def packages10(out: Path, source: Path) -> dict[str, Any]:
    """Ten times the passages: the real ones, and nine times as many mixed from their tokens.

    A mixed passage has the length, the first and the last vector of a real one; between them
    stand runs of 8 to 24 consecutive vectors from passages drawn at random, each vector a
    little moved, so that no two are the same. float16, since float32 would not fit a small disk.
    """
    real = Data(source)
    lengths, starts = real.lengths, real.offsets[:-1]
    count = len(lengths)
    rng = np.random.default_rng(SEED)
    vectors = Writer(out / "vectors.npy", "<f2", WIDTH)
    token_ids = Writer(out / "token_ids.npy", "<i4")
    source_ids = np.asarray(real.array("token_ids"))
    for first, last in real.blocks():
        vectors.add(real.rows(first, last))
    token_ids.add(source_ids)
    every = [lengths]
    step = 2048  # passages mixed at once
    templates = np.concatenate([rng.permutation(count) for _ in range(TIMES - 1)])
    for begin in range(0, len(templates), step):
        some = templates[begin : begin + step]
        wanted = int(lengths[some].sum())
        runs = rng.integers(RUN[0], RUN[1] + 1, wanted // RUN[0] + 1)
        runs = runs[: int(np.searchsorted(np.cumsum(runs), wanted)) + 1]
        owner = rng.integers(0, count, len(runs))
        inside = np.maximum(lengths[owner] - 2, 1)  # without [CLS] and [SEP]
        runs = np.minimum(runs, inside)
        while runs.sum() < wanted:
            more = rng.integers(0, count, len(runs) // 4 + 16)
            room = np.maximum(lengths[more] - 2, 1)
            owner, inside = np.append(owner, more), np.append(inside, room)
            runs = np.append(runs, np.minimum(rng.integers(RUN[0], RUN[1] + 1, len(more)), room))
        at = starts[owner] + 1 + (rng.random(len(runs)) * (inside - runs + 1)).astype(np.int64)
        ends = np.cumsum(runs)
        rows = np.repeat(at - (ends - runs), runs) + np.arange(ends[-1])
        rows = rows[:wanted]
        edges = np.cumsum(lengths[some])
        rows[edges - lengths[some]] = starts[some]
        rows[edges - 1] = starts[some] + lengths[some] - 1
        for a in range(0, wanted, 1 << 16):  # bounds the memory of the gather
            part = rows[a : a + (1 << 16)]
            moved = np.asarray(real.vectors[part], np.float32)
            moved += NOISE * rng.standard_normal(moved.shape, dtype=np.float32)
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            vectors.add(moved)
            token_ids.add(source_ids[part])
        every.append(lengths[some])
        if begin % (step * 16) == 0:
            say(f"mixed {begin:,} of {len(templates):,} passages, {vectors.count:,} tokens")
    vectors.close()
    token_ids.close()
    all_lengths = np.concatenate(every)
    np.save(out / "offsets.npy", np.concatenate([[0], np.cumsum(all_lengths)]).astype(np.int64))
    names = real.names("documents") + [f"mixed{i}" for i in range(len(templates))]
    _write(out, "documents.json", names)
    for name in ("queries.npy", "query_offsets.npy", "queries.json", "qrels.json"):
        (out / name).write_bytes((source / name).read_bytes())
    return {
        **{k: real.about[k] for k in ("encoder", "queries", "query_tokens")},
        "collection": "packages10",
        "dtype": "fp16",
        "passages": len(all_lengths),
        "tokens": vectors.count,
        "noise": NOISE,
        "seed": SEED,
    }


def exact(data: Data, threads: int) -> dict[str, Any]:
    """Rank all documents by MaxSim in float32 for every query, ties by position."""
    from tokret import kernels
    from tokret.types import Tokens

    count = len(data.queries)
    best = np.full((count, DEPTH), -np.inf, np.float32)
    place = np.full((count, DEPTH), -1, np.int64)
    started, cpu = time.perf_counter(), time.process_time()
    for first, last in data.blocks():
        offsets = data.offsets[first : last + 1] - data.offsets[first]
        tokens = Tokens(data.rows(first, last), offsets.astype(np.int64))
        for i, query in enumerate(data.queries):
            scores = kernels.maxsim(query, tokens, threads=threads)
            if len(scores) > 4 * DEPTH:
                near = np.sort(np.argpartition(-scores, DEPTH)[:DEPTH])
            else:
                near = np.arange(len(scores))
            all_scores = np.concatenate([best[i], scores[near]])
            all_places = np.concatenate([place[i], near + first])
            order = np.lexsort((all_places, -all_scores))[:DEPTH]
            best[i], place[i] = all_scores[order], all_places[order]
        say(f"exact scores of {last:,} of {len(data.lengths):,} passages")
    np.save(data.path / "exact.npy", place)
    np.save(data.path / "exact_scores.npy", best)
    return {
        "kernels": _kernels(),
        "threads": threads,
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
    }


def _kernels() -> str:
    from tokret.evaluation.record import machine

    return str(machine()["kernels"])


def _write(out: Path, name: str, value: Iterable[Any]) -> None:
    """Write whole or not at all."""
    part = out / f"{name}.part"
    part.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    part.replace(out / name)
