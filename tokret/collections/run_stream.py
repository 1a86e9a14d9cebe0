"""Run files as a stream: one query at a time, whatever the size of the file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from itertools import chain, groupby, islice
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from tokret.collections.files import MAX_LINE_BYTES, Opened, where, whole
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
from tokret.collections.run import ranked
from tokret.errors import InputError

WANTED = "6 fields, qid Q0 docno rank score tag (TREC), or 3, qid<TAB>pid<TAB>rank (MS MARCO)"
LINES_AT_ONCE = 20_000  # of a TREC file, taken apart together

_T = TypeVar("_T")


class ScatteredError(InputError):
    """A run file whose lines of one query do not stand together."""


@dataclass(eq=False)
class RunFile:
    """A run file to pass over once, a query at a time; ``name`` is known after that.

    Iterating gives each query with its scores, best first, ties by document id. What is held
    is one query and the ids of those before. Raises what ``read_run`` raises, and
    ScatteredError where a query comes again after another: sort the file by query, or read
    it whole.
    """

    source: str | Path
    name: str = ""
    hits: int = attribute(default=0, init=False)

    def __iter__(self) -> Iterator[tuple[str, dict[str, float]]]:
        seen: set[str] = set()
        self.hits = 0
        with Opened(self.source) as opened:
            last, scores = "", dict[str, float]()
            for part in stretches(opened):
                if part.query_id != last or not seen:
                    if seen:
                        yield last, ranked(scores)
                    if part.query_id in seen:
                        raise ScatteredError(
                            f"{where(opened.name, part.number)}: query {part.query_id!r} comes "
                            "again after others; sort the lines by query, or read the run whole."
                        )
                    last, scores = part.query_id, {}
                    seen.add(last)
                part.add_to(scores, opened.name)
                self.hits += len(part.doc_ids)
                self.name = self.name or part.tag
            if seen:
                yield last, ranked(scores)
        if not seen:
            raise empty(self.source)
        self.name = self.name or name_of(self.source)


class Stretch(NamedTuple):
    """Lines of a run file that follow each other and are of one query."""

    query_id: str
    tag: str
    doc_ids: list[str]
    scores: list[float]
    number: int  # of the first line
    numbers: list[int]  # of the documents' lines

    def add_to(self, scores: dict[str, float], place: str) -> None:
        """Put the scores among those of the query. Raises InputError for a document twice."""
        expected = len(scores) + len(self.doc_ids)
        before = set(scores) if scores else set()
        scores.update(zip(self.doc_ids, self.scores, strict=True))
        if len(scores) == expected:
            return
        for doc_id, number in zip(self.doc_ids, self.numbers, strict=True):
            if doc_id in before:
                raise InputError(
                    f"{where(place, number)}: document {doc_id!r} comes twice for query "
                    f"{self.query_id!r}; wanted each once."
                )
            before.add(doc_id)


def empty(source: str | Path) -> InputError:
    """Say that a run file holds nothing."""
    return InputError(f"{source}: no hits in it; wanted lines of {WANTED}, or JSONL.")


def name_of(source: str | Path) -> str:
    """Name a run that does not name itself: by its file."""
    return "run" if str(source) == "-" else Path(source).name.partition(".")[0]


def stretches(opened: Opened, *, unescape: bool = False) -> Iterator[Stretch]:
    """Take a file apart into stretches of lines; its first line gives the format.

    ``unescape`` turns %XX of ids back where the format may hold it. Raises InputError with
    file and line for what is no run.
    """
    lines: Iterator[tuple[int, bytes]] = (
        (n, raw) for n, raw in opened.lines() if raw and not raw.isspace()
    )
    first = next(lines, None)
    if first is None:
        return
    read = _placed(opened, first, _reader)
    lines = chain([first], lines)
    if read is not _read_trec or unescape:
        yield from _line_by_line(opened, lines, read, unescape and read is not _read_jsonl)
        return
    while block := list(islice(lines, LINES_AT_ONCE)):
        yield from _trec_stretches(block) or _line_by_line(opened, iter(block), read, False)


def _trec_stretches(block: list[tuple[int, bytes]]) -> list[Stretch]:
    """Take sound TREC lines apart; nothing where any is not, to be told line by line."""
    rows = [raw.split() for _, raw in block]  # at ASCII blanks only: an id may hold others
    if any(len(row) != 6 for row in rows):
        return []
    queries, _, docs, _, numbers, tags = zip(*rows, strict=True)
    try:
        scores = list(map(float, numbers))
        if b"_" in b"".join(numbers) or not all(map(math.isfinite, scores)):
            return []
        ids = b"\n".join(queries).decode().split("\n")
        doc_ids = b"\n".join(docs).decode().split("\n")
    except ValueError:
        return []
    out, start = [], 0
    for query_id, same in groupby(ids):
        end = start + sum(1 for _ in same)
        tag = tags[start].decode("utf-8", "replace")
        places = [number for number, _ in block[start:end]]
        out.append(Stretch(query_id, tag, doc_ids[start:end], scores[start:end], places[0], places))
        start = end
    return out


def _line_by_line(
    opened: Opened,
    lines: Iterator[tuple[int, bytes]],
    read: Callable[[bytes], Iterable[_Hit]],
    unescape: bool,
) -> Iterator[Stretch]:
    last: Stretch | None = None
    for line in lines:
        for query_id, doc_id, score, tag in _placed(opened, line, lambda raw: list(read(raw))):
            if unescape:
                query_id, doc_id = unquote(query_id), unquote(doc_id)
            if last is None or last.query_id != query_id:
                if last is not None:
                    yield last
                last = Stretch(query_id, tag, [], [], line[0], [])
            if doc_id:  # without it: a query without hits, which only JSONL can say
                last.doc_ids.append(doc_id)
                last.scores.append(score)
                last.numbers.append(line[0])
    if last is not None:
        yield last


def _placed(opened: Opened, line: tuple[int, bytes], read: Callable[[bytes], _T]) -> _T:
    """Read a line; what is wrong with it is told with its place."""
    try:
        return read(whole(line[1], MAX_LINE_BYTES))
    except InputError as error:
        raise InputError(f"{where(opened.name, line[0])}: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where(opened.name, line[0])}: byte {error.start + 1} of an id is not UTF-8."
        ) from error


_Hit = tuple[str, str, float, str]  # query, document or nothing, score, tag


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
