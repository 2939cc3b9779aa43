"""Anthropic's official client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from tests.clients.features import QUESTION, REAL, library, shows
from tests.clients.test_openai import WEATHER
from tests.server.serving import MODEL

anthropic = library("anthropic")

pytestmark = REAL

TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather.",
    "input_schema": WEATHER,
}
GREEDY = {"temperature": 0}  # a field that the API has, and the library no longer
SHORT: dict[str, Any] = {
    "model": MODEL,
    "messages": QUESTION,
    "max_tokens": 12,
    "extra_body": GREEDY,
}
CALLING: dict[str, Any] = SHORT | {"tools": [TOOL], "max_tokens": 150}


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@shows("messages")
def test_messages(client: Any) -> None:
    """`messages.create` with a system prompt, blocks of content and `stop_sequences`."""
    answer = client.messages.create(**SHORT, system="Be short.", stop_sequences=["\n\n"])
    assert answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens", "stop_sequence")
    assert answer.usage.output_tokens > 0
    history = [
        *QUESTION,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [{"type": "text", "text": "And why?"}]},
    ]
    assert client.messages.create(**SHORT | {"messages": history}).content


@shows("messages")
def test_count_tokens_and_errors(client: Any) -> None:
    """`messages.count_tokens`, and errors as exceptions of the library's own."""
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
    usage = client.messages.create(**SHORT).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**SHORT | {"model": "no-such-model"})
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**SHORT | {"extra_body": {"temperature": -1}})


@shows("messages", "stream")
def test_streams(client: Any) -> None:
    """Streams of events, and the `stream` helper."""
    whole = client.messages.create(**SHORT).content[0].text
    events = list(client.messages.create(**SHORT, stream=True))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    with client.messages.stream(**SHORT) as stream:
        assert "".join(stream.text_stream) == whole


@shows("messages")
def test_the_asynchronous_client(url: str, run: Callable[..., Any]) -> None:
    """`AsyncAnthropic`."""

    async def ask() -> Any:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
            return await client.messages.create(**SHORT)

    assert run(ask()).content[0].text


@shows("messages", "tools")
@pytest.mark.parametrize("kind", ["any", "tool", "auto", "none"])
def test_tools(client: Any, kind: str) -> None:
    """`tool_choice` any, tool, auto and none, and results as the next message."""
    choice: dict[str, Any] = {"type": kind}
    if kind == "tool":
        choice["name"] = "get_weather"
    if kind == "any":
        choice["disable_parallel_tool_use"] = True  # or a small model may call on and on
    answer = client.messages.create(**CALLING, tool_choice=choice)
    calls = [block for block in answer.content if block.type == "tool_use"]
    if kind == "none":
        assert not calls
    if kind in ("auto", "none"):
        assert answer.content
        return
    assert answer.stop_reason == "tool_use"
    for call in calls:
        jsonschema.validate(call.input, WEATHER)
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": "Rain."} for call in calls
    ]
    history = [
        *QUESTION,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": results},
    ]
    last = client.messages.create(
        **CALLING | {"messages": history, "tool_choice": {"type": "none"}}
    )
    assert last.content[0].text


@shows("messages", "tools", "stream")
def test_tools_as_a_stream(client: Any) -> None:
    """Arguments of calls as they come."""
    asked = CALLING | {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    with client.messages.stream(**asked) as stream:
        (call,) = [
            block for block in stream.get_final_message().content if block.type == "tool_use"
        ]
    jsonschema.validate(call.input, WEATHER)
