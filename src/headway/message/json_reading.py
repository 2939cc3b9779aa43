"""JSON values and quoted texts in text that comes in pieces.

Values are passed on as they are written, not understood: only where they end is found out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

from headway.message.reading import Reading, TextReader

Emit = Callable[[str], None]
"""Takes the pieces of something, in order."""

_OUTSIDE_TEXTS = re.compile(r'[^"\[\]{}]+')
_BARE_VALUE = re.compile(r'[^\s,;:"\[\]{}<]+')
_HEX = re.compile(r"[0-9A-Fa-f]")
_PLAIN = {quote: re.compile(rf"[^{quote}\\]+") for quote in "\"'"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_CODE_DIGITS = {"x": 2, "u": 4, "U": 8}
MAX_BARE = 512
"""Characters of a number or a word."""


class Unreadable(Exception):
    """The text is not what it seemed to be."""


class CutOff(Exception):
    """The text ended within."""


def expect(reader: TextReader, text: str) -> Reading:
    """Take this text, which must come next."""
    if not (yield from reader.accept(text)):
        raise CutOff if reader.cut_off(text) else Unreadable


def copy_value(reader: TextReader, emit: Emit) -> Reading:
    """Pass one JSON value on, as it is written."""
    first = yield from reader.peek()
    if first == '"':
        yield from _copy_text(reader, emit)
    elif first in ("{", "["):
        yield from _copy_nested(reader, emit)
    else:
        emit((yield from bare_value(reader, _BARE_VALUE)))


def bare_value(reader: TextReader, pattern: re.Pattern[str]) -> Generator[None, None, str]:
    """A number or a word: it is known once something else follows."""
    word = yield from reader.whole_run(pattern, MAX_BARE)
    if not word or len(word) > MAX_BARE:
        raise CutOff if not word and not (yield from reader.peek()) else Unreadable
    return word


def _copy_nested(reader: TextReader, emit: Emit) -> Reading:
    depth = 0
    while True:
        char = yield from reader.peek()
        if not char:
            raise CutOff
        if char == '"':
            yield from _copy_text(reader, emit)
        elif char in "{[":
            depth += 1
            emit(reader.take(1))
        elif char in "}]":
            depth -= 1
            emit(reader.take(1))
            if not depth:
                return
        else:
            emit(reader.run(_OUTSIDE_TEXTS))


def _copy_text(reader: TextReader, emit: Emit) -> Reading:
    emit(reader.take(1))
    while char := (yield from reader.peek()):
        if char == '"':
            emit(reader.take(1))
            return
        if char == "\\":
            emit(reader.take(1))
            if (yield from reader.peek()):
                emit(reader.take(1))
        else:
            emit(reader.run(_PLAIN['"']))
    raise CutOff


def short_text(reader: TextReader, most: int) -> Generator[None, None, str]:
    """What a text in quotes says, if it is at most so many characters."""
    if (yield from reader.peek()) not in ('"', "'"):
        raise CutOff if reader.cut_off('"') else Unreadable
    found: list[str] = []
    size = 0

    def emit(piece: str) -> None:
        nonlocal size
        found.append(piece)
        size += len(piece)
        if size > most:
            raise Unreadable

    yield from read_text(reader, emit)
    return "".join(found)


def read_text(reader: TextReader, emit: Emit) -> Reading:
    """What a text in quotes says, of JSON or of Python."""
    quote = reader.take(1)
    while char := (yield from reader.peek()):
        if char == quote:
            reader.take(1)
            return
        if char == "\\":
            reader.take(1)
            emit((yield from _escaped(reader)))
        else:
            emit(reader.run(_PLAIN[quote]))
    raise CutOff


def _escaped(reader: TextReader) -> Generator[None, None, str]:
    """What stands behind a backslash, as the characters that it means."""
    char = yield from reader.peek()
    if not char:
        raise CutOff
    reader.take(1)
    if char in _CODE_DIGITS:
        return (yield from _character(reader, _CODE_DIGITS[char]))
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char == "\n":
        return ""
    return char if char in "\\\"'/" else "\\" + char


def _character(reader: TextReader, digits: int) -> Generator[None, None, str]:
    code = yield from _code(reader, digits)
    if 0xD800 <= code < 0xDC00 and (yield from reader.accept("\\u")):
        low = yield from _code(reader, 4)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        return _plain(code) + _plain(low)
    return _plain(code)


def _plain(code: int) -> str:
    """A character by its code; half a pair is none, and could not be sent."""
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


def _code(reader: TextReader, digits: int) -> Generator[None, None, int]:
    found = ""
    while len(found) < digits:
        char = yield from reader.peek()
        if not char:
            raise CutOff
        if not _HEX.match(char):
            raise Unreadable
        found += reader.take(1)
    return int(found, 16)
