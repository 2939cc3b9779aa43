"""Streams of `/v1/responses`: the events, their order, and how they end."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from headway.llm import MessageReader
from headway.server.openai.conversation import Conversation
from headway.types import TokenEvent
from tests.server.conftest import MODEL, Running
from tests.server.responses.checking import Lettered, checked, streamed

SHORT = {"input": "hi", "max_output_tokens": 2}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_the_events_of_a_message(http: httpx.Client) -> None:
    events = streamed(http, SHORT)
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "incomplete"),
    ]
    begun, ended = events[0]["response"], events[-1]["response"]
    assert checked(begun)["status"] == "in_progress"
    assert (begun["output"], begun["usage"]) == ([], None)
    changing = ("status", "output", "usage", "incomplete_details", "completed_at")
    assert {k: v for k, v in begun.items() if k not in changing} == {
        k: v for k, v in ended.items() if k not in changing
    }
    assert ended["output"][0]["content"][0]["text"] == "ab"


def test_the_events_of_reasoning_and_calls(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    events = streamed(http, {"input": "hi", "stop": "h"})
    reasoning = ("reasoning_text.delta", "reasoning_text.done")
    arguments = ("function_call_arguments.delta", "function_call_arguments.done")
    assert kinds(events) == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", *reasoning, "content_part.done"),
        *("output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "output_item.added", arguments[0], *arguments),
        *("output_item.done", "output_item.added", *arguments, "output_item.done"),
        "completed",
    ]
    usage = events[-1]["response"]["usage"]
    assert usage["output_tokens_details"]["reasoning_tokens"] == 2


def test_a_stream_says_what_the_whole_answer_says(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    for length in range(1, 12):
        body: dict[str, Any] = {"input": "hi", "max_output_tokens": length}
        whole = http.post("/v1/responses", json=body).json()
        ended = streamed(http, body)[-1]["response"]
        for response in (whole, ended):
            for item in response["output"]:
                del item["id"]
        different = {name for name in whole if whole[name] != ended[name]}
        assert different <= {"id", "created_at"}


def test_the_official_client_adds_events_up(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    with client.responses.stream(model=MODEL, input="hi", extra_body={"stop": "h"}) as stream:
        texts = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert texts == ["c", "cd"]
    assert final.output_text == "cd"
    assert [item.type for item in final.output] == [
        *("reasoning", "message", "function_call", "function_call")
    ]


def test_a_stream_that_breaks_off_has_failed(server: Running, http: httpx.Client) -> None:
    fault = TokenEvent(id="", tokens=(), finish="error", error="it broke")
    server.call(lambda: setattr(server.engine, "fault", (2, fault)))
    try:
        events = streamed(http, SHORT | {"max_output_tokens": 5})
    finally:
        server.call(lambda: setattr(server.engine, "fault", None))
    assert kinds(events)[-2:] == ["output_item.done", "failed"]
    failed = checked(events[-1]["response"])
    assert failed["error"] == {"code": "server_error", "message": "it broke"}
    assert failed["output"][0]["status"] == "incomplete"
    assert http.get(f"/v1/responses/{failed['id']}").json() == failed
    more = {"input": "x", "previous_response_id": failed["id"]}
    error = http.post("/v1/responses", json=more).json()["error"]
    assert "is failed" in error["message"]


def test_a_client_that_leaves_keeps_nothing(server: Running) -> None:
    server.hold()
    with server.http() as http:
        body = {"input": "hi", "stream": True}
        request = http.build_request("POST", "/v1/responses", json=body, timeout=0.2)
        with pytest.raises(httpx.ReadTimeout):
            http.send(request)
    server.until(lambda: not server.state.requests)
    server.go_on()
