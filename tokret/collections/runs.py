"""Run files: TREC, MS MARCO and JSONL, read without trust in ranks, written without ties."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from tokret.collections.files import MAX_LINE_BYTES, Opened, open_output, where, whole
from tokret.collections.records import (
    ID_FIELDS,
    QUERY_ID_FIELDS,
    Decimal,
    Integer,
    Record,
    decoded,
    field,
    json_record,
)
from tokret.collections.run import Ranking, Run, falling, ranked, ties_of
from tokret.errors import InputError, UsageError
from tokret.types import Hit

__all__ = ["RUN_FORMATS", "Ranking", "Run", "RunFormat", "Written", "read_run", "write_run"]

RunFormat = Literal["trec", "msmarco", "jsonl"]
RUN_FORMATS: tuple[RunFormat, ...] = ("trec", "msmarco", "jsonl")

WANTED = "6 fields, qid Q0 docno rank score tag (TREC), or 3, qid<TAB>pid<TAB>rank (MS MARCO)"


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
        for number, escaped, (query_id, doc_id, score, tag) in _hits(opened):
            if unescape and escaped:
                query_id, doc_id = unquote(query_id), unquote(doc_id)
            scores = ranking.get(query_id)
            if scores is None:
                scores = ranking[query_id] = {}
            name = name or tag
            if not doc_id:
                continue  # a query without hits, which only JSONL can say
            if doc_id in scores:
                raise InputError(
                    f"{where(opened.name, number)}: document {doc_id!r} comes twice for query "
                    f"{query_id!r}; wanted each once."
                )
            scores[doc_id] = score
    if not ranking:
        raise InputError(f"{source}: no hits in it; wanted lines of {WANTED}, or JSONL.")
    ties = sum(ties_of(scores) for scores in ranking.values())
    default = "run" if str(source) == "-" else Path(source).name.partition(".")[0]
    return Run({q: ranked(scores) for q, scores in ranking.items()}, name or default, ties)


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


_Hit = tuple[str, str, float, str]  # query, document or nothing, score, tag


def _hits(opened: Opened) -> Iterator[tuple[int, bool, _Hit]]:
    """Yield line, whether ids may be escaped, and each hit; the first line gives the format."""
    read = None
    for number, raw in opened.lines():
        if not raw.strip():
            continue
        try:
            read = read or _reader(raw)
            for hit in read(whole(raw, MAX_LINE_BYTES)):
                yield number, read is not _read_jsonl, hit
        except InputError as error:
            raise InputError(f"{where(opened.name, number)}: {error}.") from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where(opened.name, number)}: byte {error.start + 1} of an id is not UTF-8."
            ) from error


def _reader(first: bytes) -> Callable[[bytes], Iterable[_Hit]]:
    # A TREC line may begin with an id "{", a JSON line may have 6 words.
    json_like = first.lstrip().startswith(b"{")
    if json_like and first.rstrip().endswith(b"}"):
        with contextlib.suppress(InputError):
            json_record(decoded(first, "strict"))
            return _read_jsonl
    fields = first.split(b"\t")
    if len(fields) == 3 and fields[2].strip().isdigit():
        return _read_msmarco
    if len(first.split()) == 6:
        return _read_trec
    if json_like:
        return _read_jsonl
    raise InputError(f"expected 6 fields, got {len(first.split())}: wanted {WANTED}, or JSONL")


def _read_trec(raw: bytes) -> Iterable[_Hit]:
    fields = raw.split()  # at ASCII blanks only: an id may hold others
    if len(fields) != 6:
        raise InputError(f"expected 6 fields, got {len(fields)}: qid Q0 docno rank score tag")
    query_id, _, doc_id, _, score, tag = fields
    return ((query_id.decode(), doc_id.decode(), _number(score), tag.decode("utf-8", "replace")),)


def _read_msmarco(raw: bytes) -> Iterable[_Hit]:
    fields = raw.split(b"\t")
    if len(fields) != 3:
        raise InputError(f"expected 3 fields between tabs, got {len(fields)}: qid, pid, rank")
    query_id, doc_id, rank = (field.strip() for field in fields)
    if not query_id or not doc_id:
        raise InputError("an empty id; wanted qid, pid, rank between tabs")
    if not rank.isdigit() or len(rank) > 12 or int(rank) == 0:
        raise InputError(f"rank {rank.decode('utf-8', 'replace')!r}; wanted 1, 2, 3, ...")
    return ((query_id.decode(), doc_id.decode(), -float(rank), ""),)


def _read_jsonl(raw: bytes) -> Iterable[_Hit]:
    record = json_record(decoded(raw, "strict"))
    query_id = field(record, QUERY_ID_FIELDS, "id", "strict")
    tag = record.get("run")
    tag = tag if isinstance(tag, str) else ""
    if "hits" not in record:
        return (_json_hit(query_id, record, tag),)
    hits = record["hits"]
    if not isinstance(hits, list) or not all(isinstance(hit, dict) for hit in hits):
        raise InputError('\'hits\' is no list of objects; wanted [{"doc_id": …, "score": …}]')
    return [_json_hit(query_id, hit, tag) for hit in hits] or ((query_id, "", 0.0, tag),)


def _json_hit(query_id: str, hit: Record, tag: str) -> _Hit:
    doc_id = field(hit, ("doc_id", *ID_FIELDS[2:]), "id", "strict")
    score = hit.get("score")
    if not isinstance(score, Integer | Decimal):
        raise InputError('no number under \'score\'; wanted {"doc_id": …, "score": …}')
    return query_id, doc_id, _number(score.encode()), tag


def _number(text: bytes) -> float:
    try:
        if b"_" in text:  # a number to Python alone
            raise ValueError
        score = float(text)
    except ValueError:
        shown = text.decode("utf-8", "replace")
        raise InputError(f"score {shown!r}; wanted a number") from None
    if not math.isfinite(score):
        raise InputError(f"score {text.decode()}; wanted a finite number")
    return score
