"""Bounds on reasoning over HTTP: the real command and model, a template that opens reasoning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.server.serving import MODEL, headway_serve

pytestmark = pytest.mark.model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How many legs have two cats and a bird?"}],
    "max_tokens": 60,
    "seed": 4,
}
SCHEMA = {
    "type": "object",
    "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["legs"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    flags = ("--reasoning-parser", "qwen3", "--chat-template", TEMPLATE, "--reasoning-budget", "9")
    with (
        headway_serve(*flags) as (_, url),
        openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def tokens_before_the_end(client: openai.OpenAI, token_ids: list[int]) -> int:
    """How many tokens of an answer come before the text that closes its reasoning."""
    http = client._client
    for count in range(len(token_ids)):
        body = {"tokens": token_ids[count:]}
        text = http.post(str(client.base_url).replace("/v1/", "/detokenize"), json=body).json()
        if text["prompt"].startswith("</think>"):
            return count
    raise AssertionError("the reasoning is not closed")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("budget", [0, 1, 20])
def test_reasoning_has_so_many_tokens_whole_and_streamed(
    client: openai.OpenAI, budget: int, temperature: float
) -> None:
    extra = {"thinking_token_budget": budget, "return_token_ids": True, "min_tokens": 50}
    asked = ASKED | {"temperature": temperature, "extra_body": extra}
    choice: Any = client.chat.completions.create(**asked).choices[0]
    assert tokens_before_the_end(client, choice.token_ids) == budget
    assert budget or choice.message.reasoning is None
    assert budget < 20 or choice.message.reasoning
    assert choice.message.content
    assert "think>" not in choice.message.content
    pieces = [
        each.choices[0].delta for each in client.chat.completions.create(**asked, stream=True)
    ]
    reasoning = "".join(getattr(each, "reasoning", None) or "" for each in pieces)
    assert reasoning == (choice.message.reasoning or "")
    assert "".join(each.content or "" for each in pieces) == choice.message.content


def test_the_servers_bound_and_none(client: openai.OpenAI) -> None:
    extra: dict[str, Any] = {"return_token_ids": True}
    choice: Any = client.chat.completions.create(**ASKED, extra_body=extra).choices[0]
    assert tokens_before_the_end(client, choice.token_ids) == 9
    free: Any = client.chat.completions.create(
        **ASKED | {"max_tokens": 12}, extra_body=extra | {"thinking_token_budget": -1}
    ).choices[0]
    assert free.token_ids[:9] == choice.token_ids[:9]
    assert free.token_ids[9:12] != choice.token_ids[9:12]


def test_what_must_match_comes_after_the_reasoning(client: openai.OpenAI) -> None:
    named = {"name": "answer", "schema": SCHEMA}
    form: Any = {"type": "json_schema", "json_schema": named}
    extra = {"thinking_token_budget": 5, "return_token_ids": True}
    answer: Any = client.chat.completions.create(**ASKED, response_format=form, extra_body=extra)
    assert answer.system_fingerprint.startswith("fp_")
    choice = answer.choices[0]
    assert 5 <= tokens_before_the_end(client, choice.token_ids) <= 8
    assert set(json.loads(choice.message.content)) == {"legs"}


def test_many_at_once_are_answered_as_alone(client: openai.OpenAI) -> None:
    def ask(number: int) -> list[int]:
        budget = (0, 3, 11, -1)[number % 4]
        answer: Any = client.chat.completions.create(
            **ASKED | {"seed": number, "max_tokens": 30},
            extra_body={"thinking_token_budget": budget, "return_token_ids": True},
        )
        found: list[int] = answer.choices[0].token_ids
        return found

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone
