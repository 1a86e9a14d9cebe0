"""tokret eval: measure run files against judgements, and hold them to limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokret.cli.clean import escaped
from tokret.cli.ending import again
from tokret.cli.failure import GATE
from tokret.cli.options import QrelsFile, RemoveSelf, Split, complete_measure
from tokret.cli.talk import Talk
from tokret.errors import UsageError

if TYPE_CHECKING:
    from tokret.collections import Qrels
    from tokret.evaluation import Report

DEFAULT = ["nDCG@10", "R@100"]


def run(
    talk: Talk,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run files: TREC, MS MARCO or JSONL; - for one."),
    ],
    qrels: QrelsFile,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            help="nDCG@10, R@100, RR@10, AP ...; repeat it.",
            autocompletion=complete_measure,
        ),
    ] = None,
    split: Split = "test",
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Also the value of every query.")
    ] = False,
    remove_self: RemoveSelf = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Exit with 1 where a run is below, e.g. 'nDCG@10=0.68'; repeat it.",
        ),
    ] = None,
) -> int:
    """Measure runs against judgements. Every judged query counts; a missing one counts 0."""
    from tokret.collections import RunFile, self_matches
    from tokret.evaluation import environment, evaluate
    from tokret.evaluation.record import file_digest, now, numbers_of

    gates = [_gate(text) for text in fail_under or []]
    wanted = split_names(measures or DEFAULT)
    wanted += [name for name, _ in gates]
    judged = judgements(qrels, split)
    made_with = {
        "qrels": {"source": qrels, "split": split, "sha256": file_digest(qrels)},
        "date": now(),
        "command": again(talk, without=()),
    }
    policy = self_matches(qrels, remove_self)
    rows: list[dict[str, Any]] = []
    failed = []
    for path in runs:
        found = RunFile(path)
        report = evaluate(found, judged, wanted, remove_self=policy.drop, per_query=per_query)
        checked = [
            {"measure": name, "at_least": limit, "value": report[name], "passed": passed}
            for name, limit in gates
            for passed in [report[name] >= limit]
        ]
        failed += [(path, gate) for gate in checked if not gate["passed"]]
        row = {"run": path, "name": found.name, **report.to_dict(), "gates": checked}
        if talk.json:
            file = {"file": path, "name": found.name, "sha256": file_digest(path)}
            row["numbers"] = numbers_of(report, run=file, **made_with)
        rows.append(row)
        if per_query and not talk.json:
            _each_query(talk, path if len(runs) > 1 else "", report)
        for note in report.notes:
            talk.say(f"{path}: {note}")
    head: dict[str, Any] = {"qrels": qrels, "self_matches": policy.reason}
    if talk.json:
        head["environment"] = environment()
    talk.result({**head, "runs": rows, "passed": not failed})
    if not talk.json:
        _table(talk, rows)
        talk.say(report.policy_line)
        if policy.drop and remove_self is None:
            talk.say(policy.reason)
    for path, gate in failed:
        talk.warn(f"{path}: {gate['measure']} is {gate['value']:.4f}, below {gate['at_least']:g}.")
    return GATE if failed else 0


def split_names(texts: Sequence[str]) -> list[str]:
    """Take names between blanks or commas, brackets left whole."""
    parts = (re.split(r"[\s,]+(?![^(]*\))", text) for text in texts)
    return [name for names in parts for name in names if name]


def _gate(text: str) -> tuple[str, float]:
    from tokret.evaluation.names import measure_named

    name, equals, value = text.rpartition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = float("nan")
    if not equals or limit != limit:
        raise UsageError(f"--fail-under takes MEASURE=VALUE, such as nDCG@10=0.68; got {text!r}.")
    return str(measure_named(name)), limit


def judgements(qrels: str, split: str) -> Qrels:
    """Read the judgements of a file, a BEIR folder or an ir_datasets id."""
    from tokret.collections import load_collection, read_qrels

    return load_collection(qrels, split).qrels if Path(qrels).is_dir() else read_qrels(qrels)


def _each_query(talk: Talk, path: str, report: Report) -> None:
    """Lines of measure, query and value, with the run before them where there are several."""
    for measure, values in report.per_query.items():
        for query_id, value in values.items():
            fields = [path, measure, query_id, f"{value:.4f}"]
            talk.line("\t".join(fields if path else fields[1:]))


def _table(talk: Talk, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for measure in rows[0]["values"]:
        table.add_column(measure, justify="right", no_wrap=True)
    for row in rows:
        values = [f"{value:.4f}" for value in row["values"].values()]
        table.add_row(Text(escaped(row["run"])), *values)
    talk.show(table)
