"""A page whole in itself: no network, nothing of a stranger's text that runs, light and dark.

Colours are Okabe and Ito's, told apart by every kind of eye; what a colour says is said in
words, by place or by shape too.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

from tokret.cli.clean import shown

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1b1b; --dim: #5c5c5c; --line: #d5d5d5;
  --panel: #f6f6f6; --up: #0072b2; --down: #b34700; --strong: #bfe3fa; --weak: #fdf0c0; }
@media (prefers-color-scheme: dark) { :root { --ground: #161616; --ink: #ececec; --dim: #a9a9a9;
  --line: #3d3d3d; --panel: #212121; --up: #56b4e9; --down: #e69f00; --strong: #0b4f78;
  --weak: #4d4210; } }
* { box-sizing: border-box; }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 76rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: .5rem 0; }
a { color: var(--up); } :focus-visible { outline: 3px solid var(--up); outline-offset: 2px; }
.dim { color: var(--dim); } .up { color: var(--up); } .down { color: var(--down); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table { margin-bottom: 1.2rem; }
th, td { border-bottom: 1px solid var(--line); font-size: .92rem;
  padding: .3rem .6rem .3rem 0; text-align: right;
  white-space: nowrap; } th:first-child, td:first-child, .name { text-align: left; }
svg { display: block; height: auto; max-width: 100%; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .axis { stroke: var(--dim); } svg .grid { stroke: var(--line); }
svg .up { fill: var(--up); } svg .down { fill: var(--down); }
svg a:focus rect, svg a:hover rect { fill: var(--ink); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; overflow-wrap: anywhere; }
.change { display: inline-block; font-variant-numeric: tabular-nums; font-weight: 600;
  min-width: 5.5rem; }
.two { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr; padding: 0 .8rem .8rem; }
@media (max-width: 48rem) { .two { grid-template-columns: 1fr; } }
.two section { min-width: 0; } ol { list-style: none; margin: 0; padding: 0; }
li { background: var(--panel); border-left: 4px solid var(--line); margin: .5rem 0;
  overflow-wrap: anywhere; padding: .4rem .7rem; }
li.relevant { border-left-color: var(--up); } li.wrong { border-left-style: dotted; }
li p { margin: .2rem 0 0; } .id { font-weight: 600; } .grade { font-size: .85rem; }
mark { border-radius: 2px; color: inherit; padding: 0 .1em; }
mark.strong { background: var(--strong); font-weight: 600; }
mark.weak { background: var(--weak); text-decoration: underline; text-underline-offset: 3px; }
#find { background: var(--ground); border: 1px solid var(--dim); border-radius: 4px;
  color: inherit; font: inherit; padding: .3rem .6rem; width: min(100%, 26rem); }
@media print { details > * { display: block; } }
"""


def text(value: object) -> str:
    """Make any text a piece of HTML that says it, in an element or in a quoted attribute."""
    return html.escape(shown(str(value)), quote=True)


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay out cells that are HTML already; the first of a row names it."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = []
    for row in rows:
        first, *others = row
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<p class="dim">{caption}</p>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def page(title: str, body: Iterable[str], script: str = "") -> str:
    """Put a page together. Its policy allows this style and this script, and nothing else."""
    allowed = f"'sha256-{_sha256(script)}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'sha256-{_sha256(STYLE)}'; script-src {allowed}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>{STYLE}</style>\n</head>\n<body>",
        *body,
        f"<script>{script}</script>" if script else "",
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _sha256(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
