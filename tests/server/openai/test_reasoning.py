"""Reasoning over HTTP: what is told from the answer, and what reaches the chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import Running
from tests.server.openai.test_tools import (
    CALL,
    CHAT,
    HELLO,
    WEATHER,
    grammar,
    prompt,
    saying,
    template,
)

SOURCE = (
    "{% for m in messages %}{{ m.role }}:{{ m.reasoning_content or m.reasoning }}"
    "{{ m.content }};{% endfor %}"
)
EFFORT = SOURCE + "[{{ reasoning_effort }}]"
SWITCH = SOURCE + "{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}"
ANSWER = "<think>\nHm, well.\n</think>\n\nYes."


@pytest.fixture
def reasoning(server: Running) -> Iterator[Running]:
    with template(server, SOURCE, reasoning_parser="qwen3"), saying(server, ANSWER):
        yield server


def whole(server: Running, **body: Any) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post(CHAT, json={"messages": HELLO} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["choices"][0]["message"]
    return found


def deltas(server: Running, **body: Any) -> list[dict[str, Any]]:
    with server.http() as http:
        events = http.post(CHAT, json={"messages": HELLO, "stream": True} | body).text
    return [json.loads(each[6:])["choices"][0]["delta"] for each in events.split("\n\n")[:-2]]


def test_reasoning_is_told_from_content(reasoning: Running) -> None:
    message = whole(reasoning)
    assert message["content"] == "Yes."
    assert message["reasoning"] == message["reasoning_content"] == "Hm, well."
    pieces = deltas(reasoning)
    for name in ("reasoning", "reasoning_content"):
        assert "".join(each.get(name, "") for each in pieces) == "Hm, well."
    assert "".join(each.get("content", "") for each in pieces) == "Yes."
    assert len(pieces) > 8, "reasoning comes as it is generated"


def test_reasoning_is_left_out(reasoning: Running) -> None:
    message = whole(reasoning, include_reasoning=False)
    assert message["reasoning"] is None
    assert "reasoning_content" not in message
    assert message["content"] == "Yes."
    pieces = deltas(reasoning, include_reasoning=False)
    assert all(set(each) <= {"role", "content"} for each in pieces)
    assert "".join(each.get("content", "") for each in pieces) == "Yes."


def test_a_prompt_that_opens_the_reasoning(server: Running) -> None:
    source = SOURCE + "<think>\n"
    with (
        template(server, source, reasoning_parser="qwen3"),
        saying(server, ANSWER.removeprefix("<think>\n")),
    ):
        message = whole(server)
    assert (message["reasoning"], message["content"]) == ("Hm, well.", "Yes.")


def test_calls_follow_reasoning(server: Running) -> None:
    with (
        template(server, SOURCE, reasoning_parser="deepseek_r1"),
        saying(server, f"It rains.</think>{CALL}"),
    ):
        server.llm.asked.clear()
        message = whole(server, tools=[WEATHER], tool_choice="required")
        assert "</think>" in (grammar(server) or "")
    assert message["reasoning"] == "It rains."
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "weather"


def test_a_format_begins_after_the_reasoning(server: Running) -> None:
    with template(server, SOURCE, reasoning_parser="qwen3"):
        prompt(server, response_format={"type": "json_object"})
        assert "think" in (grammar(server) or "")
        prompt(server, structured_outputs={"regex": "a"})
        assert grammar(server) == "a"
    prompt(server, response_format={"type": "json_object"})
    assert "think" not in (grammar(server) or "think")


def test_without_a_parser_all_is_content(server: Running) -> None:
    with saying(server, ANSWER):
        message = whole(server)
    assert message["content"] == ANSWER
    assert message["reasoning"] is None


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_of_the_history(server: Running, name: str) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "b", name: "hm "}]
    with template(server, SOURCE):
        assert prompt(server, messages=messages).endswith("assistant:hm b;")


def test_reasoning_effort_reaches_the_template(server: Running) -> None:
    with template(server, EFFORT, reasoning_parser="qwen3"):
        for effort in ("none", "high"):
            assert prompt(server, reasoning_effort=effort).endswith(f"[{effort}]")
        given = {"reasoning_effort": "own"}
        both = prompt(server, reasoning_effort="low", chat_template_kwargs=given)
        assert both.endswith("[own]")
    with template(server, SWITCH):
        assert prompt(server, reasoning_effort="none").endswith("[False]")
        assert prompt(server, reasoning_effort="low").endswith("[True]")
        assert prompt(server).endswith(";")


def test_a_model_that_cannot_stop_reasoning_is_not_told_to(server: Running) -> None:
    with template(server, SOURCE, reasoning_parser="qwen3"), server.http() as http:
        body = {"messages": HELLO, "max_tokens": 1, "reasoning_effort": "none"}
        answer = http.post(CHAT, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "reasoning_effort"
        assert http.post(CHAT, json=body | {"reasoning_effort": "low"}).status_code == 200
    prompt(server, reasoning_effort="none")
