"""The filter language: text to a tree, by hand, with the place of every fault.

filter  = all { "or" all }
all     = one { "and" one }
one     = "not" one | "(" filter ")" | "true" | "false" | "exists" NAME | test
test    = NAME ( "==" | "!=" ) value | NAME [ "not" ] "in" "[" [ value { "," value } ] "]"
        | NAME "between" value "and" value
        | NAME order value | value order NAME [ order value ]
order   = "<" | "<=" | ">" | ">="
value   = 'text' | "text" | number | "true" | "false"
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, NoReturn

from tokret.errors import InputError, UsageError
from tokret.fields import RESERVED, Scalar, check_name
from tokret.indexes.filter_tree import (
    ESCAPES,
    Constant,
    Equals,
    Exists,
    Node,
    Not,
    Range,
    all_of,
    any_of,
    check_value,
)

MAX_TEXT = 1 << 16  # characters of a filter
MAX_DEPTH = 64  # brackets and negations within each other
SHOWN = 76  # characters of the line that a caret points into
ORDERS = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}  # and each from the other side
HINTS = {
    "=": "write == for equality",
    "<>": "write != for inequality",
    "&": "write and",
    "&&": "write and",
    "|": "write or",
    "||": "write or",
    "!": "write not",
}
_SIGN = re.compile(r"<=|>=|==|!=|<>|&&|\|\||[<>=!&|()\[\],]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = re.compile(r"[^\\\"']+")
_SPACE = re.compile(r"\s*")
_UNESCAPED = {escaped[1]: char for char, escaped in ESCAPES.items()} | {"'": "'"}

Kind = Literal["sign", "word", "name", "value", "end"]


class Token(NamedTuple):
    """A piece of a filter, and where it begins."""

    kind: Kind
    text: str
    at: int
    value: Scalar = ""


def parse(text: str) -> Node:
    """Read a filter. Raises UsageError that points at the place, for anything else."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"The filter has {len(text):,} characters; at most {MAX_TEXT:,} are read.")
    return _Parser(text).whole()


def pointed(text: str, at: int, message: str) -> UsageError:
    """Make the error that shows a place of the filter, by a caret below it."""
    first = max(0, min(at - SHOWN // 2, len(text) - SHOWN))
    line = "".join(c if c.isprintable() else " " for c in text[first : first + SHOWN])
    return UsageError(f"The filter: {message}.\n  {line}\n  {' ' * (at - first)}^")


def tokens(text: str) -> list[Token]:
    """Cut a filter into its pieces, an end after them."""
    found: list[Token] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at == len(text):
            return [*found, Token("end", "", at)]
        token, at = _token(text, at)
        found.append(token)


def _token(text: str, at: int) -> tuple[Token, int]:
    if text[at] in "\"'":
        return _quoted(text, at)
    if number := _NUMBER.match(text, at):
        written = number.group()
        whole = number.lastindex is None
        try:
            value = check_value(int(written) if whole and len(written) < 24 else float(written))
        except InputError:
            raise pointed(text, at, f"{written:.40} is beyond 64 bits, as no field is") from None
        if whole and isinstance(value, float):
            raise pointed(text, at, f"{written:.40} is beyond 64 bits, as no field is")
        return Token("value", written, at, value), number.end()
    if sign := _SIGN.match(text, at):
        if sign.group() in HINTS:
            raise pointed(text, at, f"{sign.group()} is unknown; {HINTS[sign.group()]}")
        return Token("sign", sign.group(), at), sign.end()
    end = at
    while end < len(text) and ("a" + text[end]).isidentifier():
        end += 1
    word = text[at:end]
    if word.lower() in ("true", "false"):
        return Token("value", word, at, word.lower() == "true"), end
    if word.lower() in RESERVED:
        return Token("word", word.lower(), at), end
    if not word:
        raise pointed(text, at, f"{text[at]!r} has no meaning here; texts stand in quotes")
    try:
        return Token("name", check_name(word), at), end
    except InputError as error:
        raise pointed(text, at, str(error)) from None


def _quoted(text: str, begin: int) -> tuple[Token, int]:
    quote, at = text[begin], begin + 1
    parts = []
    while at < len(text) and text[at] != quote:
        if text[at] == "\\":
            if text[at + 1 : at + 2] not in _UNESCAPED:
                known = " ".join(f"\\{char}" for char in _UNESCAPED)
                raise pointed(text, at, f"an unknown escape; known are {known}")
            parts.append(_UNESCAPED[text[at + 1]])
            at += 2
        elif plain := _PLAIN.match(text, at):
            parts.append(plain.group())
            at = plain.end()
        else:
            parts.append(text[at])  # the other quote
            at += 1
    if at >= len(text):
        raise pointed(text, begin, f"the text that begins here has no closing {quote}")
    try:
        value = check_value("".join(parts), "text")
    except InputError as error:
        raise pointed(text, begin, str(error)) from None
    return Token("value", text[begin : at + 1], begin, value), at + 1


class _Parser:
    """One pass over the tokens, each step a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._next, self._depth = text, tokens(text), 0, 0

    def whole(self) -> Node:
        if len(self._tokens) == 1:
            self._fail("it is empty; wanted such as year >= 2019")
        node = self._filter()
        if self._next < len(self._tokens) - 1:
            self._fail("wanted 'and', 'or' or the end")
        return node

    @property
    def _now(self) -> Token:
        return self._tokens[self._next]

    def _fail(self, message: str, at: Token | None = None) -> NoReturn:
        token = at or self._now
        got = ""
        if token.kind != "end" and message.startswith("wanted"):
            got = f"got {token.text:.40}, "
        raise pointed(self._text, token.at, got + message)

    def _take(self) -> Token:
        token = self._now
        self._next += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._now.kind in ("sign", "word") and self._now.text in texts

    def _skip(self, text: str) -> bool:
        if self._is(text):
            self._next += 1
            return True
        return False

    def _filter(self) -> Node:
        parts = [self._all()]
        while self._skip("or"):
            parts.append(self._all())
        return any_of(parts)

    def _all(self) -> Node:
        parts = [self._one()]
        while self._skip("and"):
            parts.append(self._one())
        return all_of(parts)

    def _one(self) -> Node:
        if self._is("not", "("):
            return self._deeper()
        if self._skip("exists"):
            name = self._name()
            return Exists(name.text, name.at)
        if self._now.kind == "name":
            return self._of_name(self._take())
        if self._now.kind == "value":
            return self._of_value(self._take())
        self._fail("wanted a test of a field, such as year >= 2019")

    def _deeper(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} brackets and negations within each other")
        if self._take().text == "not":
            node: Node = Not(self._one())
        else:
            node = self._filter()
            if not self._skip(")"):
                self._fail("wanted ')'")
        self._depth -= 1
        return node

    def _name(self) -> Token:
        if self._now.kind != "name":
            self._fail("wanted the name of a field")
        return self._take()

    def _value(self) -> Token:
        if self._now.kind != "value":
            quotes = "; texts stand in quotes" if self._now.kind == "name" else ""
            self._fail(f"wanted a value{quotes}")
        return self._take()

    def _of_name(self, name: Token) -> Node:
        if self._is("==", "!="):
            negated = self._take().text == "!="
            if self._is("["):
                self._fail("wanted a value; for several, write 'in'")
            return self._unless(negated, Equals(name.text, (self._value().value,), name.at))
        negated = self._skip("not")
        if self._skip("in"):
            return self._unless(negated, Equals(name.text, self._values(), name.at))
        if negated:
            self._fail("wanted 'in'")
        if self._skip("between"):
            low = self._value()
            if not self._skip("and"):
                self._fail("wanted 'and' and the upper bound")
            return self._range(name, low, "<=", "<=", self._value())
        if self._is(*ORDERS):
            order = self._take().text
            bound = self._value()
            if self._is(*ORDERS):
                self._fail("wanted a range with the field in the middle: 2019 <= year < 2022")
            if order in ("<", "<="):
                return self._range(name, None, "", order, bound)
            return self._range(name, bound, ORDERS[order], "", None)
        self._fail("wanted == != < <= > >= in, not in or between after the name of a field")

    def _of_value(self, first: Token) -> Node:
        if isinstance(first.value, bool) and not self._is("==", "!=", *ORDERS):
            return Constant(first.value)
        if self._is("==", "!="):
            negated = self._take().text == "!="
            name = self._name()
            return self._unless(negated, Equals(name.text, (first.value,), name.at))
        if not self._is(*ORDERS):
            self._fail("wanted == != < <= > or >= after a value")
        order = self._take().text
        name = self._name()
        rising = order in ("<", "<=")
        if not self._is(*ORDERS):
            if rising:
                return self._range(name, first, order, "", None)
            return self._range(name, None, "", ORDERS[order], first)
        then = self._take()
        if then.text[0] != order[0]:
            self._fail("the two signs of a range must point the same way", then)
        second = self._value()
        if rising:
            return self._range(name, first, order, then.text, second)
        return self._range(name, second, ORDERS[then.text], ORDERS[order], first)

    def _values(self) -> tuple[Scalar, ...]:
        closing = "]" if self._is("[") else ")"
        if not self._skip("[") and not self._skip("("):
            self._fail("wanted a list in brackets: [1, 2]")
        values: list[Scalar] = []
        while not self._is(closing):
            values.append(self._value().value)
            if not self._skip(",") and not self._is(closing):
                self._fail(f"wanted ',' or '{closing}'")
        self._take()
        return tuple(values)

    def _range(
        self, name: Token, low: Token | None, above: str, below: str, high: Token | None
    ) -> Node:
        bounds = [bound for bound in (low, high) if bound is not None]
        for bound in bounds:
            if isinstance(bound.value, bool):
                self._fail("true and false have no order; write == or !=", bound)
            if isinstance(bound.value, str) != isinstance(bounds[0].value, str):
                self._fail("a range goes between two numbers or two texts", bound)
        least, most = (None if bound is None else bound.value for bound in (low, high))
        return Range(name.text, least, most, (above == "<", below == "<"), name.at)

    @staticmethod
    def _unless(negated: bool, node: Node) -> Node:
        return Not(node) if negated else node
