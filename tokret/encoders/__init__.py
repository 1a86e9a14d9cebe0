"""The encoders, one file each: text to token vectors."""

from tokret.encoders.base import Encoded, Encoder, Identity, encoders
from tokret.encoders.mini import Mini
from tokret.encoders.multivector import MultiVector

__all__ = ["Encoded", "Encoder", "Identity", "Mini", "MultiVector", "encoders"]
