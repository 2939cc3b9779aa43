"""Responses of the real model: calls that match their schema, and answers to their results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.server.responses.checking import streamed
from tests.server.serving import MODEL, headway_serve

pytestmark = pytest.mark.model
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True},
    {"type": "function", "name": "get_time"},
]
QUESTION = "What will the weather be in Paris?"
NAMED: Any = {"type": "function", "name": "get_weather"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway_serve() as (_, url):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_call_and_its_result(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model=MODEL, input=QUESTION, tools=TOOLS, tool_choice=NAMED, temperature=0
    )
    (call,) = first.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    jsonschema.validate(json.loads(call.arguments), SCHEMA)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answer = client.responses.create(
        model=MODEL,
        input=[result],
        previous_response_id=first.id,
        tools=TOOLS,
        tool_choice="none",
        temperature=0,
        max_output_tokens=8,
    )
    assert answer.output_text


def test_calls_that_are_required_match_streamed_and_whole(url: str) -> None:
    body: dict[str, Any] = {
        "input": QUESTION,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    with httpx.Client(base_url=url, timeout=60) as http:
        whole = http.post("/v1/responses", json=body).json()["output"]
        events = streamed(http, body)
    told = events[-1]["response"]["output"]
    for items in (whole, told):
        (call,) = items
        assert call["type"] == "function_call"
        if call["name"] == "get_weather":
            jsonschema.validate(json.loads(call["arguments"]), SCHEMA)
    assert (whole[0]["name"], whole[0]["arguments"]) == (told[0]["name"], told[0]["arguments"])
    deltas = [e["delta"] for e in events if e["type"].endswith("arguments.delta")]
    assert "".join(deltas) == told[0]["arguments"]
    assert len(deltas) > 1, "arguments come as they are generated"


def test_some_tools_are_allowed(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL,
        input=QUESTION,
        tools=TOOLS,
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "get_time"}],
        },
        parallel_tool_calls=False,
        temperature=0,
    )
    assert [getattr(item, "name", None) for item in answer.output] == ["get_time"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [TOOLS[0] | {"parameters": {"type": "array"}}]}, "tools[0].parameters.type"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].name"),
        ({"tools": [TOOLS[0] | {"name": "a b"}]}, "tools[0].name"),
        ({"tools": TOOLS, "tool_choice": NAMED | {"name": "other"}}, "tool_choice.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
    ],
)
def test_errors_of_tools_name_the_clients_field(
    url: str, fields: dict[str, Any], field: str
) -> None:
    answer = httpx.post(url + "/v1/responses", json={"input": "x"} | fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
