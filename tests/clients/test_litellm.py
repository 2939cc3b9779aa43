"""LiteLLM, by the providers that can be given an address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from tests.clients.features import QUESTION, REAL, Place, library, shows
from tests.clients.test_openai import OTHER_TOOL, RESPONSES_TOOL, TOOL, WEATHER, checked
from tests.server.serving import MODEL

litellm = library("litellm")

pytestmark = REAL


def asked(v1: str, provider: str = "openai", most: int = 12) -> dict[str, Any]:
    return {
        "model": f"{provider}/{MODEL}",
        "messages": QUESTION,
        "api_base": v1,
        "api_key": "none",
        "temperature": 0,
        "max_tokens": most,
        "num_retries": 0,
    }


@shows("chat")
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "custom_openai"])
def test_completion(v1: str, provider: str) -> None:
    """`completion` as openai, hosted_vllm and custom_openai."""
    answer = litellm.completion(**asked(v1, provider))
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


@shows("chat")
def test_text_completion(v1: str) -> None:
    """`text_completion`."""
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}",
        prompt="The capital",
        api_base=v1,
        api_key="none",
        max_tokens=3,
    )
    assert answer.choices[0].text


@shows("stream")
def test_stream(v1: str, run: Callable[..., Any]) -> None:
    """Streams, synchronous and asynchronous."""
    whole = litellm.completion(**asked(v1)).choices[0].message.content
    chunks = litellm.completion(**asked(v1), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole

    async def read() -> str:
        stream = await litellm.acompletion(**asked(v1), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert run(read()) == whole


@shows("tools")
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_tools(v1: str, provider: str) -> None:
    """`tools` with a required and an automatic choice, and results as the next messages."""
    given = asked(v1, provider, 150) | {"tools": [TOOL, OTHER_TOOL]}
    first = litellm.completion(**given, tool_choice="required").choices[0].message
    assert first.tool_calls
    for call in first.tool_calls:
        checked(call.function)
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."} for call in first.tool_calls
    ]
    history = {"messages": [*QUESTION, first.model_dump(), *results]}
    answer = litellm.completion(**given | history, tool_choice="auto").choices[0].message
    assert answer.content or answer.tool_calls


@shows("tools", "stream")
def test_calls_as_a_stream(v1: str) -> None:
    """Calls as a stream, put together by `stream_chunk_builder`."""
    given = asked(v1, most=150) | {"tools": [TOOL], "tool_choice": "required"}
    whole = litellm.completion(**given).choices[0].message.tool_calls
    chunks = list(litellm.completion(**given, stream=True))
    built = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert [c.function.arguments for c in built] == [c.function.arguments for c in whole]


@shows("structured output")
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_response_format(v1: str, empty_object: dict[str, Any], provider: str) -> None:
    """`response_format` as a pydantic model, a JSON Schema and json_object."""
    given = asked(v1, provider, 150)
    answer = litellm.completion(**given, response_format=Place).choices[0].message
    Place.model_validate_json(answer.content)
    named = {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": WEATHER}}
    answer = litellm.completion(**given, response_format=named).choices[0].message
    jsonschema.validate(json.loads(answer.content), WEATHER)
    answer = litellm.completion(
        **given, response_format={"type": "json_object"}, extra_body=empty_object
    ).choices[0]
    assert json.loads(answer.message.content) == {}


def responding(v1: str, most: int = 12) -> dict[str, Any]:
    return {
        "model": f"openai/{MODEL}",
        "input": "The weather in Paris?",
        "api_base": v1,
        "api_key": "none",
        "temperature": 0,
        "max_output_tokens": most,
    }


@shows("responses")
def test_responses(v1: str) -> None:
    """`responses`, whole and as a stream."""
    answer = litellm.responses(**responding(v1))
    (item,) = answer.output
    types = [str(event.type) for event in litellm.responses(**responding(v1), stream=True)]
    assert item.content[0].text
    assert any(each.endswith("output_text.delta") or "DELTA" in each for each in types)


@shows("responses", "tools")
def test_responses_with_tools(v1: str) -> None:
    """`responses` with functions."""
    answer = litellm.responses(
        **responding(v1, 150), tools=[RESPONSES_TOOL], tool_choice="required"
    )
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls
    for call in calls:
        checked(call)


@shows("messages")
def test_anthropic_provider(url: str) -> None:
    """The provider anthropic, whole and as a stream."""
    given = asked(url, "anthropic")
    whole = litellm.completion(**given).choices[0].message.content
    assert whole
    chunks = litellm.completion(**given, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


@shows("messages", "tools")
def test_anthropic_provider_with_tools(url: str) -> None:
    """The provider anthropic with tools."""
    given = asked(url, "anthropic", 150) | {"tools": [TOOL], "tool_choice": "required"}
    calls = litellm.completion(**given).choices[0].message.tool_calls
    assert calls
    for call in calls:
        checked(call.function)


@shows("messages")
def test_messages(url: str, run: Callable[..., Any]) -> None:
    """`anthropic.messages.acreate`."""
    asking = litellm.anthropic.messages.acreate(
        model=f"anthropic/{MODEL}",
        messages=QUESTION,
        max_tokens=12,
        api_base=url,
        api_key="none",
    )
    answer = run(asking)
    assert answer["content"][0]["text"]


@shows("embeddings", refused="there is no endpoint for them; serve an embedding model elsewhere")
def test_embeddings_are_refused(v1: str) -> None:
    """`embedding`."""
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(model=f"openai/{MODEL}", input=["x"], api_base=v1, api_key="none")
