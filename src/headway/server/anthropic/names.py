"""Names of fields in errors: as Anthropic writes them, and the client's own for those of a chat.

A place in a list is a number between dots: `messages.1.content.0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from headway.errors import InvalidRequest
from headway.server.anthropic.turns import ChatTurn

_PLACE = re.compile(r"\[(\d+)\]")
_MESSAGE = re.compile(r"messages\[(\d+)\](?:\.tool_calls(?:\[(\d+)\])?)?(.*)", re.DOTALL)
_TOOL = re.compile(r"(tools\[\d+\])(?:\.function)?(.*)", re.DOTALL)
_KIND = re.compile(r"[Ii]nvalid (?:enum )?value '([^']*)'")
_NAMES = {
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "tool_choice.function.name": "tool_choice.name",
    "response_format": "output_config.format",
    "response_format.json_schema": "output_config.format",
    "response_format.json_schema.schema": "output_config.format.schema",
    "reasoning_effort": "output_config.effort",
    "enable_thinking": "thinking.type",
    "thinking_token_budget": "thinking.budget_tokens",
}
_REFUSED = (
    (re.compile(r"tools\.\d+\.type"), "send tools that you run, with a name and an input_schema"),
    (
        re.compile(r"(system|.*\.content)\.\d+\.type"),
        "models read text: a user's message has text and tool_result blocks, an assistant's text, "
        "thinking and tool_use",
    ),
)
"""What is said of a block or tool of another kind."""


class AnthropicNames(Mapping[str, str]):
    """The client's name for a field of the chat that its request became."""

    def __init__(self, turns: Sequence[ChatTurn]) -> None:
        """`turns` are the chat's messages."""
        self._turns = turns

    def __getitem__(self, name: str) -> str:
        if found := _MESSAGE.fullmatch(name):
            turn = self._turns[int(found[1])]
            if ".tool_calls" in name and turn.calls:
                return turn.calls[int(found[2] or 0)]
            return turn.own
        if found := _TOOL.fullmatch(name):
            return dotted(found[1] + found[2].replace(".parameters", ".input_schema", 1))
        if name in _NAMES:
            return _NAMES[name]
        if _PLACE.search(name):
            head, bracket, rest = name.partition("[")
            return dotted(_NAMES.get(head, head) + bracket + rest)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


def dotted(name: str) -> str:
    """A field's name as Anthropic writes it."""
    return _PLACE.sub(r".\1", name)


@contextmanager
def named_as_sent() -> Iterator[None]:
    """Errors of a body's types, raised within the block, name its fields as Anthropic would."""
    try:
        yield
    except InvalidRequest as error:
        if error.field is None:
            raise
        place = dotted(error.field)
        message = error.message.replace(error.field, place, 1)
        kind = _KIND.search(message)
        for pattern, reason in _REFUSED:
            if kind is not None and pattern.fullmatch(place):
                message = f"{place}: {kind[1][:100]!r} is not supported here: {reason}"
        raise type(error)(message, field=place) from None
