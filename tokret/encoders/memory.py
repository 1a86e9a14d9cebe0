"""Encoding in smaller batches once memory has not sufficed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tokret.encoders.base import Encoded, Encoder
from tokret.errors import ResourceError

# What torch, onnxruntime, OpenBLAS, C++ and Python's threads say when nothing is left.
_SAYS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|"
    r"failed to allocate memory|bad[_ ]alloc|can't start new thread",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, of the machine or of a device, did not suffice."""
    return isinstance(error, MemoryError) or bool(
        isinstance(error, OSError | RuntimeError) and _SAYS.search(str(error))
    )


class Sparing:
    """An encoder of documents that halves its batches, down to one text, to fit in memory.

    What did not fit is not tried again at that size.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.most: int | None = None  # texts at a time; None: all

    def encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        """Give back the texts' tokens in parts, in order.

        Raises ResourceError where there is no memory for one text.
        """
        first = 0
        while first < len(texts):
            part = texts[first : first + (self.most or len(texts))]
            try:
                encoded = self.encoder.encode_documents(part)
            except (MemoryError, RuntimeError, OSError) as error:
                if not out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise ResourceError(
                        f"Out of memory while encoding one text of {len(part[0]):,} characters; "
                        "close other programs, or set a smaller max_tokens."
                    ) from error
                self.most = len(part) // 2
                continue
            yield encoded
            first += len(part)
