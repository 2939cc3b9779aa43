"""What the tests of responses share: events read and checked by the official client's own types."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
from openai.types import responses as official
from openai.types.responses import Response, ResponseStreamEvent

from headway.message import MessageDelta, ToolCallDelta

EVENT_TYPES: dict[str, Any] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}


def checked(response: dict[str, Any]) -> dict[str, Any]:
    """A response that has every field of the official type that may not be absent."""
    Response.model_validate_json(json.dumps(response), strict=True)
    return response


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream: each of an official type, named as such, and numbered."""
    events = []
    for number, event in enumerate(text.split("\n\n")[:-1]):
        name, data = event.split("\n")
        read = json.loads(data.removeprefix("data: "))
        assert name == f"event: {read['type']}"
        assert read["sequence_number"] == number
        EVENT_TYPES[read["type"]].model_validate_json(json.dumps(read), strict=True)
        events.append(read)
    return events


def streamed(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = http.post("/v1/responses", json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def item_type(item: dict[str, Any]) -> Any:
    """The official type of an output item."""
    return {
        "message": official.ResponseOutputMessage,
        "reasoning": official.ResponseReasoningItem,
        "function_call": official.ResponseFunctionToolCall,
    }[item["type"]]


class Lettered:
    """Reads the alphabet: a and b are reasoning; e and g call tools, of which f is an argument.

    It holds the a back till something follows.
    """

    plain = False

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> MessageDelta:
        part = MessageDelta()
        for letter in text:
            if letter == "a":
                self._held = letter
                continue
            part = _joined(part, self.finish())
            part = _joined(part, _LETTERS.get(letter, MessageDelta(content=letter)))
        return part

    def finish(self) -> MessageDelta:
        held, self._held = self._held, ""
        return MessageDelta(reasoning=held)


_LETTERS = {
    "b": MessageDelta(reasoning="b"),
    "e": MessageDelta(tool_calls=(ToolCallDelta(index=0, id="one", name="f", arguments="{"),)),
    "f": MessageDelta(tool_calls=(ToolCallDelta(index=0, arguments="}"),)),
    "g": MessageDelta(tool_calls=(ToolCallDelta(index=1, id="two", name="g", arguments="{}"),)),
}


def _joined(one: MessageDelta, other: MessageDelta) -> MessageDelta:
    return MessageDelta(
        reasoning=one.reasoning + other.reasoning,
        content=one.content + other.content,
        tool_calls=one.tool_calls + other.tool_calls,
    )
