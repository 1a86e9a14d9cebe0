"""tokret doctor: what this installation has, what it lacks, and whether it computes right."""

from __future__ import annotations

from tokret.cli.failure import GATE
from tokret.cli.talk import Talk

SIGNS = {"ok": ("ok", "bold green"), "note": ("--", "dim"), "warn": ("!!", "bold yellow")}
FAILED = ("XX", "bold red")


def run(talk: Talk) -> int:
    """Check the installation: kernels, encoder, optional parts; exit status 1 if broken."""
    from rich.table import Table
    from rich.text import Text

    from tokret.cli.checks import checks
    from tokret.cli.clean import escaped

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    found = []
    for check in checks():
        found.append(check)
        sign, style = SIGNS.get(check.status, FAILED)
        detail = Text(escaped(check.detail))
        if check.advice:
            detail.append(f"\n{escaped(check.advice)}", "italic")
        table.add_row(Text(sign, style), Text(check.name, "bold"), detail)
    broken = [check.name for check in found if check.status == "fail"]
    talk.show(table)
    talk.result({"healthy": not broken, "checks": found})
    if broken:
        talk.warn(f"Broken: {', '.join(broken)}.")
    return GATE if broken else 0
