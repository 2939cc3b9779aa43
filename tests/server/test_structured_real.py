"""Structured output over HTTP: the real command, the real default model, the official client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests.server.serving import MODEL, headway_serve, until_idle

pytestmark = pytest.mark.model

ASKED: Any = [{"role": "user", "content": "Tell me about Paris, in JSON."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["city", "river"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        "inhabitants": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
    },
    "required": ["name", "kind", "inhabitants"],
    "additionalProperties": False,
}
FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "place", "strict": True, "schema": SCHEMA},
}


class Place(BaseModel):
    name: str = Field(max_length=20)
    kind: Literal["city", "river"]
    inhabitants: int = Field(ge=0, le=99_999_999)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway_serve() as (_, url):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_valid_whole_and_streamed(client: openai.OpenAI, temperature: float) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": ASKED,
        "response_format": FORMAT,
        "temperature": temperature,
        "seed": 5,
        "max_tokens": 200,
    }
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(choice.message.content or ""), SCHEMA)
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**asked, stream=True)
    ]
    assert "".join(pieces) == choice.message.content


def test_the_clients_own_parsing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_format=Place, temperature=0, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, Place)


def test_other_forms_in_completions(client: openai.OpenAI) -> None:
    forms: list[tuple[dict[str, Any], str]] = [
        ({"structured_outputs": {"regex": "[0-9]{3}-[a-f]{2}"}}, "[0-9]{3}-[a-f]{2}"),
        ({"structured_outputs": {"choice": ["red", "green"]}}, "red|green"),
        ({"grammar": 'root ::= "<" [a-z]{1,5} ">"'}, "<[a-z]{1,5}>"),
        ({"guided_grammar": 'start: "no" | "yes"'}, "no|yes"),
    ]
    for body, pattern in forms:
        answer = client.completions.create(
            model=MODEL, prompt="x:", max_tokens=40, temperature=1, seed=1, extra_body=body
        )
        assert answer.choices[0].finish_reason == "stop"
        assert re.fullmatch(pattern, answer.choices[0].text), answer.choices[0].text


def test_what_is_asked_beside_hostile_grammars_is_answered(client: openai.OpenAI, url: str) -> None:
    hostile = {
        "type": "object",
        "patternProperties": {f"^p{n}_": {"type": "string"} for n in range(500)},
    }

    def ask(schema: dict[str, Any]) -> int:
        body = {"prompt": "x", "max_tokens": 4, "json_schema": schema}
        return httpx.post(url + "/v1/completions", json=body, timeout=120).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = [pool.submit(ask, hostile | {"title": str(n)}) for n in range(4)]
        plain = client.completions.create(model=MODEL, prompt="x", max_tokens=8)
        assert plain.usage is not None
        assert ask({"type": "boolean"}) == 200
        assert [each.result() for each in statuses] == [400] * 4
    until_idle(url)
