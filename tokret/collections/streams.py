"""Byte streams that count, unpack and fail with words; the parts that files are read by."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

from tokret.errors import InputError

BUFFER = 1 << 18
_ZSTD_STEP = 256  # compressed bytes at a time: the densest of them unpack to 8 MiB


class Checked(io.RawIOBase):
    """A stream that counts its bytes, begins with ``head``, and fails with the file's name."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        name: str,
        head: bytes = b"",
        count: Callable[[int], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._read, self._name, self._head = read, name, head
        self._count, self._close = count, close

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Fill ``buffer`` as far as one read goes; Broken where the file is damaged."""
        if self._head:
            piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            piece = self._pull(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _pull(self, size: int) -> bytes:
        try:
            piece = self._read(size)
        except EOFError as error:
            raise Broken("the compressed data ends too early; copy the file again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Broken(f"the compressed data is damaged ({error})") from error
        except OSError as error:
            raise Broken(f"cannot be read: {error.strerror or error}") from error
        if self._count:
            self._count(len(piece))
        return piece

    def close(self) -> None:
        """Close what lies below, if it is ours."""
        if self._close and not self.closed:
            self._close()
        super().close()


class Broken(InputError):
    """A stream that fails half-way; whoever reads it adds file and line."""


def buffered(raw: Checked) -> io.BufferedReader:
    """Put a buffer before ``raw``, so that lines are found in C."""
    return io.BufferedReader(raw, BUFFER)


def head_of(stream: io.BufferedReader, size: int) -> bytes:
    """Read up to ``size`` bytes; fewer only at the end, also from a pipe."""
    head = b""
    while len(head) < size and (piece := stream.read1(size - len(head))):
        head += piece
    return head


class ZstdReader:
    """Bytes of a .zst file, frame after frame; EOFError where the last one is cut."""

    def __init__(self, stream: io.BufferedReader) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._context = zstandard.ZstdDecompressor()
        self._stream = stream
        self._frame: Any = None
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end; EOFError or Broken for damage."""
        while not self._ready:
            packed = self._stream.read(_ZSTD_STEP)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            self._ready = memoryview(self._unpack(packed))
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece

    def _unpack(self, packed: bytes) -> bytes:
        out = []
        try:
            while packed:
                if self._frame is None:
                    self._frame = self._context.decompressobj(write_size=1 << 14)
                out.append(self._frame.decompress(packed))
                packed = b""
                if self._frame.eof:
                    packed, self._frame = self._frame.unused_data, None
        except self._error as error:
            raise Broken(f"the compressed data is damaged ({error})") from error
        return b"".join(out)
