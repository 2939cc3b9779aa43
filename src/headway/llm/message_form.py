"""How one model writes reasoning and calls of tools: for prompts, constraints and parsers alike.

A chat template tells how its model calls tools; whether it reasons, and where that ends, is the
operator's to say. Names are vLLM's, and what they stand for is in `headway.message`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from headway.errors import InvalidRequest, did_you_mean
from headway.message import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    MessageParser,
    PlainMessageParser,
    ReasoningFormat,
    ReasoningParser,
    ToolCallParser,
    ToolFormat,
    ToolUse,
    begins_inside,
    format_for_template,
    shown_tokens,
    tool_grammar,
    without_annotations,
)
from headway.text import Tokenizer
from headway.types import Grammar

Form = TypeVar("Form")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageForm:
    tools: ToolFormat
    reasoning: ReasoningFormat | None = None
    """None: all text is content."""

    @classmethod
    def choose(
        cls,
        template: str | None,
        *,
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
    ) -> Self:
        """The forms of these names, or what the template's source tells.

        Raises `InvalidRequest` for a name that there is not.
        """
        named = tool_call_parser or format_for_template(template or "")
        tools = _named(named, TOOL_FORMATS, "tool_call_parser")
        reasoning = None
        if reasoning_parser is not None:
            reasoning = _named(reasoning_parser, REASONING_FORMATS, "reasoning_parser")
        return cls(tools=tools, reasoning=reasoning)

    def special_markers(self, tokenizer: Tokenizer, use: ToolUse | None) -> frozenset[str]:
        """The markers that are special tokens of the model: a parser must see them in the text."""
        forms: list[ToolFormat | ReasoningFormat] = []
        if self.reasoning is not None:
            forms.append(self.reasoning)
        if use is not None:
            forms.append(self.tools)
        if not forms:
            return frozenset()
        special = {tokenizer.token_text(each) for each in tokenizer.special_ids}
        return shown_tokens(special, *forms)

    def constraint(
        self,
        use: ToolUse | None,
        *,
        prompt: str,
        content: Grammar | None = None,
        special: frozenset[str] = frozenset(),
    ) -> str | None:
        """What an answer to this prompt (its end is enough) must match, in Lark's notation.

        `content` is what it says where it calls nothing, in JSON. None: what that has to say is
        all, or nothing is constrained.
        """
        if use is None and (self.reasoning is None or content is None):
            return None
        return tool_grammar(
            self.tools,
            _undescribed(use or ToolUse()),
            reasoning=self.reasoning,
            inside=self.reasoning is not None and begins_inside(self.reasoning, prompt),
            special=special,
            content=None if content is None else _schema(content),
        )

    def new_parser(self, use: ToolUse | None, *, prompt: str) -> MessageParser:
        """Reads one answer to this prompt, of which the end is enough."""
        parser: MessageParser = PlainMessageParser()
        if use is not None:
            parser = ToolCallParser(self.tools, use, self.new_id)
        if self.reasoning is not None:
            inside = begins_inside(self.reasoning, prompt)
            parser = ReasoningParser(self.reasoning, parser, inside=inside)
        return parser

    def new_id(self) -> str:
        """Of a call; templates of some models want a certain length."""
        unique = uuid.uuid4().hex
        length = self.tools.id_characters
        return f"call_{unique[:24]}" if length is None else unique[:length]


def _undescribed(use: ToolUse) -> ToolUse:
    """A grammar has a bounded size, which words need not take up."""
    tools = (
        tool
        if tool.parameters is None
        else replace(tool, parameters=without_annotations(tool.parameters))
        for tool in use.tools
    )
    return replace(use, tools=tuple(tools))


def _schema(content: Grammar) -> dict[str, Any]:
    schema = json.loads(content.text)
    if schema is True:
        schema = {}
    if content.whitespace is None:
        return dict(schema)
    return {"x-guidance": {"whitespace_pattern": content.whitespace}, **schema}


def _named(name: str, forms: Mapping[str, Form], field: str) -> Form:
    if name not in forms:
        known = ", ".join(sorted(forms))
        hint = did_you_mean(name, forms)
        raise InvalidRequest(
            f"{field}: {name!r:.100} is not known{hint}; there are {known}", field=field
        )
    return forms[name]
