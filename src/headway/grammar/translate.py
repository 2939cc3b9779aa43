"""Every kind of grammar in the one notation that llguidance compiles.

JSON Schemas, regular expressions and Lark grammars are its own; lists of choices and structural
tags become Lark. So do the GBNF grammars of llama.cpp: the characters that these write as code
points are put in first, because the translator of llguidance takes no other escapes. What could
take long before llguidance's own limits hold (rules that name each other, deep nesting) is bounded
here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from headway.errors import InvalidRequest
from headway.types import Grammar
from headway.types.grammar import GRAMMAR_ERROR

MAX_NESTING = 64
"""Brackets within brackets."""
MAX_RULES = 512
"""Of a GBNF grammar."""
MAX_TAGS = 64
MAX_OPTIONAL = 500
"""Optional properties of one object. Any may come next, and llguidance follows four readings of
each, of which it has room for 2,000."""
WHITESPACE = r"( |\n[ \t]{0,16})"
"""Between parts of JSON where nothing else was asked: a space, or a line's end and the next one's
indentation. Without a bound, a model that is unsure can go on with spaces for all its tokens."""

_GBNF_RULE = re.compile(r"^[ \t]*[\w-]+[ \t]*::=", re.MULTILINE)
_CODE_POINT = re.compile(r"\\(?:(\\)|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))")


def translate(grammar: Grammar) -> str:
    """A grammar as llguidance takes it.

    Raises `InvalidRequest` for what is malformed; the rest is found when it is compiled.
    """
    for text in (grammar.text, grammar.whitespace or ""):
        if nesting(text) > MAX_NESTING:
            raise invalid(f"brackets nest more than {MAX_NESTING} deep")
    match grammar.kind:
        case "json":
            return _json_schema(grammar)
        case "regex":
            return _regex(grammar.text)
        case "choice":
            return _choices(grammar.text)
        case "grammar":
            return _lark(grammar.text)
        case "structural_tag":
            return _structural_tags(grammar.text)


def invalid(reason: str) -> InvalidRequest:
    """The error of a grammar that cannot be served."""
    return InvalidRequest(f"{GRAMMAR_ERROR}{reason}", field="structured_outputs")


def nesting(text: str) -> int:
    """How deep brackets nest, if every one counts that no backslash stands before."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        bracket = found[0]
        if bracket in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in ")]}":
            depth = max(0, depth - 1)
    return deepest


_BRACKETS = re.compile(r"\\.|[][(){}]", re.DOTALL)


def _json_schema(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    schema = {} if (given := _parsed(grammar.text)) is True else given
    if not isinstance(schema, dict):
        raise invalid("a JSON Schema is an object, or true")
    _check_optional(schema)
    whitespace = WHITESPACE if grammar.whitespace is None else grammar.whitespace
    try:
        return LLMatcher.grammar_from_json_schema(
            "{}" if not schema else grammar.text,
            overrides={"whitespace_pattern": whitespace},
        )
    except ValueError as error:
        raise invalid(str(error)) from None


def _check_optional(schema: Any) -> None:
    """Raise for an object that would be found too ambiguous once an answer is in it."""
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            named, required = part.get("properties"), part.get("required")
            if isinstance(named, dict):
                needed = required if isinstance(required, list) else []
                optional = len(named.keys() - {each for each in needed if isinstance(each, str)})
                if optional > MAX_OPTIONAL:
                    raise invalid(
                        f"{optional} optional properties of one object are too many: at most "
                        f"{MAX_OPTIONAL}; make some required"
                    )


def _regex(text: str) -> str:
    from llguidance import LLMatcher

    # The whole answer is matched in any case.
    text = text.removeprefix("^")
    if text.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$\Z", text):
        text = text[:-1]
    return LLMatcher.grammar_from_regex(text)


def _choices(text: str) -> str:
    from llguidance import LLMatcher

    choices: list[str] = json.loads(text)
    listed = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {listed}")


def _lark(text: str) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

    if is_lark_syntax(text):
        return LLMatcher.grammar_from_lark(text)
    rules = len(_GBNF_RULE.findall(text))
    if not rules:
        raise invalid("the grammar has no rules: start: ... in Lark, root ::= ... in GBNF")
    if rules > MAX_RULES:
        raise invalid(f"{rules} rules are too many for GBNF: at most {MAX_RULES}")
    try:
        return LLMatcher.grammar_from_lark(gbnf_to_lark(_CODE_POINT.sub(_character, text)))
    except RecursionError:
        raise invalid("the grammar nests too deeply") from None
    except Exception as error:  # the translator raises plain ones
        raise invalid(f"the grammar is not GBNF: {error!s:.300}") from None


def _character(found: re.Match[str]) -> str:
    """What an escape of GBNF stands for, as the translator reads it."""
    if found[1]:
        return found[0]
    code = int(found[2] or found[3] or found[4], 16)
    if code < 0x80:
        return {0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t"}.get(code, f"\\x{code:02x}")
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise invalid(f"{found[0]} is no character")
    return chr(code)


def _structural_tags(text: str) -> str:
    from llguidance import LLMatcher, StructTag

    given = _parsed(text)
    try:
        structures: list[dict[str, Any]] = given["structures"]
        triggers: list[str] = given["triggers"]
        if not 0 < len(structures) <= MAX_TAGS or not 0 < len(triggers) <= MAX_TAGS:
            raise invalid(f"structural_tag takes 1 to {MAX_TAGS} structures and triggers")
        tags = [
            StructTag(
                trigger=next(each for each in triggers if tag["begin"].startswith(each)),
                begin=tag["begin"],
                grammar=json.dumps(tag.get("schema") or {}),
                end=tag["end"],
            )
            for tag in structures
        ]
    except (KeyError, TypeError, AttributeError, StopIteration, AssertionError):
        raise invalid(
            "structural_tag is an object with structures (begin, schema, end) and triggers, with "
            "one of which each begin starts"
        ) from None
    return LLMatcher.grammar_from_lark(StructTag.to_grammar(tags, assume_special=False))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"not JSON: {error}") from None
