"""What an answer must match: the caller's words (`StructuredOutputsParams`), and the engine's.

A `Grammar` is a kind and a text of bounded size. It travels with a request like any other plain
data, so whoever samples can build what it needs from it and the tokens so far, at any time: a
preempted or moved sequence, or one that an engine died with, goes on where its text stands.
Nothing here knows how a grammar is compiled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headway.errors import InvalidRequest

GrammarKind = Literal["json", "regex", "choice", "grammar", "structural_tag"]
"""A JSON Schema, a regular expression, a JSON list of texts, a Lark or GBNF grammar, JSON that says
which tags switch to which schema."""

GRAMMAR_ERROR = "structured_outputs: "
"""How every error of a grammar begins, also of one that an answer cannot be continued by."""
MAX_GRAMMAR_CHARACTERS = 2**16
MAX_CHOICES = 4096

_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What a whole answer must match.

    `whitespace` is, for JSON, what may stand between its parts, as a regular expression; empty for
    nothing, None for a default that cannot go on forever.
    """

    kind: GrammarKind
    text: str
    whitespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a model's tokens stand for: the bytes of each, by its id.

    Those of `special_ids` are never part of a text. Any of `eos_token_ids` ends one. `encode` gives
    the tokens that the model is used to see a text as, where that is known.
    """

    tokens: tuple[bytes, ...]
    special_ids: tuple[int, ...]
    eos_token_ids: tuple[int, ...]
    encode: Callable[[str], list[int]] | None = None


def special_token_name(text: str) -> str:
    """How a grammar names a special token: as it is written, in angle brackets if it has none."""
    return text if re.fullmatch(r"<[^\[<>\s][^<>\s]*>", text) else f"<|{text}|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOutputsParams:
    """What the generated text must match, in vLLM's words: exactly one of the first six.

    `json` is a JSON Schema, as data or as text; `regex` a regular expression for the whole text;
    `choice` the texts of which one is generated; `grammar` a grammar in Lark's or llama.cpp's
    notation; `json_object` any JSON object; `structural_tag` text in which given tags switch to
    given schemas, as JSON with `structures` and `triggers`. JSON may have white space between its
    parts: what `whitespace_pattern` matches, a few spaces and newlines if that is None, and nothing
    with `disable_any_whitespace`. Raises `InvalidRequest` that names the field.
    """

    json: str | Mapping[str, Any] | bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    whitespace_pattern: str | None = None
    disable_any_whitespace: bool = False

    def __post_init__(self) -> None:
        given = [name for name in _CONSTRAINTS if getattr(self, name) not in (None, False)]
        if self.json is False:
            given.append("json")
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise _invalid(f"give exactly one of {', '.join(_CONSTRAINTS)}; there is {found}")
        if self.disable_any_whitespace and self.whitespace_pattern is not None:
            raise _invalid("disable_any_whitespace and whitespace_pattern contradict each other")
        if self.choice is not None:
            _check_choices(self.choice)
        check_size(self.resolved())

    def resolved(self) -> Grammar:
        """The same as the engine has it."""
        whitespace = "" if self.disable_any_whitespace else self.whitespace_pattern
        if self.json_object:
            return Grammar(kind="json", text='{"type":"object"}', whitespace=whitespace)
        if self.json is not None:
            text = self.json if isinstance(self.json, str) else _as_json(self.json)
            return Grammar(kind="json", text=text, whitespace=whitespace)
        if self.regex is not None:
            return Grammar(kind="regex", text=self.regex)
        if self.choice is not None:
            return Grammar(kind="choice", text=_as_json(list(self.choice)))
        if self.grammar is not None:
            return Grammar(kind="grammar", text=self.grammar)
        assert self.structural_tag is not None, "exactly one is given"
        return Grammar(kind="structural_tag", text=self.structural_tag)


def check_size(grammar: Grammar) -> None:
    """Raise `InvalidRequest` for a grammar that is too large to look at, or is no text."""
    size = len(grammar.text) + len(grammar.whitespace or "")
    if size > MAX_GRAMMAR_CHARACTERS:
        raise _invalid(
            f"{size} characters are too many: at most {MAX_GRAMMAR_CHARACTERS} describe an answer"
        )
    try:
        f"{grammar.text}{grammar.whitespace}".encode()
    except UnicodeError as error:
        raise _invalid(f"not valid Unicode: {error}") from None


def _check_choices(choices: tuple[str, ...] | list[str]) -> None:
    if not 0 < len(choices) <= MAX_CHOICES:
        raise _invalid(f"choice must have 1 to {MAX_CHOICES} texts, got {len(choices)}")
    if any(text == "" for text in choices):
        raise _invalid("choice contains an empty text")


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _invalid(f"not plain data: {error}") from None


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"structured_outputs: {reason}", field="structured_outputs")
