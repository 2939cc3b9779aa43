"""Grammars of a call's arguments: JSON as it is, and other notations as far as they are simple.

In a notation of its own a value is written as models are used to where its schema is simple: words,
choices, texts in the notation's quotes, and lists and objects of such. Any other value is JSON of
its schema, which every notation's parser reads too; so nothing that a schema says is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from headway.message.annotations import ANNOTATIONS
from headway.message.formats import LiteralCall
from headway.message.lark import Lark
from headway.message.tools import Tool
from headway.message.writing import is_identifier, write_key, write_value

MAX_DEPTH = 8
"""Of lists and objects that are written in a notation; deeper ones are JSON."""
DEFINITIONS = ("$defs", "definitions")
"""Keywords of what `$ref` refers to."""
_REMARKS = ANNOTATIONS | {"$schema", "strict", *DEFINITIONS}
"""Keywords that say nothing about which values match."""
_REFERENCE_ELSEWHERE = re.compile(r'"\$ref": "(?!#/(\$defs|definitions)/)')

Schema = Mapping[str, Any]


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments; where it lists them and says no more, there are no others.

    So a model that is unsure does not go on with arguments that nobody asked for.
    """
    schema = tool.schema()
    if "properties" in schema and _keywords(schema) <= {"type", "properties", "required"}:
        schema["additionalProperties"] = False
    return schema


def literal_arguments(lark: Lark, form: LiteralCall, tool: Tool) -> str | None:
    """What matches a tool's arguments, between the brackets of the call, in a notation.

    None where they cannot be written one by one: as they are one object of JSON then.
    """
    schema = arguments_schema(tool)
    if _REFERENCE_ELSEWHERE.search(json.dumps(schema)):
        return None
    if form.unpack is not None and not all(map(is_identifier, schema.get("properties", ()))):
        return None
    return _Values(lark, form, schema).members(schema, form.assign, MAX_DEPTH)


class _Values:
    """Writes the values of one tool's schema."""

    def __init__(self, lark: Lark, form: LiteralCall, root: Schema) -> None:
        self._lark = lark
        self._form = form
        self._definitions = {key: root[key] for key in DEFINITIONS if key in root}

    def members(self, schema: Schema, assign: str, depth: int) -> str | None:
        """Of an object without its brackets; None if the schema says more than which there are."""
        required = schema.get("required", [])
        properties = schema.get("properties")
        if (
            _keywords(schema) - {"required"} != {"type", "properties", "additionalProperties"}
            or schema["additionalProperties"] is not False
            or not isinstance(properties, dict)
            or not all(isinstance(each, dict) for each in properties.values())
            or not set(required) <= set(properties)
        ):
            return None
        comma = self._form.comma
        bare = self._form.bare_keys or assign == self._form.assign
        firsts: list[str] = []
        rest = ""
        for key, inner in reversed(properties.items()):
            value = self._value(inner, depth - 1)
            written = write_key(key, bare=bare) + assign
            first = f"{self._lark.literal(written)} {value} {rest}"
            later = f"{self._lark.literal(comma + written)} {value}"
            firsts = [first] if key in required else [first, *firsts]
            rest = self._lark.rule(f"{later if key in required else f'({later})?'} {rest}")
        if not any(key in required for key in properties):
            return f"({' | '.join(firsts)})?" if firsts else ""
        return f"({' | '.join(firsts)})"

    def _value(self, schema: Schema, depth: int) -> str:
        native = self._native(schema, depth) if depth else None
        if native is not None:
            return self._lark.rule(native)
        return self._lark.json(dict(schema) | self._definitions)

    def _native(self, schema: Schema, depth: int) -> str | None:
        """A value as the notation has it; None if that would be no other than JSON, or too much."""
        keywords = _keywords(schema)
        kind = schema.get("type")
        match kind:
            case "boolean" | "null" | "string" if keywords == {"type"}:
                return self._leaf(kind)
            case "array" if keywords - {"minItems", "maxItems"} == {"type", "items"}:
                return self._list(schema, depth)
            case "object":
                inner = self.members(schema, self._form.colon, depth)
                return None if inner is None else f'"{{" {inner} "}}"'
            case list() if keywords == {"type"} and kind:
                return self._either([{"type": each} for each in kind], depth)
            case None if keywords == {"anyOf"} and isinstance(schema["anyOf"], list):
                return self._either(schema["anyOf"], depth)
        return self._listed(schema, keywords)

    def _leaf(self, kind: str) -> str | None:
        quote = self._form.quote
        if kind == "string":
            return (
                None if quote is None else f"{self._lark.literal(quote)} {self._lark.until(quote)}"
            )
        return self._one_of((True, False) if kind == "boolean" else (None,))

    def _listed(self, schema: Schema, keywords: frozenset[str]) -> str | None:
        """One of the values that a schema lists."""
        values = schema.get("enum")
        if not isinstance(values, list) or not values:
            return None
        of_type = all(isinstance(value, str) for value in values)
        if keywords == {"enum"} or (keywords == {"enum", "type"} and schema["type"] == "string"):
            return self._one_of(values) if of_type or keywords == {"enum"} else None
        return None

    def _list(self, schema: Schema, depth: int) -> str | None:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        whole = isinstance(least, int) and (most is None or isinstance(most, int))
        if not whole or not isinstance(schema["items"], dict):
            return None
        value = self._value(schema["items"], depth - 1)
        if most is not None and most < max(least, 1):
            return '"[]"' if most == 0 == least else None
        items = value
        if most != 1:
            others = f"{max(least - 1, 0)},{'' if most is None else most - 1}"
            items = f"{value} ({self._lark.literal(self._form.comma)} {value}){{{others}}}"
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _either(self, schemas: Iterable[Any], depth: int) -> str | None:
        options = list(schemas)
        if not options or not all(isinstance(each, dict) for each in options):
            return None
        return " | ".join(self._value(each, depth - 1) for each in options)

    def _one_of(self, values: Iterable[Any]) -> str:
        written = dict.fromkeys(write_value(self._form, value) for value in values)
        return " | ".join(self._lark.literal(each) for each in written)


def _keywords(schema: Schema) -> frozenset[str]:
    """What says something of which values match."""
    return frozenset(schema) - _REMARKS
