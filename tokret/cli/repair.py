"""tokret repair: save what is whole of a damaged index, and say what is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokret.cli.clean import counted
from tokret.cli.failure import GATE
from tokret.cli.options import IndexDir
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk

SHOWN = 10  # ids that are named; --json names all


def run(
    talk: Talk,
    path: IndexDir,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the repaired index to a new folder; this one stays untouched."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be kept and lost; write nothing.")
    ] = False,
    undelete: Annotated[
        bool,
        typer.Option(
            "--undelete",
            help="Where the list of deleted documents is damaged, bring them back, not drop all.",
        ),
    ] = False,
) -> int:
    """Save what is whole of a damaged index; exit status 1 where something is lost."""
    from tokret.indexes import repair

    with ProgressView(talk) as view:
        done = repair(
            path,
            out,
            dry_run=dry_run,
            undelete=undelete,
            progress=lambda n, total: view.bytes("verify", n, total),
        )
    status = 0 if done.complete else GATE
    facts = {"index": str(path), "dry_run": dry_run, "complete": done.complete, **vars(done)}
    talk.result(facts | {"out": None if out is None else str(out)})
    if talk.json:
        return status
    for damage in done.damage:
        talk.line(f"{damage.file}: {damage.message}")
    for note in done.notes:
        talk.line(note)
    if not done.damage:
        talk.line(f"{path}: whole; nothing to repair")
        return 0
    lost = len(done.lost) + done.unnamed
    for doc_id in done.lost[:SHOWN]:
        talk.line(f"lost: {doc_id}")
    if len(done.lost) > SHOWN:
        talk.line(f"lost: {len(done.lost) - SHOWN:,} more; --json names all")
    if done.unnamed:
        talk.line(f"lost: {counted(done.unnamed, 'document')} whose ids are damaged too")
    for segment in done.unknown:
        talk.line(f"lost: segment {segment}, nobody knows how many documents")
    for name, ids in done.fields.items():
        of = "documents that cannot be named" if ids is None else counted(len(ids), "document")
        talk.line(f"lost: field {name} of {of}")
    would = "would be " if dry_run else ""
    talk.line(f"{path}: {counted(done.kept, 'document')} {would}kept, {lost:,} lost")
    if done.written is not None:
        where = f"version {done.written}" if out is None else f"{out}"
        talk.say(f"The repaired index is {where}.")
    if done.original is not None:
        talk.say(f"The damaged files are in {done.original}; remove them when they are not needed.")
    return status
