"""JSON Schemas without what says nothing about values: a constraint needs no descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANNOTATIONS = frozenset(
    (
        "$comment",
        "default",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    )
)
_BY_NAME = frozenset(
    ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
)
"""Keywords whose values have a schema for each name, and names are anything."""
_VALUES = frozenset(("const", "enum", "required"))


def without_annotations(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema to whoever checks values by it."""
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ANNOTATIONS:
            continue
        if key in _BY_NAME and isinstance(value, Mapping):
            found[key] = {name: _plain(each) for name, each in value.items()}
        else:
            found[key] = value if key in _VALUES else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_annotations(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
