"""Run files: TREC, MS MARCO and JSONL, read without trust in ranks, written without ties."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tokret.collections.files import Opened, open_output
from tokret.collections.run import Ranking, Run, falling, ranked, ties_of
from tokret.collections.run_stream import empty, name_of, stretches
from tokret.errors import InputError, UsageError
from tokret.types import Hit

__all__ = ["RUN_FORMATS", "Ranking", "Run", "RunFormat", "Written", "read_run", "write_run"]

RunFormat = Literal["trec", "msmarco", "jsonl"]
RUN_FORMATS: tuple[RunFormat, ...] = ("trec", "msmarco", "jsonl")


@dataclass(frozen=True)
class Written:
    """What a run file holds; ``empty`` are the queries without a hit.

    TREC and MS MARCO files cannot name those, so whoever evaluates one must count every
    judged query.
    """

    queries: int
    hits: int
    empty: tuple[str, ...]
    moved: int  # scores lowered to keep the order strict


def read_run(source: str | Path, *, unescape: bool = False) -> Run:
    """Read a TREC, MS MARCO or JSONL run, plain or compressed; told by its first line.

    Ranks are ignored, save for MS MARCO files, which have nothing else: score = -rank.
    ``unescape`` undoes the ``escape`` of write_run. Raises InputError with file and line for
    a wrong number of fields, NaN or infinity, and a document that comes twice in a query.
    """
    ranking: Ranking = {}
    name = ""
    with Opened(source) as opened:
        for part in stretches(opened, unescape=unescape):
            name = name or part.tag
            part.add_to(ranking.setdefault(part.query_id, {}), opened.name)
    if not ranking:
        raise empty(source)
    for query_id, scores in ranking.items():
        ranking[query_id] = ranked(scores)  # one at a time: both orders would fill the memory
    ties = sum(ties_of(scores) for scores in ranking.values())
    return Run(ranking, name or name_of(source), ties)


def write_run(
    run: Run | Mapping[str, Mapping[str, float] | Iterable[Hit | tuple[str, float]]],
    path: str | Path,
    *,
    format: RunFormat = "trec",
    name: str | None = None,
    escape: bool = False,
) -> Written:
    """Write a run whole or not at all; ``-`` is standard output, .gz and .zst compress.

    Scores are written so that reading them gives the same number, and fall strictly within a
    query. JSONL names every query, with no hits too. ``escape`` writes blanks and ``%`` of
    ids as %XX, as in a URL; without it an id with blanks is refused with InputError, for no
    reader could tell it from two fields.
    """
    if format not in RUN_FORMATS:
        raise UsageError(f"No run format {format!r}; known: {', '.join(RUN_FORMATS)}.")
    if not isinstance(run, Run):
        run = Run.of(run)
    tag = run.name if name is None else name
    if format == "trec" and (not tag.isprintable() or len(tag.split()) != 1 or " " in tag):
        raise UsageError(f"A TREC run's name is one word; got {tag!r}.")
    hits = moved = 0
    with open_output(path) as out:
        for query_id, scores in run.ranking.items():
            strict = falling(ranked(scores))
            hits += len(strict)
            moved += sum(strict[doc_id] != scores[doc_id] for doc_id in strict)
            try:
                lines = "".join(_LINES[format](query_id, strict, tag, escape)).encode("utf-8")
            except UnicodeEncodeError as error:
                raise InputError(
                    f"Query {query_id!r}: an id holds half a surrogate pair; wanted text."
                ) from error
            out.write(lines)
    empty = tuple(query_id for query_id, scores in run.ranking.items() if not scores)
    return Written(len(run.ranking), hits, empty, moved)


def _trec(query_id: str, scores: dict[str, float], tag: str, escape: bool) -> Iterator[str]:
    query = _word(query_id, "query", escape)
    for rank, (doc_id, score) in enumerate(scores.items(), 1):
        yield f"{query} Q0 {_word(doc_id, 'document', escape)} {rank} {score!r} {tag}\n"


def _msmarco(query_id: str, scores: dict[str, float], tag: str, escape: bool) -> Iterator[str]:
    query = _word(query_id, "query", escape)
    for rank, doc_id in enumerate(scores, 1):
        yield f"{query}\t{_word(doc_id, 'document', escape)}\t{rank}\n"


def _jsonl(query_id: str, scores: dict[str, float], tag: str, escape: bool) -> Iterator[str]:
    hits = [{"doc_id": doc_id, "score": score} for doc_id, score in scores.items()]
    yield json.dumps({"query_id": query_id, "run": tag, "hits": hits}, ensure_ascii=False) + "\n"


_LINES = {"trec": _trec, "msmarco": _msmarco, "jsonl": _jsonl}


def _word(text: str, what: str, escape: bool) -> str:
    """Make an id one field of a line."""
    if escape:
        return "".join(quote(c) if c == "%" or _breaks(c) else c for c in text)
    if not text or any(map(_breaks, text)):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise InputError(
            f"The {what} id {shown!r} holds blanks or is empty, which a run file of this format "
            "cannot hold; write JSONL, or escape ids (escape=True)."
        )
    return text


def _breaks(character: str) -> bool:
    # A byte order mark counts: at the start of a file it would be skipped.
    return character.isspace() or character < " " or character in "\x7f\ufeff"
