"""The grammar of an answer that calls tools, in llguidance's dialect of Lark.

An answer that must call is nothing but calls, behind the reasoning if there is some. One that may
call is any text; a marker in it leads to calls and to nothing else, and they end it. So does, in
formats that need no marker, a text that begins as a call does. Markers are matched as special
tokens where the model has them as such, and letter by letter where it has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from headway.errors import InvalidRequest
from headway.message.formats import ARGUMENT_KEYS, JsonCall, LiteralCall, NamedJsonCall, ToolFormat
from headway.message.lark import ANY_TEXT, Lark
from headway.message.reasoning import ReasoningFormat
from headway.message.tools import Tool, ToolUse
from headway.message.value_grammar import DEFINITIONS, arguments_schema, literal_arguments

_GAP = r"/[ \n]{0,4}/"
"""White space that models write behind their reasoning."""


def tool_grammar(
    form: ToolFormat,
    use: ToolUse,
    *,
    reasoning: ReasoningFormat | None = None,
    inside: bool = False,
    special: Collection[str] = (),
    content: Mapping[str, Any] | None = None,
) -> str | None:
    """What an answer must match, as a Lark grammar; None if it may be anything.

    `content` is a JSON Schema of what is said by an answer that need not call, and does not.
    `reasoning` is that of the model, if it reasons, and `inside` says whether the answer begins
    inside of it (see `begins_inside`). `special` are the texts of the model's special tokens; the
    grammar names those that are markers, and the parser must then see them in the text. Raises
    `InvalidRequest` where a tool is chosen that there is not.
    """
    if not use.callable:
        if use.must_call:
            raise InvalidRequest(
                f"tool_choice: there is no tool named {use.choice:.64}", field="tool_choice"
            )
        if content is None:
            return None
    lark = Lark(special)
    calls = _Calls(lark, form, use)
    if use.must_call:
        body = calls.required(reasoning)
    elif content is None:
        body = calls.free(reasoning)
    else:
        body = lark.json(content)
        if use.callable:
            body = f"{calls.beside_json()} | {body}"
        if reasoning is not None:
            body = f"{lark.terminal(_GAP)}? ({body})"
    if reasoning is not None:
        closed = lark.until(reasoning.closing)
        if inside:
            body = f"{closed} ({body})"
        else:
            opened = lark.literal(reasoning.opening, before=_GAP)
            body = f"({opened} {closed})? ({body})"
    return lark.text(body)


class _Calls:
    """The parts of a grammar that are made of the tools."""

    def __init__(self, lark: Lark, form: ToolFormat, use: ToolUse) -> None:
        self._lark = lark
        self._form = form
        self._use = use
        self._tools = {tool.name: _CallGrammar.of(lark, form, tool) for tool in use.callable}

    def required(self, reasoning: ReasoningFormat | None) -> str:
        """Calls, and nothing else."""
        form = self._form
        start = form.marker + form.start if form.marker_needed else form.start
        return self._all(self._led_by(start, before=_GAP if reasoning else ""))

    def beside_json(self) -> str:
        """Calls and nothing else, where the answer could also be JSON that is no call."""
        form = self._form
        if form.marker_needed or not isinstance(form.call, JsonCall):
            return self.required(None)
        # A fixed beginning of a call would take in the beginning of any object.
        key = form.call.arguments
        options = (self._lark.json(_call_schema(tool, key)) for tool in self._use.callable)
        return self._all(self._lark.rule(" | ".join(options)))

    def free(self, reasoning: ReasoningFormat | None) -> str:
        """Any text; or calls, behind text that leads to them."""
        form, lark = self._form, self._lark
        never: list[str] = []
        options: list[str] = []
        if reasoning is not None and not lark.is_special(reasoning.opening):
            never.append(re.escape(reasoning.opening))
        if not form.marker_needed:
            never += [_bare_head(form, name) for name in self._tools]
            options.append(self._all(self._bare_calls()))
        within = rf"{ANY_TEXT} & ~/\s*({_slashed('|'.join(never))})(.|\n)*/" if never else ANY_TEXT
        if form.marker_needed or lark.is_special(form.marker):
            lead = lark.until(form.marker, within=within)
            options.append(f"{lead} ({self._all(self._led_by(form.start))})")
        return " | ".join((lark.terminal(within), *options))

    def _all(self, first: str) -> str:
        """The calls, of which `first` is the first, and what ends them."""
        end = self._lark.literal(self._form.end)
        if self._use.most_calls == 1:
            return f"{first} {end}"
        more = self._led_by(self._form.separator)
        return f"{first} {more}{{0,{self._use.most_calls - 1}}} {end}"

    def _led_by(self, text: str, *, before: str = "") -> str:
        """One call, with a text in front of it."""
        options = (
            f"{self._lark.literal(text + call.head, before=before)} {call.rest}"
            for call in self._tools.values()
        )
        return self._lark.rule(" | ".join(options))

    def _bare_calls(self) -> str:
        """One call that a text begins with."""
        leads = {name: _bare_lead(self._form, name, call) for name, call in self._tools.items()}
        heads = {name: self._lark.terminal(rf"/\s*{_slashed(leads[name])}/") for name in leads}
        return self._lark.rule(
            " | ".join(f"{heads[name]} {call.rest}" for name, call in self._tools.items())
        )


class _CallGrammar:
    """One tool's call: a fixed text, and what follows it."""

    def __init__(self, head: str, rest: str) -> None:
        self.head = head
        self.rest = rest

    @classmethod
    def of(cls, lark: Lark, form: ToolFormat, tool: Tool) -> _CallGrammar:
        call = form.call
        match call:
            case JsonCall(arguments=key):
                head = f'{{"name": {json.dumps(tool.name)}, "{key}": '
                return cls(head, f"{lark.json(arguments_schema(tool))} {lark.literal('}')}")
            case NamedJsonCall(marker=marker):
                return cls(f"{tool.name}{marker}", lark.json(arguments_schema(tool)))
            case LiteralCall():
                return cls._literal(lark, call, tool)

    @classmethod
    def _literal(cls, lark: Lark, call: LiteralCall, tool: Tool) -> _CallGrammar:
        head = f"{call.before_name}{tool.name}"
        inner = literal_arguments(lark, call, tool)
        if inner is not None:
            return cls(head + call.opening, f"{inner} {lark.literal(call.closing)}")
        whole = lark.json(arguments_schema(tool))
        if call.unpack is None:
            return cls(head, whole)
        return cls(head + call.opening + call.unpack, f"{whole} {lark.literal(call.closing)}")


def _call_schema(tool: Tool, key: str) -> dict[str, Any]:
    """A JSON Schema of a tool's whole call."""
    arguments = arguments_schema(tool)
    definitions = {name: arguments.pop(name) for name in DEFINITIONS if name in arguments}
    return definitions | {
        "type": "object",
        "properties": {"name": {"const": tool.name}, key: arguments},
        "required": ["name", key],
        "additionalProperties": False,
    }


def _bare_head(form: ToolFormat, name: str) -> str:
    """By what a call without a marker is certain to be one, as a regular expression."""
    start = re.escape(form.start.strip())
    if isinstance(form.call, JsonCall):
        kind = r'("type"\s?:\s?"function"\s?,\s?)?'
        return rf'{start}\s?\{{\s?{kind}"name"\s?:\s?"{re.escape(name)}"'
    return rf"{start}\s?{re.escape(name)}\("


def _bare_lead(form: ToolFormat, name: str, call: _CallGrammar) -> str:
    """All of a call without a marker up to its arguments."""
    head = _bare_head(form, name)
    if isinstance(form.call, JsonCall):
        return rf'{head}\s?,\s?"({"|".join(ARGUMENT_KEYS)})"\s?:\s?'
    return head + re.escape(call.head.partition("(")[2])


def _slashed(expression: str) -> str:
    return expression.replace("/", r"\/")
