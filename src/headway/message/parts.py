"""The parts of an assistant's message: reasoning, content, and calls of tools.

A `MessageDelta` is what a piece of text adds to them, an `AssistantMessage` is the whole. A
`MessageParser` tells the parts from a model's text, in the form that the model writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is new of one call. The first delta of a call has its id and name, later ones None."""

    index: int
    """The call's place in the message, from 0."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    """The next piece of the arguments' JSON text."""


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a piece of text adds to a message; false where it adds nothing (yet)."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    cut_off: bool = False
    """Whether the text ended within a call, which is not complete then."""

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content or self.tool_calls)


@dataclass(slots=True, kw_only=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """JSON text of an object; unfinished where the answer was cut off."""


class AssistantMessage(msgspec.Struct, kw_only=True):
    """A whole answer."""

    reasoning: str = ""
    content: str = ""
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)


class MessageParser(Protocol):
    """Reads one continuation's text. Results do not depend on how the text is cut into pieces."""

    @property
    def plain(self) -> bool:
        """Whether all text from now on is content, and nothing is held back."""
        ...

    def feed(self, text: str) -> MessageDelta:
        """The parts that are certain after this piece."""
        ...

    def finish(self) -> MessageDelta:
        """What was held back because more text could have changed its meaning."""
        ...


class PlainMessageParser:
    """All text is content."""

    plain = True

    def feed(self, text: str) -> MessageDelta:
        return MessageDelta(content=text)

    def finish(self) -> MessageDelta:
        return MessageDelta()


def collect(deltas: Iterable[MessageDelta]) -> AssistantMessage:
    """The message that these deltas add up to."""
    reasoning: list[str] = []
    content: list[str] = []
    calls: list[ToolCall] = []
    arguments: list[list[str]] = []
    for delta in deltas:
        reasoning.append(delta.reasoning)
        content.append(delta.content)
        for each in delta.tool_calls:
            if each.index == len(calls):
                calls.append(ToolCall(id=each.id or "", name=each.name or "", arguments=""))
                arguments.append([])
            arguments[each.index].append(each.arguments)
    for call, pieces in zip(calls, arguments, strict=True):
        call.arguments = "".join(pieces)
    return AssistantMessage(
        reasoning="".join(reasoning), content="".join(content), tool_calls=calls
    )
