"""A body of `/v1/responses` as the body of a chat, and its fields' names in both.

Pure: what the chat's own types and checks find wrong is told with the names that the client used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headway.errors import InvalidRequest
from headway.server.body import NOT_SUPPORTED, convert
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import ChatBody
from headway.server.openai.structured import JsonObjectFormat
from headway.server.responses.schema import (
    ResponseFunctionTool,
    ResponseInputItem,
    ResponseSamplingFields,
    ResponsesBody,
    ResponseSchemaFormat,
)
from headway.server.responses.turns import TurnFields, Turns

LOGPROBS = "message.output_text.logprobs"
"""What `include` asks for."""

_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "reasoning_effort": "reasoning.effort",
    "truncate_prompt_tokens": "truncation",
}
_MESSAGE = re.compile(r"messages\[(\d+)\](?:\.tool_calls\[(\d+)\])?(.*)", re.DOTALL)
_TOOLS = re.compile(r"tools\[|tool_choice\.")
_OF_CHATS = re.compile(r"\.(?:function|allowed_tools)\b")
"""Levels of a tool, a call or a choice that chats have and responses have not."""
_SCHEMA = "response_format.json_schema."


class ClientNames(Mapping[str, str]):
    """The client's name for a field of the chat that its request became."""

    def __init__(self, turns: Sequence[TurnFields]) -> None:
        """`turns` belong to the chat's messages."""
        self._turns = turns

    def __getitem__(self, name: str) -> str:
        if found := _MESSAGE.fullmatch(name):
            return self._of_message(int(found[1]), found[2], found[3])
        if _TOOLS.match(name):
            return _OF_CHATS.sub("", name)
        if name.startswith(_SCHEMA):
            return "text.format." + name.removeprefix(_SCHEMA)
        return _NAMES[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def _of_message(self, place: int, call: str | None, rest: str) -> str:
        turn = self._turns[place]
        if call is not None:
            return turn.calls[int(call)] + _OF_CHATS.sub("", rest)
        if rest.startswith(".tool_calls"):
            return turn.calls[0]
        # What is no item has no fields: a text, instructions, an earlier response.
        return turn.own + rest if turn.own.endswith("]") else turn.own


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedResponse:
    chat: ChatBody
    names: ClientNames


def translate(body: ResponsesBody, before: Sequence[ResponseInputItem]) -> TranslatedResponse:
    """The chat that this body asks for, after the items of earlier responses.

    Raises `InvalidRequest` for what is not supported or malformed, with the client's field.
    """
    fields, names = chat_fields(body, before)
    with field_aliases(names):
        return TranslatedResponse(chat=convert(fields, ChatBody), names=names)


def chat_fields(
    body: ResponsesBody, before: Sequence[ResponseInputItem] = ()
) -> tuple[dict[str, Any], ClientNames]:
    """The fields of that chat, not checked yet, and what they are called in this body."""
    turns = Turns()
    if body.instructions:
        turns.system(body.instructions, "instructions")
    turns.items(before, "previous_response_id")
    if isinstance(body.input, str):
        turns.text(body.input, "input")
    else:
        turns.items(body.input)
    same = {name: getattr(body, name) for name in ResponseSamplingFields.__struct_fields__}
    fields = same | _settings(body)
    fields = {name: value for name, value in fields.items() if value is not None}
    return fields | {"messages": turns.messages}, ClientNames(turns.fields)


def _settings(body: ResponsesBody) -> dict[str, Any]:
    """Fields that have another name or form in chats; None for what is left open."""
    fields: dict[str, Any] = {
        "max_completion_tokens": body.max_output_tokens,
        "service_tier": "priority" if body.service_tier == "fast" else body.service_tier,
        "response_format": _format(body),
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "truncate_prompt_tokens": -1 if body.truncation == "auto" else None,
        "tool_choice": _choice(body.tool_choice),
    }
    if body.tools:
        fields["tools"] = [_tool(tool, place) for place, tool in enumerate(body.tools)]
    if body.top_logprobs or LOGPROBS in (body.include or ()):
        fields |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
    return fields


def _format(body: ResponsesBody) -> dict[str, Any] | None:
    form = body.text.format if body.text is not None else None
    if isinstance(form, ResponseSchemaFormat):
        schema = {"name": form.name, "schema": form.schema, "strict": form.strict}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if isinstance(form, JsonObjectFormat) else None


def _tool(tool: dict[str, Any], place: int) -> dict[str, Any]:
    kind = tool.get("type")
    if kind != "function":
        raise InvalidRequest(
            f"tools[{place}].type: {str(kind)[:64]!r} is not supported: this server runs no tools; "
            "give functions, which you run",
            field=f"tools[{place}].type",
        )
    function = convert(tool, ResponseFunctionTool, within=f"tools[{place}]")
    given = {name: getattr(function, name) for name in ("name", "description", "parameters")}
    given["strict"] = function.strict
    return {"type": "function", "function": {k: v for k, v in given.items() if v is not None}}


def unknown_in_tools(tools: Sequence[dict[str, Any]] | None) -> list[str]:
    """Take the fields that nobody knows out of functions; returns their names."""
    known = {field.encode_name for field in msgspec.structs.fields(ResponseFunctionTool)} | {"type"}
    found: list[str] = []
    for place, tool in enumerate(tools or ()):
        if tool.get("type") == "function":
            odd = [name for name in tool if name not in known and name not in NOT_SUPPORTED]
            found += [f"tools[{place}].{name}" for name in odd]
            for name in odd:
                del tool[name]
    return found


def _choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """A choice of tools in the form that chats have."""
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type")
    if kind == "function":
        return _named(choice)
    if kind == "allowed_tools":
        tools = choice.get("tools")
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise InvalidRequest(
                "tool_choice.tools must be a list of functions", field="tool_choice.tools"
            )
        allowed = {"mode": choice.get("mode"), "tools": [_named(tool) for tool in tools]}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    raise InvalidRequest(
        f"tool_choice.type: {str(kind)[:64]!r} is not supported; give function or allowed_tools",
        field="tool_choice.type",
    )


def _named(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": tool.get("type"), "function": {"name": tool.get("name")}}
