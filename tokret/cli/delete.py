"""tokret delete: take documents out of an index."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tokret.cli.clean import counted, escaped
from tokret.cli.options import DryRun, IndexDir, Where
from tokret.cli.talk import Talk
from tokret.errors import InputError, UsageError

MANY = 1000  # documents from which on a deletion is confirmed


def run(
    talk: Talk,
    path: IndexDir,
    doc_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Documents to delete.")
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="A file with one id a line; - for standard input.")
    ] = None,
    where: Where = None,
    missing: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do with an id that is not there.")
    ] = "error",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Delete documents from an index, in one commit."""
    from tokret.indexes import Index

    wanted = list(dict.fromkeys([*(doc_ids or []), *(_listed(ids) if ids else [])]))
    if not wanted and where is None:
        raise UsageError("Name the documents to delete, or give --ids FILE or --where FILTER.")
    with Index.open(path) as index:
        absent = [doc_id for doc_id in wanted if doc_id not in index]
        filtered = set() if where is None else set(index.ids(where))
        count = len(filtered.union(wanted).difference(absent))
        if dry_run:
            deleted = count
        else:
            if count > MANY and not yes:
                _confirm(count, path)
            deleted = index.delete(wanted, where=where, missing=missing)
        left = len(index) - (deleted if dry_run else 0)
    talk.result(
        {
            "index": str(path),
            "dry_run": dry_run,
            "deleted": deleted,
            "missing": absent,
            "documents": left,
        }
    )
    if not talk.json:
        verb = "Would delete" if dry_run else "Deleted"
        talk.line(
            f"{verb} {counted(deleted, 'document')}; {left:,} {'would be ' if dry_run else ''}left"
        )
    if absent and (dry_run or missing == "skip"):
        some = ", ".join(repr(doc_id) for doc_id in absent[:5])
        talk.warn(
            f"Not in the index: {counted(len(absent), 'id')}: "
            f"{some}{', ...' if len(absent) > 5 else ''}."
        )


def _listed(file: Path) -> list[str]:
    """Ids of a file, one a line; empty lines are left out."""
    from tokret.collections.files import MAX_LINE_BYTES, Opened, where, whole

    ids = []
    with Opened(file) as opened:
        for number, raw in opened.lines():
            try:
                doc_id = whole(raw, MAX_LINE_BYTES).decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"not UTF-8 ({error.reason} at byte {error.start + 1})"
                raise InputError(f"{where(opened.name, number)}: {byte}.") from error
            except InputError as error:
                raise InputError(f"{where(opened.name, number)}: {error}.") from error
            if doc_id:
                ids.append(doc_id)
    return ids


def _confirm(count: int, path: Path) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"Deleting {count:,} documents of {path} wants --yes (-y).")
    if not typer.confirm(f"Delete {count:,} documents of {escaped(str(path))}?", err=True):
        raise UsageError("Nothing was deleted.")
