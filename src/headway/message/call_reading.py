"""One call of a tool, read in each of the forms that formats have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Protocol

from headway.message.formats import (
    ARGUMENT_KEYS,
    CallForm,
    JsonCall,
    LiteralCall,
    NamedJsonCall,
)
from headway.message.json_reading import (
    CutOff,
    Emit,
    Unreadable,
    copy_value,
    expect,
    read_text,
    short_text,
)
from headway.message.literals import convert_members, convert_value, read_key
from headway.message.reading import Reading, TextReader
from headway.message.tools import MAX_ID, MAX_NAME

MAX_KEY = 128
"""Characters of a key beside a call's arguments."""
_NAME = re.compile(r"[\w./-]+")
_OTHER_KEYS = ("type", "id")
"""Beside name and arguments, in calls that no marker leads to."""
_ID_MARKER = "[CALL_ID]"


class PendingCall(Protocol):
    """A call that is being read."""

    bare: bool
    """Whether no marker led to it."""
    begun: bool

    def named(self, name: str) -> None:
        """Its name is known. Raises `Unreadable` if it cannot be a call."""
        ...

    def begin(self) -> None:
        """It is certain that it is a call."""
        ...

    def arguments(self, text: str) -> None:
        """The next piece of its arguments' JSON text."""
        ...


def read_call(reader: TextReader, form: CallForm, call: PendingCall) -> Reading:
    """Read a whole call. Raises `Unreadable` or `CutOff`, also when it has begun."""
    yield from reader.skip_white()
    match form:
        case JsonCall():
            yield from _json_call(reader, call)
        case NamedJsonCall():
            yield from _named_json_call(reader, form, call)
        case LiteralCall():
            yield from _literal_call(reader, form, call)


def _json_call(reader: TextReader, call: PendingCall) -> Reading:
    """Arguments that come before the name wait for it."""
    yield from expect(reader, "{")
    named = False
    waiting: list[str] | None = None
    while True:
        yield from reader.skip_white()
        key = yield from short_text(reader, MAX_KEY)
        yield from reader.skip_white()
        yield from expect(reader, ":")
        yield from reader.skip_white()
        if key == "name" and not named:
            call.named((yield from short_text(reader, MAX_NAME)))
            named = True
        elif key in ARGUMENT_KEYS and named and waiting is None and not call.begun:
            yield from _json_arguments(reader, call.arguments, call.begin)
        elif key in ARGUMENT_KEYS and not named and waiting is None:
            waiting = []
            yield from _json_arguments(reader, waiting.append, _nothing)
        elif call.bare and key not in _OTHER_KEYS:
            raise Unreadable
        else:
            yield from copy_value(reader, _nothing)
        yield from reader.skip_white()
        if not (yield from reader.accept(",")):
            break
    yield from expect(reader, "}")
    if not named or (call.bare and not call.begun and waiting is None):
        raise Unreadable
    if not call.begun:
        call.begin()
        call.arguments("".join(waiting) if waiting is not None else "{}")


def _json_arguments(reader: TextReader, emit: Emit, begin: Callable[[], None]) -> Reading:
    """An object; or a text that says one, as OpenAI's messages have it; or null for none."""
    first = yield from reader.peek()
    if first not in ("{", '"'):
        yield from expect(reader, "null")
        begin()
        emit("{}")
    else:
        begin()
        yield from copy_value(reader, emit) if first == "{" else read_text(reader, emit)


def _nothing(*_: str) -> None:
    """Takes what is not looked at."""


def _named_json_call(reader: TextReader, form: NamedJsonCall, call: PendingCall) -> Reading:
    call.named((yield from _name(reader)))
    if (yield from reader.accept(_ID_MARKER)):
        yield from reader.whole_run(_NAME, MAX_ID)
    yield from reader.accept(form.marker)
    yield from reader.skip_white()
    if (yield from reader.peek()) != "{":
        raise CutOff if reader.cut_off("{") else Unreadable
    call.begin()
    yield from copy_value(reader, call.arguments)


def _literal_call(reader: TextReader, form: LiteralCall, call: PendingCall) -> Reading:
    """What stands in for a JSON object's braces are those of the call."""
    yield from expect(reader, form.before_name)
    name = yield from _name(reader)
    yield from expect(reader, form.opening)
    call.named(name)
    before = ""
    while not (yield from _ends(reader, form.closing)):
        if form.unpack is not None and (yield from reader.accept(form.unpack)):
            yield from expect(reader, "{")
            _open(call)
            if (yield from convert_members(reader, form, call.arguments, before=before)):
                before = ", "
        else:
            key = yield from read_key(reader, form)
            yield from reader.skip_white()
            yield from expect(reader, form.assign)
            yield from reader.skip_white()
            _open(call)
            call.arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
            yield from convert_value(reader, form, call.arguments)
            before = ", "
        if (yield from _ends(reader, form.closing)):
            break
        yield from expect(reader, ",")
    _open(call)
    call.arguments("}")


def _open(call: PendingCall) -> None:
    """Begin a call, if it has not begun, and the object of its arguments."""
    if not call.begun:
        call.begin()
        call.arguments("{")


def _name(reader: TextReader) -> Generator[None, None, str]:
    name = yield from reader.whole_run(_NAME, MAX_NAME)
    if not name or len(name) > MAX_NAME:
        raise Unreadable
    if not (yield from reader.peek()):
        raise CutOff
    return name


def _ends(reader: TextReader, closing: str) -> Generator[None, None, bool]:
    yield from reader.skip_white()
    return (yield from reader.accept(closing))
