"""Open indexes given to worker processes, as a DataLoader does: ``with_workers.py METHOD DIR...``.

Prints a JSON object: whether every worker answered as its parent had, while the parent
committed, and which files of the indexes a worker held open.
"""

import json
import multiprocessing
import os
import sys
import threading

import numpy as np

from tokret.indexes import Index

WORKERS = 2


def questions(index):
    if index.encoder is None:
        return ["w1 w7", "w3", "w11 w2 w5"]
    rng = np.random.default_rng(5)
    return list(rng.standard_normal((3, 4, index.encoder.identity.dim)).astype(np.float32))


def answers(index):
    found = [index.search(question, k=5, threads=2) for question in questions(index)]
    return [[(hit.doc_id, hit.score, hit.text) for hit in hits] for hits in found]


def work(indexes, ready, go, out):
    ready.release()
    go.wait()
    held = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            held.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    inside = [file for file in held if any(file.startswith(index.path) for index in indexes)]
    out.put(([answers(index) for index in indexes], inside))


def main(method, *folders):
    context = multiprocessing.get_context(method)
    indexes = [Index.open(folder) for folder in folders]
    want = [answers(index) for index in indexes]
    ready, go, out = context.Semaphore(0), context.Event(), context.Queue()
    workers = [context.Process(target=work, args=(indexes, ready, go, out)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    writers = [threading.Thread(target=commit, args=(index.path,)) for index in indexes]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    go.set()
    got = [out.get() for _ in workers]
    for worker in workers:
        worker.join()
    same = [found == want for found, _ in got]
    mine = [answers(index) for index in indexes] == want
    now = [answers(Index.open(folder)) for folder in folders]
    print(
        json.dumps(
            {
                "same": same,
                "parent": mine,
                "changed": [a != b for a, b in zip(now, want, strict=True)],
                "open": [file for _, files in got for file in files],
                "ended": [worker.exitcode for worker in workers],
            }
        )
    )


def commit(folder):
    index = Index.open(folder)
    index.delete([hit[0] for hits in answers(index) for hit in hits], missing="skip")
    index.compact(force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
