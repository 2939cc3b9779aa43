"""Tools in the bodies of requests: what a model may call, and whether it must.

Types are OpenAI's. What is sent becomes a `ToolUse`, which the prompt, the constraint and the
parser are made from; tools that cannot be used are refused with the place in `tools` that is wrong.
A choice of "none" is as if no tools were sent: the model does not hear of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from headway.errors import InvalidRequest
from headway.llm import check_tools
from headway.message import Tool, ToolUse

MAX_TOOLS = 128
"""As many as OpenAI takes."""
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,128}$"

ToolName = Annotated[str, Meta(pattern=NAME_PATTERN)]


class FunctionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that the client runs."""

    name: ToolName
    description: str | None = None
    parameters: Annotated[
        dict[str, Any] | None, Meta(description="A JSON Schema of an object; no arguments if none.")
    ] = None
    strict: Annotated[bool | None, Meta(description="Arguments match the schema in any case.")] = (
        None
    )


class FunctionTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["function"]
    function: FunctionBody
    cache_control: Annotated[Any, Meta(description="Prefixes are cached by themselves.")] = None


class FunctionName(msgspec.Struct, frozen=True, kw_only=True):
    name: ToolName


class NamedTool(msgspec.Struct, frozen=True, kw_only=True):
    """One of `tools`, by its name."""

    function: FunctionName
    type: Literal["function"] = "function"


class NamedChoice(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="function",
    forbid_unknown_fields=True,
):
    """This tool must be called."""

    function: FunctionName


class SomeTools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="allowed_tools",
    forbid_unknown_fields=True,
):
    """Only these may be called; the model sees the others as well."""

    allowed_tools: SomeTools


Tools = Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedChoice | AllowedChoice


class BodyWithTools(Protocol):
    """The fields of a body that this module reads; see `headway.server.openai.schema`."""

    @property
    def tools(self) -> list[FunctionTool] | None: ...
    @property
    def tool_choice(self) -> ToolChoice | None: ...
    @property
    def parallel_tool_calls(self) -> bool | None: ...


def tool_use_of(body: BodyWithTools) -> ToolUse | None:
    """What the answer may or must call; None where there are no tools, or none may be used.

    Raises `InvalidRequest` with the field to mend.
    """
    choice = body.tool_choice or "auto"
    tools = known_tools(body.tools)
    if not tools and choice not in ("none", "auto"):
        raise InvalidRequest("tool_choice needs tools to choose from", field="tool_choice")
    if not tools or choice == "none":
        return None
    use = ToolUse(tools=tools, choice="auto", parallel=body.parallel_tool_calls is not False)
    if isinstance(choice, str):
        return replace(use, choice=choice)
    if isinstance(choice, NamedChoice):
        name = choice.function.name
        _check_known(name, tools, "tool_choice.function.name")
        return replace(use, choice="required", tools=_called(tools, {name}), parallel=False)
    allowed = choice.allowed_tools
    for number, each in enumerate(allowed.tools):
        field = f"tool_choice.allowed_tools.tools[{number}].function.name"
        _check_known(each.function.name, tools, field)
    names = {each.function.name for each in allowed.tools}
    return replace(use, choice=allowed.mode, tools=_called(tools, names))


def known_tools(tools: Sequence[FunctionTool] | None) -> tuple[Tool, ...]:
    """All tools of a body; raises `InvalidRequest` for two of one name and odd schemas."""
    found = tuple(
        Tool(
            name=each.function.name,
            description=each.function.description,
            parameters=each.function.parameters,
            strict=each.function.strict,
        )
        for each in tools or ()
    )
    check_tools(found)
    return found


def told_tools(body: BodyWithTools) -> tuple[Tool, ...]:
    """Those of which the model is told: all, unless it may use none."""
    return () if body.tool_choice == "none" else known_tools(body.tools)


def _called(tools: Sequence[Tool], names: set[str]) -> tuple[Tool, ...]:
    return tuple(each for each in tools if each.name in names)


def _check_known(name: str, tools: Sequence[Tool], field: str) -> None:
    if all(each.name != name for each in tools):
        raise InvalidRequest(f"{field}: {name} is none of the tools", field=field)
