"""Hits as a reader sees them: rank, id, score, and the passage with what matched marked.

Two strengths are told by weight and ground, not by hue alone; without colours by bold and
underline; where a terminal has no attributes at all, by asterisks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tokret.cli.clean import escaped, shown
from tokret.errors import TokretError
from tokret.types import Hit, Match

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from tokret.indexes import Index

STRONG = 0.7  # similarity from which a match is marked as strong
WEAK = 0.5  # similarity below which a best match says nothing
# English words that match their like everywhere; marking them would tell a reader nothing.
IDLE = frozenset(
    re.findall(
        "[a-z]+",
        "a an and are as at be been but by can could did do does for from had has have he her his "
        "how if in into is it its may might more most no nor not of on or our out s she should "
        "so such than that the their them then there these they this those to up was we were what "
        "when where which while who why will with would you your ",
    )
)
ROOM = 420  # characters of a passage that are shown
OPENING = 90  # characters of a document's beginning, where the passage is further on
LEAD = 60  # characters shown before the first mark of a snippet that starts midway
# Bold black on Okabe and Ito's sky blue: told apart by every kind of eye, on any ground.
STYLES = {"strong": "bold #000000 on #56b4e9", "weak": "underline"}
PLAIN = {"strong": "bold underline", "weak": "underline"}


class Mark(NamedTuple):
    """A stretch of the passage that answers a token of the query."""

    start: int
    end: int
    similarity: float


def explained(index: Index, query: str, hit: Hit) -> list[Match]:
    """Find what in the hit's passage answers the query; nothing where no model can tell."""
    try:
        matches = index.explain(query, hit.doc_id) if query else []
    except TokretError:
        return []
    return [
        m
        for m in matches
        if m.query_start < m.query_end and hit.start <= m.start < m.end <= hit.end
    ]


def hit_lines(
    console: Console, index: Index, query: str, rank: int, hit: Hit, explain: bool = False
) -> list[RenderableType]:
    """Lay out one hit: rank, id and score; how the document begins; what answers the query.

    ``explain`` adds each word of the query, what answers it, and how that was found.
    """
    from rich.padding import Padding
    from rich.text import Text

    matches = explained(index, query, hit)
    found = marks(hit.text, matches, hit.start)
    head = Text(f"{rank:>3}. ", "bold").append(escaped(hit.doc_id), "bold")
    head.append(f"  {hit.score:.4f}", "not bold dim")
    start, end = window(hit.text, found)
    body = cut(console, hit.text, found, start, end, continued=hit.start > 0)
    if start + hit.start > LEAD:
        document = index.document(hit.doc_id).text
        begins = found if hit.start == 0 else []
        opening = cut(console, document, begins, 0, _words(document, OPENING))
        body = Text("\n").join([opening, body])
    if not explain:
        return [head, Padding(body, (0, 2, 1, 5), expand=False)]
    answers = answered(query, index.document(hit.doc_id).text, matches)
    return [head, Padding(body, (0, 2, 0, 5)), Padding(answers, (0, 2, 1, 5), expand=False)]


def answered(query: str, text: str, matches: Sequence[Match]) -> RenderableType:
    """Tabulate query tokens, the tokens that answer them, similarities, how they were found."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for m in matches:
        stage = f", {m.first_stage} at first" if m.first_stage else ""
        asked = escaped(query[m.query_start : m.query_end])
        answer = escaped(text[m.start : m.end])
        cells = (asked, answer, f"{m.similarity:.3f}", f"by {m.by}{stage}")
        table.add_row(*map(Text, cells))
    return table


def marks(text: str, matches: Sequence[Match], start: int = 0) -> list[Mark]:
    """Whole words of ``text`` that answer a word of the query, in order, none overlapping.

    ``start`` is where ``text`` begins in what the matches point into.
    """
    found: dict[tuple[int, int], float] = {}
    for match in matches:
        first, last = match.start - start, match.end - start
        if not 0 <= first < last <= len(text):
            continue
        if match.similarity < WEAK or not any(map(str.isalnum, text[first:last])):
            continue
        while first > 0 and text[first - 1].isalnum():
            first -= 1
        while last < len(text) and text[last].isalnum():
            last += 1
        if text[first:last].casefold() in IDLE:
            continue
        found[first, last] = max(match.similarity, found.get((first, last), 0.0))
    out: list[Mark] = []
    for (first, last), similarity in sorted(found.items()):
        if out and first < out[-1].end:
            before = out.pop()
            similarity = max(similarity, before.similarity)
            first, last = before.start, max(last, before.end)
        out.append(Mark(first, last, similarity))
    return out


def window(text: str, found: Sequence[Mark], room: int = ROOM) -> tuple[int, int]:
    """Choose the stretch of at most ``room`` characters that holds the most similarity."""
    if len(text) <= room:
        return 0, len(text)

    def worth(start: int) -> float:
        return sum(m.similarity for m in found if start <= m.start and m.end <= start + room)

    starts = [0, *(max(mark.start - LEAD, 0) for mark in found)]
    start = max(starts, key=lambda at: (worth(at), -at))
    start = min(start, len(text) - room)
    if start > 0:  # not in the middle of a word
        start = next((i + 1 for i in range(start, start + LEAD) if text[i].isspace()), start)
    return start, _words(text, min(start + room, len(text)))


def cut(
    console: Console,
    text: str,
    found: Sequence[Mark],
    start: int,
    end: int,
    *,
    continued: bool = False,
) -> Text:
    """Take ``text[start:end]`` with its marks; dots stand for what is left out.

    ``continued`` is whether ``text`` itself has something before it.
    """
    from rich.text import Text

    safe = shown(text)
    styles = PLAIN if console.no_color else STYLES
    out = Text("... " if start > 0 or continued else "")
    at = start
    for mark in found:
        if mark.start < at or mark.end > end:
            continue
        strength = "strong" if mark.similarity >= STRONG else "weak"
        word = safe[mark.start : mark.end]
        out.append(safe[at : mark.start])
        if console.color_system is not None:
            out.append(word, styles[strength])
        else:
            out.append(f"*{word}*" if strength == "strong" else word)
        at = mark.end
    out.append(safe[at:end])
    return out.append(" ..." if end < len(safe) else "")


def _words(text: str, end: int) -> int:
    """Move ``end`` back to the end of a word, if one is near."""
    if end >= len(text):
        return len(text)
    return next((i for i in range(end, max(end - LEAD, 0), -1) if text[i].isspace()), end)
