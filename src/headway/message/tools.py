"""What a model may call: tools, and how they are to be used in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.errors import InvalidRequest

MAX_CALLS = 16
"""Calls of one answer; more are not read, and an answer that must call ends with the last."""
MAX_NAME = 128
"""Characters of a tool's name."""
MAX_ID = 64
"""Characters of a call's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that a model may ask to be called."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """A JSON Schema of the arguments, which are an object in any case; None for no parameters."""
    strict: bool | None = None
    """What the caller asked for; where arguments are constrained, they always match the schema."""

    def schema(self) -> dict[str, Any]:
        """The schema that arguments must match: always that of an object.

        Raises `InvalidRequest` for one that no object can match.
        """
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        schema = dict(self.parameters)
        if schema.get("type", "object") not in ("object", ["object"]):
            raise InvalidRequest(
                f'tools: the parameters of {self.name:.64} must have the type "object"',
                field="tools",
            )
        return schema | {"type": "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The tools of a request, and whether they are to be called.

    `choice` is "none", "auto", "required", or the name of the one tool that must be called; a tool
    that bears one of the first three as its name cannot be chosen by it.
    """

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    parallel: bool = True
    """Whether one answer may have several calls."""

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that the answer may call."""
        if self.choice == "none":
            return ()
        if self.choice in ("auto", "required"):
            return self.tools
        return tuple(tool for tool in self.tools if tool.name == self.choice)

    @property
    def must_call(self) -> bool:
        """Whether the answer is made of calls alone."""
        return self.choice not in ("none", "auto")

    @property
    def most_calls(self) -> int:
        return MAX_CALLS if self.parallel else 1
