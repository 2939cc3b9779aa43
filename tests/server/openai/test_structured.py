"""Every field that says what an answer must match, and what the engine is asked for it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from headway.types import Grammar
from headway.types.grammar import MAX_GRAMMAR_CHARACTERS
from tests.server.conftest import Running

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":"))
OBJECT = Grammar(kind="json", text='{"type":"object"}')
TAGS: dict[str, Any] = {
    "structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}],
    "triggers": ["<f>"],
}
GIVEN: list[tuple[dict[str, Any], Grammar | None]] = [
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, OBJECT),
    (
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        Grammar(kind="json", text=TEXT),
    ),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
            }
        },
        Grammar(kind="json", text=TEXT),
    ),
    (
        {"response_format": {"type": "json_schema", "schema": SCHEMA}},
        Grammar(kind="json", text=TEXT),
    ),
    ({"structured_outputs": {"json": SCHEMA}}, Grammar(kind="json", text=TEXT)),
    ({"structured_outputs": {"json": TEXT}}, Grammar(kind="json", text=TEXT)),
    ({"structured_outputs": {"json_object": True}}, OBJECT),
    ({"structured_outputs": {"regex": "a+"}}, Grammar(kind="regex", text="a+")),
    ({"structured_outputs": {"choice": ["a", "b"]}}, Grammar(kind="choice", text='["a","b"]')),
    ({"structured_outputs": {"grammar": 'start: "a"'}}, Grammar(kind="grammar", text='start: "a"')),
    (
        {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
        Grammar(kind="json", text=TEXT, whitespace=""),
    ),
    (
        {"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "[ ]{1,2}"}},
        Grammar(kind="json", text=TEXT, whitespace="[ ]{1,2}"),
    ),
    ({"guided_json": SCHEMA}, Grammar(kind="json", text=TEXT)),
    (
        {"guided_json": SCHEMA, "guided_whitespace_pattern": "[ ]"},
        Grammar(kind="json", text=TEXT, whitespace="[ ]"),
    ),
    ({"guided_regex": "a+"}, Grammar(kind="regex", text="a+")),
    ({"guided_choice": ["a"]}, Grammar(kind="choice", text='["a"]')),
    ({"guided_grammar": 'root ::= "a"'}, Grammar(kind="grammar", text='root ::= "a"')),
    ({"json_schema": SCHEMA}, Grammar(kind="json", text=TEXT)),
    ({"grammar": 'root ::= "a"'}, Grammar(kind="grammar", text='root ::= "a"')),
]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 2},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("fields", "grammar"), GIVEN, ids=str)
def test_a_field_becomes_a_grammar(
    server: Running, path: str, fields: dict[str, Any], grammar: Grammar | None
) -> None:
    server.engine.submitted.clear()
    with server.http() as http:
        answer = http.post(path, json=BODIES[path] | fields)
    assert answer.status_code == 200, answer.text
    [request] = server.engine.submitted
    assert request.sampling.structured_outputs == grammar


@pytest.mark.parametrize("path", BODIES)
def test_structural_tags_are_one_grammar_in_both_fields(server: Running, path: str) -> None:
    server.engine.submitted.clear()
    with server.http() as http:
        for fields in (
            {"response_format": {"type": "structural_tag", **TAGS}},
            {"structured_outputs": {"structural_tag": json.dumps(TAGS)}},
        ):
            assert http.post(path, json=BODIES[path] | fields).status_code == 200
    grammars = [request.sampling.structured_outputs for request in server.engine.submitted]
    assert [each and each.kind for each in grammars] == ["structural_tag"] * 2
    texts = [json.loads(each.text) for each in grammars if each]
    assert [text["structures"] for text in texts] == [TAGS["structures"]] * 2


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": {"type": "yaml"}}, "response_format.type", ""),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", ""),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}, "schema": {}}},
        "response_format.schema",
        "give one",
    ),
    ({"response_format": {"type": "json_object", "x": 1}}, "response_format.x", ""),
    ({"response_format": {"type": "json_object", "schema": 1}}, "response_format.schema", ""),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}},
        "response_format",
        "no",
    ),
    ({"structured_outputs": {}}, "structured_outputs", "exactly one"),
    ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs", "exactly one"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", ""),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs", ""),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs", "triggers"),
    (
        {"structured_outputs": {"json": {}, "disable_additional_properties": True}},
        "structured_outputs.disable_additional_properties",
        "",
    ),
    ({"guided_regex": "("}, "guided_regex", ""),
    ({"guided_json": "{"}, "guided_json", "not JSON"),
    ({"guided_json": "[]"}, "guided_json", "object"),
    ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern", "guided_json"),
    ({"grammar": "root ::= x"}, "grammar", "x"),
    ({"grammar": "nothing"}, "grammar", "no rules"),
    ({"json_schema": {"$ref": "#/nowhere"}}, "json_schema", "nowhere"),
    ({"guided_regex": "a", "grammar": 'root ::= "a"'}, "grammar", "guided_regex"),
    ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "contradicts"),
    (
        {"json_schema": {"description": "x" * MAX_GRAMMAR_CHARACTERS}},
        "json_schema",
        "too many",
    ),
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("fields", "field", "words"), BAD, ids=lambda each: str(each)[:60])
def test_errors_name_the_field_and_the_reason(
    http: httpx.Client, path: str, fields: dict[str, Any], field: str, words: str
) -> None:
    answer = http.post(path, json=BODIES[path] | fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == field
    assert field.partition(".")[0] in error["message"]
    assert words in error["message"]
