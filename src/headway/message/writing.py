"""Calls of tools as text: in a history whose template shows none, and in what a model is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from headway.errors import InvalidRequest
from headway.message.formats import JsonCall, LiteralCall, NamedJsonCall, ToolFormat
from headway.message.parts import ToolCall
from headway.message.tools import Tool

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def write_calls(form: ToolFormat, calls: Sequence[ToolCall]) -> str:
    """The calls as a model writes them; empty for none.

    Raises `InvalidRequest` for arguments that are no JSON object.
    """
    if not calls:
        return ""
    written = (_call(form, call.name, _parsed(call)) for call in calls)
    return f"{form.marker if form.marker_needed else ''}{form.start}" + (
        form.separator.join(written) + form.end
    )


def describe_tools(form: ToolFormat, tools: Iterable[Tool]) -> str:
    """What a model is told of its tools where its template does not tell it: a system text."""
    listed = "\n".join(_json(_description(tool)) for tool in tools)
    example = ToolCall(id="", name="name_of_tool", arguments='{"name_of_argument": "value"}')
    return (
        "You can call these tools (functions), each described as JSON with a JSON Schema of its "
        f"parameters:\n{listed}\n"
        "To call a tool, answer with nothing but this, in which you put the tool's name and the "
        f"arguments that its parameters ask for:\n{write_calls(form, [example])}\n"
        "What the tool returns is then told to you. Answer in plain text where no tool helps."
    )


def _description(tool: Tool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": tool.name}
    if tool.description:
        found["description"] = tool.description
    found["parameters"] = tool.schema() if tool.parameters is not None else {}
    return found


def _parsed(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(
            f"messages: the arguments of the call of {call.name:.64} are not a JSON object",
            field="messages",
        )
    return arguments


def _call(form: ToolFormat, name: str, arguments: dict[str, Any]) -> str:
    match form.call:
        case JsonCall(arguments=key):
            return _json({"name": name, key: arguments})
        case NamedJsonCall(marker=marker):
            return f"{name}{marker}{_json(arguments)}"
        case LiteralCall() as literal:
            return _literal_call(literal, name, arguments)


def _literal_call(form: LiteralCall, name: str, arguments: dict[str, Any]) -> str:
    plain = {k: v for k, v in arguments.items() if not form.unpack or is_identifier(k)}
    parts = [
        f"{write_key(k, bare=True)}{form.assign}{write_value(form, v)}" for k, v in plain.items()
    ]
    if rest := {k: v for k, v in arguments.items() if k not in plain}:
        parts.append(f"{form.unpack}{write_value(form, rest)}")
    inner = form.comma.join(parts)
    return f"{form.before_name}{name}{form.opening}{inner}{form.closing}"


def write_value(form: LiteralCall, value: Any) -> str:
    """A value of JSON in a notation."""
    match value:
        case dict():
            members = (
                f"{write_key(k, bare=form.bare_keys)}{form.colon}{write_value(form, v)}"
                for k, v in value.items()
            )
            return f"{{{form.comma.join(members)}}}"
        case list():
            return f"[{form.comma.join(write_value(form, each) for each in value)}]"
        case str() if form.quote is not None and form.quote not in value:
            return f"{form.quote}{value}{form.quote}"
        case _:
            written = _json(value)
            return form.words.get(written, written)


def write_key(key: str, *, bare: bool) -> str:
    """The name of an argument, or of a member of an object; `bare` without quotes if it can be."""
    return key if bare and is_identifier(key) else _json(key)


def is_identifier(key: str) -> bool:
    """Whether a key can be written without quotes."""
    return _IDENTIFIER.fullmatch(key) is not None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
