"""A comparison of runs as one HTML page: how sure, which queries, and what stands where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokret.cli.hits import IDLE, STRONG, Mark, window
from tokret.cli.html_page import page, table, text

if TYPE_CHECKING:
    from tokret.evaluation.comparison import Comparison, Difference

WIDTH, HEIGHT, LEFT, EDGE = 960, 260, 48, 24  # of the chart, in its own units
WIDEST = 18  # of a bar
SEEN = 100  # results among which a page looks for those of the other run
FIND = """
const found = document.querySelectorAll("details");
const box = Object.assign(document.createElement("input"),
  {id: "find", type: "search", placeholder: "Find in queries and passages"});
box.setAttribute("aria-label", box.placeholder);
document.getElementById("tools").append(box);
box.addEventListener("input", () => {
  const wanted = box.value.toLowerCase();
  for (const query of found) query.hidden = !query.textContent.toLowerCase().includes(wanted);
});
"""

Marks = Callable[[str, str, str], Sequence[Mark]]


@dataclass(frozen=True)
class Sources:
    """Where a page finds texts; what is not known is left out.

    ``queries`` and ``documents`` are texts by id; ``marks`` gives the stretches of a
    document's text that answer a query, from the query's text, the document's id and text.
    """

    queries: Mapping[str, str]
    documents: Mapping[str, str]
    marks: Marks | None = None
    marked: str = ""  # what a mark means, for the reader
    graded: bool = False  # whether marks are strong and weak


def shared_words(query: str, doc_id: str, content: str) -> list[Mark]:
    """Mark the words of a document that are the query's own, without an index to ask."""
    words = {w.casefold() for w in re.findall(r"\w+", query)} - IDLE
    return [
        Mark(m.start(), m.end(), 0.0)
        for m in re.finditer(r"\w+", content)
        if m[0].casefold() in words
    ]


def shown_queries(
    comparison: Comparison, b: str, measure: str, limit: int
) -> list[tuple[str, float]]:
    """Choose the queries that differ most, the greatest loss first; others where room is."""
    gaps = comparison.by_query(b, measure)
    first = sorted(gaps, key=lambda query: (-abs(gaps[query]), query))[:limit]
    return [(query, gap) for query, gap in gaps.items() if query in set(first)]


def compare_page(
    comparison: Comparison,
    qrels: Mapping[str, Mapping[str, int]],
    sources: Sources,
    *,
    limit: int = 50,
    k: int = 5,
    policy: str = "",
    alpha: float = 0.05,
) -> str:
    """Write the page. The first run is compared with each other, by the first measure."""
    a, measure = comparison.names[0], comparison.measures[0]
    title = f"{' / '.join(comparison.names)}: {measure}"
    body = ["<header>", f"<h1>{text(title)}</h1>", *_intro(comparison, policy), "</header><main>"]
    body += [_values(comparison), _differences(comparison, alpha), '<p id="tools"></p>']
    for n, b in enumerate(comparison.names[1:], 1):
        difference = comparison.find(b, measure, a)
        chosen = shown_queries(comparison, b, measure, limit)
        body.append(f"<h2>{text(b)} against {text(a)}</h2>")
        body.append(f"<p>{_sentence(difference, comparison, alpha)}</p>")
        body.append(_chart(comparison, difference, n, {query for query, _ in chosen}))
        body.append(_legend(comparison, chosen, sources))
        for query, gap in chosen:
            body.append(_query(comparison, qrels, sources, n, query, gap, k))
    body.append(f"</main><footer>{_method(comparison)}</footer>")
    return page(title, body, FIND)


def _intro(comparison: Comparison, policy: str) -> Iterator[str]:
    yield f'<p class="dim">{len(comparison.queries)} judged queries.'
    if policy:
        yield f" {text(policy[0].upper() + policy[1:])}."
    yield "</p>"
    for name, report in zip(comparison.names, comparison.reports, strict=True):
        for note in report.notes:
            yield f'<p class="dim">{text(name)}: {text(note)}</p>'


def _values(comparison: Comparison) -> str:
    rows = [
        [text(name), *(f"{report[m]:.4f}" for m in comparison.measures)]
        for name, report in zip(comparison.names, comparison.reports, strict=True)
    ]
    return table("Means", ["run", *map(text, comparison.measures)], rows)


def _differences(comparison: Comparison, alpha: float) -> str:
    rows = []
    for d in comparison.differences:
        sure = d.significant(alpha)
        rows.append(
            [
                f"{text(d.b)} &minus; {text(d.a)}",
                text(d.measure),
                f'<span class="{_side(d.difference)}">{d.difference:+.4f}</span>',
                f"{d.low:+.4f} to {d.high:+.4f}",
                f"{d.effect:+.2f}",
                f"{d.wins} / {d.ties} / {d.losses}",
                *(_p(d.p[test]) for test in ("randomisation", "t", "wilcoxon")),
                _p(d.holm["randomisation"]) + (" *" if sure else ""),
                _p(d.bh["randomisation"]),
            ]
        )
    confidence = comparison.method["confidence"]
    head = ["", "measure", "difference", f"{confidence:.0%} interval", "d"]
    head += ["+ / = / &minus;", "p rand", "p t", "p Wilc", "Holm", "BH"]
    caption = (
        "Differences, Cohen's d; queries won, alike and lost; p-values of the randomisation test, "
        f"the t-test and Wilcoxon's; the first corrected by Holm (* below {alpha:g}) and by "
        "Benjamini and Hochberg."
    )
    return table(caption, head, rows)


def _sentence(d: Difference, comparison: Comparison, alpha: float) -> str:
    sure = d.significant(alpha)
    what = "is more than chance" if sure else "may be chance"
    return (
        f"The difference of {d.difference:+.4f} in {text(d.measure)} "
        f"({comparison.method['confidence']:.0%} interval {d.low:+.4f} to {d.high:+.4f}) "
        f"{what} at {alpha:g} (p {_p(d.holm['randomisation'])} after Holm). "
        f"{d.wins} queries won, {d.ties} alike, {d.losses} lost."
    )


def _chart(comparison: Comparison, d: Difference, n: int, linked: set[str]) -> str:
    gaps = comparison.by_query(d.b, d.measure, d.a)
    most = max(max(map(abs, gaps.values())), 1e-9)
    step = min((WIDTH - LEFT) / len(gaps), WIDEST)
    middle, room = HEIGHT / 2, HEIGHT / 2 - EDGE
    label = (
        f"Differences of {len(gaps)} queries in {d.measure}, sorted: {d.losses} below 0, "
        f"{d.ties} at 0, {d.wins} above."
    )
    out = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="{text(label)}">'
    ]
    for value in (most, most / 2, -most / 2, -most):
        y = middle - room * value / most
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:+.2f}</text>')
    for i, (query, gap) in enumerate(gaps.items()):
        height = max(room * abs(gap) / most, 0.75)
        y = middle - height if gap > 0 else middle
        bar = (
            f'<rect class="{_side(gap)}" x="{LEFT + i * step:.2f}" y="{y:.1f}" '
            f'width="{max(step * 0.85, 0.4):.2f}" height="{height:.1f}">'
            f"<title>{text(query)}: {gap:+.4f}</title></rect>"
        )
        if query in linked:
            bar = f'<a href="#{_anchor(comparison, n, query)}">{bar}</a>'
        out.append(bar)
    out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>')
    above, below = text(_short(d.b)), text(_short(d.a))
    out.append(f'<text class="up" x="{LEFT + 4}" y="14">above: {above} is better</text>')
    out.append(
        f'<text class="down" x="{WIDTH - 4}" y="{HEIGHT - 6}" text-anchor="end">'
        f"below: {below} is better</text></svg>"
    )
    return "".join(out)


def _legend(comparison: Comparison, chosen: Sequence[tuple[str, float]], sources: Sources) -> str:
    total = len(comparison.queries)
    which = "All queries" if len(chosen) == total else f"The {len(chosen)} of {total} queries that"
    which += ", " if len(chosen) == total else " differ most, "
    marked = ""
    if sources.marks is not None:
        marked = (
            f' Marked: {text(sources.marked)}; <mark class="strong">strong</mark> and '
            f'<mark class="weak">weak</mark>.'
            if sources.graded
            else f' Marked: <mark class="weak">{text(sources.marked)}</mark>.'
        )
    return f'<p class="dim">{which}the greatest loss first.{marked}</p>'


def _query(
    comparison: Comparison,
    qrels: Mapping[str, Mapping[str, int]],
    sources: Sources,
    n: int,
    query: str,
    gap: float,
    k: int,
) -> str:
    q = comparison.queries.index(query)
    before, after = comparison.values[0, 0, q], comparison.values[n, 0, q]
    asked = sources.queries.get(query, "")
    sign = "&#9650;" if gap > 0 else "&#9660;" if gap < 0 else "="
    lists = [comparison.heads[r].get(query, []) for r in (0, n)]
    sides = []
    for side, r in enumerate((0, n)):
        other = {doc_id: rank for rank, (doc_id, _) in enumerate(lists[1 - side], 1)}
        rows = [
            _hit(rank, doc_id, score, qrels.get(query, {}), other, asked, sources)
            for rank, (doc_id, score) in enumerate(lists[side][:k], 1)
        ]
        listed = f"<ol>{''.join(rows)}</ol>" if rows else "<p>No results.</p>"
        sides.append(f"<section><h3>{text(comparison.names[r])}</h3>{listed}</section>")
    return (
        f'<details><summary><span class="change {_side(gap)}">{sign} {gap:+.4f}</span> '
        f'<span class="id">{text(query)}</span> {text(asked)} '
        f'<span class="dim">{before:.4f} &rarr; {after:.4f}</span></summary>'
        f'<div class="two" id="{_anchor(comparison, n, query)}">{"".join(sides)}</div></details>'
    )


def _hit(
    rank: int,
    doc_id: str,
    score: float,
    grades: Mapping[str, int],
    other: Mapping[str, int],
    asked: str,
    sources: Sources,
) -> str:
    grade = grades.get(doc_id)
    told = "unjudged" if grade is None else f"relevant, grade {grade}"
    kind = "" if grade is None else "relevant"
    if grade is not None and grade < 1:
        told, kind = "not relevant", "wrong"
    place = f"there at {other[doc_id]}" if doc_id in other else f"not in the first {SEEN} there"
    content = sources.documents.get(doc_id)
    passage = ""
    if content:
        found = list(sources.marks(asked, doc_id, content)) if asked and sources.marks else []
        passage = f"<p>{_passage(content, found)}</p>"
    return (
        f'<li class="{kind}"><span class="id">{rank}. {text(doc_id)}</span> '
        f'<span class="grade">{told}</span> '
        f'<span class="dim">{score:.4f}, {place}</span>{passage}</li>'
    )


def _passage(content: str, found: Sequence[Mark]) -> str:
    """The stretch of a text that says most, its marks in it."""
    start, end = window(content, found)
    out, at = ["&hellip; "] if start else [], start
    for mark in found:
        if mark.start < at or mark.end > end:
            continue
        strength = "strong" if mark.similarity >= STRONG else "weak"
        out.append(text(content[at : mark.start]))
        out.append(f'<mark class="{strength}">{text(content[mark.start : mark.end])}</mark>')
        at = mark.end
    out.append(text(content[at:end]))
    return "".join(out) + (" &hellip;" if end < len(content) else "")


def _method(comparison: Comparison) -> str:
    m = comparison.method
    signs = "all" if m["exact"] else "drawn"
    return (
        f'<p class="dim">Tests are two-sided and paired by query. Randomisation: '
        f"{m['permutations']:,} {signs} assignments of signs. Interval: percentile bootstrap, "
        f"{m['resamples']:,} resamples of queries. Corrections are over the "
        f"{m['comparisons']} comparisons of the {m['family']}. Seed {m['seed']}.</p>"
    )


def _anchor(comparison: Comparison, n: int, query: str) -> str:
    return f"r{n}-q{comparison.queries.index(query)}"


def _side(gap: float) -> str:
    return "up" if gap > 0 else "down" if gap < 0 else "dim"


def _p(value: float) -> str:
    return "&lt;.0001" if value < 0.0001 else f"{value:.4f}"


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."
