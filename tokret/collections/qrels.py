"""Judgements: BEIR tables and TREC qrels, each pair judged once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tokret.collections import irds
from tokret.collections.files import Opened, text_lines, where
from tokret.errors import InputError

Qrels = dict[str, dict[str, int]]  # query id -> document id -> grade

WANTED = "query-id, corpus-id, score (BEIR) or qid 0 docno grade (TREC)"
_GRADE = re.compile(r"-?[0-9]{1,9}")
_HEADER = {"query-id", "query_id", "qid", "topic", "q_id"}


def read_qrels(source: str | Path) -> Qrels:
    """Read the judgements of a file, plain or compressed, or of an ir_datasets id.

    Fields stand between tabs, where ids may hold spaces, or between blanks; 3 of them
    (BEIR, its header optional) or 4 (TREC). Raises InputError with file and line for another
    number of fields, a grade that is no whole number, and a pair that comes twice.
    """
    qrels: Qrels = {}
    for place, query_id, doc_id, grade in _judgements(source):
        judged = qrels.setdefault(query_id, {})
        if doc_id in judged:
            raise InputError(
                f"{place}: query {query_id!r} and document {doc_id!r} are judged twice "
                f"({judged[doc_id]}, then {grade}); wanted each pair once."
            )
        judged[doc_id] = grade
    if not qrels:
        raise InputError(f"{source}: no judgements in it; wanted lines of {WANTED}.")
    return qrels


def _judgements(source: str | Path) -> Iterator[tuple[str, str, str, int]]:
    if irds.is_id(source):
        for number, row in enumerate(irds.judgements(str(source)), 1):
            yield where(str(source), number), *row
        return
    with Opened(source) as opened:
        width = 0
        for number, line in text_lines(opened):
            place = where(opened.name, number)
            fields = _fields(line)
            if not width and fields[0].lower() in _HEADER and not _GRADE.fullmatch(fields[-1]):
                width = len(fields)
                continue
            width = width or len(fields)
            if len(fields) not in (3, 4) or len(fields) != width:
                like = (
                    f"{width} fields as in the first line" if width in (3, 4) else "3 or 4 fields"
                )
                raise InputError(f"{place}: expected {like}, got {len(fields)}: {WANTED}.")
            if not _GRADE.fullmatch(fields[-1]):
                raise InputError(f"{place}: grade {fields[-1]!r}; wanted a whole number.")
            if not fields[0] or not fields[-2]:
                raise InputError(f"{place}: an empty id; wanted {WANTED}.")
            yield place, fields[0], fields[-2], int(fields[-1])


def _fields(line: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) in (3, 4):
        return [field.strip(" \r") for field in fields]
    return re.split(r"[ \t]+", line.strip(" \t\r"))
