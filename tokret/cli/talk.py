"""What a command says and where: data on standard output, talk on standard error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from tokret.cli.clean import escaped, to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA_VERSION = 1  # of the objects that --json prints; grows when a key changes its meaning
PIPE_WIDTH = 100  # columns of a table that no terminal shows
LONGEST = 4000  # characters of a message; an id in it may have thousands
LogFormat = Literal["text", "json"]


@dataclass
class Talk:
    """The voice of one run of one command. Every message of the command line passes here."""

    command: str = ""
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    progress: bool = True
    log_format: LogFormat = "text"
    argv: Sequence[str] = field(default_factory=list)

    @cached_property
    def out(self) -> Console:
        """Where results are shown."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """Where everything else is said."""
        return _console(stderr=True)

    def line(self, text: str) -> None:
        """One line of data."""
        sys.stdout.write(escaped(text, keep="\t") + "\n")

    def show(self, *renderables: RenderableType) -> None:
        """Tables and texts for a reader; nothing with --json."""
        if not self.json:
            for renderable in renderables:
                self.out.print(renderable)

    def result(self, payload: dict[str, Any]) -> None:
        """Print the object of --json; without --json, nothing."""
        if self.json:
            head = {"schema_version": SCHEMA_VERSION, "command": self.command}
            self.json_line({**head, **payload})

    def json_line(self, value: object) -> None:
        """One JSON object on a line of its own."""
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        sys.stdout.write(to_json(value, ascii_only=not encoding.startswith("utf")) + "\n")

    def say(self, text: str) -> None:
        """Tell something that --quiet leaves out."""
        if not self.quiet:
            self._tell("message", "", text)

    def urgent(self, text: str) -> None:
        """Tell something from within a signal handler, past every buffer."""
        if not self.quiet:
            event = to_json({"event": "message", "text": text}, ascii_only=True)
            line = event if self.log_format == "json" else text
            with suppress(OSError):
                os.write(2, f"{line}\n".encode())

    def warn(self, text: str) -> None:
        """Tell something that must be seen."""
        self._tell("warning", "warning: ", text)

    def fail(self, error: BaseException, message: str, status: int) -> None:
        """Tell why the command ends; the traceback only to those who asked for it."""
        if self.verbose or os.environ.get("TOKRET_DEBUG") == "1":
            self._write(escaped("".join(traceback.format_exception(error)), keep="\n"))
        message = cut(message)
        self._tell("error", "error: ", message, status=status)
        if self.json:
            kind = type(error).__name__
            with suppress(OSError):  # standard output itself may be what failed
                self.result({"error": {"type": kind, "message": message, "exit_code": status}})

    def event(self, name: str, **values: object) -> None:
        """One event of ``--log-format json``."""
        self._write(to_json({"event": name, **values}, ascii_only=True) + "\n")

    def _tell(self, event: str, prefix: str, text: str, **values: object) -> None:
        text = cut(text)
        if self.log_format == "json":
            self.event(event, text=text, **values)
            return
        from rich.text import Text

        style = {"warning": "bold yellow", "error": "bold red"}.get(event, "")
        try:
            shown = Text.assemble((prefix, style), escaped(text, keep="\n"))
            self.err.print(shown, soft_wrap=True)
        except BrokenPipeError:
            hush(sys.stderr)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except BrokenPipeError:
            hush(sys.stderr)


def cut(message: str) -> str:
    """Leave out the middle of a message that nobody could read whole."""
    if len(message) <= LONGEST:
        return message
    left = f" ... ({len(message) - LONGEST:,} characters) ... "
    return message[: LONGEST // 2] + left + message[-LONGEST // 2 :]


def hush(stream: Any) -> None:  # noqa: ANN401
    """Send what is still written to a closed pipe nowhere; the work goes on."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _console(*, stderr: bool) -> Console:
    from tokret.cli.console import SafeConsole

    console = SafeConsole(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console
