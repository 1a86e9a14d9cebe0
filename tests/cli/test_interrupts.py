"""Ctrl-C and SIGTERM: what was done stays, and the same command goes on."""

import json
import os
import signal
import sys

import pytest

from tokret.cli.interrupts import Interrupts
from tokret.cli.talk import Talk

DOCUMENTS = 2000  # four windows of the index writer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def large(tmp_path, write):
    words = ["cat", "dog", "tree", "mat", "quantum", "integer"]
    records = [
        {"_id": str(i), "text": f"{words[i % 6]} {words[i % 5]} {i}"} for i in range(DOCUMENTS)
    ]
    return write(tmp_path / "large.jsonl", records)


def started(start, corpus, path, *more):
    """Begin to index, slowly, and come back when work is under way."""
    words = ["index", corpus, "-o", path, "--model", "toy", "--log-format", "json", *more]
    process = start(*words, env={"TEST_SECONDS_A_BATCH": "0.3"}, text=True, toy=True)
    while not (path / "build.json").exists():
        assert process.poll() is None, process.stderr.read()
    return process, [str(word) for word in words]


def contents(path):
    """Everything about an index that must not depend on how it was built."""
    from tokret.indexes import Index

    with Index.open(path) as index:
        hits = index.search_many(["cat tree", "quantum", "17"], 50)
        facts = {k: index.info()[k] for k in ("documents", "passages", "tokens", "deleted")}
        return hits, facts


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_stopped_index_goes_on_to_the_same_index(start, tokret, large, tmp_path, number, status):
    path, other = tmp_path / "stopped", tmp_path / "straight"
    process, words = started(start, large, path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    events = [json.loads(line) for line in err.splitlines()]
    assert f"tokret {' '.join(words)}" in events[-1]["text"]
    assert (path / "build.json").exists()

    resumed = tokret(*words)
    assert resumed.exit_code == 0, resumed.stderr
    assert tokret("index", large, "-o", other, "--model", "toy").exit_code == 0
    assert contents(path) == contents(other)
    assert contents(path)[1]["documents"] == DOCUMENTS


def test_a_second_signal_stops_at_once_and_can_be_resumed(start, tokret, large, tmp_path):
    path = tmp_path / "index"
    process, words = started(start, large, path)
    process.send_signal(signal.SIGINT)
    while "Stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert tokret(*words).exit_code == 0
    assert contents(path)[1]["documents"] == DOCUMENTS


def test_other_settings_do_not_go_on_unless_told_to_restart(start, tokret, large, tmp_path):
    path = tmp_path / "index"
    process, words = started(start, large, path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    other = tokret(*words, "--overlap", "3")
    assert other.exit_code == 4
    assert "--restart" in other.stderr and "overlap" in other.stderr
    assert tokret(*words, "--overlap", "3", "--restart").exit_code == 0


def test_a_second_writer_is_status_6(start, tokret, large, tmp_path):
    path = tmp_path / "index"
    process, words = started(start, large, path)
    result = tokret(*words)
    assert result.exit_code == 6
    assert str(process.pid) in result.stderr


def test_a_stopped_add_adds_nothing(start, tokret, build, corpus, large):
    path = build(corpus, "exact")
    before = contents(path)
    process = start(
        "add",
        path,
        large,
        "--no-progress",
        env={"TEST_SECONDS_A_BATCH": "0.3"},
        text=True,
        toy=True,
    )
    while len(list((path / "segments").iterdir())) == 1:
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Nothing was changed" in err
    assert contents(path) == before


def test_the_former_handlers_come_back():
    former = signal.getsignal(signal.SIGINT)
    with Interrupts(Talk(quiet=True)) as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() and stop.status == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.status == 143
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("command", ["add", "compact", "index"])
def test_a_signal_that_comes_too_late_is_not_told_as_undone(
    tokret, build, corpus, tmp_path, write, monkeypatch, command
):
    from tokret.indexes import Index

    path = build(corpus, "exact")
    more = write(tmp_path / "more.jsonl", [{"_id": "new", "text": "new cats"}])
    words = {
        "add": ["add", path, more],
        "compact": ["compact", path, "--force"],
        "index": ["index", more, "-o", path, "--overwrite", "--model", "toy", "-b", "exact"],
    }[command]
    if command == "compact":
        tokret("delete", path, "dog")
    real = os.replace

    def twice(source, target):
        if str(target).endswith("CURRENT"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        real(source, target)

    before = Index.open(path).info()["version"]
    monkeypatch.setattr(os, "replace", twice)
    result = tokret(*words, "--json")
    monkeypatch.undo()
    assert result.exit_code == 143, result.stderr
    assert "committed before" in result.stderr and "Nothing was changed" not in result.stderr
    assert json.loads(result.stdout)["resume"] is None
    assert Index.open(path).info()["version"] == before + 1
    assert tokret("verify", path, "--full").exit_code == 0 or command == "index"
