"""The corpus side of ``index`` and ``add``: its options, and where a bad record stands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokret.errors import InputError, UsageError

if TYPE_CHECKING:
    from tokret.collections import CorpusStats
    from tokret.types import Document, Floats

CORPUS_HELP = (
    "A BEIR folder, a .jsonl, .json or .tsv file (.gz, .zst), a folder of them or of .txt and "
    ".md files, - for standard input, or an ir_datasets id."
)
Corpus = Annotated[str, typer.Argument(metavar="CORPUS", help=CORPUS_HELP)]
OnDuplicate = Annotated[
    Literal["error", "skip", "replace"],
    typer.Option(help="What to do with an id that comes twice."),
]
OnError = Annotated[
    Literal["fail", "skip", "quarantine"],
    typer.Option(help="What to do with a record that cannot be read."),
]
Quarantine = Annotated[
    Path | None,
    typer.Option(help="Where records go that cannot be read; default: DIR.rejected.jsonl."),
]
EncodingErrors = Annotated[
    Literal["strict", "replace", "skip"],
    typer.Option(help="What to do with bytes that are not UTF-8."),
]
OnMetadata = Annotated[
    Literal["strict", "lenient", "ignore"],
    typer.Option(
        "--metadata", help="Fields that cannot be kept: an error, left out, or take no fields."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many documents only.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 where a record was left out.")]
VectorsFile = Annotated[
    Path | None,
    typer.Option("--vectors", help="Token vectors instead of a model: .npy or .safetensors."),
]
LengthsFile = Annotated[
    Path | None, typer.Option("--lengths", help="Tokens of each document in --vectors: .npy.")
]


@dataclass
class Reading:
    """One pass over a corpus, with what was asked about its faults."""

    source: str
    folder: Path  # of the index
    on_error: Literal["fail", "skip", "quarantine"]
    quarantine: Path | None
    encoding_errors: Literal["strict", "replace", "skip"]
    limit: int | None
    metadata: Literal["strict", "lenient", "ignore"] = "strict"
    stats: CorpusStats = field(init=False)

    def __post_init__(self) -> None:
        from tokret.collections import CorpusStats

        self.stats = CorpusStats()
        if self.quarantine is not None and self.on_error != "quarantine":
            raise UsageError("--quarantine FILE goes with --on-error quarantine.")
        if self.on_error == "quarantine" and self.quarantine is None:
            self.quarantine = self.folder.with_name(f"{self.folder.name}.rejected.jsonl")

    @property
    def left_out(self) -> int:
        """Records that could not be read."""
        return self.stats.skipped + self.stats.quarantined

    def documents(self, *, keep: bool = True) -> Iterator[Document]:
        """Stream the documents; ``keep`` is whether the quarantine is written."""
        from tokret.collections import read_corpus

        refused = self.on_error == "quarantine"
        stream = read_corpus(
            self.source,
            on_error="skip" if refused and not keep else self.on_error,
            quarantine=self.quarantine if refused and keep else None,
            encoding_errors=self.encoding_errors,
            metadata=self.metadata,
            stats=self.stats,
        )
        return islice(stream, self.limit)

    def located(self, error: InputError) -> InputError:
        """Add file and line to an error that counts documents from 0."""
        numbered = re.match(r"Document (\d+)\b", str(error))
        if numbered is None or self.source == "-":
            return error
        from tokret.collections import CorpusStats

        self.stats = CorpusStats()
        try:
            for _ in islice(self.documents(keep=False), int(numbered[1]) + 1):
                pass
        except InputError:
            return error
        message = str(error).removeprefix(f"{numbered[0]}: ")
        return InputError(f"{self.stats.location}: {message}")


def vectors_of(vectors: Path | None, lengths: Path | None) -> Iterator[Floats] | None:
    """Vectors of each document, or None where no file was named."""
    if vectors is None:
        if lengths is not None:
            raise UsageError("Lengths belong to a file of vectors; give both.")
        return None
    from tokret.encoders import open_vectors

    return open_vectors(vectors, lengths)


def encoder_spec(
    model: str | None, vectors: Path | None = None, lengths: Path | None = None
) -> str:
    """Spell the encoder: a folder or hub name stands for a sentence-transformers model."""
    from tokret.encoders import MultiVector, Precomputed, encoders

    if model is not None:
        name = "(" in model or model in encoders.names()  # a folder of the same name is given ./
        path_like = not name and ("/" in model or os.sep in model or Path(model).is_dir())
        return str(MultiVector(model)) if path_like else model
    given = vectors_of(vectors, lengths)
    if given is None:
        return "tokret-mini"
    first = next(given, None)
    if first is None:
        raise InputError(f"{vectors} holds no vectors.")
    return str(Precomputed(first.shape[1]))
