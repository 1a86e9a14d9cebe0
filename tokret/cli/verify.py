"""tokret verify: check every byte of an index against its digests."""

from __future__ import annotations

from typing import Annotated

import typer

from tokret.cli.clean import counted
from tokret.cli.failure import GATE
from tokret.cli.options import IndexDir
from tokret.cli.progress import ProgressView
from tokret.cli.talk import Talk


def run(
    talk: Talk,
    path: IndexDir,
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Every digest, or sizes and descriptions only.")
    ] = True,
) -> int:
    """Check an index for damage; exit status 1 where some is found."""
    from tokret.indexes import verify

    mode = "full" if full else "quick"
    with ProgressView(talk) as view:
        damages = verify(path, mode, lambda done, total: view.bytes("verify", done, total))
    talk.result({"index": str(path), "mode": mode, "whole": not damages, "damage": damages})
    if talk.json:
        return GATE if damages else 0
    for damage in damages:
        talk.line(f"{damage.file}: {damage.message}")
    if damages:
        found = counted(len(damages), "damaged file")
        talk.warn(f"{found} in {path}; `tokret repair` saves what is whole.")
        return GATE
    talk.line(f"{path}: whole ({mode} check)")
    return 0
