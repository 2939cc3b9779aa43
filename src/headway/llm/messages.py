"""Deltas of text as parts of messages: each continuation of a conversation has a parser."""

from __future__ import annotations

from collections.abc import Callable

from headway.llm.outputs import ChoiceCollector, Delta
from headway.message import AssistantMessage, MessageDelta, MessageParser, collect

TOOL_CALLS = "tool_calls"
"""Why an answer ended, in the place of "stop": it is for the caller to run tools."""


class MessageReader:
    """Reads the continuations of one conversation, all in the same form."""

    def __init__(self, new_parser: Callable[[], MessageParser]) -> None:
        self._new_parser = new_parser
        self._parsers: dict[int, MessageParser] = {}
        self._calling: set[int] = set()
        self._broken: set[int] = set()

    def is_plain(self, index: int) -> bool:
        """Whether all that is to come of a continuation is content, which need not be read."""
        parser = self._parsers.get(index)
        return parser is not None and parser.plain

    def read(self, delta: Delta) -> list[MessageDelta]:
        """What a delta of text adds to its continuation's message, in order.

        The last delta of a continuation brings what was held back.
        """
        parser = self._parsers.get(delta.index)
        if parser is None:
            parser = self._parsers[delta.index] = self._new_parser()
        parts = [parser.feed(delta.text)]
        if delta.finish_reason is not None:
            parts.append(parser.finish())
        for part in parts:
            if part.tool_calls:
                self._calling.add(delta.index)
        if parts[-1].cut_off:
            self._broken.add(delta.index)
        return [part for part in parts if part]

    def finish_reason(self, delta: Delta) -> str | None:
        """Why the continuation ended; one that called tools, the last of them too, says so.

        One that ended within a call, at a stop string, did not.
        """
        if delta.finish_reason == "stop" and delta.index in self._calling - self._broken:
            return TOOL_CALLS
        return delta.finish_reason

    def broke_off(self, index: int) -> bool:
        """Whether this continuation ended within a call."""
        return index in self._broken

    def whole(self, choice: ChoiceCollector) -> tuple[AssistantMessage, str | None]:
        """A continuation that was collected, as a message, and why it ended."""
        parser = self._new_parser()
        parts = (parser.feed(choice.text), parser.finish())
        message = collect(parts)
        finish: str | None = choice.finish_reason
        if finish == "stop" and message.tool_calls and not parts[-1].cut_off:
            finish = TOOL_CALLS
        return message, finish
