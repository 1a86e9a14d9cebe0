"""The writer's lock: one process at a time writes to an index, and says who it is.

``writer.lock`` is locked through the operating system, which drops the lock with its
process; where a file system cannot lock, filelock makes a file of its own do. ``writer.json``
says who holds it. What is left of a process that ended on this machine is cleared away; what
another machine wrote stays, for some network file systems lock only among processes of one
machine, and nobody here can see whether that process still runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from tokret.errors import LockedError, UsageError
from tokret.indexes.files import room, sync_directory

LOCK = "writer.lock"
HOLDER = "writer.json"
MAX_HOLDER = 1 << 12  # bytes; a holder is a line
STARTED = 19  # place of a process's start time in /proc/PID/stat, after its name


@dataclass(frozen=True)
class Holder:
    """A process that writes, as it says itself."""

    pid: int
    host: str
    boot: str  # the running kernel, which containers of one machine share; "" where unknown
    pids: str  # the name space in which ``pid`` has its meaning
    started: str  # when the process began, in the system's ticks: a reused pid has another
    since: str  # UTC
    command: str

    @classmethod
    def of_this_process(cls) -> Holder:
        """Who is asking."""
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            boot=_boot(),
            pids=_pid_namespace(),
            started=_started(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            command=_command(),
        )

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Who wrote ``path``; None where nobody did, or it cannot be told."""
        with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
            if not path.is_file():  # a pipe would keep us waiting
                return None
            with open(path, "rb") as file:
                value = json.loads(file.read(MAX_HOLDER))
            pid, texts = value["pid"], [str(value[f.name]) for f in fields(cls)[1:]]
            if type(pid) is int and pid > 0:
                return cls(pid, *texts)
        return None

    def __str__(self) -> str:
        """A few words for a message."""
        return (
            f"process {self.pid} on {self.host!r:.80} since {self.since:.40} ({self.command:.80})"
        )

    @property
    def elsewhere(self) -> bool:
        """Whether it ran on another machine; one of this name that was restarted is this one."""
        return self.boot != _boot() and self.host != socket.gethostname()

    @property
    def runs(self) -> bool:
        """Whether the process is seen to run, on this machine and beside this process."""
        return (
            self.pid != os.getpid()
            and (self.boot, self.pids) == (_boot(), _pid_namespace())
            and _exists(self.pid)
            and self.started == _started(self.pid)
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the index at ``path`` as its only writer.

    Raises LockedError that says who holds it, and UsageError where nothing can be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK)
    owner = os.getpid()
    try:
        _make(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"Another writer holds {path}{_who(path)}; wait for it to finish, or stop it."
        ) from None
    except OSError as error:
        with room(path):
            if isinstance(error, PermissionError) or not os.access(_nearest(path), os.W_OK):
                raise UsageError(
                    f"{path} cannot be written ({error.strerror}). An index on a read-only medium "
                    "can be searched; to change it, copy it elsewhere."
                ) from error
            raise
    named = False
    try:
        with room(path):
            _sign(path)
            named = True
            yield
    finally:
        if os.getpid() == owner:  # a forked child that leaves this way holds nothing
            if named:
                with contextlib.suppress(OSError):  # the next writer clears it away
                    (path / HOLDER).unlink(missing_ok=True)
            lock.release()


def _make(path: Path) -> None:
    """Make the folder and those above it, so that they outlast a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        with contextlib.suppress(PermissionError):  # a folder may be written and not read
            sync_directory(folder.parent)


def _sign(path: Path) -> None:
    """Put our name in the place of one that counts no longer."""
    file = path / HOLDER
    last = Holder.read(file)
    if last is not None and last.runs:  # somebody removed the lock's file under it
        raise LockedError(
            f"Another writer holds {path}: {last}; wait for it to finish, or stop it."
        )
    if last is not None and last.elsewhere:
        raise LockedError(
            f"Another writer holds {path}: {last}. That is another machine, and whether it still "
            f"writes cannot be seen from here. If it has ended, remove {file} and try again."
        )
    file.unlink(missing_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:  # another machine was faster
        raise LockedError(f"Another writer holds {path}{_who(path)}; try again later.") from None
    with open(handle, "w", encoding="utf-8") as out:
        out.write(json.dumps(asdict(Holder.of_this_process())))


def _who(path: Path) -> str:
    holder = Holder.read(path / HOLDER)
    return "" if holder is None else f": {holder}"


def _nearest(path: Path) -> Path:
    """Find the folder, or the nearest one above, that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _started(pid: int) -> str:
    """When a process began; "" where the system does not say."""
    with contextlib.suppress(OSError, IndexError):
        data = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return data.rpartition(")")[2].split()[STARTED]  # a name may hold blanks and brackets
    return ""


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _pid_namespace() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _command() -> str:
    """The program and its first word, such as ``tokret add``; the rest may be private."""
    program = Path(sys.argv[0] if sys.argv else "")
    name = program.parent.name if program.name == "__main__.py" else program.name
    word = sys.argv[1] if name == "tokret" and len(sys.argv) > 1 else ""
    return f"{name or 'python'} {word}".strip()[:80]
