"""Every call by which this process changes files below a folder, counted, stopped or refused.

``with Disk(folder, rule):`` stands between Python and the operating system. Each call that
changes the folder is a step with a number and a name; a rule decides what becomes of it. The
code under test knows nothing of that. ``trace`` keeps what was done, for power cuts.
"""

import builtins
import errno
import io
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

CALLS = ("create", "write", "truncate", "fsync", "replace", "mkdir", "unlink", "rmdir")
FILLING = ("create", "write", "truncate", "fsync", "mkdir", "replace")  # what takes room
_REAL = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename")}
_REAL |= {name: getattr(os, name) for name in ("mkdir", "unlink", "remove", "rmdir")}
_OPEN = builtins.open
_CHANGEABLE = re.compile(r"[0-9a-f]{16}|(?<=manifest-)\d+|(?<=\.)\d+(?=\.tmp)")


class Step(NamedTuple):
    """A call that is about to change something."""

    number: int
    call: str
    name: str  # of the file, with what differs from run to run left out

    def __str__(self) -> str:
        return f"{self.call} {self.name}"


@dataclass
class Rule:
    """What becomes of step ``at``: nothing (0), or what ``kind`` says.

    ``kill`` ends the process before it, ``torn`` in the middle of a write; ``fail`` refuses it
    with the error ``code``; ``short`` writes half. ``lasting`` goes on with all later steps of
    the ``calls`` named.
    """

    at: int = 0
    kind: str = "kill"
    code: int = errno.EIO
    lasting: bool = False
    calls: tuple[str, ...] = CALLS
    tell: Callable[[Step], None] = lambda step: None

    def hits(self, step: Step) -> bool:
        """Whether this step is meant."""
        if not self.at or step.call not in self.calls:
            return False
        return step.number >= self.at if self.lasting else step.number == self.at


def end() -> None:
    """Die as a process dies that is killed: nothing is flushed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


class Raw(io.FileIO):
    """A file that is being written, below its buffer."""

    def __init__(self, disk: "Disk", path: str, mode: str) -> None:
        self._disk, self._path = disk, path
        super().__init__(path, mode)
        disk.paths[self.fileno()] = path

    def write(self, data: Any) -> int:  # noqa: ANN401
        view = memoryview(data).cast("B")
        at = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
        step = self._disk.step("write", self._path)
        if self._disk.rule.hits(step) and self._disk.rule.kind in ("torn", "short"):
            view = view[: max(len(view) // 2, 1)]
        if self._disk.rule.hits(step) and self._disk.rule.kind == "torn":
            super().write(view)
            end()
        done = super().write(view)
        self._disk.note("write", self._path, at, bytes(view[:done]))
        return done

    def truncate(self, size: int | None = None) -> int:
        self._disk.step("truncate", self._path)
        done = super().truncate(size)
        self._disk.note("truncate", self._path, done)
        return done


class Disk:
    """Stands in for the calls of ``open`` and ``os`` while it is entered."""

    def __init__(self, root: Path, rule: Rule, record: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.rule = rule
        self.steps: list[Step] = []
        self.trace: list[tuple[Any, ...]] | None = [] if record else None
        self.paths: dict[int, str] = {}  # of open files, by descriptor
        self._lock = threading.Lock()

    def __enter__(self) -> "Disk":
        for name in _REAL:
            setattr(os, name, getattr(self, f"_{name}"))
        builtins.open = io.open = self._opened
        return self

    def __exit__(self, *error: object) -> None:
        for name, real in _REAL.items():
            setattr(os, name, real)
        builtins.open = io.open = _OPEN

    def inside(self, path: Any, dir_fd: int | None = None) -> str | None:  # noqa: ANN401
        """The whole path, if it lies below the folder."""
        if isinstance(path, int):
            return None
        base = "" if dir_fd is None else self.paths.get(dir_fd, "")
        whole = os.path.abspath(os.path.join(base, os.fspath(path)))
        return whole if whole == self.root or whole.startswith(self.root + os.sep) else None

    def step(self, call: str, path: str) -> Step:
        """Count a step, and do to it what the rule says."""
        name = _CHANGEABLE.sub("*", os.path.relpath(path, self.root))
        with self._lock:
            step = Step(len(self.steps) + 1, call, name)
            self.steps.append(step)
        if self.rule.hits(step):
            self.rule.tell(step)
            if self.rule.kind == "kill" or (self.rule.kind == "torn" and call != "write"):
                end()
            if self.rule.kind == "fail":
                raise OSError(self.rule.code, os.strerror(self.rule.code), path)
        return step

    def note(self, *what: object) -> None:
        """Keep what was done."""
        if self.trace is not None:
            with self._lock:
                self.trace.append(what)

    def _opened(
        self,
        file: Any,  # noqa: ANN401
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *more: Any,  # noqa: ANN401
        **named: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        path = self.inside(file)
        if path is None or not set(mode) & set("wax+"):
            return _OPEN(file, mode, buffering, encoding, errors, newline, *more, **named)
        self.step("create", path)
        new = not os.path.exists(path)
        raw = Raw(self, path, mode.replace("b", "").replace("t", ""))
        self.note("create", path) if new else None
        self.note("truncate", path, 0) if "w" in mode and not new else None
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: ANN401
        whole = self.inside(path, dir_fd)
        new = whole is not None and flags & os.O_CREAT and not os.path.exists(whole)
        if whole is not None and flags & (os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR):
            self.step("create", whole)
        fd: int = _REAL["open"](path, flags, mode, dir_fd=dir_fd)
        if whole is not None:
            self.paths[fd] = whole
        if new:
            self.note("create", whole)
        return fd

    def _fsync(self, fd: Any) -> None:  # noqa: ANN401
        path = self.paths.get(fd if isinstance(fd, int) else fd.fileno())
        if path is not None:
            try:
                self.step("fsync", path)
            except OSError:
                self.note("failed", path)
                raise
        _REAL["fsync"](fd)
        if path is not None:
            self.note("fsync", path)

    def _changed(self, call: str, real: str, path: Any, dir_fd: int | None, *rest: Any) -> None:  # noqa: ANN401
        whole = self.inside(path, dir_fd)
        if whole is not None:
            self.step(call, whole)
        _REAL[real](path, *rest, dir_fd=dir_fd)
        if whole is not None:
            self.note(call, whole)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:  # noqa: ANN401
        if os.path.isdir(path):  # pathlib asks, and is refused
            _REAL["mkdir"](path, mode, dir_fd=dir_fd)
        self._changed("mkdir", "mkdir", path, dir_fd, mode)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:  # noqa: ANN401
        if dir_fd is None and not os.path.lexists(path):  # missing_ok
            _REAL["unlink"](path)
        self._changed("unlink", "unlink", path, dir_fd)

    _remove = _unlink

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:  # noqa: ANN401
        self._changed("rmdir", "rmdir", path, dir_fd)

    def _replace(self, source: Any, target: Any, **named: Any) -> None:  # noqa: ANN401
        old, new = self.inside(source), self.inside(target)
        if new is not None:
            self.step("replace", new)
        _REAL["replace"](source, target, **named)
        if new is not None:
            self.note("replace", old, new)

    _rename = _replace
