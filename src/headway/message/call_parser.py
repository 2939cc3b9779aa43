"""Calls of tools in a model's text, told from content while the text comes in pieces.

A call is passed on as soon as it is certain that it is one: its id and name when its arguments
begin, then the arguments as they come. Text that only looks like a call stays content: behind a
marker what cannot be read as a call, and without a marker also a call of a tool that there is not.
Behind a marker a name that no tool has is passed on, as vLLM does, so that the caller can tell the
model. White space before a call, and at the end behind one, is no content. After a call that breaks
off in its middle, what comes is content again; one that the end of the text cuts off is given as
far as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

from headway.message.call_reading import read_call
from headway.message.formats import ToolFormat
from headway.message.json_reading import CutOff, Unreadable, expect
from headway.message.parts import MessageDelta, ToolCallDelta
from headway.message.reading import WHITE, Reading, TextReader
from headway.message.tools import ToolUse

_UNIT = re.compile(r"<[^>\s]*>|\[[A-Z_]+\]|\S")
"""What of a description is read at once; between units there may be white space."""


class ToolCallParser:
    """Reads one answer; a `MessageParser`.

    `new_id` makes the id of each call. Calls beyond those that `use` allows are left out. Nothing
    is a call where `use` has no tool that may be called.
    """

    def __init__(self, form: ToolFormat, use: ToolUse, new_id: Callable[[], str]) -> None:
        self._reader = TextReader()
        self._found = _Found(use.most_calls, new_id)
        self._steps: Reading | None = None
        if use.callable:
            known = frozenset(tool.name for tool in use.tools)
            self._steps = _Answer(form, known, self._reader, self._found).read()

    @property
    def plain(self) -> bool:
        return self._steps is None

    def feed(self, text: str) -> MessageDelta:
        if self._steps is None:
            return MessageDelta(content=text)
        self._reader.add(text)
        next(self._steps, None)
        return self._found.flush()

    def finish(self) -> MessageDelta:
        if self._steps is None:
            return MessageDelta()
        self._reader.closed = True
        next(self._steps, None)
        return self._found.flush()


class _Found:
    """What became certain since it was last asked for."""

    def __init__(self, most: int, new_id: Callable[[], str]) -> None:
        self._most = most
        self._new_id = new_id
        self._count = 0
        self.cut_off = False
        """Whether the last call broke off because the text ended."""
        self._behind_call = False
        self._white: list[str] = []
        self._content: list[str] = []
        self._calls: list[tuple[int, str | None, str | None, list[str]]] = []

    def white(self, text: str) -> None:
        """White space: what follows tells whether it is content."""
        if text:
            self._white.append(text)

    def content(self, text: str) -> None:
        self._behind_call = False
        self._content += self._white
        self._white.clear()
        self._content.append(text)

    def end(self) -> None:
        """Nothing follows."""
        if not self._behind_call:
            self.content("")

    def begin(self, name: str) -> None:
        self._behind_call = True
        self._white.clear()
        self._count += 1
        if self._count <= self._most:
            self._calls.append((self._count - 1, self._new_id(), name, []))

    def arguments(self, text: str) -> None:
        if self._count > self._most or not text:
            return
        if not self._calls:
            self._calls.append((self._count - 1, None, None, []))
        self._calls[-1][3].append(text)

    def flush(self) -> MessageDelta:
        delta = MessageDelta(
            content="".join(self._content),
            tool_calls=tuple(
                ToolCallDelta(index=index, id=given, name=name, arguments="".join(pieces))
                for index, given, name, pieces in self._calls
            ),
            cut_off=self.cut_off,
        )
        self._content.clear()
        self._calls.clear()
        return delta


class _Answer:
    """Reads one text; see `headway.message.reading`. It is the `PendingCall` that it reads."""

    def __init__(
        self, form: ToolFormat, known: frozenset[str], reader: TextReader, found: _Found
    ) -> None:
        self._form = form
        self._known = known
        self._reader = reader
        self._found = found
        self.bare = False
        self._next_call()

    def _next_call(self) -> None:
        self._name: str | None = None
        self.begun = False

    def named(self, name: str) -> None:
        if self.bare and name not in self._known:
            raise Unreadable
        self._name = name

    def begin(self) -> None:
        assert self._name is not None
        self._reader.forget()
        self.begun = True
        self._found.begin(self._name)

    def arguments(self, text: str) -> None:
        self._found.arguments(text)

    def read(self) -> Reading:
        reader, marker = self._reader, self._form.marker
        plain = re.compile(rf"[^\s{re.escape(marker[0])}]+")
        yield from self._skip_white()
        if not self._form.marker_needed:
            self.bare = True
            reader.keep()
            yield from self._try_calls(self._form)
            self.bare = False
        while (yield from self._skip_white()):
            reader.keep()
            if text := reader.run(plain):
                self._found.content(text)
            elif (yield from reader.accept(marker)):
                yield from self._try_calls(self._form)
            else:
                self._found.content(reader.take(1))
            reader.forget()
        self._found.end()

    def _skip_white(self) -> Generator[None, None, str]:
        """The first character behind white space; empty at the end."""
        while first := (yield from self._reader.peek()):
            white = self._reader.run(WHITE)
            if not white:
                break
            self._found.white(white)
        return first

    def _try_calls(self, form: ToolFormat, *, again: bool = True) -> Reading:
        """Calls, from behind the marker, or text that only looks like them."""
        reader = self._reader
        self._next_call()
        first = True
        try:
            for unit in _units(form.start):
                yield from reader.skip_white()
                yield from expect(reader, unit)
            while first or (yield from self._goes_on(form)):
                self._next_call()
                yield from read_call(reader, form.call, self)
                first = False
        except Unreadable:
            text = reader.forget()
            if form.also is not None and again and first and not self.begun:
                reader.put_back(text)
                reader.keep()
                yield from reader.accept(form.marker)
                yield from self._try_calls(form.also, again=False)
            elif text:
                self._found.content(text)
        except CutOff:
            text = reader.forget()
            if self._name is not None and not self.bare and not self.begun:
                self.begin()
            if self.begun:
                self._found.cut_off = True
                reader.take_all()
            elif text:
                self._found.content(text)

    def _goes_on(self, form: ToolFormat) -> Generator[None, None, bool]:
        """Whether another call is to come; takes what stands between calls, or behind them."""
        reader = self._reader
        reader.keep()
        yield from reader.skip_white()
        between = () if form.marker in form.separator else _units(form.separator)
        if between and (yield from reader.accept(between[0])):
            return True
        ending = _units(form.end)
        if ending and (yield from reader.accept(ending[0])):
            for unit in ending[1:]:
                if not (yield from reader.accept(unit)):
                    self._skip_end(unit)
                    break
            reader.forget()
            return False
        if ending and self._skip_end(ending[0]):
            reader.forget()
            return False
        if form.separator.isspace() and (yield from reader.peek()):
            return True
        self._found.white(reader.forget())
        return False

    def _skip_end(self, unit: str) -> bool:
        """Whether the text ends within this unit, of which it was the beginning: no content."""
        cut_off = self._reader.cut_off(unit)
        if cut_off:
            self._reader.take_all()
        return cut_off


def _units(text: str) -> tuple[str, ...]:
    return tuple(_UNIT.findall(text))
