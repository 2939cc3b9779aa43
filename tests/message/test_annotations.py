"""Schemas lose their annotations, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headway.message import without_annotations
from tests.grammar.schemas import SCHEMAS


def test_what_is_lost() -> None:
    inner = {"type": "string", "description": "d", "default": "x", "title": "t"}
    schema = {
        "description": "whole",
        "properties": {"description": inner, "title": {"$ref": "#/$defs/default"}},
        "$defs": {"default": {"anyOf": [inner, {"enum": [{"title": 1}]}]}},
        "required": ["title"],
        "items": {"const": {"description": 1}},
        "additionalProperties": False,
    }
    assert without_annotations(schema) == {
        "properties": {
            "description": {"type": "string"},
            "title": {"$ref": "#/$defs/default"},
        },
        "$defs": {"default": {"anyOf": [{"type": "string"}, {"enum": [{"title": 1}]}]}},
        "required": ["title"],
        "items": {"const": {"description": 1}},
        "additionalProperties": False,
    }


@given(SCHEMAS, st.sampled_from(("description", "title", "default")))
def test_a_schema_without_any_stays_as_it_is(schema: dict[str, Any], name: str) -> None:
    assert without_annotations(schema) == schema
    described = schema | {name: "words"}
    assert without_annotations({"properties": {name: described}}) == {"properties": {name: schema}}
