"""Targets that take any bytes, and the engines that look for bytes which break them.

A target gives bytes to one reader of tokret. It may return, or raise an error of
``tokret.errors``; anything else that it raises is a fault of tokret, and so is taking
longer than MOST_SECONDS or more memory than the engine allows.
"""

from collections.abc import Callable
from dataclasses import dataclass

MOST_SECONDS = 10.0  # of a processor, for one input of at most MOST_BYTES
MOST_BYTES = 8192


@dataclass(frozen=True)
class Target:
    """A reader, inputs that it takes, and words of its language."""

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...] = (b"",)
    words: tuple[bytes, ...] = ()
    native: bool = False  # an entry point of the compiled kernels: bytes choose its arguments
