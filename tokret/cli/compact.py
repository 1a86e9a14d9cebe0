"""tokret compact: drop what was deleted from an index, and join small segments."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tokret.cli.clean import counted
from tokret.cli.ending import again, stopped
from tokret.cli.info import size
from tokret.cli.interrupts import Interrupts
from tokret.cli.options import IndexDir, MaxMemory
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk


def run(
    talk: Talk,
    path: IndexDir,
    force: Annotated[
        bool, typer.Option("--force", help="Leave no deleted row, however little it frees.")
    ] = False,
    max_memory: MaxMemory = None,
) -> int:
    """Free the space of deleted documents and join small segments, in one commit."""
    from tokret.indexes import Index
    from tokret.indexes.store import Store

    began = time.monotonic()
    version = Store(path).version()
    with Index.open(path) as index, Interrupts(talk) as stop:

        def report(step: str, done: int, total: int) -> None:
            view.bytes(step, done, total)
            if stop():
                raise KeyboardInterrupt

        try:
            with ProgressView(talk, unit="bytes") as view:
                done = index.compact(force=force, max_memory=max_memory, progress=report)
        except KeyboardInterrupt:
            told = f"Nothing was changed. To try again: {again(talk)}"
            return stopped(talk, stop.status, told, committed=Store(path).version() > version)
        deleted = index.info()["deleted"]
    seconds = round(time.monotonic() - began, 3)
    talk.result({"index": str(path), **vars(done), "deleted": deleted, "seconds": seconds})
    if talk.json:
        return 0
    freed = done.bytes_before - done.bytes_after
    talk.line(
        f"{path}: {counted(done.segments_before, 'segment')} became {done.segments_after}, "
        f"{size(done.bytes_before)} became {size(done.bytes_after)}"
        if freed or done.segments_before != done.segments_after
        else f"{path}: nothing to gain in {counted(done.segments_after, 'segment')}"
    )
    if deleted:
        talk.say(
            f"{counted(deleted, 'deleted document')} still take{'s' * (deleted == 1)} space; "
            "--force frees it"
        )
    return 0
