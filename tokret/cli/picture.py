"""A terminal's picture as SVG, whole in itself: it asks no server for a font."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # columns, whatever the terminal's
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"


def canvas() -> Console:
    """Make a console that shows nothing and remembers all, in full colour."""
    from tokret.cli.console import SafeConsole

    return SafeConsole(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        markup=False,
        highlight=False,
        emoji=False,
    )


def save(console: Console, path: Path, title: str) -> None:
    """Write what the console remembers. The same contents give the same file."""
    usual = inspect.signature(console.export_svg).parameters["code_format"].default
    own = re.sub(r"@font-face \{\{.*?\}\}\s*", "", usual, flags=re.DOTALL)
    own = own.replace("Fira Code, monospace", FONTS)
    svg = console.export_svg(title=title, code_format=own, unique_id="tokret", clear=False)
    path.write_text(svg, encoding="utf-8")
