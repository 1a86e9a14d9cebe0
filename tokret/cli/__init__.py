"""The tokret command: one module for each subcommand.

Exit statuses: 0 done; 1 finished, but a gate failed; 2 wrong request; 3 wrong input
data; 4 index missing, damaged or of another kind; 5 out of memory, disk or device;
6 another writer holds the index; 130 and 143 stopped by Ctrl-C or SIGTERM, to be resumed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tokret import __version__
from tokret.cli import (
    add,
    compact,
    compare,
    delete,
    demo,
    doctor,
    eval,
    evaluate,
    explain_measure,
    fuse,
    index,
    info,
    leaderboard,
    plot,
    repair,
    search,
    update,
    verify,
)
from tokret.cli.command import command
from tokret.cli.failure import explained
from tokret.cli.talk import Talk, hush

COMMANDS = {
    "demo": demo,
    "index": index,
    "search": search,
    "add": add,
    "update": update,
    "delete": delete,
    "compact": compact,
    "info": info,
    "verify": verify,
    "repair": repair,
    "eval": eval,
    "evaluate": evaluate,
    "compare": compare,
    "explain-measure": explain_measure,
    "fuse": fuse,
    "leaderboard": leaderboard,
    "plot": plot,
    "doctor": doctor,
}

# The root of what the parser raises, wherever this Typer keeps it.
_REFUSED: type[Any] = typer.BadParameter.__mro__[2]


class Root(TyperGroup):
    """The group of all commands; every way out of the program goes through here."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401
    ) -> int:
        """Run one command; the answer, or the process, carries its exit status."""
        argv = list(sys.argv[1:] if args is None else args)
        talk = Talk(json="--json" in argv, argv=argv)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a narrow encoding must not end the program
                stream.reconfigure(errors="backslashreplace")
        status = self._status(talk, argv, **extra)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            hush(sys.stdout)
        except OSError as error:
            status = status or _failed(talk, error)
            hush(sys.stdout)
        if standalone_mode:
            sys.exit(status)
        return status

    def _status(self, talk: Talk, argv: list[str], **extra: Any) -> int:  # noqa: ANN401
        try:
            extra.update(args=argv, prog_name="tokret", standalone_mode=False, obj=talk)
            return int(super().main(**extra) or 0)
        except BrokenPipeError:  # the reader has seen enough
            hush(sys.stdout)
            return 0
        except SystemExit as end:  # completion is done; or Typer met a closed pipe
            if isinstance(end.__context__, BrokenPipeError):
                hush(sys.stdout)
                return 0
            return end.code if isinstance(end.code, int) else 0
        except _REFUSED as error:
            return _refused(talk, error)
        except (Exception, KeyboardInterrupt) as error:
            return _failed(talk, error)


def _failed(talk: Talk, error: BaseException) -> int:
    status, message = explained(error)
    talk.fail(error, message, status)
    return status


def _refused(talk: Talk, error: Any) -> int:  # noqa: ANN401
    """Tell what the parser did not understand, and how the command is used."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    message = error.format_message().replace("Value error, ", "")
    near = getattr(error, "possibilities", None)
    if near:
        message = f"{error.message}. Did you mean {' or '.join(near)}?"
    if context is not None:
        talk.fail(
            error,
            f"{message}\n{context.get_usage()}\nAll options: {context.command_path} --help",
            2,
        )
    else:
        talk.fail(error, message, 2)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tokret {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Token-level (multi-vector, late-interaction) retrieval: index, search, evaluate.

    Start with: tokret demo
    """


app = typer.Typer(
    name="tokret",
    cls=Root,
    callback=root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _module in COMMANDS.items():
    app.command(_name)(command(_module.run))


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    app()
