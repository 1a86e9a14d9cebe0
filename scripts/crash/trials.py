"""One crash, one fault or one power cut, and whether the index outlived it.

A trial copies an index, lets a child process change it, and stops or refuses what the
child does. Then the index must hold what was committed last, the next writer must be able
to write, and nothing may be left over.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.disk import Disk, Rule, Step
from crash.power import Tree, states, written
from crash.story import Change, State, Story, differences, drawn, faults, leftovers, small, story

from tokret.cli.failure import explained
from tokret.errors import TokretError
from tokret.indexes.store import BUILD


@dataclass
class Outcome:
    """What a child told before it ended."""

    status: int  # as of waitpid
    done: int = 0  # changes that returned
    steps: int = 0
    struck: str = ""  # the step at which something was done to it
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


def in_child(
    work: Callable[[Callable[..., None]], None], during: Callable[[int], None] = lambda pid: None
) -> Outcome:
    """Run ``work`` in a fork of this process; it is given a way to tell what it has done."""
    free_of_shared_locks()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.close(reader)
            work(lambda **told: os.write(writer, (json.dumps(told) + "\n").encode()))
            status = 0
        os._exit(status)
    os.close(writer)
    during(pid)
    with os.fdopen(reader) as lines:
        told = [json.loads(line) for line in lines]
    _, status = os.waitpid(pid, 0)
    outcome = Outcome(status)
    for one in told:
        outcome.done += one.pop("done", 0)
        for name, value in one.items():
            setattr(outcome, name, value)
    return outcome


def free_of_shared_locks() -> None:
    """Give tqdm, which bm25s calls, a lock of this process: the killed do not give theirs back."""
    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())


def changed(
    path: Path,
    changes: Sequence[Change],
    rule: Rule,
    during: Callable[[int], None] = lambda pid: None,
) -> Outcome:
    """Let a child make changes one after another, under a rule."""

    def work(tell: Callable[..., None]) -> None:
        rule.tell = lambda step: tell(struck=str(step))
        disk = Disk(path.parent, rule)
        try:
            with disk, small():
                for change in changes:
                    change.call(path)
                    tell(done=1)
        except BaseException as error:
            status, message = explained(error)
            where = "".join(traceback.format_exception(error))[-3000:]
            kind = type(error).__name__
            ours = isinstance(error, TokretError)
            tell(error={"kind": kind, "ours": ours, "exit": status, "text": message, "at": where})
        tell(steps=len(disk.steps))

    return in_child(work, during)


class Bench:
    """Indexes as they are before each change of a story, ready to be copied."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        self.story = story(backend)
        self.steps: list[list[Step]] = []
        place = folder / backend / "now" / "i"
        place.parent.mkdir(parents=True)
        with small():
            for i, change in enumerate(self.story):
                shutil.copytree(place.parent, self._base(i))
                with Disk(place.parent, Rule()) as disk:
                    change.call(place)
                self.steps.append(disk.steps)
                if wrong := faults(place, change.after):
                    raise SystemExit(f"{backend}, {change.name}, undisturbed: {wrong}")

    def _base(self, i: int) -> Path:
        return self.folder / self.backend / f"before{i}"

    def copied(self, i: int) -> Path:
        """A copy of the index before change ``i``."""
        place = self.folder / self.backend / "trial"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._base(i), place)
        return place / "i"

    def kill(self, i: int, at: int, kind: str = "kill") -> tuple[Outcome, list[str]]:
        """Kill the writer of change ``i`` at a step."""
        path, change = self.copied(i), self.story[i]
        outcome = changed(path, [change], Rule(at, kind))
        if not outcome.killed and outcome.done:
            return outcome, faults(path, change.after)  # threads took fewer steps this time
        if not outcome.killed:
            return outcome, [f"not killed: {outcome}"]
        return outcome, self._outlived(path, i, [change.before, change.after])

    def fail(
        self, i: int, at: int, code: int, lasting: bool, calls: tuple[str, ...]
    ) -> tuple[Outcome, list[str]]:
        """Refuse one call of change ``i``, or all of its kind from then on."""
        path, change = self.copied(i), self.story[i]
        outcome = changed(path, [change], Rule(at, "fail", code, lasting, calls))
        wrong = []
        if outcome.done:
            wrong += differences(path, change.after)
            allowed = [change.after]
        else:
            wrong += told_badly(outcome, path, code)
            unsure = outcome.error.get("kind") == "UnconfirmedError"
            allowed = [change.before, *([change.after] if unsure else [])]
            cleans = {"unlink", "rmdir"} & set(calls) if lasting else {outcome.struck.split()[0]}
            if not unsure and not cleans & {"unlink", "rmdir"}:
                wrong += self._unclean(path, change)
        return outcome, wrong + self._outlived(path, i, allowed)

    def short(self, i: int, at: int) -> tuple[Outcome, list[str]]:
        """Let one write take half of what it was given."""
        path, change = self.copied(i), self.story[i]
        outcome = changed(path, [change], Rule(at, "short"))
        return outcome, (faults(path, change.after) if outcome.done else [f"failed: {outcome}"])

    def limit(self, i: int, size: int) -> tuple[Outcome, list[str]]:
        """Let the system refuse files beyond ``size`` bytes (EFBIG)."""
        path, change = self.copied(i), self.story[i]

        def work(tell: Callable[..., None]) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            plain(path, change, tell)

        return self._refused(path, i, in_child(work))

    def fill(self, i: int, disk: Path, share: float) -> tuple[Outcome, list[str]]:
        """Make change ``i`` on a real disk that has room for a share of what it takes."""
        change = self.story[i]
        path = disk / "i"
        for old in disk.iterdir():
            shutil.rmtree(old)
        if (self._base(i) / "i").exists():
            shutil.copytree(self._base(i) / "i", path)
        free = shutil.disk_usage(disk).free
        with open(disk / "filler", "wb") as filler:
            filler.write(bytes(int(free - share * 400_000) // 4096 * 4096))
        outcome = in_child(lambda tell: plain(path, change, tell))
        wrong = [] if outcome.done else told_badly(outcome, path)
        if not outcome.done:
            wrong += differences(path, change.before) + self._unclean(path, change)
        (disk / "filler").unlink()
        return outcome, wrong + self._outlived(
            path, i, [change.after if outcome.done else change.before]
        )

    def _refused(self, path: Path, i: int, outcome: Outcome) -> tuple[Outcome, list[str]]:
        change = self.story[i]
        if outcome.done:
            return outcome, faults(path, change.after)
        wrong = told_badly(outcome, path) + self._unclean(path, change)
        return outcome, wrong + self._outlived(path, i, [change.before])

    def _unclean(self, path: Path, change: Change) -> list[str]:
        """What a refused change left behind that is of no use to the next try."""
        if (path / BUILD).exists() or not (path / "CURRENT").exists():
            left = [p.name for p in path.rglob("*.tmp")]  # a build goes on from what it wrote
        else:
            left = leftovers(path)
        return [f"after the error: {name}" for name in left]

    def _outlived(self, path: Path, i: int, allowed: Sequence[State]) -> list[str]:
        """Whether the index holds one of the states, and goes on from it."""
        found = [differences(path, state) for state in allowed]
        if all(found):
            return [" or ".join(map(str, found))]
        now = allowed[[not one for one in found].index(True)]
        follows = [change for change in self.story[i : i + 3] if change.before == now]
        if not follows:
            return []
        after = follows[0]
        with small():
            after.call(path)
        return [f"the next writer: {wrong}" for wrong in faults(path, after.after)]

    def cut(self, i: int, rng: random.Random, images: int) -> list[tuple[str, list[str]]]:
        """Cut the power at many moments of change ``i``; what was not synced may be gone.

        Before, or not: a sync of a writer fails, or a writer is killed; then the next one goes
        on with what it sees, though the disk may not hold it yet.
        """
        path, change = self.copied(i), self.story[i]
        start = self.folder / self.backend / "start"
        shutil.rmtree(start, ignore_errors=True)
        shutil.copytree(path.parent, start)
        syncs = [step.number for step in self.steps[i] if step.call == "fsync"]
        kind = rng.choice(["cut", "a failed sync, then cut", "killed, then cut"])
        trace: list[tuple[Any, ...]] = []
        if kind == "a failed sync, then cut":
            rule = Rule(
                rng.choice([rng.choice(syncs), *syncs[-6:]]),
                "fail",
                lasting=rng.random() < 0.5,
                calls=("fsync",),
            )
            disk = Disk(path.parent, rule, record=True)
            with disk, small(), contextlib.suppress(TokretError):
                change.call(path)
            trace += disk.trace or []
        elif kind == "killed, then cut":
            with Disk(path.parent, Rule(), record=True) as disk, small():
                change.call(path)
            trace += (disk.trace or [])[: rng.randrange(len(disk.trace or []))]
            tree = Tree(start, path.parent)
            for event in trace:
                tree.do(*event)
            shutil.rmtree(path.parent)
            written(tree.top, path.parent, 1.0, rng)
        first = len(trace)
        follows = i
        if differences(path, change.before) and i + 1 < len(self.story):
            follows = i + 1  # it was committed
        elif differences(path, change.before):
            return []
        with Disk(path.parent, Rule(), record=True) as disk, small():
            self.story[follows].call(path)
            disk.note("done")
        trace += disk.trace or []
        place = self.folder / self.backend / "image"
        results = []
        moments = sorted([*rng.choices(range(first, len(trace)), k=images - 1), len(trace)])
        for moment, done in states(start, path.parent, trace, place, rng, moments):
            allowed = [change.before, change.after] if follows == i else [change.after]
            allowed += [] if follows == i else [change.before, self.story[follows].after]
            allowed = [self.story[follows].after] if done else allowed
            told = f"{kind} after {moment} of {len(trace)} calls"
            results.append((told, self._outlived(place / "i", i, allowed)))
        return results


def plain(path: Path, change: Change, tell: Callable[..., None]) -> None:
    """Make a change on the disk as it is, and tell how it ended."""
    try:
        with small():
            change.call(path)
        tell(done=1)
    except BaseException as error:
        status, message = explained(error)
        ours = isinstance(error, TokretError)
        kind, where = type(error).__name__, "".join(traceback.format_exception(error))[-3000:]
        tell(error={"kind": kind, "ours": ours, "exit": status, "text": message, "at": where})


def told_badly(outcome: Outcome, path: Path, code: int | None = None) -> list[str]:
    """What is wrong with how an error was told."""
    error = outcome.error
    wrong = []
    if not error.get("ours") or error.get("exit") != 5:
        wrong.append(f"the error is {error.get('kind')} ({error.get('exit')}): {error.get('text')}")
        wrong.append(str(error.get("at")))
    elif str(path) not in error["text"]:
        wrong.append(f"the error names no file: {error['text']}")
    return wrong


def killed_often(
    folder: Path, backend_spec: str, width: int, rng: random.Random, kills: int
) -> list[tuple[str, list[str]]]:
    """One index that lives through many kills at random moments, each of several changes."""
    path = folder / "often" / "i"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    told = Story(backend_spec, width)
    results = []
    usual, waiting = 0.3, None  # a build that was killed has the index until it is finished
    while len(results) < kills:
        state, count, version = told.state, told.count, told.version
        changes = [waiting] if waiting else []
        if waiting:
            told.state = waiting.after
            told.spec, told.width = str(waiting.after.spec), waiting.after.width
        changes += [drawn(told, rng) for _ in range(4)]
        wait = rng.uniform(0, usual)

        def kill(pid: int, wait: float = wait) -> None:
            time.sleep(wait)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        began = time.monotonic()
        outcome = changed(path, changes, Rule(), kill)
        if not outcome.killed:
            usual = 0.9 * usual + 0.1 * (time.monotonic() - began) * 0.8
        elif outcome.error:
            results.append(("before the kill", [str(outcome.error)]))
        sure = state if outcome.done == 0 else changes[outcome.done - 1].after
        maybe = [sure, *([changes[outcome.done].after] if outcome.done < len(changes) else [])]
        found = [differences(path, one) for one in maybe]
        wrong = [" or ".join(map(str, found))] if all(found) else []
        told.state = maybe[[not one for one in found].index(True)] if not wrong else sure
        told.spec, told.width = told.state.spec or backend_spec, told.state.width
        told.count, told.version = count + 1000, version + 10  # nothing of them comes again
        cut_off = changes[outcome.done] if outcome.done < len(changes) else None
        builds = cut_off is not None and cut_off.name in ("build", "model change")
        waiting = cut_off if builds and told.state == sure and (path / BUILD).exists() else None
        if outcome.killed or wrong:
            results.append((f"{outcome.done} done", wrong))
        if wrong:
            print(wrong, file=sys.stderr)
            break
    change = waiting or drawn(told, rng)
    with small():
        change.call(path)
    if wrong := faults(path, change.after):
        results.append(("the last writer", wrong))
    return results
