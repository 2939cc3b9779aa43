"""Tools and calls in prompts: as the chat template shows them, or said in its messages.

A template that reads `tools` gets them as data, and so does one that reads `tool_calls`. Of one
that does not, models can still be told: what there is to call, and how, becomes part of the system
message, earlier calls become what the model itself would have written, and their results what a
user says. Pure: messages in, messages out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headway.errors import InvalidRequest
from headway.message import Tool, ToolCall, ToolFormat, describe_tools, write_calls
from headway.text import message_text
from headway.text.template_facts import TemplateFacts

Messages = Sequence[Mapping[str, Any]]

_SYSTEM = ("system", "developer")
MAX_NESTING = 64
"""Objects and lists within each other, of a tool's parameters."""
_NO_PARAMETERS = {"type": "object", "properties": {}}


def with_tools(
    messages: Messages, tools: Sequence[Tool], facts: TemplateFacts, form: ToolFormat
) -> tuple[Messages, list[dict[str, Any]] | None]:
    """The messages that a template is to show, and the tools that it is to read, if it does.

    Messages are OpenAI's, with the arguments of calls as data or JSON text.
    """
    if any(each.get("tool_calls") for each in messages):
        if not facts.reads_field("tool_calls"):
            messages = _with_written_calls(messages, form)
        elif facts.reads_field("name"):
            messages = _with_named_results(messages)
    if not tools:
        return messages, None
    if "tools" in facts.variables:
        return messages, [as_templates_expect(each) for each in tools]
    return _described(messages, describe_tools(form, tools)), None


def tools_of(given: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """OpenAI's tools, as data; raises `InvalidRequest` for what is none."""
    found = []
    for number, each in enumerate(given):
        function = each.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            field = f"tools[{number}].function"
            raise InvalidRequest(f"{field}: a tool is a function that has a name", field=field)
        known = {key: function.get(key) for key in ("description", "parameters", "strict")}
        found.append(Tool(name=function["name"], **known))
    check_tools(found)
    return tuple(found)


def check_tools(tools: Sequence[Tool]) -> None:
    """Raise `InvalidRequest` for two tools of one name, and for parameters that are of no object or
    nest too deeply.
    """
    names = set()
    for number, tool in enumerate(tools):
        place = f"tools[{number}].function"
        if tool.name in names:
            field = f"{place}.name"
            raise InvalidRequest(f"{field}: {tool.name} is there already", field=field)
        names.add(tool.name)
        if (tool.parameters or {}).get("type", "object") != "object":
            field = f"{place}.parameters.type"
            raise InvalidRequest(f"{field} must be object: arguments have names", field=field)
        if _nests_deeper(tool.parameters, MAX_NESTING):
            field = f"{place}.parameters"
            raise InvalidRequest(
                f"{field}: at most {MAX_NESTING} objects and lists within each other", field=field
            )


def as_templates_expect(tool: Tool) -> dict[str, Any]:
    """A tool in the form that transformers hands to templates."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description or "",
            "parameters": {**_NO_PARAMETERS, **(tool.parameters or {})},
        },
    }


def _nests_deeper(value: object, most: int) -> bool:
    layer = [value]
    for _ in range(most + 1):
        inner: list[Any] = []
        for each in layer:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        layer = inner
    return bool(layer)


def _described(messages: Messages, description: str) -> Messages:
    """The description at the end of the system message, which is added where there is none."""
    if not messages or messages[0].get("role") not in _SYSTEM:
        return [{"role": "system", "content": description}, *messages]
    text = message_text(messages[0].get("content") or "")
    content = f"{text}\n\n{description}" if text else description
    return [{**messages[0], "content": content}, *messages[1:]]


def _with_written_calls(messages: Messages, form: ToolFormat) -> Messages:
    shown: list[dict[str, Any]] = []
    results: list[str] = []
    for message in messages:
        content = message.get("content") or ""
        if message.get("role") == "tool":
            results.append(message_text(content))
            continue
        _add_results(shown, results)
        calls = [_as_call(each) for each in message.get("tool_calls") or ()]
        written = message_text(content) + write_calls(form, calls) if calls else content
        rest = {key: value for key, value in message.items() if key != "tool_calls"}
        shown.append({**rest, "content": written})
    _add_results(shown, results)
    return shown


def _with_named_results(messages: Messages) -> Messages:
    """Results with the names of their tools, which some templates want and clients leave out."""
    names: dict[str, str] = {}
    shown: list[Mapping[str, Any]] = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[call.get("id") or ""] = call["function"]["name"]
        name = names.get(message.get("tool_call_id") or "")
        unnamed = message.get("role") == "tool" and not message.get("name")
        shown.append({**message, "name": name} if unnamed and name else message)
    return shown


def _add_results(shown: list[dict[str, Any]], results: list[str]) -> None:
    """Results that follow each other are one turn: many templates want turns to alternate."""
    if results:
        texts = [f"<tool_response>\n{each}\n</tool_response>" for each in results]
        shown.append({"role": "user", "content": "\n".join(texts)})
        results.clear()


def _as_call(given: Mapping[str, Any]) -> ToolCall:
    function = given["function"]
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=given.get("id") or "", name=function["name"], arguments=arguments or "{}")
