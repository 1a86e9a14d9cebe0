"""The encoders, one file each: text to token vectors."""

from tokret.encoders.base import Encoded, Encoder, Identity, encoders
from tokret.encoders.mini import Mini

__all__ = ["Encoded", "Encoder", "Identity", "Mini", "encoders"]
