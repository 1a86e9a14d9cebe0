"""A collection of package descriptions from Debian's archive, with known-item queries.

A passage is a package's name, its synopsis and its long description; of packages described by
the same words, or by the same name, one is kept. A query is one sentence taken out of a
description and found in no other; the passage it was taken from is what it must find.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

QUERIES = 500
SEED = 0
WORDS = range(8, 26)  # of a query
LEFT = 40  # words that stay in a passage whose sentence was taken
SOURCE = (
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    "http://deb.debian.org/debian bookworm main\n"
)


def fetched(work: Path) -> str:
    """All English descriptions as the archive's Translation file has them, by apt itself.

    The lists go to ``work``; the system's own are not touched.
    """
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    source = work / "sources.list"
    source.write_text(SOURCE, "ascii")
    options = {
        "Acquire::Languages": "en",
        "Dir::State::lists": lists,
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::SourceParts": "-",
    }
    if not list(lists.glob("*Translation-en*")):
        flags = [part for k, v in options.items() for part in ("-o", f"{k}={v}")]
        subprocess.run(["apt-get", "update", *flags], check=True, stdout=subprocess.DEVNULL)
    file = next(lists.glob("*Translation-en*"))
    told = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True)
    told.check_returncode()
    return told.stdout.decode("utf-8")


def descriptions(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(package, synopsis, paragraphs) of each record; a list item is a paragraph of its own."""
    for record in text.split("\n\n"):
        head, found, body = record.partition("Description-en:")
        name = re.search(r"^Package: (\S+)", head, re.M)
        if not found or name is None:
            continue
        synopsis, *lines = body.strip().split("\n")
        paragraphs: list[list[str]] = [[]]
        for line in lines:
            if line.strip() == ".":
                paragraphs.append([])
            elif line.startswith("  ") and re.match(r"\s+[-*+•]", line):
                paragraphs.append([line.strip()])
            else:
                paragraphs[-1].append(line.strip())
        yield name[1], synopsis.strip(), [" ".join(p) for p in paragraphs if p]


def collection(text: str) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Passages (id, text) and queries (id, text, id of its passage)."""
    seen: set[str] = set()
    packages = []
    for name, synopsis, paragraphs in descriptions(text):
        words = " ".join([synopsis, *paragraphs])
        if paragraphs and not seen & {words, name}:
            seen |= {words, name}
            packages.append((name, synopsis, paragraphs))
    split = [[_sentences(p) for p in paragraphs] for _, _, paragraphs in packages]
    holders = Counter(s for paragraphs in split for s in {x for p in paragraphs for x in p})
    chance = random.Random(SEED)
    order = list(range(len(packages)))
    chance.shuffle(order)
    taken: dict[int, str] = {}
    for i in order:
        if len(taken) == QUERIES:
            break
        total = sum(len(s.split()) for p in split[i] for s in p)
        fit = [
            s
            for p in split[i]
            for s in p
            if holders[s] == 1
            and len(s.split()) in WORDS
            and s[0].isupper()
            and s[-1] == "."
            and total - len(s.split()) >= LEFT
        ]
        if fit:
            taken[i] = chance.choice(fit)
    passages, queries = [], []
    for i, (name, synopsis, _) in enumerate(packages):
        kept = [" ".join(s for s in p if s != taken.get(i)) for p in split[i]]
        passages.append((name, " ".join([f"{name}: {synopsis}.", *filter(None, kept)])))
        if i in taken:
            queries.append((f"q{len(queries)}", taken[i], name))
    return passages, queries


def _sentences(paragraph: str) -> list[str]:
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph) if s.strip()]
