"""Any multi-vector model of sentence-transformers, with the place of each token.

Reads native MultiVectorEncoder saves, PyLate and Stanford ColBERT checkpoints, and XTR
folders (a T5 encoder and a narrowing ``2_Dense``), which are assembled here: text is
lower-cased, the end token kept, and there are neither markers nor query expansion.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokret.encoders.base import Encoded, Identity, Spans, encoders
from tokret.encoders.memory import out_of_memory
from tokret.encoders.model_files import (
    WEIGHTS,
    XTR_DENSE,
    XTR_PICKLED,
    digest,
    layout,
    locate,
    projection_shape,
)
from tokret.encoders.places import Ids, lay_beside, trimmed
from tokret.encoders.torch_zip import read_matrix
from tokret.errors import InputError, MissingExtraError, ModelError, ResourceError, UsageError
from tokret.locks import Lock
from tokret.registry import Spec
from tokret.types import Floats, Ints, Tokens

XTR_LENGTH = 512  # tokens of a query or a document, as in the authors' notebook
UNBOUNDED = 1_000_000  # tokens; tokenizers without a limit name absurd numbers

_SURROGATES = re.compile("[\ud800-\udfff]")
# A tokenizer is told anew, at each call, where to cut; two threads must not mix that up.
_one_at_a_time = Lock()
_loading = Lock()

Row = tuple[Floats, Spans, Ids, bool]  # vectors, ranges and ids of one text; whether it was cut


@encoders.register("st")
@dataclass(frozen=True)
class MultiVector(Spec):
    """The model in a folder or on the Hugging Face Hub, in safetensors.

    ``document_length`` and ``query_length`` override, in tokens with special ones, how much
    is read. ``device`` and ``batch_size`` change speed alone and do not print.
    Special tokens, prompts, markers and expansion have empty character ranges.
    """

    model: str
    document_length: int | None = None
    query_length: int | None = None
    revision: str | None = None
    device: str | None = field(default=None, compare=False)
    batch_size: int = field(default=32, compare=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"st: batch_size must be at least 1, got {self.batch_size}.")

    @property
    def identity(self) -> Identity:
        """The model's files and the two lengths, hashed."""
        settings = f"{digest(self._folder)} {self.document_length} {self.query_length}"
        dim = int(self._model.get_embedding_dimension())
        return Identity(str(self), hashlib.sha256(settings.encode()).hexdigest(), dim)

    @property
    def max_tokens(self) -> int:
        """Longest document it reads, in tokens, special ones and prompt counted."""
        return _limit(self._model, self._model[0].document_length)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Encode requests; each becomes float32 unit vectors [Q, H]."""
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """Encode passages; each becomes float32 unit vectors [T, H]."""
        return self._encode(texts, "document")

    def token_spans(self, text: str) -> Ints:
        """Character ranges [n, 2] of all tokens of ``text``, uncut, without special ones."""
        clean = _readable([text])[0]
        with _one_at_a_time:
            marks = self._tokenizer([clean], add_special_tokens=False, **_UNCUT)
        return trimmed(marks["offset_mapping"][0], clean).astype(np.int64)

    @cached_property
    def _folder(self) -> Path:
        return locate(self.model, self.revision)

    @property
    def _model(self) -> Any:  # noqa: ANN401
        with _loading:  # several threads may ask first
            return self._loaded

    @cached_property
    def _loaded(self) -> Any:  # noqa: ANN401
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"Encoder {str(self)!r}", "st")
        kind = layout(self._folder)
        try:
            with _quiet():
                model = _load(self._folder, xtr=kind == "xtr", device=self.device)
        except MemoryError as error:
            raise ResourceError(f"Out of memory while loading {self.model}.") from error
        except Exception as error:  # whatever is wrong with the files, the model is unusable
            reason = f"{type(error).__name__}: {str(error).strip()}"[:500]
            raise ModelError(
                f"Cannot load {self.model} as a multi-vector model. {reason}"
            ) from error
        if not getattr(model.tokenizer, "is_fast", False):
            raise ModelError(f"{self.model} has no fast tokenizer, which knows characters' places.")
        if hasattr(model[0], "unpad_inputs"):
            model[0].unpad_inputs = False  # keeps one row a text, beside which spans are laid
        _set_lengths(model, self.document_length, self.query_length)
        return model

    @property
    def _tokenizer(self) -> Any:  # noqa: ANN401
        return self._model.tokenizer

    def _encode(self, texts: Sequence[str], task: Literal["query", "document"]) -> Encoded:
        clean = _readable(texts)
        order = sorted(range(len(clean)), key=lambda i: -len(clean[i]))
        rows: dict[int, Row] = {}
        for first in range(0, len(order), self.batch_size):
            batch = order[first : first + self.batch_size]
            encoded = self._rows([clean[i] for i in batch], task)
            rows.update(zip(batch, encoded, strict=True))
        inorder = [rows[i] for i in range(len(clean))]
        width = int(self._model.get_embedding_dimension())
        return Encoded(
            Tokens.of([vectors for vectors, _, _, _ in inorder], width=width),
            np.concatenate([np.empty((0, 2), np.int32), *(spans for _, spans, _, _ in inorder)]),
            np.concatenate([np.empty(0, np.int32), *(ids for _, _, ids, _ in inorder)]),
            np.array([cut for _, _, _, cut in inorder], np.bool_),
        )

    def _rows(self, texts: list[str], task: Literal["query", "document"]) -> list[Row]:
        """Encode one batch, in halves where memory does not suffice."""
        try:
            return self._forward(texts, task)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(texts) == 1:
                raise ResourceError(
                    f"Out of memory while encoding one text of {len(texts[0])} characters; set a "
                    "smaller document_length or query_length."
                ) from error
        half = len(texts) // 2
        return self._rows(texts[:half], task) + self._rows(texts[half:], task)

    def _forward(self, texts: list[str], task: Literal["query", "document"]) -> list[Row]:
        model = self._model
        encode = model.encode_query if task == "query" else model.encode_document
        prompt = _prompt(model, task)
        with _one_at_a_time:
            items = encode(
                texts,
                prompt=prompt,
                batch_size=len(texts),
                show_progress_bar=False,
                output_value=None,
            )
            marks = self._tokenizer(
                [prompt + text for text in texts], return_special_tokens_mask=True, **_UNCUT
            )
        left = self._tokenizer.padding_side == "left"
        rows = []
        for i, (item, text) in enumerate(zip(items, texts, strict=True)):
            vectors = _kept_vectors(model, item)
            row_ids = item["input_ids"].cpu().numpy().astype(np.int32)
            uncut = np.array(marks["input_ids"][i], np.int32)
            places = trimmed(marks["offset_mapping"][i], text, after=len(prompt))
            special = np.array(marks["special_tokens_mask"][i], np.bool_)
            spans = lay_beside(row_ids, uncut, places, special, left=left)
            keep = item["attention_mask"].cpu().numpy().astype(bool)
            if len(keep) == len(row_ids):
                ids, spans = row_ids[keep], spans[keep]
            else:  # pooled vectors stand for several tokens
                ids = np.full(len(vectors), -1, np.int32)
                spans = np.zeros((len(vectors), 2), np.int32)
            rows.append((vectors, spans, ids, len(uncut) > len(row_ids)))
        return rows


_UNCUT: dict[str, Any] = {
    "truncation": False,
    "padding": False,
    "return_offsets_mapping": True,
    "verbose": False,
}


def _load(folder: Path, *, xtr: bool, device: str | None) -> Any:  # noqa: ANN401
    """Build the MultiVectorEncoder of a local folder; no code of the folder is run."""
    from sentence_transformers import MultiVectorEncoder

    weights = {"use_safetensors": True}
    if not xtr:
        return MultiVectorEncoder(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs=weights,
        )
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    reader = Transformer(
        str(folder), do_lower_case=True, max_seq_length=XTR_LENGTH, model_kwargs=weights
    )
    if any((folder / XTR_DENSE).glob(WEIGHTS)):
        dense = Dense.load(str(folder), subfolder=XTR_DENSE, local_files_only=True)
    else:
        import torch

        rows, columns = projection_shape(folder)
        dense = Dense(columns, rows, bias=False, activation_function=torch.nn.Identity())
        weights_read = read_matrix(folder / XTR_PICKLED, rows, columns)
        dense.linear.weight.data.copy_(torch.from_numpy(weights_read))
    dense.module_input_name = dense.module_output_name = "token_embeddings"
    unit = Normalize(module_input_name="token_embeddings")
    return MultiVectorEncoder(modules=[reader, dense, MultiVectorMask(), unit], device=device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars of transformers off standard error while a model loads."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _set_lengths(model: Any, document: int | None, query: int | None) -> None:  # noqa: ANN401
    """Override how many tokens are read; refuse what the model cannot take."""
    reader = model[0]
    least = model.tokenizer.num_special_tokens_to_add() + 1
    for name, length in (("document_length", document), ("query_length", query)):
        if length is not None and not least <= length <= _limit(model):
            raise UsageError(f"st: {name} must be {least} to {_limit(model)}, got {length}.")
    if document is not None:
        reader.document_length = document
    if query is not None:
        reader.query_length = None
        if reader.query_expansion is not None:
            reader.query_expansion = {**reader.query_expansion, "length": query}
        reader.query_length = query


def _limit(model: Any, length: int | None = None) -> int:  # noqa: ANN401
    longest = model.max_seq_length or UNBOUNDED
    return int(min(length or longest, longest, UNBOUNDED))


def _prompt(model: Any, task: str) -> str:  # noqa: ANN401
    """Text that the model puts before each input, chosen as sentence-transformers does."""
    names = ("query",) if task == "query" else ("document", "passage", "corpus")
    name = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return str(model.prompts.get(name) or "")


def _kept_vectors(model: Any, item: dict[str, Any]) -> Floats:  # noqa: ANN401
    """Select the rows that the model scores, and make them unit vectors if it does not."""
    from sentence_transformers.base.modules import Normalize
    from torch.nn.functional import normalize

    vectors = item["token_embeddings"][item["attention_mask"].bool()]
    if not any(isinstance(module, Normalize) for module in model):
        vectors = normalize(vectors, p=2, dim=-1)
    return np.asarray(vectors.float().cpu().numpy(), np.float32)


def _readable(texts: Sequence[str]) -> list[str]:
    """Refuse what is not text; a lone surrogate, which no tokenizer reads, becomes U+FFFD."""
    if isinstance(texts, str):
        raise InputError("Texts must be a list of str, got one str; write [text].")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"Text {i} is {type(text).__name__}; texts must be str.")
    return [_SURROGATES.sub("\ufffd", text) for text in texts]
