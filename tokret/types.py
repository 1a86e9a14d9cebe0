"""The few values that travel through tokret.

Axes are named once, here, and keep their letters everywhere:
``Q`` query tokens, ``T`` tokens of one passage or of many laid end to end,
``N`` passages (the units that are scored), ``H`` embedding width,
``C`` candidates, ``K`` results kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokret.errors import InputError
from tokret.fields import Fields, Value

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
Dtype = Literal["fp32", "fp16", "int8"]
DTYPES: dict[Dtype, np.dtype[Any]] = {
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
}


NO_FIELDS = Fields()


class Document(NamedTuple):
    """One record of a corpus, as its file gave it; ``fields`` is its metadata."""

    doc_id: str
    text: str
    title: str = ""
    fields: Mapping[str, Value] = NO_FIELDS

    @property
    def contents(self) -> str:
        """What is encoded, stored and pointed into: the title, a space, the text."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class Query(NamedTuple):
    """One request of a collection."""

    query_id: str
    text: str


class Hit(NamedTuple):
    """One ranked document; a higher score is better.

    ``start`` and ``end`` are the character range of the passage that earned the
    score, in the document's contents; ``text`` is that passage.
    """

    doc_id: str
    score: float
    start: int = 0
    end: int = 0
    text: str = ""


class Hits(list[Hit]):
    """Ranked documents, best first, and what is certain about them.

    ``bounds`` [K] hold the lowest and the highest that exact MaxSim over the vectors as first kept
    may be, and the first ``proven`` hits are those of an exact search, in this order but for
    ties; None where it was not asked.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        bounds: list[tuple[float, float]] | None = None,
        proven: int | None = None,
    ) -> None:
        super().__init__(hits)
        self.bounds = bounds
        self.proven = proven


class Match(NamedTuple):
    """A query token and the passage token that answers it best.

    Character ranges point into the query and into the document's contents; a token
    that stands for no text, such as [CLS], has an empty range. The similarity is that of
    words, of stored vectors, or of codes (``by``). ``first_stage`` says of an index that first
    looks at the cells nearest to each query token whether it ``measured`` a token of the
    document there or ``imputed`` a similarity; None where there is no such stage.
    """

    query_start: int
    query_end: int
    start: int
    end: int
    similarity: float
    by: Literal["words", "vectors", "codes"] = "vectors"
    first_stage: Literal["measured", "imputed"] | None = None


def rising(numbers: NDArray[Any], step: int = 0) -> bool:
    """Whether no number is less than the one before, or (``step`` 1) all grow.

    Compared, not subtracted: differences of numbers that a file holds may overflow.
    """
    before, after = numbers[:-1], numbers[1:]
    return bool((after > before).all() if step else (after >= before).all())


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token vectors of N passages, laid end to end: no padding, so no mask.

    ``vectors`` is [T, H] in float32, float16 or int8; passage ``i`` owns rows
    ``offsets[i]:offsets[i + 1]``. In int8, row ``t`` stands for
    ``scales[t] * vectors[t]``; otherwise ``scales`` is None.
    """

    vectors: Vectors
    offsets: Ints
    scales: Floats | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype not in DTYPES.values():
            raise InputError(
                "Token vectors must be [T, H] in float32, float16 or int8, got "
                f"{list(self.vectors.shape)} in {self.vectors.dtype}; Tokens.of converts."
            )
        if self.offsets.ndim != 1 or self.offsets.dtype != np.int64 or len(self.offsets) == 0:
            raise InputError("Offsets must be a non-empty int64 array [N + 1].")
        ends_right = self.offsets[0] == 0 and self.offsets[-1] == len(self.vectors)
        if not ends_right or not rising(self.offsets):
            raise InputError(
                f"Offsets must rise from 0 to the number of vectors, {len(self.vectors)}."
            )
        int8 = self.vectors.dtype == np.int8
        if int8 != (self.scales is not None):
            raise InputError("int8 vectors need one float32 scale a row; other types take none.")
        if self.scales is not None and (
            self.scales.shape != (len(self.vectors),) or self.scales.dtype != np.float32
        ):
            raise InputError(f"Scales must be float32 [T], got {list(self.scales.shape)}.")

    @classmethod
    def of(cls, passages: Tokens | Sequence[ArrayLike], *, width: int | None = None) -> Tokens:
        """Lay ``passages`` ([T_i, H] each, any real dtype) end to end in float32.

        Raises InputError for a wrong shape or a value that is not finite, naming the
        passage. ``width`` is needed only where there is no passage to read H from.
        """
        if isinstance(passages, Tokens):
            return passages
        rows = [_float_rows(passage, i, width) for i, passage in enumerate(passages)]
        if not rows and width is None:
            raise InputError("Tokens.of got no passages; give width=H to make an empty set.")
        width = rows[0].shape[1] if rows else width
        for i, row in enumerate(rows):
            if row.shape[1] != width:
                raise InputError(
                    f"Passage {i} has vectors of width {row.shape[1]}, the others of {width}."
                )
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        flat = np.concatenate(rows) if rows else np.empty((0, cast(int, width)), np.float32)
        return cls(np.ascontiguousarray(flat), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Floats:
        """Passage ``i`` as float32 [T, H]."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"Passage {i} of {len(self)}.")
        i %= len(self)
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        out = self.vectors[rows].astype(np.float32)
        return out if self.scales is None else out * self.scales[rows, None]

    def __iter__(self) -> Iterator[Floats]:
        return (self[i] for i in range(len(self)))

    def gather(self, passages: Ints) -> Tokens:
        """Chosen passages [C] end to end, in float32."""
        lengths = np.diff(self.offsets)[passages]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[passages] - offsets[:-1], lengths)
        vectors = self.vectors[rows].astype(np.float32)
        if self.scales is not None:
            vectors *= self.scales[rows, None]
        return Tokens(vectors, offsets)

    @property
    def width(self) -> int:
        """H, the width of a vector."""
        return int(self.vectors.shape[1])

    @property
    def dtype(self) -> Dtype:
        """How the vectors are stored."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.vectors.dtype)

    def to(self, dtype: Dtype) -> Tokens:
        """Convert the storage; int8 takes one scale a row, its largest magnitude / 127.

        Raises InputError where a value does not fit float16.
        """
        if dtype == self.dtype:
            return self
        flat = self.vectors.astype(np.float32)
        if self.scales is not None:
            flat *= self.scales[:, None]
        if dtype == "int8":
            codes, scales = quantise_rows(flat)
            return Tokens(codes, self.offsets, scales)
        if dtype == "fp16" and flat.size and np.abs(flat).max() > np.finfo(np.float16).max:
            raise InputError("A vector holds values beyond float16's 65504; use dtype='fp32'.")
        return Tokens(flat.astype(DTYPES[dtype]), self.offsets)


def quantise_rows(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round rows [T, H] to int8 codes and one scale a row; a zero row has scale 0."""
    scales = np.abs(rows).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    codes = np.rint(rows * inverse[:, None]).clip(-127, 127)
    return codes.astype(np.int8), scales


def _float_rows(passage: ArrayLike, i: int, width: int | None) -> Floats:
    if hasattr(passage, "detach"):  # a torch tensor, perhaps on a device or with a gradient
        passage = passage.detach().cpu().numpy()
    try:
        rows = np.asarray(passage)
    except (TypeError, ValueError) as error:
        raise InputError(f"Passage {i} is not an array [T, H]: {error}.") from error
    if rows.size == 0 and rows.ndim == 1:
        rows = rows.reshape(0, width or 0)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise InputError(
            f"Passage {i} must be an array [T, H] of real numbers, "
            f"got {list(rows.shape)} of {rows.dtype}."
        )
    with np.errstate(over="ignore"):  # an overflow becomes inf, refused in the next line
        out = np.ascontiguousarray(rows, dtype=np.float32)
    if not np.isfinite(out).all():
        bad = int(np.argwhere(~np.isfinite(out))[0][0])
        raise InputError(f"Passage {i} holds NaN or infinity, first in token {bad}.")
    return out
