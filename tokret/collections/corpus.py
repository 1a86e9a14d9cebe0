"""Corpora: any common layout in, a stream of documents out.

Found by content: a BEIR folder, a folder of JSONL/JSON/TSV shards, one such file, a
folder of .txt and .md, standard input ``-``, or an ir_datasets id. A title and a text
are as the file has them; character offsets into them are the reader's own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

from tokret.collections import irds
from tokret.collections.files import (
    COMPRESSED,
    MAX_LINE_BYTES,
    Opened,
    bare_suffix,
    missing,
    where,
)
from tokret.collections.formats import RECORD_SUFFIXES, records
from tokret.collections.metadata import OnMetadata
from tokret.collections.metadata import metadata as metadata_of
from tokret.collections.records import (
    ID_FIELDS,
    TEXT_FIELDS,
    Encoding,
    EncodingFault,
    Record,
    clean,
    decoded,
    field,
    without_nul,
)
from tokret.errors import InputError, UsageError
from tokret.fields import Fields
from tokret.types import Document

OnError = Literal["fail", "skip", "quarantine"]
TEXT_SUFFIXES = (".txt", ".md")
WANTED = (
    "a BEIR folder (corpus.jsonl), a .jsonl, .json or .tsv file or a folder of them (.gz and "
    ".zst too), a folder of .txt or .md files, '-', or an ir_datasets id such as beir/scifact"
)
_NOT_CORPUS = ("queries", "topics", "qrels", "metadata", "manifest")
_QUARANTINED = 4096  # bytes kept of a line that was refused for its length


@dataclass
class CorpusStats:
    """What a reader has done so far; read it while the stream runs.

    ``bytes_read`` counts the files as they lie, compressed or not, towards
    ``total_bytes``, which is None where it cannot be known. ``fields_left_out`` counts
    what ``metadata="lenient"`` passed over, of which ``field_fault`` is the first.
    """

    read: int = 0
    skipped: int = 0
    quarantined: int = 0
    fields_left_out: int = 0
    field_fault: str = ""
    bytes_read: int = 0
    total_bytes: int | None = None
    file: str = ""
    line: int = 0

    @property
    def location(self) -> str:
        """``file:line`` of the last record, for a message about it."""
        return where(self.file, self.line)


def read_corpus(
    source: str | Path,
    *,
    on_error: OnError = "fail",
    quarantine: str | Path | None = None,
    encoding_errors: Encoding = "strict",
    max_line_bytes: int = MAX_LINE_BYTES,
    metadata: OnMetadata = "strict",
    stats: CorpusStats | None = None,
) -> Iterator[Document]:
    """Stream the documents of ``source``; the files are found at the call.

    Ids are exact strings and may repeat: whoever stores them decides, and names the place
    with ``stats.location``. A record that cannot be read fails, is skipped and counted, or
    goes with its reason to the JSONL file ``quarantine``. ``encoding_errors`` settles bytes
    that are not UTF-8, NULs of plain text and lone surrogates: "strict" makes them a fault,
    "replace" puts U+FFFD, "skip" counts and leaves the record out. An object ``metadata``
    (or ``fields``) of a JSON record becomes the document's fields; one that holds more than
    texts, numbers, true, false and lists of these is a fault, unless ``metadata`` is
    "lenient", which leaves those values out and counts them, or "ignore".

    Raises InputError with file and line, for a source without documents too; UsageError for
    policies that do not fit together; MissingExtraError for an ir_datasets id without it.
    """
    if (on_error == "quarantine") != (quarantine is not None):
        raise UsageError("on_error='quarantine' and quarantine=FILE go together; give both.")
    if on_error not in ("fail", "skip", "quarantine"):
        raise UsageError(f"on_error must be fail, skip or quarantine; got {on_error!r}.")
    if encoding_errors not in ("strict", "replace", "skip"):
        raise UsageError(
            f"encoding_errors must be strict, replace or skip; got {encoding_errors!r}."
        )
    if metadata not in get_args(OnMetadata):
        raise UsageError(f"metadata must be strict, lenient or ignore; got {metadata!r}.")
    if max_line_bytes < 1:
        raise UsageError(f"max_line_bytes must be at least 1; got {max_line_bytes}.")
    stats = stats if stats is not None else CorpusStats()
    reader = _Reader(stats, on_error, encoding_errors, max_line_bytes, metadata)
    if irds.is_id(source):
        documents = irds.documents(str(source))
        stats.file = str(source)
        return reader.run(stats.file, _counted(documents, stats), quarantine)
    if str(source) == "-":
        return reader.run("standard input", reader.file("-"), quarantine)
    path = Path(source)
    if path.is_dir():
        files, texts = corpus_files(path)
    elif path.exists():
        texts = bare_suffix(path) in TEXT_SUFFIXES
        files = [path]
    else:
        raise missing(path, WANTED)
    stats.total_bytes = sum(file.stat().st_size for file in files if file.is_file())
    if texts:
        return reader.run(str(path), reader.text_files(files, path), quarantine)
    return reader.run(str(path), (doc for file in files for doc in reader.file(file)), quarantine)


def corpus_files(folder: Path) -> tuple[list[Path], bool]:
    """List the files of a corpus folder in order, and whether each is a document.

    Looks for ``corpus.*`` or ``collection.*``, then ``corpus/*``, then shards beside each
    other, then .txt and .md files at any depth. Raises InputError where nothing, or more
    than one of these, is there.
    """
    here = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    shards = [p for p in here if bare_suffix(p) in RECORD_SUFFIXES]
    named = [p for p in shards if _stem(p) in ("corpus", "collection")]
    if len(named) > 1:
        raise InputError(
            f"{folder}: holds {' and '.join(p.name for p in named)}; give the one to read."
        )
    if named:
        return named, False
    if (folder / "corpus").is_dir():
        return corpus_files(folder / "corpus")
    shards = [p for p in shards if not _stem(p).startswith(_NOT_CORPUS)]
    inner = [p.name for p in sorted(folder.iterdir()) if any(p.glob("corpus.jsonl*"))]
    if inner and not shards:
        raise InputError(
            f"{folder}: several collections, no corpus of its own; wanted one of them, such as "
            f"{folder / inner[0]}."
        )
    texts = [Path(root, name) for root, name in _walk(folder)]
    if shards and texts:
        raise InputError(
            f"{folder}: holds records ({shards[0].name}) and texts "
            f"({texts[0].relative_to(folder)}); give the files of one kind."
        )
    if not shards and not texts:
        names = ", ".join(p.name for p in here[:5]) or "no files"
        raise InputError(f"{folder}: no corpus in it, only {names}; wanted {WANTED}.")
    return (shards, False) if shards else (texts, True)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    # Links to folders are not followed: they may form a loop.
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and bare_suffix(name) in TEXT_SUFFIXES:
                yield root, name


def _foreign(path: Path, root: Path) -> str:
    """Why a file that was found in a folder is none of it, and might be read for ever; or ""."""
    if path == root:  # it was given itself
        return ""
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "a link that leads out of the folder"
    return "" if path.is_file() else "a pipe, a device, or a link to nothing"


def _stem(path: Path) -> str:
    while path.suffix.lower() in (*COMPRESSED, *RECORD_SUFFIXES):
        path = path.with_suffix("")
    return path.name


def _counted(documents: Iterator[Document], stats: CorpusStats) -> Iterator[Document]:
    for document in documents:
        stats.read += 1
        stats.line = stats.read
        yield document


class _Reader:
    """One pass over a corpus with its policies."""

    def __init__(
        self,
        stats: CorpusStats,
        on_error: OnError,
        encoding: Encoding,
        limit: int,
        metadata: OnMetadata,
    ) -> None:
        self._stats, self._on_error = stats, on_error
        self._encoding, self._limit, self._metadata = encoding, limit, metadata
        self._quarantine: IO[str] | None = None

    def run(
        self, name: str, documents: Iterator[Document], quarantine: str | Path | None
    ) -> Iterator[Document]:
        """Stream them; the quarantine is open while it runs."""
        with contextlib.ExitStack() as stack:
            if quarantine is not None:
                try:
                    kept = open(quarantine, "w", encoding="utf-8")  # noqa: SIM115
                except OSError as error:
                    raise UsageError(
                        f"{quarantine}: cannot be written: {error.strerror}."
                    ) from error
                self._quarantine = stack.enter_context(kept)
            yield from documents
        stats = self._stats
        if not stats.read:
            left = stats.skipped + stats.quarantined
            why = f"all {left} records were left out" if left else "it is empty"
            raise InputError(f"{name}: no documents: {why}; wanted {WANTED}.")

    def file(self, path: str | Path) -> Iterator[Document]:
        """Documents of one file of records."""
        stats = self._stats
        with Opened(path, self._count) as opened:
            stats.file, stats.line = opened.name, 0
            read = records(
                opened,
                ID_FIELDS,
                TEXT_FIELDS,
                encoding=self._encoding,
                limit=self._limit,
                wanted=WANTED,
            )
            for stats.line, raw, record in read:
                try:
                    document = self._document(record)
                except InputError as error:
                    self._refuse(error, raw)
                    continue
                stats.read += 1
                yield document

    def text_files(self, files: list[Path], root: Path) -> Iterator[Document]:
        """One document a file; its id is the path from ``root``, with slashes, or its name."""
        for path in files:
            self._stats.file, self._stats.line = str(path), 0
            if foreign := _foreign(path, root):
                self._refuse(InputError(f"{foreign}; wanted a plain file of this folder"), b"")
                continue
            with Opened(path, self._count) as opened:
                raw = opened.read(self._limit + 1)
            try:
                if len(raw) > self._limit:
                    raise InputError(
                        f"a file longer than {self._limit:,} bytes; wanted one document a file "
                        "(max_line_bytes raises the limit)"
                    )
                text = without_nul(decoded(raw, self._encoding, "file"), self._encoding)
                name = path.name if path == root else path.relative_to(root).as_posix()
                doc_id = clean(name, self._encoding)
            except InputError as error:
                self._refuse(error, raw)
                continue
            self._stats.read += 1
            yield Document(doc_id, text)

    def _document(self, record: Record | InputError) -> Document:
        if isinstance(record, InputError):
            raise record
        doc_id = field(record, ID_FIELDS, "id", self._encoding)
        text = field(record, TEXT_FIELDS, "text", self._encoding)
        title = ""
        if record.get("title") is not None:
            title = field(record, ("title",), "title", self._encoding)
            if record.get("contents") is not None and text.startswith(title):
                title = ""  # contents is the whole by definition, its title included
        return Document(doc_id, text, title, self._fields(record))

    def _fields(self, record: Record) -> Fields:
        fields, left_out = metadata_of(record, self._metadata, self._encoding)
        stats = self._stats
        if left_out and not stats.field_fault:
            stats.field_fault = f"{stats.location}: {left_out[0]}"
        stats.fields_left_out += len(left_out)
        return fields

    def _count(self, size: int) -> None:
        self._stats.bytes_read += size

    def _refuse(self, error: InputError, raw: bytes) -> None:
        stats = self._stats
        unreadable = isinstance(error, EncodingFault) and self._encoding == "skip"
        if unreadable or self._on_error == "skip":
            stats.skipped += 1
        elif self._quarantine is not None:
            stats.quarantined += 1
            kept = raw if len(raw) <= self._limit else raw[:_QUARANTINED]
            entry = {
                "source": stats.file,
                "line": stats.line,
                "reason": str(error),
                # Surrogate escapes: .encode("utf-8", "surrogateescape") gives the bytes again.
                "raw": kept.decode("utf-8", "surrogateescape"),
            }
            self._quarantine.write(json.dumps(entry) + "\n")
        else:
            raise InputError(f"{stats.location}: {error}.") from error
