"""A test collection: corpus, judged queries, judgements, and its policy on self-matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokret.collections import irds
from tokret.collections.corpus import read_corpus
from tokret.collections.files import bare_suffix, missing
from tokret.collections.qrels import Qrels, read_qrels
from tokret.collections.queries import read_queries
from tokret.collections.run import Run
from tokret.errors import InputError
from tokret.registry import did_you_mean
from tokret.types import Document, Query

_SELF_MATCHED = re.compile(r"(?<![a-z])(arguana|quora)(?=[^a-z]|retrieval|$)")


@dataclass(frozen=True)
class SelfMatches:
    """Whether a document with its query's own id is dropped, and why, to print with a number."""

    drop: bool
    reason: str

    def apply(self, run: Run) -> Run:
        """Leave self-matches out of ``run`` where this policy drops them."""
        if not self.drop:
            return run
        kept = {
            query_id: {doc_id: s for doc_id, s in scores.items() if doc_id != query_id}
            for query_id, scores in run.ranking.items()
        }
        return Run.of(kept, run.name)


def self_matches(dataset: str, drop: bool | None = None) -> SelfMatches:
    """Decide on self-matches: as asked, else dropped for ArguAna and Quora, else kept.

    In those two every query is a document of the corpus and BEIR's numbers leave it out.
    """
    if drop is not None:
        return SelfMatches(drop, f"self-matches {'dropped' if drop else 'kept'}: as asked")
    found = _SELF_MATCHED.search(dataset.lower())
    if found:
        return SelfMatches(True, f"self-matches dropped: the rule for {found[1]}, as in BEIR")
    return SelfMatches(False, "self-matches kept: the default")


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries with their judgements, and where the documents stream from.

    ``queries`` are the judged ones of ``split``, in the order of their file.
    """

    name: str
    source: str
    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    self_matches: SelfMatches

    def documents(self, **policies: Any) -> Iterator[Document]:  # noqa: ANN401
        """Stream the corpus; ``policies`` are those of read_corpus."""
        return read_corpus(self.source, **policies)


def load_collection(
    source: str | Path, split: str = "test", *, drop_self: bool | None = None
) -> Collection:
    """Find the parts of a BEIR folder or an ir_datasets collection, and read all but the corpus.

    ``drop_self`` is the policy of ``self_matches``, by the collection's name where None.
    Raises InputError for a part or split that is missing, with the splits there are, and for
    a judged query that has no text.
    """
    if irds.is_id(source):
        return _from_ir_datasets(str(source), split, drop_self)
    folder = Path(source)
    if not folder.is_dir():
        raise (
            missing(folder, "a BEIR folder or an ir_datasets id")
            if not folder.exists()
            else (
                InputError(
                    f"{folder}: a file; wanted a BEIR folder (corpus.jsonl, queries.jsonl, qrels/)"
                )
            )
        )
    found = _qrels_files(folder)
    if split not in found:
        raise InputError(
            f"{folder}: no split {split!r}.{did_you_mean(split, found)} "
            f"In qrels/ there are: {', '.join(found) or 'none'}."
        )
    queries, qrels = read_queries(folder), read_qrels(found[split])
    name = folder.resolve().name
    return Collection(
        name,
        str(folder),
        split,
        _judged(queries, qrels, str(found[split])),
        qrels,
        self_matches(name, drop_self),
    )


def _from_ir_datasets(dataset_id: str, split: str, drop_self: bool | None) -> Collection:
    below = irds.splits(dataset_id)
    judged = dataset_id
    if f"{split}" in below:
        judged = f"{dataset_id}/{split}"
    elif not irds.has(dataset_id, "qrels"):
        raise InputError(
            f"{dataset_id}: no split {split!r}.{did_you_mean(split, below)} "
            f"There are: {', '.join(below) or 'none'}."
        )
    qrels = read_qrels(judged)
    return Collection(
        dataset_id,
        judged,
        split,
        _judged(read_queries(judged), qrels, judged),
        qrels,
        self_matches(dataset_id, drop_self),
    )


def _qrels_files(folder: Path) -> dict[str, Path]:
    """Judgement files by split, that is by their name without extensions."""
    places = sorted((folder / "qrels").glob("*")) if (folder / "qrels").is_dir() else []
    return {
        path.name.partition(".")[0]: path
        for path in places
        if path.is_file() and bare_suffix(path) in (".tsv", ".txt", ".qrels", ".qrel")
    }


def _judged(queries: list[Query], qrels: Qrels, place: str) -> tuple[Query, ...]:
    known = {query.query_id for query in queries}
    unknown = [query_id for query_id in qrels if query_id not in known]
    if unknown:
        raise InputError(
            f"{place}: {len(unknown)} judged queries have no text, the first {unknown[0]!r}; "
            "do queries and judgements belong together?"
        )
    return tuple(query for query in queries if query.query_id in qrels)


def sample_path() -> Path:
    """Where the collection that ships with tokret lies: a part of SciFact, as a BEIR folder."""
    return Path(str(files("tokret.collections") / "sample"))
