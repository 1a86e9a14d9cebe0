"""The console of all commands: what nobody escaped is still no steering of the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from tokret.cli.clean import shown


class SafeConsole(Console):
    """A console that prints no control character but its own, and lets a closed pipe be an error.

    Every text on its way to the terminal passes ``render``: in tables, bars and messages.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Lay out, with harmful characters replaced; widths stay."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or (text.isascii() and text.replace("\n", "").isprintable()):
                yield segment
            else:
                yield Segment("\n".join(map(shown, text.split("\n"))), segment.style)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever handles all errors."""
        raise BrokenPipeError
