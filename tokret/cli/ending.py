"""How long work ends: its summary, or how to go on after a stop."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tokret.cli.corpus import Reading
from tokret.cli.progress import duration
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from tokret.indexes import Added


def again(talk: Talk, without: tuple[str, ...] = ("--restart",)) -> str:
    """Spell the command line to type once more."""
    return shlex.join(["tokret", *(word for word in talk.argv if word not in without)])


def stopped(talk: Talk, status: int, message: str) -> int:
    """Tell what a stopped command left behind, and pass its status on."""
    talk.warn(f"Stopped. {message}")
    talk.result({"stopped": True, "exit_code": status, "resume": again(talk)})
    return status


def summary(talk: Talk, added: Added, reading: Reading, seconds: float, where: str) -> None:
    """Tell what was stored, how fast, and what was left out."""
    if not talk.json:
        parts = [f"{added.documents:,} documents", f"{added.passages:,} passages"]
        if added.tokens:
            parts.append(f"{added.tokens:,} tokens")
        talk.line(f"{where}: {', '.join(parts)} in {duration(seconds)}")
    if seconds >= 1:
        tokens = f", {added.tokens / seconds:,.0f} tokens/s" if added.tokens else ""
        talk.say(f"Speed: {added.documents / seconds:,.0f} documents/s{tokens}")
    noted = {
        "were longer than a passage and cut (--long split keeps all)": added.truncated,
        "were left out, their id was there": added.skipped,
        "took the place of an older one": added.replaced,
        "have no text": added.empty,
    }
    for what, count in noted.items():
        if count:
            talk.say(f"{count:,} documents {what}")
    if reading.left_out:
        place = f"; they are in {reading.quarantine}" if reading.stats.quarantined else ""
        talk.warn(f"{reading.left_out:,} records could not be read and were left out{place}.")
