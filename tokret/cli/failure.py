"""Which exit status an error means, and the sentence that goes with it."""

from __future__ import annotations

import errno

import typer

from tokret.errors import TokretError

GATE = 1  # finished, but what was checked did not pass
USAGE = 2
RESOURCES = 5
SPELT = {  # what the library calls it, and what the command line does
    "encoding_errors='replace'": "--encoding-errors replace",
    "on_duplicate 'skip' or 'replace'": "--on-duplicate skip or replace",
    "missing='drop'": "--missing drop",
    "missing='partial'": "--missing partial",
    "resample='collections'": "--resample collections",
    "resample='queries'": "--resample queries",
    "as query= or task=, one to leave out as drop=": "with --query or --task, one to leave out "
    "with --drop",
    "its name as system=": "its name with --system",
    "as query=.": "with --query.",
    "(Runs are ranked with their judgements: qrels.)": "Runs are ranked with --qrels.",
    "Plot a selection: Scores.select(systems=...).": "Leave --plot out.",
    "missing='add'": "--missing add",
    "write JSONL, or escape ids (escape=True)": "write JSONL: --format jsonl",
    "pass query vectors": "pass --query-vectors FILE with",
    "pass vectors": "pass --vectors FILE with",
    ", for example from open_vectors(path)": "",
    "normalize=False": "normalize = false in a --recipe",
    " (max_line_bytes raises the limit)": "",
}
CTRL_C = 130

_NO_ROOM = frozenset(
    code
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "ENOMEM", "EIO", "EMFILE", "ENFILE")
    if (code := getattr(errno, name, None)) is not None
)


def explained(error: BaseException) -> tuple[int, str]:
    """Exit status and message of whatever ended a command."""
    if isinstance(error, TokretError):
        message = str(error)
        for name, spelt in SPELT.items():
            message = message.replace(name, spelt)
        return error.exit_code, message
    if isinstance(error, KeyboardInterrupt | typer.Abort):  # Abort: at a question
        return CTRL_C, "Interrupted."
    if isinstance(error, MemoryError) or _out_of_memory(error):
        detail = f" ({error})" if str(error) else ""
        return RESOURCES, f"Out of memory{detail}. Close other programs, or work in smaller parts."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        if error.errno in _NO_ROOM:
            return RESOURCES, f"{where}{reason}. Make room, and run the same command again."
        return USAGE, f"{where}{reason}."
    kind = type(error).__name__
    return USAGE, (
        f"This is a bug in tokret: {kind}: {error}. "
        "TOKRET_DEBUG=1 shows where; please report it with that traceback."
    )


def _out_of_memory(error: BaseException) -> bool:
    """Whether a library's own error says that memory did not suffice."""
    if not isinstance(error, RuntimeError):
        return False
    from tokret.encoders.memory import out_of_memory

    return out_of_memory(error)
