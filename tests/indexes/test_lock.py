"""One writer: who holds an index, and what is left of writers that are gone."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tokret.errors import LockedError, UsageError
from tokret.indexes import Index
from tokret.indexes.lock import HOLDER, LOCK, Holder, _started, writing

HOLD = """
import os, sys, time
from pathlib import Path
from tokret.indexes.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    if sys.argv[2] == "forks" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that holds the lock; it ends when its standard input does."""
    started = []

    def begin(how="plainly"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def left_behind(path, **changes):
    """The name of a writer that has left without wiping it off."""
    value = {**vars(Holder.of_this_process()), "pid": 1, **changes}
    (path / HOLDER).write_text(json.dumps(value))
    (path / LOCK).touch()


def gone():
    """A process id that nobody has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def refused(path):
    with pytest.raises(LockedError) as caught, writing(path):
        pass
    return str(caught.value)


def test_the_holder_is_said_with_process_host_time_and_command(hold, tmp_path):
    process = hold()
    said = refused(tmp_path)
    assert f"process {process.pid} on {socket.gethostname()!r} since 20" in said
    assert "(-c)" in said and str(tmp_path) in said


def test_two_writers_of_one_process_exclude_each_other(tmp_path):
    with writing(tmp_path):
        assert str(os.getpid()) in refused(tmp_path)
    with writing(tmp_path):
        pass
    assert not (tmp_path / HOLDER).exists()


def test_the_lock_of_a_killed_writer_is_free_at_once(hold, tmp_path):
    process = hold()
    process.kill()
    process.wait()
    assert (tmp_path / HOLDER).exists()
    with writing(tmp_path):
        assert Holder.read(tmp_path / HOLDER).pid == os.getpid()
    assert not (tmp_path / HOLDER).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_that_outlives_a_killed_writer_does_not_keep_its_lock(hold, tmp_path):
    process = hold("forks")
    worker = int(process.stdout.readline())
    try:
        refused(tmp_path)  # the worker has not taken the lock away from the writer either
        process.kill()
        process.wait()
        with writing(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_leaves_by_an_exit_lets_go_of_nothing(tmp_path):
    code = """
import os, sys
from pathlib import Path
from tokret.errors import LockedError
from tokret.indexes.lock import HOLDER, writing
path = Path(sys.argv[1])
with writing(path):
    child = os.fork()
    if child == 0:
        sys.exit()  # through the with statement
    os.waitpid(child, 0)
    try:
        with writing(path):
            print("two writers")
    except LockedError:
        print("held", (path / HOLDER).exists())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert done.stdout == b"held True\n", done.stderr


def test_what_a_dead_process_of_this_machine_left_is_cleared_away(tmp_path):
    left_behind(tmp_path, pid=gone())
    with writing(tmp_path):
        pass


def test_a_reused_process_id_is_told_by_when_it_began(tmp_path):
    began = _started(os.getppid())
    if not began:
        pytest.skip("this system does not say when a process began")
    left_behind(tmp_path, pid=os.getppid(), started=str(int(began) - 1))
    with writing(tmp_path):
        pass


def test_a_writer_that_runs_is_refused_though_its_lock_file_was_removed(hold, tmp_path):
    process = hold()
    (tmp_path / LOCK).unlink()
    assert f"process {process.pid} " in refused(tmp_path)
    process.communicate()
    with writing(tmp_path):
        pass


def test_a_restart_of_this_machine_leaves_no_lock(tmp_path):
    left_behind(tmp_path, boot="before", pid=os.getppid())
    with writing(tmp_path):
        pass


def test_a_container_of_this_machine_that_ended_leaves_no_lock(tmp_path):
    if not Holder.of_this_process().boot:
        pytest.skip("this system does not name its running kernel")
    left_behind(tmp_path, host="container-1", pids="pid:[1]", pid=os.getppid())
    with writing(tmp_path):
        pass


def test_the_lock_of_another_machine_is_not_broken_in_silence(tmp_path):
    left_behind(tmp_path, host="other", boot="another kernel", command="tokret add")
    said = refused(tmp_path)
    assert "on 'other'" in said and "(tokret add)" in said
    assert "another machine" in said and f"remove {tmp_path / HOLDER}" in said
    (tmp_path / HOLDER).unlink()  # as the message says
    with writing(tmp_path):
        pass


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 4000, "[]", '{"pid": "1"}', '{"pid": -1}', "null", "\0" * 9999]
)
def test_a_holder_that_cannot_be_read_keeps_nobody_away(tmp_path, text):
    (tmp_path / HOLDER).write_text(text)
    with writing(tmp_path):
        pass


def test_a_holder_that_never_ends_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs pipes with names")
    os.mkfifo(tmp_path / HOLDER)
    assert Holder.read(tmp_path / HOLDER) is None


def test_a_process_without_a_known_start_is_taken_for_running(tmp_path, monkeypatch):
    from tokret.indexes import lock

    monkeypatch.setattr(lock, "_started", lambda pid: "")
    left_behind(tmp_path, pid=os.getppid(), started="")
    refused(tmp_path)


def test_a_place_that_cannot_be_written_says_what_can_be_done(tmp_path, monkeypatch):
    from filelock import FileLock

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    Index.create(tmp_path / "i", backend="bm25").add([("a", "whale")])
    index = Index.open(tmp_path / "i")
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UsageError, match=r"cannot be written \(Permission denied\).*copy it"):
        index.delete(["a"])
    assert [hit.doc_id for hit in index.search("whale")] == ["a"]
