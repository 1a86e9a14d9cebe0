import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokret.cli import app

DOCUMENTS = [
    {"_id": "cat", "title": "Cats", "text": "The cat sat on the mat and purred."},
    {"_id": "dog", "text": "Dogs chase cats while cats climb trees."},
    {"_id": "qubit", "text": "Quantum computers factor large integers."},
]


@pytest.fixture
def tokret(monkeypatch):
    """Run a command in this process: ``tokret("info", path)`` -> result with its streams."""
    for name in ("TOKRET_DEBUG", "TOKRET_MODEL", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*words, **kwargs):
        return CliRunner().invoke(app, [str(word) for word in words], **kwargs)

    return run


@pytest.fixture
def start():
    """Start the command in a process of its own; ``toy`` makes the toy encoder known to it."""
    started = []
    plain, with_toy = ["-m", "tokret"], [str(Path(__file__).with_name("with_toy.py"))]

    def run(*words, env=None, toy=False, **kwargs):
        for stream in ("stdout", "stderr"):
            kwargs.setdefault(stream, subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, *(with_toy if toy else plain), *map(str, words)],
            env={**os.environ, **(env or {})},
            **kwargs,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def write():
    """Write records as JSON lines."""

    def write_jsonl(path, records):
        lines = (json.dumps(record) + "\n" for record in records)
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write_jsonl


@pytest.fixture
def corpus(tmp_path, write):
    return write(tmp_path / "corpus.jsonl", DOCUMENTS)


@pytest.fixture
def build(tokret, tmp_path):
    """Index a corpus: ``build(corpus, "exact")`` -> the index's folder."""

    def index(corpus, backend="bm25", *more):
        path = tmp_path / f"{backend.partition('(')[0]}-index"
        words = ["index", corpus, "-o", path, "--backend", backend, "-q", *more]
        result = tokret(*words, *([] if backend == "bm25" else ["--model", "toy"]))
        assert result.exit_code == 0, result.stderr
        return path

    return index


@pytest.fixture
def index(build, corpus):
    return build(corpus)
