"""The forms in which models call tools, as descriptions.

A description says which text leads to calls, what stands between them, and how one is written. The
grammar of an answer (`call_grammar`), the parser of its text (`call_parser`) and the text of past
calls (`writing`) are all made from it, so what the grammar allows is what the parser reads.

An answer with calls is: content, the marker, the start, a call, then separator and call any number
of times, the end. White space in a description is written, and may be missing where it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

ARGUMENT_KEYS = ("arguments", "parameters")
"""Where calls in JSON have their arguments; every format reads both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCall:
    """`{"name": "f", "arguments": {"a": 1}}`."""

    arguments: str = "arguments"
    """The key that is written, of `ARGUMENT_KEYS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedJsonCall:
    """`f[ARGS]{"a": 1}`: a name, a marker, and the arguments as JSON."""

    marker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteralCall:
    """`f(a=1, b=[True, "x"])`: a name, and arguments in a notation that is not JSON."""

    before_name: str = ""
    opening: str
    closing: str
    assign: str
    """Between the name of an argument and its value."""
    comma: str = ", "
    colon: str = ": "
    """Between a key and its value in nested objects."""
    quote: str | None = None
    """On both sides of a text that is written as it is; None if texts are written as in JSON."""
    words: Mapping[str, str]
    """How true, false and null are written, by their JSON text. JSON's own are read, too."""
    unpack: str | None = None
    """Before an object of arguments whose names are no identifiers."""
    bare_keys: bool = False
    """Whether keys of nested objects are written without quotes."""


CallForm = JsonCall | NamedJsonCall | LiteralCall


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """How a family of models writes calls of tools."""

    name: str
    call: CallForm
    marker: str = ""
    """Text that leads to calls wherever it stands; often one special token of the model."""
    marker_needed: bool = True
    """If not, an answer that begins with a call needs no marker."""
    start: str = ""
    separator: str
    end: str = ""
    also: ToolFormat | None = None
    """A form that is read behind the same marker where this one does not fit."""
    id_characters: int | None = None
    """How many letters and digits the models' templates want the id of a call to be."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that are special tokens of some models, which the parser must see in the text."""
        call = self.call
        inner = call.marker if isinstance(call, NamedJsonCall) else None
        quote = call.quote if isinstance(call, LiteralCall) else None
        found = (self.marker, self.end.strip(), inner, quote)
        own = tuple(each for each in found if each and len(each) > 1)
        return own if self.also is None else tuple(dict.fromkeys(own + self.also.markers))


_PYTHON = LiteralCall(
    opening="(",
    closing=")",
    assign="=",
    words=MappingProxyType({"true": "True", "false": "False", "null": "None"}),
    unpack="**",
)
_JSON_WORDS = MappingProxyType({each: each for each in ("true", "false", "null")})


def _gemma_call(quote: str) -> LiteralCall:
    return LiteralCall(
        before_name="call:",
        opening="{",
        closing="}",
        assign=":",
        comma=",",
        colon=":",
        quote=quote,
        words=_JSON_WORDS,
        bare_keys=True,
    )


_MISTRAL = ToolFormat(
    name="mistral",
    call=JsonCall(),
    marker="[TOOL_CALLS]",
    start=" [",
    separator=", ",
    end="]",
    id_characters=9,
)
_MISTRAL_NAMED = ToolFormat(
    name="mistral_named",
    call=NamedJsonCall(marker="[ARGS]"),
    marker="[TOOL_CALLS]",
    separator="[TOOL_CALLS]",
    id_characters=9,
    also=_MISTRAL,
)

_FORMATS = (
    ToolFormat(
        name="hermes",
        call=JsonCall(),
        marker="<tool_call>",
        start="\n",
        separator="\n</tool_call>\n<tool_call>\n",
        end="\n</tool_call>",
    ),
    ToolFormat(
        name="llama3_json",
        call=JsonCall(arguments="parameters"),
        marker="<|python_tag|>",
        marker_needed=False,
        separator="; ",
    ),
    ToolFormat(
        name="mistral",
        call=JsonCall(),
        marker="[TOOL_CALLS]",
        start=" [",
        separator=", ",
        end="]",
        id_characters=9,
        also=_MISTRAL_NAMED,
    ),
    _MISTRAL_NAMED,
    ToolFormat(
        name="pythonic",
        call=_PYTHON,
        marker="<|python_start|>",
        marker_needed=False,
        start="[",
        separator=", ",
        end="]",
    ),
    ToolFormat(
        name="gemma3",
        call=_PYTHON,
        marker="```tool_code",
        start="\n",
        separator="\n",
        end="\n```",
    ),
    ToolFormat(
        name="functiongemma",
        call=_gemma_call("<escape>"),
        marker="<start_function_call>",
        separator="<end_function_call><start_function_call>",
        end="<end_function_call>",
    ),
    ToolFormat(
        name="gemma4",
        call=_gemma_call('<|"|>'),
        marker="<|tool_call>",
        separator="<tool_call|><|tool_call>",
        end="<tool_call|>",
    ),
    ToolFormat(
        name="granite",
        call=JsonCall(),
        marker="<|tool_call|>",
        start="[",
        separator=", ",
        end="]",
    ),
    ToolFormat(
        name="phi4_mini_json",
        call=JsonCall(),
        marker="functools",
        start="[",
        separator=", ",
        end="]",
    ),
    ToolFormat(
        name="jamba",
        call=JsonCall(),
        marker="<tool_calls>",
        start="[\n",
        separator=",\n",
        end="\n]</tool_calls>",
    ),
    ToolFormat(
        name="lfm2",
        call=_PYTHON,
        marker="<|tool_call_start|>",
        start="[",
        separator=", ",
        end="]<|tool_call_end|>",
    ),
    ToolFormat(
        name="olmo3",
        call=_PYTHON,
        marker="<function_calls>",
        start="",
        separator="\n",
        end="</function_calls>",
    ),
)
_ALIASES = {
    "qwen3_json": "hermes",
    "qwen": "hermes",
    "granite4": "hermes",
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
    "gemma": "gemma3",
}

TOOL_FORMATS: Mapping[str, ToolFormat] = MappingProxyType(
    {each.name: each for each in _FORMATS}
    | {alias: each for alias, name in _ALIASES.items() for each in _FORMATS if each.name == name}
)
"""By the names of vLLM's `--tool-call-parser`, where it has the format, and by a few of our own."""

_SIGNS = (
    ("<start_function_call>", "functiongemma"),
    ("<|tool_call>", "gemma4"),
    ("[ARGS]", "mistral_named"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|tool_call_start|>", "lfm2"),
    ("<function_calls>", "olmo3"),
    ("<tool_calls>", "jamba"),
    ("<tool_call>", "hermes"),
    ("<|tool_call|>", "granite"),
    ("functools[", "phi4_mini_json"),
    ("<|python_start|>", "pythonic"),
    ("func_name1(", "pythonic"),
    ("<|python_tag|>", "llama3_json"),
    ('"parameters": dictionary', "llama3_json"),
    ("<start_of_turn>", "gemma3"),
)


def format_for_template(source: str) -> str:
    """The name of the format that a chat template (its text) writes calls in.

    "hermes" where it does not show: most models have seen it.
    """
    return next((name for sign, name in _SIGNS if sign in source), "hermes")


class Marked(Protocol):
    """A description with markers: a `ToolFormat` or a `ReasoningFormat`."""

    @property
    def markers(self) -> tuple[str, ...]: ...


def shown_tokens(special: Collection[str], *forms: Marked) -> frozenset[str]:
    """Those of a model's special tokens (their texts) that parsers of these forms must see.

    If there are any, special tokens must not be left out of the text that the parsers get.
    """
    markers = [marker for form in forms for marker in form.markers]
    return frozenset(each for each in special if any(each in marker for marker in markers))
