"""What turns a plain function into a command: shared options, one Talk, warnings."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tokret.cli.failure import explained
from tokret.cli.talk import LogFormat, Talk

_COMMON: dict[str, tuple[Any, Any]] = {
    "json": (bool, typer.Option("--json", help="Print one JSON object on standard output.")),
    "quiet": (bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")),
    "verbose": (
        int,
        typer.Option(
            "--verbose", "-v", count=True, show_default=False, help="Show more: tracebacks."
        ),
    ),
    "no_progress": (bool, typer.Option("--no-progress", help="Show no progress.")),
    "log_format": (
        LogFormat,
        typer.Option("--log-format", help="Form of what goes to standard error."),
    ),
}
_DEFAULTS = {
    "json": False,
    "quiet": False,
    "verbose": 0,
    "no_progress": False,
    "log_format": "text",
}
_PANEL = "Output"


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give ``run(talk, ...)`` the shared options; what it returns is the exit status."""
    signature = inspect.signature(run, eval_str=True)
    own = [p for name, p in signature.parameters.items() if name != "talk"]

    def wrapped(ctx: typer.Context, **options: Any) -> None:  # noqa: ANN401
        shared = {name: options.pop(name) for name in _COMMON}
        talk = ctx.obj if isinstance(ctx.obj, Talk) else Talk()
        talk.command = ctx.info_name or ""
        talk.json, talk.quiet = shared["json"], shared["quiet"]
        talk.verbose, talk.progress = shared["verbose"], not shared["no_progress"]
        talk.log_format = shared["log_format"]
        try:
            with _warnings_told(talk):
                status = run(talk, **options) or 0
        except KeyboardInterrupt as error:  # Typer would end without a word
            status, message = explained(error)
            talk.fail(error, message, status)
        raise typer.Exit(status)

    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    common = [
        inspect.Parameter(name, keyword, default=_DEFAULTS[name], annotation=_annotated(name))
        for name in _COMMON
    ]
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[context, *(p.replace(kind=keyword) for p in own), *common],
        return_annotation=None,
    )
    wrapped.__doc__, wrapped.__name__ = run.__doc__, run.__name__
    return wrapped


def _annotated(name: str) -> Any:  # noqa: ANN401
    kind, option = _COMMON[name]
    option.rich_help_panel = _PANEL
    return Annotated[kind, option]


@contextmanager
def _warnings_told(talk: Talk) -> Iterator[None]:
    """Pass what tokret warns of to the user, and others' warnings to whom asked for more."""
    with warnings.catch_warnings():
        warnings.simplefilter("default" if talk.verbose else "ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"tokret\b")

        def tell(message: Warning | str, *_: object, **__: object) -> None:
            talk.warn(str(message))

        warnings.showwarning = tell
        yield
