"""The encoders, one file each: text to token vectors."""

from tokret.encoders.base import Encoded, Encoder, Identity, encoders
from tokret.encoders.mini import Mini
from tokret.encoders.multivector import MultiVector
from tokret.encoders.passages import split
from tokret.encoders.precomputed import Precomputed, open_vectors

__all__ = [
    "Encoded",
    "Encoder",
    "Identity",
    "Mini",
    "MultiVector",
    "Precomputed",
    "encoders",
    "open_vectors",
    "split",
]
