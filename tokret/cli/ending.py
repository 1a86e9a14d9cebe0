"""How long work ends: its summary, or how to go on after a stop."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tokret.cli.clean import counted
from tokret.cli.corpus import Reading
from tokret.cli.progress import duration
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from tokret.indexes import Added


def again(talk: Talk, without: tuple[str, ...] = ("--restart",)) -> str:
    """Spell the command line to type once more."""
    return shlex.join(["tokret", *(word for word in talk.argv if word not in without)])


def stopped(talk: Talk, status: int, message: str, *, committed: bool = False) -> int:
    """Tell what a stopped command left behind, and pass its status on.

    ``committed`` says that the signal came too late, and nothing is left to be done.
    """
    told = "The work was done and committed before." if committed else message
    talk.warn(f"Stopped. {told}")
    resume = None if committed else again(talk)
    talk.result({"stopped": True, "exit_code": status, "resume": resume})
    return status


def summary(talk: Talk, added: Added, reading: Reading, seconds: float, where: str) -> None:
    """Tell what was stored, how fast, and what was left out."""
    if not talk.json:
        parts = [counted(added.documents, "document"), counted(added.passages, "passage")]
        if added.tokens:
            parts.append(counted(added.tokens, "token"))
        talk.line(f"{where}: {', '.join(parts)} in {duration(seconds)}")
    if seconds >= 1:
        tokens = f", {added.tokens / seconds:,.0f} tokens/s" if added.tokens else ""
        rate = added.documents / seconds
        talk.say(f"Speed: {rate:,.{0 if rate >= 10 else 1}f} documents/s{tokens}")
    noted = {
        "cut, being longer than a passage (--long split keeps all)": added.truncated,
        "left out, as the id was there already": added.skipped,
        "put in the place of an older one": added.replaced,
        "without any text": added.empty,
    }
    for what, count in noted.items():
        if count:
            talk.say(f"{counted(count, 'document')} {what}")
    if reading.left_out:
        place = f"; see {reading.quarantine}" if reading.stats.quarantined else ""
        talk.warn(f"Left out, as unreadable: {counted(reading.left_out, 'record')}{place}.")
    if reading.stats.fields_left_out:
        values = counted(reading.stats.fields_left_out, "value")
        talk.warn(f"Left out of metadata: {values}; first {reading.stats.field_fault}.")
