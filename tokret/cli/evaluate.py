"""tokret evaluate: run the experiments of a file and show their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokret.cli.talk import Talk


def run(
    talk: Talk,
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="An experiment file.")],
) -> int:
    """Index, search and evaluate as an experiment file says."""
    raise NotImplementedError
