"""A JSON document of any size, one value at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from tokret.collections.files import Opened, where
from tokret.collections.records import DECODER
from tokret.errors import InputError

_SPACE = re.compile(r"[ \t\n\r]*")
_CHUNK = 1 << 16  # bytes read at a time


def json_values(opened: Opened, limit: int) -> Iterator[tuple[int, object, str]]:
    """Line, value and source text of each element of a JSON array, or of values in a row.

    Reads forward in pieces: the memory held is one value, at most ``limit`` characters.
    Raises InputError at a syntax error, after which there is no finding the next value.
    """
    reader = _Pieces(opened, limit)
    inside = reader.peek() == "["
    if inside:
        reader.skip("[")
    first = True
    while True:
        symbol = reader.peek()
        if symbol == "" and inside:
            raise reader.fault("the array is not closed; wanted ']', is the file whole?")
        if symbol == "" or (symbol == "]" and inside):
            break
        if inside and not first:
            reader.skip(",")
            reader.peek()
        first = False
        yield reader.value()
    if inside:
        reader.skip("]")
        if reader.peek():
            raise reader.fault("more text after the array; wanted the end of the file")


class _Pieces:
    """The unread part of a JSON text."""

    def __init__(self, opened: Opened, limit: int) -> None:
        self._opened, self._limit = opened, limit
        # Bytes that are not UTF-8 become lone surrogates, which `clean` judges field by field.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def fault(self, message: str) -> InputError:
        return InputError(f"{where(self._opened.name, self._line)}: {message}.")

    def peek(self) -> str:
        """Look at the next character that is not blank, or nothing at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._advance(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                return ""

    def skip(self, symbol: str) -> None:
        if self.peek() != symbol:
            raise self.fault(f"got {self._text[self._at : self._at + 20]!r}; wanted {symbol!r}")
        self._advance(self._at + 1)

    def value(self) -> tuple[int, object, str]:
        """Read the value that begins here."""
        size = _CHUNK
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or (
                    error.pos >= len(self._text) - 12  # a cut \uXXXX\uXXXX or literal
                )
                if unfinished and not self._ended:
                    if len(self._text) - self._at > self._limit:
                        raise self.fault(
                            f"a value longer than {self._limit:,} characters; wanted one record "
                            "(max_line_bytes raises the limit)"
                        ) from error
                    self._more(size)
                    size *= 2  # so that a long value is not parsed again for every piece
                    continue
                self._line += self._text.count("\n", self._at, error.pos)
                raise self.fault(f"not JSON: {error.msg}") from error
            except RecursionError as error:
                raise self.fault("JSON nested too deep to read; wanted flat objects") from error
            if end == len(self._text) and self._more(_CHUNK):
                continue  # a number may go on in the next piece
            line, raw = self._line, self._text[self._at : end]
            self._advance(end)
            return line, value, raw

    def _advance(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        piece = self._opened.read(size, self._line)
        self._ended = not piece
        self._text = self._text[self._at :] + self._decode.decode(piece, final=self._ended)
        self._at = 0
        return not self._ended
