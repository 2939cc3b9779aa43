"""Items of a conversation as the messages of a chat.

An assistant's reasoning, message and calls are items of their own and one message of a chat; a
result of a call is a message. Each message is remembered with the field that it came from, so that
whatever is wrong with it is told in the client's own words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headway.errors import InvalidRequest
from headway.server.responses.schema import Parts, ResponseInputItem, ResponseInputPart

T = TypeVar("T")
ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")


@dataclass(slots=True)
class TurnFields:
    """Where a message came from: fields of the client's, such as `input[2]`."""

    own: str
    calls: list[str] = field(default_factory=list)
    """Of each of its calls."""


class Turns:
    """Messages of a chat, made of items one by one."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.fields: list[TurnFields] = []
        """Of each message."""
        self._called: set[str] = set()

    def system(self, text: str, source: str) -> None:
        self._add({"role": "system", "content": text}, source)

    def text(self, text: str, source: str) -> None:
        """A message of the user."""
        self._add({"role": "user", "content": text}, source)

    def items(self, items: Iterable[ResponseInputItem], source: str | None = None) -> None:
        """Items in their order. `source` is the field of all of them, if it is not `input`.

        Raises `InvalidRequest` for an item that this server cannot show to its model.
        """
        for place, item in enumerate(items):
            self._item(item, source or f"input[{place}]")

    def _item(self, item: ResponseInputItem, source: str) -> None:
        match item.type:
            case "message":
                self._message(item, source)
            case "function_call":
                self._call(item, source)
            case "function_call_output":
                self._result(item, source)
            case "reasoning":
                self._reasoning(item, source)
            case "item_reference":
                raise _refused(source, "id", "is required: the item that is referred to")
            case _:
                raise _refused(
                    source,
                    "type",
                    f"{item.type!r} is not supported: this server runs no tools of its own; items "
                    "are messages, function_call, function_call_output and reasoning",
                )

    def _message(self, item: ResponseInputItem, source: str) -> None:
        role = _required(item.role, source, "role")
        if role not in ROLES:
            raise _refused(source, "role", f"must be one of {', '.join(ROLES)}, got {role!r}")
        content = _content(item.content, source, "content")
        if role != "assistant":
            self._add({"role": role, "content": content}, source)
            return
        place = self._assistant(source, without=("content",))
        self.messages[place]["content"] = content
        self.fields[place].own = source

    def _call(self, item: ResponseInputItem, source: str) -> None:
        call_id = _required(item.call_id, source, "call_id")
        function = {
            "name": _required(item.name, source, "name"),
            "arguments": _required(item.arguments, source, "arguments"),
        }
        place = self._assistant(source)
        calls = self.messages[place].setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": function})
        self.fields[place].calls.append(source)
        self._called.add(call_id)

    def _result(self, item: ResponseInputItem, source: str) -> None:
        call_id = _required(item.call_id, source, "call_id")
        if call_id not in self._called:
            raise _refused(
                source, "call_id", f"no function_call with call_id {call_id!r} before it"
            )
        content = _content(item.output, source, "output")
        self._add({"role": "tool", "tool_call_id": call_id, "content": content}, source)

    def _reasoning(self, item: ResponseInputItem, source: str) -> None:
        """What an assistant thought; nothing where only a summary of nothing, or a cipher, came."""
        parts = item.content or item.summary
        text = parts if isinstance(parts, str) else "".join(part.text or "" for part in parts or ())
        if text:
            place = self._assistant(source, without=("reasoning_content", "content", "tool_calls"))
            self.messages[place]["reasoning_content"] = text

    def _assistant(self, source: str, without: tuple[str, ...] = ()) -> int:
        """The place of the assistant's message that is going on, or of a new one.

        It goes on unless it has one of the fields `without` already.
        """
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or any(name in last for name in without):
            self._add({"role": "assistant"}, source)
        return len(self.messages) - 1

    def _add(self, message: dict[str, Any], source: str) -> None:
        self.messages.append(message)
        self.fields.append(TurnFields(source))


def _content(parts: Parts | None, source: str, name: str) -> str | list[dict[str, str]]:
    """Content as chats have it: one text as such, several as parts."""
    if parts is None or isinstance(parts, str):
        return _required(parts, source, name)
    texts = [_text(part, f"{source}.{name}[{place}]") for place, part in enumerate(parts)]
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts]


def _text(part: ResponseInputPart, source: str) -> str:
    if part.type == "refusal":
        return _required(part.refusal, source, "refusal")
    if part.type not in TEXT_PARTS:
        raise _refused(source, "type", f"{part.type!r} is not supported: the model reads text")
    return _required(part.text, source, "text")


def _required(value: T | None, source: str, name: str) -> T:
    if value is None:
        raise InvalidRequest(f"{source}.{name} is required", field=f"{source}.{name}")
    return value


def _refused(source: str, name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{source}.{name}: {reason}", field=f"{source}.{name}")
