"""tokret compare: runs query by query, with tests, intervals and a page to look into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokret.cli.clean import escaped
from tokret.cli.corpus import encoder_spec
from tokret.cli.ending import again
from tokret.cli.eval import judgements, split_names
from tokret.cli.options import Model, QrelsFile, RemoveSelf, Split, check_folder, complete_measure
from tokret.cli.talk import Talk
from tokret.errors import UsageError

if TYPE_CHECKING:
    from tokret.cli.compare_page import Marks, Sources
    from tokret.cli.hits import Mark
    from tokret.collections import Qrels
    from tokret.evaluation.comparison import Comparison
    from tokret.indexes import Index

DEFAULT = ["nDCG@10", "R@100"]
RUNS_AT_LEAST = 2


def run(
    talk: Talk,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run files; the first is the baseline.")
    ],
    qrels: QrelsFile,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "--measures",
            help="nDCG@10, 'R@100 RR@10' ...; repeat it. The page shows the first.",
            autocompletion=complete_measure,
        ),
    ] = None,
    split: Split = "test",
    every_pair: Annotated[
        bool, typer.Option("--all-pairs", help="Every pair of runs, not only with the first.")
    ] = False,
    family: Annotated[
        Literal["table", "measure"],
        typer.Option(help="What Holm and BH correct over: all comparisons, or a measure's."),
    ] = "table",
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Mark what is below, after Holm.")
    ] = 0.05,
    permutations: Annotated[
        int, typer.Option(min=1, help="Drawn signs of the randomisation test.")
    ] = 20_000,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap interval.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of both.")] = 0,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="With --json, also the values of every query.")
    ] = False,
    remove_self: RemoveSelf = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of the page: passages, and tokens that match."),
    ] = None,
    model: Model = None,
    collection: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of the page: queries and passages; or --qrels DIR."),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of the page: texts of queries.")
    ] = None,
    page_queries: Annotated[
        int, typer.Option(min=1, help="Of the page: queries shown in full.")
    ] = 50,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Of the page: results shown.")] = 5,
) -> None:
    """Compare runs query by query: how large the differences are, and how sure."""
    from tokret.cli.compare_page import SEEN
    from tokret.collections import RunFile, self_matches
    from tokret.evaluation import environment
    from tokret.evaluation.comparison import compare
    from tokret.evaluation.record import file_digest, now

    check_folder(html)
    if len(runs) < RUNS_AT_LEAST:
        raise UsageError("A comparison takes two runs or more: tokret compare a.run b.run ...")
    if len(set(runs)) < len(runs):
        raise UsageError("A run is given twice; it does not differ from itself.")
    if "-" in runs:
        raise UsageError("compare reads files, not standard input.")
    judged = judgements(qrels, split)
    policy = self_matches(qrels, remove_self)
    found = compare(
        {name: RunFile(name) for name in runs},
        judged,
        split_names(measures or DEFAULT),
        pairs="all" if every_pair else "baseline",
        family=family,
        permutations=permutations,
        resamples=resamples,
        seed=seed,
        remove_self=policy.drop,
        keep=max(k, SEEN) if html is not None else 0,
    )
    if html is not None:
        folder = collection or (Path(qrels) if Path(qrels).is_dir() else None)
        _write(html, found, judged, folder, index, model, queries, page_queries, k, alpha)
    if talk.json:
        talk.result(
            {
                "qrels": qrels,
                "self_matches": policy.reason,
                **found.to_dict(per_query=per_query),
                "digests": {name: file_digest(name) for name in [*runs, qrels]},
                "date": now(),
                "command": again(talk, without=()),
                "environment": environment(),
            }
        )
        return
    _show(talk, found, alpha)
    for name, report in zip(found.names, found.reports, strict=True):
        for note in report.notes:
            talk.say(f"{name}: {note}")
    if html is not None:
        talk.say(f"Page: {html}")


def _show(talk: Talk, found: Comparison, alpha: float) -> None:
    from rich.table import Table
    from rich.text import Text

    means = Table(box=None, pad_edge=False)
    means.add_column("run", overflow="fold")
    for measure in found.measures:
        means.add_column(measure, justify="right", no_wrap=True)
    for name, report in zip(found.names, found.reports, strict=True):
        means.add_row(Text(escaped(name)), *(f"{report[m]:.4f}" for m in found.measures))
    talk.show(means, Text(""))
    for a, b in dict.fromkeys((d.a, d.b) for d in found.differences):
        talk.show(Text(f"{escaped(b)} against {escaped(a)}", "bold"))
        rows = Table(box=None, pad_edge=False)
        confidence = f"{found.method['confidence']:.0%} interval"
        rows.add_column("")
        for head in ("diff", confidence, "d", "+/=/-", "p rand", "p t", "p Wilc", "Holm", "BH"):
            rows.add_column(head, justify="right", no_wrap=True)
        for d in found.differences:
            if (d.a, d.b) != (a, b):
                continue
            star = "*" if d.significant(alpha) else " "
            rows.add_row(
                d.measure,
                f"{d.difference:+.4f}",
                f"{d.low:+.4f} {d.high:+.4f}",
                f"{d.effect:+.2f}",
                f"{d.wins}/{d.ties}/{d.losses}",
                *(_p(d.p[test]) for test in ("randomisation", "t", "wilcoxon")),
                f"{_p(d.holm['randomisation'])}{star}",
                _p(d.bh["randomisation"]),
            )
        talk.show(rows)
    m = found.method
    talk.say(
        f"* below {alpha:g}: randomisation test, {m['permutations']:,} assignments of signs, "
        f"corrected by Holm over the {m['comparisons']} comparisons of the {m['family']}. "
        f"{len(found.queries)} queries; d is Cohen's; +/=/- are queries won, alike, lost."
    )


def _p(value: float) -> str:
    return "<.0001" if value < 0.0001 else f"{value:.4f}"


def _write(
    path: Path,
    found: Comparison,
    judged: Qrels,
    folder: Path | None,
    index: Path | None,
    model: str | None,
    queries: str | None,
    limit: int,
    k: int,
    alpha: float,
) -> None:
    from tokret.cli.compare_page import compare_page, shown_queries
    from tokret.indexes.files import write_atomically

    measure = found.measures[0]
    chosen = {
        query: None for b in found.names[1:] for query, _ in shown_queries(found, b, measure, limit)
    }
    wanted = {
        doc_id
        for heads in found.heads
        for query in chosen
        for doc_id, _ in heads.get(query, [])[:k]
    }
    texts = _queries(folder, queries, chosen)
    note = found.reports[0].policy_line.partition("; ")[2]

    with _sources(texts, folder, index, model, wanted) as sources:
        content = compare_page(found, judged, sources, limit=limit, k=k, policy=note, alpha=alpha)
    write_atomically(path, content.encode("utf-8", "replace"))


def _queries(folder: Path | None, file: str | None, chosen: Iterable[str]) -> dict[str, str]:
    from tokret.collections import read_queries

    source = file or folder
    if source is None:
        return {}
    known = set(chosen)
    return {q.query_id: q.text for q in read_queries(source) if q.query_id in known}


@contextmanager
def _sources(
    texts: dict[str, str],
    folder: Path | None,
    index: Path | None,
    model: str | None,
    wanted: set[str],
) -> Iterator[Sources]:
    """Find the texts of documents in the index, else in the collection, else nowhere."""
    from tokret.cli.compare_page import Sources, shared_words
    from tokret.collections import read_corpus

    if index is not None:
        from tokret.indexes import Index

        with Index.open(index, encoder=encoder_spec(model) if model else None) as opened:
            documents = {d: opened.document(d).text for d in wanted if d in opened}
            yield Sources(texts, documents, _matches(opened), "similar to the query", True)
        return
    documents = {}
    for document in read_corpus(folder) if folder is not None else ():
        if document.doc_id in wanted:
            documents[document.doc_id] = document.contents
        if len(documents) == len(wanted):
            break
    yield Sources(texts, documents, shared_words, "words of the query")


def _matches(index: Index) -> Marks:
    from tokret.cli.hits import explained, marks
    from tokret.types import Hit

    def found(query: str, doc_id: str, content: str) -> list[Mark]:
        whole = Hit(doc_id, 0.0, 0, len(content), content)
        return marks(content, explained(index, query, whole))

    return found
