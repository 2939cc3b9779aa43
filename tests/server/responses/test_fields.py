"""Every field of a response's body makes a difference to what is generated, or is told as harmless.

What a response repeats of its request does not count as a difference.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.server.responses.schema import ResponseSamplingFields, ResponsesBody
from tests.server.conftest import Running
from tests.server.responses.checking import events_of

BASE = {"input": "x", "max_output_tokens": 3}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CHANGING: dict[str, Any] = {
    "model": "other",
    "temperature": 0,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.5,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "repetition_penalty": 1.5,
    "logit_bias": {"97": 1},
    "seed": 3,
    "stop": "b",
    "stop_token_ids": [98],
    "allowed_token_ids": [97],
    "include_stop_str_in_output": True,
    "ignore_eos": True,
    "skip_special_tokens": False,
    "min_tokens": 1,
    "structured_outputs": {"choice": ["a", "b"]},
    "chat_template_kwargs": {"thinking": True},
    "priority": 1,
    "cache_salt": "s",
    "slo": {"ttft_ms": 50},
    "stream": True,
    "user": "u",
    "input": "y",
    "instructions": "be",
    "previous_response_id": "resp_unknown",
    "background": True,
    "max_output_tokens": 2,
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 1,
    "truncation": "auto",
    "service_tier": "priority",
}
EXTRA: dict[str, dict[str, Any]] = {
    "include_stop_str_in_output": {"stop": "b"},
    "truncation": {"input": "x" * 1100},
}
HARMLESS: dict[str, Any] = {
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content", "file_search_call.results"],
    "max_tool_calls": 3,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit"},
    "safety_identifier": "s",
    "stream_options": {"include_obfuscation": True},
    "parallel_tool_calls": True,
    "text": {"verbosity": "high"},
    "reasoning": {"summary": "auto"},
    "tool_choice": "auto",
    "tools": [],
    "truncation": "disabled",
    "store": True,
}
OTHERS = {
    "store": "tests of the store",
    "tools": "tests of the translation",
    "tool_choice": "tests of the translation",
    "parallel_tool_calls": "tests of the translation",
    "reasoning": "tests of the translation",
}
"""Fields whose difference is seen elsewhere."""
ONLY_NULL = {
    *("prompt", "conversation", "context_management", "moderation", "access_programs"),
    *("background_options", "image"),
}


def observe(server: Running, body: dict[str, Any]) -> object:
    """What is generated for a body, and with what result."""
    server.engine.submitted.clear()
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post("/v1/responses", json=body)
    server.until_idle()
    requests = [
        replace(
            each,
            id="",
            caller="" if "user" not in body else each.caller,
            group="",
            arrival=0.0,
            sampling=replace(each.sampling, seed=each.sampling.seed if "seed" in body else 0),
        )
        for each in server.engine.submitted
    ]
    asked = [params for _, params, _, _ in server.llm.asked]
    return answer.status_code, result(answer.text), requests, asked


def result(text: str) -> object:
    if text.startswith("event"):
        return [event["type"] for event in events_of(text)]
    answer = json.loads(text)
    for item in answer.get("output", ()):
        del item["id"]
    return answer.get("error"), answer.get("status"), answer.get("output")


@pytest.mark.parametrize("name", CHANGING)
def test_a_field_makes_a_difference(server: Running, name: str) -> None:
    base = BASE | EXTRA.get(name, {})
    before = observe(server, base)
    assert observe(server, base) == before, "only the field makes a difference"
    assert observe(server, base | {name: CHANGING[name]}) != before


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_field_makes_none(server: Running, name: str) -> None:
    before = observe(server, BASE)
    assert observe(server, BASE | {name: HARMLESS[name]}) == before
    assert observe(server, BASE | {name: None}) == before


@pytest.mark.parametrize("name", sorted(ONLY_NULL))
def test_what_is_not_supported_may_be_null(server: Running, name: str) -> None:
    assert observe(server, BASE | {name: None}) == observe(server, BASE)
    with server.http() as http:
        refused = http.post("/v1/responses", json=BASE | {name: {"id": "x"}})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, name)
    assert "not supported" in error["message"]


def test_no_field_is_left_out() -> None:
    fields = set(ResponsesBody.__struct_fields__)
    assert fields == set(CHANGING) | set(HARMLESS) | set(OTHERS) | ONLY_NULL
    assert set(ResponseSamplingFields.__struct_fields__) <= set(CHANGING) | set(OTHERS)


def test_the_document_names_what_does_nothing() -> None:
    text = (Path(__file__).parents[3] / "docs" / "responses.md").read_text()
    unlike = {"parallel_tool_calls", "tool_choice", "tools"}
    named = set(re.findall(r"`([\w.:= ]+)`", text))
    words = {word for name in named for word in re.split(r"[.: ]", name)}
    assert ONLY_NULL | (set(HARMLESS) - unlike) <= words
