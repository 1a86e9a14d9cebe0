"""Files as streams: unpacked, bounded, refused with their place.

A file is opened once and read forward in pieces, so its size does not matter and a
pipe serves as well. Compression is told by the first bytes, not by the name.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tokret.collections.streams import BUFFER, Broken, Checked, ZstdReader, buffered, head_of
from tokret.errors import InputError, ResourceError, UsageError
from tokret.registry import did_you_mean

MAX_LINE_BYTES = 64 << 20  # a longer line is no document, and must not fill the memory
HEAD_BYTES = 4096  # enough to tell a format by
SWELLING = 200  # times its size that a file may unpack to; text comes to about 4, tables to 40
SWELLING_FROM = 256 << 20  # unpacked bytes from which on that counts
_UTF8_BOM = b"\xef\xbb\xbf"

_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\xfd7zXZ\x00": "xz-compressed",
    b"BZh91AY&SY": "bzip2-compressed",
}
_BINARY = {
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"PAR1\x15": "a Parquet file",
    b"%PDF-": "a PDF",
    b"\x93NUMPY": "a NumPy array",
    b"SQLite format 3\0": "an SQLite database",
}
_CODE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt"}
COMPRESSED = (".gz", ".zst")


def where(name: str, line: int) -> str:
    """``file:line``, or the file alone where there are no lines."""
    return f"{name}:{line}" if line else name


def bare_suffix(path: str | Path) -> str:
    """Give the extension without a compression's: ``.jsonl`` of ``a.JSONL.gz``."""
    path = Path(path)
    while path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower()


def missing(path: Path, wanted: str) -> InputError:
    """Say that nothing is at ``path``, what was looked for, and the nearest name there is."""
    parent = path.parent
    try:
        names = os.listdir(parent)
    except OSError:
        return InputError(f"{path}: no such file, and no folder {parent}; wanted {wanted}.")
    return InputError(
        f"{path}: no such file or folder.{did_you_mean(path.name, names)} Wanted {wanted}."
    )


class Opened:
    """One input file, open: its name for messages, its first bytes, its stream."""

    def __init__(self, path: str | Path, count: Callable[[int], None] | None = None) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.path = None if str(path) == "-" else Path(path)
        if self.path is not None and bare_suffix(self.path) in _CODE_SUFFIXES:
            raise InputError(
                f"{self.name}: a {self.path.suffix} file can run code when it is opened and is "
                "never read; wanted JSONL, JSON, TSV or text."
            )
        try:
            source: IO[bytes] = sys.stdin.buffer if self.path is None else self.path.open("rb", 0)
        except FileNotFoundError:
            raise missing(Path(path), "a file to read") from None
        except OSError as error:
            raise InputError(f"{self.name}: cannot be opened: {error.strerror}.") from error
        close = source.close if self.path is not None else None
        self._packed = self._unpacked_bytes = 0

        def counted(size: int) -> None:
            self._packed += size
            if count is not None:
                count(size)

        self._source = Checked(lambda n: source.read(n) or b"", self.name, b"", counted, close)
        try:
            self.head, self.stream = self._unpacked()
        except BaseException as error:
            self._source.close()
            if isinstance(error, Broken):
                raise InputError(f"{self.name}: {error}.") from error
            raise

    def _unpacked(self) -> tuple[bytes, io.BufferedReader]:
        stream = buffered(self._source)
        head = head_of(stream, HEAD_BYTES)
        again = buffered(Checked(stream.read1, self.name, head))
        if head.startswith(b"\x1f\x8b"):
            unpacked: Any = gzip.GzipFile(fileobj=again)
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            unpacked = ZstdReader(again)
        else:
            unpacked = None
        if unpacked is not None:
            stream = buffered(Checked(unpacked.read, self.name, count=self._swells))
            head = head_of(stream, HEAD_BYTES)
        _refuse_foreign(self.name, head)
        head = head.removeprefix(_UTF8_BOM)
        return head, buffered(Checked(stream.read1, self.name, head))

    def _swells(self, size: int) -> None:
        """Refuse what unpacks to far more than any corpus does, before it fills disk or day."""
        self._unpacked_bytes += size
        if self._unpacked_bytes > max(SWELLING_FROM, SWELLING * self._packed):
            raise Broken(
                f"{self._packed:,} bytes unpack to more than {self._unpacked_bytes:,}, as in a "
                f"decompression bomb; over {SWELLING} times is not read. If it is what you want, "
                "unpack it and give the file"
            )

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def lines(self, limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes]]:
        r"""Yield number and bytes of each line, without its ``\n`` or ``\r\n``.

        A line longer than ``limit`` comes as its first ``limit + 1`` bytes: the caller
        refuses it with ``whole``.
        """
        number = 0
        try:
            while raw := self.stream.readline(limit + 3):
                number += 1
                if raw.endswith(b"\n"):
                    raw = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
                elif len(raw) > limit:
                    raw = raw[: limit + 1]
                    while (more := self.stream.readline(BUFFER)) and not more.endswith(b"\n"):
                        pass
                yield number, raw
        except Broken as error:
            raise InputError(f"{where(self.name, number + 1)}: {error}.") from error

    def read(self, size: int, line: int = 0) -> bytes:
        """Read up to ``size`` bytes; ``line`` is where a failure is reported."""
        try:
            return self.stream.read(size)
        except Broken as error:
            raise InputError(f"{where(self.name, line)}: {error}.") from error


def whole(raw: bytes, limit: int) -> bytes:
    """Pass a line through; InputError for one that ``lines`` had to cut."""
    if len(raw) > limit:
        raise InputError(
            f"a line longer than {limit:,} bytes; wanted one record a line "
            "(max_line_bytes raises the limit)"
        )
    return raw


def text_lines(opened: Opened, limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str]]:
    """Lines as text, blank ones left out; InputError with file and line for bad UTF-8."""
    for number, raw in opened.lines(limit):
        try:
            line = whole(raw, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where(opened.name, number)}: byte {error.start + 1} of the line is not UTF-8."
            ) from error
        except InputError as error:
            raise InputError(f"{where(opened.name, number)}: {error}.") from error
        if line.strip():
            yield number, line


def _refuse_foreign(name: str, head: bytes) -> None:
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise InputError(
                f"{name}: {kind}; unpack it first, and give the file or folder inside "
                "(.gz and .zst of a single file are read as they are)."
            )
    if head[257:262] == b"ustar":
        raise InputError(f"{name}: a tar archive; unpack it first, and give the folder inside.")
    for magic, kind in _BINARY.items():
        if head.startswith(magic):
            raise InputError(f"{name}: {kind}; wanted JSONL, JSON, TSV or text.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: UTF-16 text; wanted UTF-8: iconv -f UTF-16 -t UTF-8.")


@contextlib.contextmanager
def open_output(path: str | Path) -> Iterator[IO[bytes]]:
    """Write a file that appears whole or not at all; ``-`` is standard output.

    ``.gz`` and ``.zst`` names compress. A pipe or device is written straight into.
    Raises UsageError where the place cannot be written, ResourceError when it is full.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(path))  # a link stays a link, what it points to is replaced
    straight = target.exists() and not target.is_file()
    part = target if straight else target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        raw = part.open("wb" if straight else "xb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}.") from error
    try:
        with raw:
            with _compressed(raw, target.suffix.lower()) as out:
                yield out
            raw.flush()
            if not straight:
                os.fsync(raw.fileno())
        if not straight:
            os.replace(part, target)
    except BaseException as error:
        if not straight:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{path}: {error.strerror}; nothing was changed.") from error
        raise


def _compressed(raw: IO[bytes], suffix: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if suffix == ".gz":
        packed: Any = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
        return packed  # type: ignore[no-any-return]
    if suffix == ".zst":
        import zstandard

        packed = zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
        return packed  # type: ignore[no-any-return]
    return contextlib.nullcontext(raw)
