"""tokret-mini, the encoder that comes with tokret.

Paper: MiniLM (Wang and others 2020), as sentence-transformers trained all-MiniLM-L6-v2.
Does: 6 layers in 8 bits under onnxruntime, token vectors 384 -> 128 by a fixed projection,
    then unit length. Lower-cased English word pieces; no torch.
Costs: 23 MB on disk, 10.6 million multiply-adds a token besides attention.
Departs: weights are rounded to 8 bits, one scale a column, and activations to 8 bits on
    fixed scales; the projection is drawn, not trained; documents end at 300 tokens.

Texts run together only with texts of the same number of tokens, so nothing is padded or
masked. The vectors of a text do not depend on its batch, nor on the number of threads.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokret.encoders.base import Encoded, Identity, Spans, encoders
from tokret.errors import InputError, ModelError, UsageError
from tokret.locks import Lock
from tokret.registry import Spec
from tokret.types import Floats, Ints, Tokens

DATA = Path(__file__).with_name("mini_data")
DIM = 128
LONGEST = 512  # positions that the model knows
CLS, SEP = 101, 102
BATCH = 512  # tokens of one run: its activations stay in a core's cache
PROBE = 255 * 127 * 64  # what the model's probe must come to
PIECE = 1 << 16  # characters tokenised at once, so that memory does not follow the text
BLANK = re.compile("[ \t\n\r]")
_lock = Lock()


class Model(NamedTuple):
    """The loaded network and tokenizer; both may be called from many threads."""

    run: Callable[[NDArray[np.int32]], Floats]
    tokenizer: Any


class Pieces(NamedTuple):
    """Content tokens of a text: ``ids`` [n], ``spans`` [n, 2]; ``cut`` where some were left out."""

    ids: NDArray[np.int32]
    spans: Spans
    cut: bool


@encoders.register("tokret-mini")
@dataclass(frozen=True)
class Mini(Spec):
    """MiniLM token vectors [T, 128], without torch.

    ``max_tokens`` and ``max_query_tokens`` count [CLS] and [SEP]; a longer text is cut and
    said to be. ``special_tokens`` keeps the vectors of those two, so that a text without
    words still has vectors: without them it has none. ``threads`` 0 means all cores and
    changes no vector. Raises UsageError for a count out of range.
    """

    max_tokens: int = 300
    max_query_tokens: int = 64
    special_tokens: bool = True
    threads: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        for key in ("max_tokens", "max_query_tokens"):
            if not 3 <= getattr(self, key) <= LONGEST:
                raise UsageError(
                    f"tokret-mini: {key} must be from 3 to {LONGEST}, got {getattr(self, key)}."
                )
        if self.threads < 0:
            raise UsageError(f"tokret-mini: threads must be 0 (all) or more, got {self.threads}.")

    @property
    def identity(self) -> Identity:
        """Which model this is; read from the digests beside it, without loading it."""
        spec = str(self)
        return Identity(spec, hashlib.sha256(f"{digests(DATA)}\n{spec}".encode()).hexdigest(), DIM)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Encode requests; each becomes float32 unit vectors [Q, 128].

        Raises InputError where a text is not a string, ModelError where the model is damaged.
        """
        return self._encode(texts, self.max_query_tokens)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """Encode passages; each becomes float32 unit vectors [T, 128].

        Raises InputError where a text is not a string, ModelError where the model is damaged.
        """
        return self._encode(texts, self.max_tokens)

    def token_spans(self, text: str) -> Ints:
        """Character ranges [n, 2] of all tokens of ``text``, uncut, without special ones."""
        tokenizer = load(DATA).tokenizer
        found = [
            np.array(tokenizer.encode(piece, add_special_tokens=False).offsets, np.int64) + start
            for start, piece in pieces(text, PIECE)
        ]
        return np.concatenate(
            [spans.reshape(-1, 2) for spans in [np.empty((0, 2)), *found]]
        ).astype(np.int64)

    def _encode(self, texts: Sequence[str], limit: int) -> Encoded:
        texts = checked(texts)
        model = load(DATA)
        found = [tokenise(model.tokenizer, text, limit - 2) for text in texts]
        edge = int(self.special_tokens)
        lengths = np.array([len(f.ids) + 2 for f in found], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths - 2 * (1 - edge))]).astype(np.int64)
        vectors = np.empty((offsets[-1], DIM), np.float32)
        spans = np.zeros((offsets[-1], 2), np.int32)
        ids = np.empty(offsets[-1], np.int32)
        for i, f in enumerate(found):
            rows = slice(offsets[i], offsets[i + 1])
            ids[rows] = framed(f.ids)[1 - edge : len(f.ids) + 1 + edge]
            spans[offsets[i] + edge : offsets[i + 1] - edge] = f.spans

        def run(batch: list[int]) -> None:
            out = model.run(np.stack([framed(found[i].ids) for i in batch]))
            for i, rows in zip(batch, out, strict=True):
                vectors[offsets[i] : offsets[i + 1]] = rows[1 - edge : len(rows) - 1 + edge]

        each(run, list(batches(lengths)), self.threads)
        cut = np.array([f.cut for f in found], np.bool_)
        return Encoded(Tokens(vectors, offsets), spans, ids, cut)


def checked(texts: Sequence[str]) -> Sequence[str]:
    """Refuse what is not a list of strings."""
    if isinstance(texts, str):
        raise InputError("Texts must be a list of strings, got one string; write [text].")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"Text {i} must be a string, got {type(text).__name__}.")
    return texts


def pieces(text: str, size: int) -> Iterator[tuple[int, str]]:
    """Cut at white space into about ``size`` characters, with where each piece starts.

    A word never has its tokens changed by that, unless it is longer than ``size`` itself.
    Half of a surrogate pair, which is no character, becomes U+FFFD in the same place.
    """
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            space = BLANK.search(text, end, end + size)
            end = space.start() if space else end
        yield start, re.sub("[\ud800-\udfff]", "\ufffd", text[start:end])
        start = end


def tokenise(tokenizer: Any, text: str, limit: int) -> Pieces:  # noqa: ANN401
    """Take the first ``limit`` tokens of ``text``, reading little more of it than they need."""
    ids: list[int] = []
    spans: list[Spans] = [np.empty((0, 2), np.int32)]
    for start, piece in pieces(text, 16 * limit):
        encoding = tokenizer.encode(piece, add_special_tokens=False)
        ids += encoding.ids
        spans.append(np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(start))
        if len(ids) > limit:
            break
    return Pieces(np.array(ids[:limit], np.int32), np.concatenate(spans)[:limit], len(ids) > limit)


def framed(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Put [CLS] before and [SEP] after."""
    return np.concatenate([[CLS], ids, [SEP]]).astype(np.int32)


def batches(lengths: Ints) -> Iterator[list[int]]:
    """Group texts of the same length, long ones first, at most BATCH tokens in a group."""
    order = np.argsort(-lengths, kind="stable").tolist()
    for length, same in groupby(order, key=lambda i: int(lengths[i])):
        members = list(same)
        size = max(1, BATCH // length)
        yield from (members[i : i + size] for i in range(0, len(members), size))


def each(run: Callable[[list[int]], None], work: list[list[int]], threads: int) -> None:
    """Run all batches, ``threads`` at a time."""
    threads = min(threads or cores(), len(work))
    if threads <= 1:
        for batch in work:
            run(batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run, work):
            pass


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def digests(folder: Path) -> str:
    """Read what the model's files must hash to, in the form of sha256sum."""
    try:
        return (folder / "SHA256SUMS").read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"tokret-mini is incomplete ({error}); install tokret again.") from error


def load(folder: Path) -> Model:
    """Load the model once in a process; raises ModelError where a file is absent or damaged."""
    with _lock:
        return _load(folder, os.getpid())


@cache
def _load(folder: Path, process: int) -> Model:
    from tokenizers import Tokenizer

    onnxruntime = runtime()
    files = {}
    for line in digests(folder).splitlines():
        digest, name = line.split()
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ModelError(
                f"tokret-mini is incomplete ({error}); install tokret again."
            ) from error
        if (got := hashlib.sha256(files[name]).hexdigest()) != digest:
            raise ModelError(
                f"{folder / name} is damaged: sha256 {got[:12]}…, wanted {digest[:12]}…; "
                "install tokret again."
            )
    session = start(onnxruntime, files["model.onnx"], exact=False)
    if not (session.run(["probe"], {"ids": np.array([[CLS, SEP]], np.int32)})[0] == PROBE).all():
        session = start(onnxruntime, files["model.onnx"], exact=True)
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text

    def run(ids: NDArray[np.int32]) -> Floats:
        vectors: Floats = session.run(["vectors"], {"ids": ids})[0]
        return vectors

    return Model(run, tokenizer)


def runtime() -> Any:  # noqa: ANN401
    """Import onnxruntime; unless the environment says otherwise, without its telemetry.

    Since 1.29 it reports models and runs to its makers, from files it keeps under ~/.cache.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where somebody imported it before
    return onnxruntime


def start(onnxruntime: Any, model: bytes, *, exact: bool) -> Any:  # noqa: ANN401
    """Start a session whose runs take one thread each, as batches run side by side.

    ``exact`` takes the slower kernels of x86 CPUs that cut off sums of 8-bit products.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # every length would keep a plan of its own
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
