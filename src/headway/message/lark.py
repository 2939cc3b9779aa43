"""Grammars in llguidance's dialect of Lark: rules, terminals, literals, embedded schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from headway.types import special_token_name

ANY_TEXT = r"/(.|\n)*/"
_JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as Python writes it, and so as models saw it: white space leaves nothing to decide, and a
model that is unsure cannot go on with it."""

_BRACKET = re.compile(r"[\[\](){}]")


class Lark:
    """A grammar that is being written. `special` are texts that are single special tokens."""

    def __init__(self, special: Collection[str] = ()) -> None:
        self._special = frozenset(special)
        self._lines: list[str] = []
        self._names: dict[str, str] = {}
        """Of rules and terminals, by what they are."""

    def text(self, start: str) -> str:
        """The whole grammar, of answers that match `start`."""
        return "\n".join(("%llguidance {}", f"start: {start}", *self._lines, ""))

    def rule(self, body: str, *, options: str = "") -> str:
        """The name of a rule."""
        return self._named("rule", options, body)

    def terminal(self, expression: str) -> str:
        """The name of a terminal, which is matched as one."""
        return self._named("TERMINAL", "", expression)

    def is_special(self, text: str) -> bool:
        return text in self._special

    def literal(self, text: str, *, before: str = "") -> str:
        """This text, with its special tokens as such; `before` is a terminal in front of it."""
        parts = _split(text, [each for each in self._special if each in text])
        written = [
            special_token_name(each) if each in self._special else _quoted(each) for each in parts
        ]
        if before and written and parts[0] not in self._special:
            written[0] = self.terminal(f"{before} {written[0]}")
        elif before:
            written.insert(0, f"{self.terminal(before)}?")
        return " ".join(written)

    def until(self, marker: str, *, within: str = ANY_TEXT) -> str:
        """What `within` matches, up to the first of the markers, and the marker."""
        inner = self.terminal(within)
        if self.is_special(marker):
            return f"{inner} {special_token_name(marker)}"
        return self.rule(f"{inner} {_quoted(marker)}", options="[lazy]")

    def json(self, schema: Mapping[str, Any]) -> str:
        """JSON of a schema."""
        written = json.dumps({"x-guidance": _JSON_OPTIONS} | dict(schema))
        return self.rule(f"%json {written}")

    def _named(self, kind: str, options: str, body: str) -> str:
        definition = f"{options}: {body}"
        name = self._names.get(kind + definition)
        if name is None:
            name = self._names[kind + definition] = f"{kind}_{len(self._names)}"
            self._lines.append(f"{name}{definition}")
        return name


def _quoted(text: str) -> str:
    """A literal. Its brackets are escaped: they are not the grammar's own, whose nesting counts."""
    return _BRACKET.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text))


def _split(text: str, special: list[str]) -> list[str]:
    if not special:
        return [text] if text else []
    pattern = "|".join(re.escape(each) for each in sorted(special, key=len, reverse=True))
    return [each for each in re.split(f"({pattern})", text) if each]
