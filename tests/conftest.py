"""What every test may use: a small encoder, and where collections may be found."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tokret.encoders.base import Encoded, Identity, encoders
from tokret.registry import Spec
from tokret.types import Tokens

# Read as Triton is imported, which transformers does too: GPU kernels run on the CPU. With 0
# in the environment they run on the GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Property tests are judged by their answers, not by the clock of a busy machine.
settings.register_profile(
    "untimed", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

WORD = re.compile(r"\w+")


@encoders.register("toy")
@dataclass(frozen=True)
class Toy(Spec):
    """A vector for each word, the same wherever the word stands; no special tokens."""

    dim: int = 16
    max_tokens: int = 12

    @property
    def identity(self):
        return Identity(str(self), hashlib.sha256(str(self).encode()).hexdigest(), self.dim)

    def token_spans(self, text):
        return np.array([m.span() for m in WORD.finditer(text)], np.int64).reshape(-1, 2)

    def encode_queries(self, texts):
        return self.encode_documents(texts)

    def encode_documents(self, texts):
        spans = [self.token_spans(text) for text in texts]
        kept = [s[: self.max_tokens] for s in spans]
        words = [text[a:b].lower() for text, s in zip(texts, kept, strict=True) for a, b in s]
        flat = np.array([self._vector(word) for word in words], np.float32)
        offsets = np.cumsum([0, *map(len, kept)], dtype=np.int64)
        return Encoded(
            Tokens(flat.reshape(-1, self.dim), offsets),
            np.concatenate([np.empty((0, 2)), *kept]).astype(np.int32),
            np.array([int(_digest(word)[:6], 16) for word in words], np.int32),
            np.array([len(s) > self.max_tokens for s in spans], np.bool_),
        )

    def _vector(self, word):
        rng = np.random.default_rng(int(_digest(word)[:8], 16))
        vector = rng.standard_normal(self.dim)
        return vector / np.linalg.norm(vector)


def _digest(word):
    return hashlib.sha256(word.encode()).hexdigest()


@pytest.fixture(scope="session")
def toy():
    return Toy()


@pytest.fixture(scope="session")
def data():
    """The folder of collections that are not shipped; skips where there is none."""
    folder = Path(os.environ.get("TOKRET_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("collections are not here; set TOKRET_DATA")
    return folder
