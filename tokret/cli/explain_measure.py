"""tokret explain-measure: a measure of one query, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokret.cli.clean import escaped
from tokret.cli.eval import judgements
from tokret.cli.options import QrelsFile, RemoveSelf, Split, complete_measure
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tokret.evaluation.terms import Explained, Term

SHORT = 20  # ranks up to which rows that add nothing are shown too


def run(
    talk: Talk,
    measure: Annotated[
        str,
        typer.Argument(
            metavar="MEASURE", help="nDCG@10, AP, RR@10 ...", autocompletion=complete_measure
        ),
    ],
    run_file: Annotated[
        str, typer.Option("--run", metavar="FILE", help="A run: TREC, MS MARCO or JSONL.")
    ],
    qrels: QrelsFile,
    query: Annotated[str, typer.Option("--query", metavar="ID", help="The id of a judged query.")],
    split: Split = "test",
    remove_self: RemoveSelf = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also every rank that adds nothing.")
    ] = False,
) -> None:
    """Show where the value of a measure for a query comes from, and what ties could change."""
    from rich.text import Text

    from tokret.collections import RunFile, self_matches
    from tokret.evaluation.terms import explain_measure

    policy = self_matches(qrels, remove_self)
    found = explain_measure(
        RunFile(run_file), judgements(qrels, split), measure, query, remove_self=policy.drop
    )
    talk.result({"run": run_file, "qrels": qrels, **found.to_dict()})
    if talk.json:
        return
    talk.show(Text(f"{found.measure} of query {escaped(query)}: {found.value:.6f}", "bold"))
    talk.show(Text(str(found.definition.get("formula", ""))))
    for key in ("gain", "ideal", "relevant"):
        if key in found.definition:
            talk.show(Text(f"{key}: {found.definition[key]}"))
    talk.show(Text(""), _table(found.terms, every or len(found.terms) <= SHORT))
    if found.ideal:
        talk.show(Text("\nIdeal ranking"), _table(found.ideal, True, ideal=True))
    talk.show(Text(f"\n{_sum(found)}", "bold"))
    for line in _about(found):
        talk.say(line)


def _table(terms: Sequence[Term], every: bool, *, ideal: bool = False) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    if not ideal:
        table.add_column("document", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
    table.add_column("grade", justify="right")
    table.add_column("term", no_wrap=True)
    table.add_column("=", justify="right", no_wrap=True)
    table.add_column("sum", justify="right", no_wrap=True)
    for term in terms:
        if not every and not term.term:
            continue
        grade = "unjudged" if term.grade is None else str(term.grade)
        sums = [grade, term.text, f"{term.term:.6f}", f"{term.sum:.6f}"]
        if ideal:
            table.add_row(str(term.rank), *sums)
        else:
            score = f"{term.score:.6g}" + (" tied" if term.tied else "     ")
            table.add_row(str(term.rank), Text(escaped(str(term.doc_id))), score, *sums)
    return table


def _sum(found: Explained) -> str:
    total = found.terms[-1].sum if found.terms else 0.0
    if found.divided_by == "nothing":
        return f"{found.measure} = {total:.6f}"
    if not found.divisor:
        return f"{found.measure} = 0, for there is nothing to divide by: {found.divided_by} 0"
    return (
        f"{found.measure} = {total:.6f} / {found.divisor:.6g} ({found.divided_by}) "
        f"= {found.value:.6f}"
    )


def _about(found: Explained) -> list[str]:
    lines = [
        f"{found.documents} documents retrieved; {found.judged} judged for this query, "
        f"{found.relevant} of them relevant."
    ]
    if not found.documents:
        lines.append("The run has no results for this query, which counts 0.")
    least, expected, most = found.ties
    if any(term.tied for term in found.terms) or least != most:
        lines.append(
            f"Over all orders of equal scores: {least:.6f} at least, {expected:.6f} expected, "
            f"{most:.6f} at most; shown is the order by document id."
        )
    return lines
