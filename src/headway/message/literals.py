"""Values in notations other than JSON, written as JSON while they come in pieces.

What a value is shows at its first character, so texts, lists and objects are passed on as they
come; a number or a word is passed on once it is known where it ends. Words that mean nothing in the
notation, such as a text without quotes, become JSON strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator

from headway.message.formats import LiteralCall
from headway.message.json_reading import (
    CutOff,
    Emit,
    Unreadable,
    bare_value,
    expect,
    read_text,
    short_text,
)
from headway.message.reading import Reading, TextReader

MAX_DEPTH = 64
"""Of lists and objects in each other."""
MAX_KEY = 512
"""Characters of a key."""
KEY = re.compile(r"[^\s:=,(){}\[\]\"'<>]+")
_WORD = re.compile(r"[^,(){}\[\]\"'<>]+")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BEHIND_VALUES = ",)]}"
_CLOSING = {"[": "]", "(": ")"}


def convert_value(
    reader: TextReader, call: LiteralCall, emit: Emit, *, depth: int = MAX_DEPTH
) -> Reading:
    """Pass the JSON of one value on. Raises `Unreadable` where it cannot be one."""
    first = yield from reader.peek()
    if not depth:
        raise Unreadable
    if call.quote is not None and (yield from reader.accept(call.quote)):
        emit('"')
        yield from _read_unescaped(reader, call.quote, lambda piece: emit(_inside_quotes(piece)))
        emit('"')
    elif first in ('"', "'"):
        emit('"')
        yield from read_text(reader, lambda piece: emit(_inside_quotes(piece)))
        emit('"')
    elif first == "{":
        reader.take(1)
        emit("{")
        yield from convert_members(reader, call, emit, depth=depth)
        emit("}")
    elif first in ("[", "("):
        reader.take(1)
        emit("[")
        yield from _convert_items(reader, call, emit, _CLOSING[first], depth=depth)
        emit("]")
    else:
        word = yield from bare_value(reader, _WORD)
        if not (following := (yield from reader.peek())):
            raise CutOff
        if following not in _BEHIND_VALUES:
            raise Unreadable
        emit(_word(word.strip(), call))


def convert_members(
    reader: TextReader, call: LiteralCall, emit: Emit, *, before: str = "", depth: int = MAX_DEPTH
) -> Generator[None, None, bool]:
    """Pass the JSON of an object's members on, from behind its opening brace, without the braces.

    `before` comes before the first of them. Returns whether there was one.
    """
    found = False
    while not (yield from _ends(reader, "}")):
        key = yield from read_key(reader, call)
        yield from reader.skip_white()
        yield from expect(reader, ":")
        yield from reader.skip_white()
        emit(f"{', ' if found else before}{_quoted(key)}: ")
        yield from convert_value(reader, call, emit, depth=depth - 1)
        found = True
        if (yield from _ends(reader, "}")):
            break
        yield from expect(reader, ",")
    return found


def read_key(reader: TextReader, call: LiteralCall) -> Generator[None, None, str]:
    """The name of a member or an argument, with or without quotes."""
    if call.quote is not None and (yield from reader.accept(call.quote)):
        found: list[str] = []
        yield from _read_unescaped(reader, call.quote, found.append)
        return "".join(found)
    if (yield from reader.peek()) in ('"', "'"):
        return (yield from short_text(reader, MAX_KEY))
    key = yield from reader.whole_run(KEY, MAX_KEY)
    if not (yield from reader.peek()):
        raise CutOff
    if not key or len(key) > MAX_KEY:
        raise Unreadable
    return key


def _convert_items(
    reader: TextReader, call: LiteralCall, emit: Emit, closing: str, *, depth: int
) -> Reading:
    before = ""
    while not (yield from _ends(reader, closing)):
        emit(before)
        yield from convert_value(reader, call, emit, depth=depth - 1)
        before = ", "
        if (yield from _ends(reader, closing)):
            return
        yield from expect(reader, ",")


def _ends(reader: TextReader, closing: str) -> Generator[None, None, bool]:
    yield from reader.skip_white()
    return (yield from reader.accept(closing))


def _read_unescaped(reader: TextReader, quote: str, emit: Emit) -> Reading:
    """A text behind its first quote, up to the next one; nothing in it is escaped."""
    plain = re.compile(rf"[^{re.escape(quote[0])}]+")
    while (yield from reader.peek()):
        if piece := reader.run(plain):
            emit(piece)
        elif (yield from reader.accept(quote)):
            return
        else:
            emit(reader.take(1))
    raise CutOff


def _word(word: str, call: LiteralCall) -> str:
    """The JSON of a number or a word."""
    if not word:
        raise Unreadable
    for ours, theirs in call.words.items():
        if word in (ours, theirs):
            return ours
    if _NUMBER.fullmatch(word):
        return word
    for number in (_integer, _decimal):
        try:
            return number(word)
        except ValueError:
            continue
    return _quoted(word)


def _integer(word: str) -> str:
    return str(int(word, 0))


def _decimal(word: str) -> str:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return repr(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _inside_quotes(text: str) -> str:
    return _quoted(text)[1:-1]
