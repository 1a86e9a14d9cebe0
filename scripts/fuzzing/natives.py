"""The functions of the compiled module as fuzz targets: bytes choose their arguments.

Arguments begin as a call that makes sense, and up to three of them are then made into something
else. A function may return or raise; under AddressSanitizer and UBSan (see
scripts/test_sanitized.sh) it must touch nothing but its arrays.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fuzzing import Target
from tokret.errors import UsageError
from tokret.kernels import _native, coding

REFUSED = (TypeError, ValueError, MemoryError)
NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 15, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40)
TYPES = ("i1", "u1", "<i4", "<i8", ">i8", "<u8", "<f2", "<f4", ">f4", "<f8", "?", "S3")


class Choices:
    """Bytes as decisions; when they are used up, each is the first there is."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, most: int) -> int:
        """A whole number from 0 to ``most`` - 1."""
        piece = self._data[self._at : self._at + 2]
        self._at += 2
        return int.from_bytes(piece, "little") % most

    def of(self, some: Any) -> Any:  # noqa: ANN401
        """One of some."""
        return some[self.below(len(some))]

    def rng(self) -> np.random.Generator:
        """Random numbers, for what is too large to be chosen."""
        return np.random.default_rng(self.below(1 << 16))


def offsets(choose: Choices, passages: int, rows: int) -> Any:  # noqa: ANN401
    cuts = np.sort(choose.rng().integers(0, rows + 1, max(passages - 1, 0)))
    return np.concatenate([[0], cuts, [rows] * (passages > 0)]).astype(np.int64)


def rows_of(choose: Choices, dtype: str, *shape: int) -> Any:  # noqa: ANN401
    rng = choose.rng()
    if dtype == "i1":
        return rng.choice(np.array([-128, -127, -1, 0, 1, 127], np.int8), shape)
    rows = rng.standard_normal(shape).astype(dtype)
    if rows.size and choose.below(3) == 0:
        strange = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 6e4], np.float32)
        rows.reshape(-1)[rng.integers(0, rows.size, 3)] = rng.choice(strange, 3)
    return rows


def passages(choose: Choices) -> tuple[Any, ...]:
    """Query, its scales, vectors, their scales, offsets."""
    width = choose.of((1, 2, 3, 7, 8, 16, 31, 64, 128, 129, 0))
    tokens, count = choose.of((1, 2, 17, 65, 0)), choose.of((1, 3, 9, 0))
    length = choose.of((5, 1, 40, 300, 0)) * (count > 0)
    dtype = choose.of(("f4", "f2", "i1"))
    scaled = dtype == "i1"
    return (
        rows_of(choose, "i1" if scaled else "f4", tokens, width),
        rows_of(choose, "f4", tokens) if scaled else None,
        rows_of(choose, dtype, length, width),
        rows_of(choose, "f4", length) if scaled else None,
        offsets(choose, count, length),
    )


def isa(choose: Choices) -> str:
    return str(choose.of((*_native.instruction_sets(), "none", "") * 2))


def spoiled(choose: Choices, value: Any) -> Any:  # noqa: ANN401
    """Something else in the place of an argument."""
    if not isinstance(value, np.ndarray):
        return choose.of((*NUMBERS, None, "avx2", 0.5, float("nan"), np.zeros(3, np.int64)))
    kind = choose.below(14)
    shape = list(value.shape)
    side = choose.below(len(shape)) if shape else 0
    if kind == 0:
        return None
    if kind == 1:
        return value.astype(choose.of(TYPES), copy=True)
    if kind == 2:
        return value[::-1]
    if kind == 3:
        return np.repeat(value, 2, axis=side)[(slice(None),) * side + (slice(None, None, 2),)]
    if kind == 4:
        return np.broadcast_to(value[:1], value.shape) if shape[0] else value
    if kind == 5:
        return np.asfortranarray(value)
    if kind == 6:
        shape[side] = max(0, shape[side] + choose.of((-1, 1, 5, -1000)))
        return np.resize(value, shape) if value.size else np.zeros(shape, value.dtype)
    if kind == 7:
        return value.reshape(choose.of(((-1,), (1, -1), (-1, 1), (1, 1, -1))))
    if kind == 8:
        value.flags.writeable = False
        return value
    if kind == 9:  # between two addresses of such values
        room = np.zeros(value.nbytes + 1, np.uint8)[1:]
        out = room.view(value.dtype).reshape(value.shape)
        out[...] = value
        return out
    if kind == 10:  # many rows that are one and the same, as a huge array
        return np.broadcast_to(np.zeros((), value.dtype), [1 << 14, *shape[1:]])
    if not value.size:
        return value
    if kind == 11 and value.dtype == np.bool_:
        return choose.rng().integers(0, 256, value.shape).astype(np.uint8).view(np.bool_)
    numbers = np.array(NUMBERS, np.float64 if value.dtype.kind == "f" else np.int64)
    value.reshape(-1)[choose.below(value.size)] = choose.of(numbers.astype(value.dtype))
    if kind == 13:
        return value[::-1].copy()
    return value


def over(read: Any, written: Any) -> Any:  # noqa: ANN401
    """An array in the place of the last, which is written, in the memory of one that is read."""
    arrays = isinstance(read, np.ndarray) and isinstance(written, np.ndarray)
    if not arrays or read.nbytes < written.nbytes or not read.flags.c_contiguous:
        return written
    memory = read.reshape(-1).view(np.uint8)[: written.nbytes]
    return memory.view(written.dtype).reshape(written.shape)


def called(make: Callable[[Choices], list[Any]], function: Callable[..., Any]) -> Any:  # noqa: ANN401
    def run(data: bytes) -> None:
        choose = Choices(data)
        arguments = make(choose)
        for _ in range(choose.below(4)):
            at = choose.below(len(arguments))
            none = contextlib.suppress(ValueError, TypeError)  # numpy has no such array
            with none, np.errstate(all="ignore"):
                arguments[at] = spoiled(choose, arguments[at])
        if choose.below(20) == 0:
            arguments[-1] = over(choose.of(arguments), arguments[-1])
        try:
            function(*arguments)
        except REFUSED as error:
            raise UsageError(str(error)) from error

    return run


def maxsim(choose: Choices) -> list[Any]:
    arrays = passages(choose)
    return [isa(choose), *arrays, choose.of((1, 2, 5)), np.empty(len(arrays[4]) - 1, np.float32)]


def live_tokens(choose: Choices) -> list[Any]:
    given = passages(choose)[4]
    return [given, choose.of((None, choose.rng().random(len(given) - 1) < 0.5))]


def token_topk(choose: Choices) -> list[Any]:
    arrays = passages(choose)
    alive = choose.of((None, choose.rng().random(len(arrays[4]) - 1) < 0.7))
    keep = min(_native.live_tokens(arrays[4], alive), choose.of((1, 3, 50, 1000, 0)))
    keep += choose.of((0, 0, 0, 1))
    out = [np.empty((len(arrays[0]), keep), dtype) for dtype in (np.int64, np.float32)]
    return [isa(choose), *arrays, alive, choose.of((1, 2, 5)), *out]


def xtr_aggregate(choose: Choices) -> list[Any]:
    count, rows = choose.of((1, 4, 50, 0)), choose.of((1, 9, 1000, 0))
    shape = choose.of((1, 8, 0)), choose.of((1, 30, 0))
    tokens = choose.rng().integers(0, max(rows, 1), shape)
    given = offsets(choose, count, rows * (count > 0))
    return [tokens, rows_of(choose, "f4", *shape), given, rows_of(choose, "f4", shape[0])]


def nearest(choose: Choices) -> list[Any]:
    width = choose.of((1, 3, 8, 31, 128, 1024))
    count, cells, groups = choose.of((1, 5, 70, 0)), choose.of((1, 9, 100)), choose.of((1, 3, 12))
    grouped = choose.below(2)
    return [
        isa(choose),
        rows_of(choose, "i1", count, width),
        rows_of(choose, "i1", cells, width),
        offsets(choose, groups, cells) if grouped else None,
        rows_of(choose, "i1", groups, width) if grouped else None,
        choose.of((1, 2, 100)),
        choose.of((1, 2, 5)),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
    ]


def cell_sums(choose: Choices) -> list[Any]:
    width, count, cells = choose.of((1, 8, 129, 0)), choose.of((1, 5, 300, 0)), choose.of((1, 9))
    numbers = choose.rng().integers(0, cells, count).astype(np.int32)
    out = np.empty((cells, width), np.int32)
    return [rows_of(choose, "i1", count, width), numbers, choose.of((1, 2, 5)), out]


def lattice(choose: Choices, width: int) -> list[Any]:
    """Centroids, shifts, weights, shares and penalties."""
    rng = choose.rng()
    shares = np.ones((coding.TABLES, coding.SYMBOLS), np.int64)
    for table, symbols in enumerate(coding.HEAD_SYMBOLS, coding.CONTEXTS):
        shares[table, symbols:] = 0
    for row in shares:
        row += rng.multinomial(coding.STATES - row.sum(), row / row.sum())
    bands = width // coding.UNIT
    return [
        rows_of(choose, "i1", choose.of((3, 1, 300)), width),
        rng.integers(-9, 10, bands).astype(np.int32),
        rng.integers(1, 1 << 16, bands).astype(np.int32),
        shares.astype(np.uint8),
        coding.penalties(shares.astype(np.uint8)),
    ]


def rows_in_cells(choose: Choices, cells: int, width: int) -> list[Any]:
    """Rows, what lies along them, slots, token offsets, cells, cell offsets."""
    count = choose.of((1, 3, 9, 0))
    given = offsets(choose, count, choose.of((5, 1, 40, 300, 0)) * (count > 0))
    rng = choose.rng()
    shape = int(given[-1]), width
    numbers = rng.integers(0, cells, shape[0]).astype(np.int32)
    fine = (rng.normal(0, 1000, shape).clip(-8128, 8128)).astype(np.int16)
    fine[1::2] = fine[: len(fine) // 2 * 2 : 2]  # rows that predict one another
    along = rng.normal(0, 700, shape).astype(np.int16)
    batch = coding.batch(fine, along, numbers, given)
    return [fine, along, batch.slots, given, batch.cells, batch.cell_offsets]


def segment(choose: Choices, held: Any, cells: int, width: int) -> list[Any]:  # noqa: ANN401
    """Postings by cell, and cells, tokens and codes by passage; some codes are not as written."""
    arrays = rows_in_cells(choose, cells, width)
    ends = np.zeros(len(arrays[3]) - 1, np.int64)
    rows = np.zeros(arrays[0].shape, np.int8)
    codes = _native.encode_passages("scalar", held, *arrays, 1, ends, rows).copy()
    rng = choose.rng()
    if len(codes) and choose.below(2):
        codes[rng.integers(0, len(codes), 3)] = rng.integers(0, 256, 3)
    tokens, own, starts = arrays[3:]
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.argsort(own, kind="stable")
    counts = np.bincount(own, minlength=cells).cumsum()
    return [
        np.concatenate([[0], counts]).astype(np.int64),
        owners[order].astype(np.uint16),
        starts,
        own,
        tokens,
        codes,
        np.concatenate([[0], ends]).astype(np.int64),
    ]


def coded(choose: Choices) -> tuple[list[Any], list[Any]]:
    """What a lattice is made from, and a segment of it."""
    width = choose.of((32, 64, 128))
    tables = lattice(choose, width)
    return tables, segment(choose, _native.Lattice(*tables), len(tables[0]), width)


def some_passages(choose: Choices, given: list[Any]) -> Any:  # noqa: ANN401
    count = len(given[4]) - 1
    return choose.rng().integers(0, max(count, 1), choose.of((3, 1, 20)) * (count > 0))


def count_symbols(choose: Choices) -> list[Any]:
    tables = lattice(choose, choose.of((32, 64, 128)))
    arrays = rows_in_cells(choose, *tables[0].shape)
    counts = np.zeros((coding.TABLES, coding.SYMBOLS), np.int64)
    return [isa(choose), *tables, *arrays, choose.of((1, 2, 5)), counts]


def encode_passages(choose: Choices) -> list[Any]:
    *given, _ = count_symbols(choose)
    ends = np.zeros(len(given[9]) - 1, np.int64)
    return [*given, ends, np.zeros(given[6].shape, np.int8)]


def decode_passage(choose: Choices) -> list[Any]:
    tables, given = coded(choose)
    tokens = np.diff(given[4])
    n = choose.below(max(len(tokens), 1))
    rows = np.zeros((tokens[n] if len(tokens) else 0, tables[0].shape[1]), np.int8)
    return [isa(choose), *tables, *given, n, rows]


def score_cells(choose: Choices) -> list[Any]:
    centroids = rows_of(choose, "i1", choose.of((9, 1, 300)), choose.of((32, 1, 7, 128, 129)))
    tokens = choose.of((3, 1, 17, 65, 0))
    keep = min(choose.of((2, 1, 100)), len(centroids))
    return [
        isa(choose),
        rows_of(choose, "i1", tokens, centroids.shape[1]),
        rows_of(choose, "f4", tokens),
        centroids,
        rows_of(choose, "f4", len(centroids)),
        choose.of((1.0, 1e-30, 1e30, 0.0)),
        np.zeros((len(centroids), -(-max(tokens, 1) // 16) * 16), np.uint8),
        np.zeros((tokens, keep), np.int32),
        np.zeros((tokens, keep), np.float32),
    ]


def probe(choose: Choices) -> list[Any]:
    tables, given = coded(choose)
    tokens, keep, rng = choose.of((3, 1, 17, 0)), choose.of((2, 1, 30, 0)), choose.rng()
    allowed = choose.of((None, rng.random(len(given[4]) - 1) < 0.5))
    return [
        *given,
        rng.integers(0, len(tables[0]), (tokens, keep)).astype(np.int32),
        rows_of(choose, "f4", tokens, keep),
        rows_of(choose, "f4", tokens),
        allowed,
        choose.of((2, 0, 100)),
    ]


def interact(choose: Choices) -> list[Any]:
    tables, given = coded(choose)
    tokens = choose.of((3, 1, 17, 65, 0))
    shape = len(tables[0]), -(-max(tokens, 1) // 16) * 16
    table = choose.rng().integers(0, 256, shape).astype(np.uint8)
    some = choose.of((None, some_passages(choose, given)))
    sums = np.zeros(len(given[4]) - 1 if some is None else len(some), np.int32)
    return [isa(choose), *given, table, tokens, some, sums]


def refine(choose: Choices) -> list[Any]:
    tables, given = coded(choose)
    tokens, some = choose.of((3, 1, 17, 65, 0)), some_passages(choose, given)
    return [
        isa(choose),
        *tables,
        *given,
        rows_of(choose, "i1", tokens, tables[0].shape[1]),
        rows_of(choose, "f4", tokens),
        np.zeros(len(some), np.int64),
        some,
        rows_of(choose, "f4", len(some)),
        choose.of((1, 3, 100)),
        choose.of((0.0, 1.0, 1e30)),
        choose.of((1, 2, 5)),
        np.zeros((len(some), tokens), np.float32),
    ]


TABLES, COLUMNS = 5, 7  # arguments of a lattice, and of a segment


def with_lattice(function: Callable[..., Any]) -> Callable[..., Any]:
    """The lattice of a function as arguments, which follow the first."""
    return lambda isa, *rest: function(isa, _native.Lattice(*rest[:TABLES]), *rest[TABLES:])


def with_segment(function: Callable[..., Any], before: int) -> Callable[..., Any]:
    """The segment of a function as arguments, which follow so many others."""

    def call(*given: Any) -> Any:  # noqa: ANN401
        held = _native.CodedSegment(*given[before : before + COLUMNS])
        return function(*given[:before], held, *given[before + COLUMNS :])

    return call


def refine_one(isa: Any, lattice: Any, segment: Any, query: Any, scales: Any, *rest: Any) -> Any:  # noqa: ANN401
    return _native.refine(isa, lattice, query, scales, [segment], *rest)


MAKES = (maxsim, live_tokens, token_topk, xtr_aggregate, nearest, cell_sums, score_cells)
FUNCTIONS = [(make, getattr(_native, make.__name__)) for make in MAKES] + [
    (count_symbols, with_lattice(_native.count_symbols)),
    (encode_passages, with_lattice(_native.encode_passages)),
    (decode_passage, with_lattice(with_segment(_native.decode_passage, 2))),
    (probe, with_segment(_native.probe, 0)),
    (interact, with_segment(_native.interact, 1)),
    (refine, with_lattice(with_segment(refine_one, 2))),
]
NATIVES = [
    Target(f"native_{make.__name__}", called(make, function), native=True)
    for make, function in FUNCTIONS
]
