"""What may describe an answer, before anybody compiles it."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.types import Grammar, SamplingParams, StructuredOutputsParams
from headway.types.grammar import MAX_CHOICES, MAX_GRAMMAR_CHARACTERS

GIVEN: list[tuple[dict[str, Any], Grammar]] = [
    ({"json": {"b": 1, "a": [2]}}, Grammar(kind="json", text='{"b":1,"a":[2]}')),
    ({"json": ' {"b": 1}'}, Grammar(kind="json", text=' {"b": 1}')),
    ({"json": {}}, Grammar(kind="json", text="{}")),
    ({"json": True}, Grammar(kind="json", text="true")),
    ({"json": False}, Grammar(kind="json", text="false")),
    ({"json_object": True}, Grammar(kind="json", text='{"type":"object"}')),
    ({"regex": "a"}, Grammar(kind="regex", text="a")),
    ({"choice": ("a", "é")}, Grammar(kind="choice", text='["a","é"]')),
    ({"grammar": "x"}, Grammar(kind="grammar", text="x")),
    ({"structural_tag": "{}"}, Grammar(kind="structural_tag", text="{}")),
    (
        {"json": {}, "disable_any_whitespace": True},
        Grammar(kind="json", text="{}", whitespace=""),
    ),
    ({"json": {}, "whitespace_pattern": " "}, Grammar(kind="json", text="{}", whitespace=" ")),
    ({"regex": "a", "json_object": False}, Grammar(kind="regex", text="a")),
]


@pytest.mark.parametrize(("given", "grammar"), GIVEN, ids=str)
def test_parameters_become_a_grammar(given: dict[str, Any], grammar: Grammar) -> None:
    assert StructuredOutputsParams(**given).resolved() == grammar


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "there is none"),
    ({"json_object": False}, "there is none"),
    ({"json": {}, "regex": "a"}, "json and regex"),
    ({"json": {"a": object()}}, "not plain data"),
    ({"choice": ()}, "1 to"),
    ({"choice": ("a",) * (MAX_CHOICES + 1)}, "1 to"),
    ({"choice": ("a", "")}, "empty"),
    ({"regex": "\ud800"}, "not valid Unicode"),
    ({"json": {}, "whitespace_pattern": " ", "disable_any_whitespace": True}, "contradict"),
    ({"regex": "a" * (MAX_GRAMMAR_CHARACTERS + 1)}, "too many"),
    ({"json": {}, "whitespace_pattern": " " * MAX_GRAMMAR_CHARACTERS}, "too many"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=lambda each: str(each)[:40])
def test_what_says_nothing_or_too_much_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match="structured_outputs") as caught:
        StructuredOutputsParams(**given)
    assert words in caught.value.message
    assert caught.value.field == "structured_outputs"


def test_what_has_an_end_does_not_ignore_it() -> None:
    with pytest.raises(InvalidRequest, match="contradicts") as caught:
        SamplingParams(structured_outputs=StructuredOutputsParams(regex="a"), ignore_eos=True)
    assert caught.value.field == "ignore_eos"
