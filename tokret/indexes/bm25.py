"""BM25 over whole documents, computed by bm25s.

Paper   Robertson, Walker, Jones, Hancock-Beaulieu, Gatford: Okapi at TREC-3. 1994. The
        scoring variants and eager scoring are those of Lù: BM25S. arXiv:2407.03618.
Does    Stems and counts the words of every document; scores are precomputed a (term,
        document) pair.
Costs   The score matrix belongs to the whole collection, so every commit builds it anew
        in memory, from the stored texts: about 12 bytes a distinct (term, document) pair.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes.base import ALONE, Request, Terms, backends
from tokret.indexes.files import Array
from tokret.indexes.manifest import Entry, Manifest
from tokret.indexes.segment import Layout, Segment, SegmentWriter
from tokret.indexes.store import Snapshot, Store
from tokret.registry import Spec, did_you_mean
from tokret.scoring import Scorer
from tokret.types import Floats, Ints, Match, Tokens, rising

CHUNK = 4096  # documents analysed at a time
WORD = re.compile(r"\b\w\w+\b")  # what bm25s takes for a word


@backends.register("bm25")
@dataclass(frozen=True)
class Bm25(Spec):
    """Lexical search. The defaults are Lucene's.

    ``stemmer`` is a Snowball language and ``stopwords`` a list that bm25s ships, both by
    name; "none" leaves them out.
    """

    method: Literal["lucene", "robertson", "atire", "bm25l", "bm25+"] = "lucene"
    k1: float = 1.2
    b: float = 0.75
    stemmer: str = "english"
    stopwords: str = "english"

    kind = "documents"
    encodes = False
    derived_layout: ClassVar[Layout] = {
        "data": ("<f4", None),
        "indices": ("<i4", None),
        "indptr": ("<i8", None),
        "absent": ("<f4", None),  # score of a term that a document lacks (bm25l, bm25+)
        "terms": ("|u1", None),  # UTF-8, end to end
        "term_ends": ("<i8", None),
        "passages": ("<i8", None),  # the passage that each row of the matrix stands for
    }

    def __post_init__(self) -> None:
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise UsageError(f"{self} needs k1 >= 0 and 0 <= b <= 1.")
        if self.stemmer != "none":
            import Stemmer

            known = Stemmer.algorithms()
            if self.stemmer not in known:
                raise UsageError(
                    f"No stemmer {self.stemmer!r}.{did_you_mean(self.stemmer, known)} "
                    f"Known: none, {', '.join(known)}."
                )
        try:
            self._analyse([])
        except ValueError as error:
            raise UsageError(f"No stopwords {self.stopwords!r}; {error}") from error

    def layout(self, width: int) -> Layout:
        """No columns of tokens."""
        return {}

    def columns(self, tokens: Tokens) -> dict[str, Array]:
        """No columns of tokens."""
        return {}

    def analyse(self, text: str) -> list[str]:
        """Words of a text as they are indexed."""
        return self._analyse([text])[0]

    def _analyse(self, texts: list[str]) -> list[list[str]]:
        import Stemmer

        words: list[list[str]] = _bm25s().tokenize(
            texts,
            stopwords=None if self.stopwords == "none" else self.stopwords,
            stemmer=None if self.stemmer == "none" else Stemmer.Stemmer(self.stemmer),
            return_ids=False,
            show_progress=False,
        )
        return words

    def matches(self, query: str, text: str) -> list[Match]:
        """The words of the text that share a stem with a word of the query."""
        asked = {stem: word.span() for word, stem in self._stems(query)}
        return [
            Match(*asked[stem], *word.span(), 1.0, "words")
            for word, stem in self._stems(text)
            if stem in asked
        ]

    def _stems(self, text: str) -> list[tuple[re.Match[str], str]]:
        words = list(WORD.finditer(text))
        found = self._analyse([word.group() for word in words])
        return [(word, stem) for word, stems in zip(words, found, strict=True) for stem in stems]

    def finish(self, writer: SegmentWriter) -> None:
        """Texts are all it needs."""

    def settle(self, store: Store, draft: Manifest, terms: Terms = ALONE) -> Manifest:
        """Score every (term, document) pair of the live documents."""
        snapshot = store.snapshot(replace(draft, derived=None))
        if snapshot.documents == 0:
            return snapshot.manifest
        writer = SegmentWriter(store.new_segment_path(), "derived", self.derived_layout)
        try:
            extra = self._score(snapshot, writer)
            derived = Entry.from_dict(writer.seal(extra=extra), writer.path.name)
        except BaseException:
            writer.discard()
            raise
        return replace(draft, derived=derived)

    def _score(self, snapshot: Snapshot, writer: SegmentWriter) -> dict[str, object]:
        bm25s = _bm25s()
        vocabulary: dict[str, int] = {}
        rows: list[Array] = []
        passages: list[int] = []
        for chunk in _chunks(_live_texts(snapshot)):
            passages += [passage for passage, _ in chunk]
            for words in self._analyse([text for _, text in chunk]):
                ids = [vocabulary.setdefault(word, len(vocabulary)) for word in words]
                rows.append(np.array(ids, np.int32))
        vocabulary.setdefault("", len(vocabulary))  # a collection without words has one column
        model = bm25s.BM25(method=self.method, k1=self.k1, b=self.b)
        with np.errstate(invalid="ignore", divide="ignore"):  # documents that are all empty
            model.index((rows, vocabulary), show_progress=False)
        terms = [term.encode() for term in vocabulary]
        absent = model.nonoccurrence_array
        writer.append(
            data=model.scores["data"],
            indices=model.scores["indices"],
            indptr=model.scores["indptr"],
            absent=np.empty(0, np.float32) if absent is None else absent,
            terms=np.frombuffer(b"".join(terms), np.uint8),
            term_ends=np.cumsum([len(term) for term in terms]),
            passages=np.array(passages, np.int64),
        )
        return {"bm25s": bm25s.__version__}

    def searcher(self, snapshot: Snapshot) -> Bm25Searcher:
        """Read the score matrix, its digests checked."""
        return Bm25Searcher(self, snapshot)


class Bm25Searcher:
    """The score matrix, in memory, behind bm25s' own scorer."""

    def __init__(self, backend: Bm25, snapshot: Snapshot) -> None:
        self._backend = backend
        self._model: Any = None
        derived = snapshot.derived
        if derived is None:
            return
        derived.expect(backend.derived_layout)
        blob = derived.read("terms").tobytes()
        offsets = derived.read_offsets("term_ends", len(blob))
        count = len(offsets) - 1
        self._passages: Ints = derived.read("passages")
        data, indices, absent = (derived.read(name) for name in ("data", "indices", "absent"))
        indptr = _indptr(derived, len(data), count)
        total = sum(segment.passages for segment in snapshot.segments)
        _check_range(derived, "passages", self._passages, total)
        _check_range(derived, "indices", indices, len(self._passages))
        if len(indices) != len(data) or len(absent) not in (0, count):
            raise IndexCorruptError(
                f"{derived.path}: {len(indices)} numbers and {len(absent)} scores of absent terms "
                f"do not go with {len(data)} entries and {count} terms."
            )
        if not rising(self._passages, 1):
            raise IndexCorruptError(f"{derived.path / 'passages'}.bin: passages must rise.")
        self._model = _bm25s().BM25(method=backend.method, k1=backend.k1, b=backend.b)
        self._model.scores = {
            "data": data,
            "indices": indices,
            "indptr": indptr,
            "num_docs": len(self._passages),
        }
        self._model.nonoccurrence_array = absent if len(absent) else None
        try:
            terms = [blob[a:b].decode() for a, b in pairwise(offsets.tolist())]
        except UnicodeDecodeError as error:
            raise IndexCorruptError(f"{derived.path}: a term is not UTF-8.") from error
        self._model.vocab_dict = {term: i for i, term in enumerate(terms)}

    def rank(self, request: Request, scorer: Scorer | None, threads: int) -> tuple[Ints, Floats]:
        """Score the documents that hold a word of the query and are allowed.

        What a word is worth is a matter of the whole collection, whatever is allowed.
        """
        if scorer is not None:
            raise UsageError(f"A bm25 index scores by its own formula, not by {scorer}.")
        if request.text is None:
            raise UsageError("A bm25 index is searched by text, not by vectors.")
        none = np.empty(0, np.int64), np.empty(0, np.float32)
        if self._model is None:
            return none
        words = [w for w in self._backend.analyse(request.text) if w in self._model.vocab_dict]
        if not words:
            return none
        indptr, indices = self._model.scores["indptr"], self._model.scores["indices"]
        ids = {self._model.vocab_dict[word] for word in words}
        rows = np.unique(np.concatenate([indices[indptr[i] : indptr[i + 1]] for i in ids]))
        if request.allowed is not None:
            rows = rows[request.allowed[self._passages[rows]]]
        if len(rows) == 0:
            return none
        return self._passages[rows], self._model.get_scores(words)[rows]

    def passage_tokens(self, passage: int) -> None:
        """There are no vectors."""


def _bm25s() -> Any:  # noqa: ANN401
    """The library, its log kept for warnings: it asks for every step to be logged."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


def _indptr(derived: Segment, entries: int, terms: int) -> Ints:
    """Where each term's column begins, checked against the entries and terms there are."""
    indptr: Ints = derived.read("indptr")
    if len(indptr) != terms + 1 or indptr[0] != 0 or indptr[-1] != entries or not rising(indptr):
        raise IndexCorruptError(f"{derived.path}: the columns do not cover {entries} entries.")
    return indptr


def _check_range(derived: Segment, name: str, values: Ints, end: int) -> None:
    """Refuse numbers beyond those that there are."""
    if len(values) and not 0 <= values.min() <= values.max() < end:
        raise IndexCorruptError(f"{derived.path / name}.bin: numbers must lie from 0 to {end - 1}.")


def _live_texts(snapshot: Snapshot) -> Iterator[tuple[int, str]]:
    """First passage and text of every live document."""
    base = 0
    for segment, alive in zip(snapshot.segments, snapshot.alive, strict=True):
        for d in range(segment.documents):
            if alive is None or alive[d]:
                yield base + int(segment.passage_offsets[d]), segment.text(d)
        base += segment.passages


def _chunks(items: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
