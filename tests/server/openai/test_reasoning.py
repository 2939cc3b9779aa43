"""Reasoning over HTTP: what is told from the answer, and what reaches the chat template."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from headway.server.run import run_server
from headway.types.thinking import ThinkingBudget
from tests.server.conftest import Running, serving
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


def budget(server: Running, path: Any = CHAT, **body: Any) -> ThinkingBudget | None:
    """What bounds the reasoning of an answer to this."""
    server.engine.submitted.clear()
    asked = {"messages": HELLO} if path == CHAT else {}
    with server.http() as http:
        answer = http.post(path, json=asked | {"max_tokens": 1} | body)
    assert answer.status_code == 200, answer.text
    return server.engine.submitted[0].sampling.thinking_token_budget


def refusal(server: Running, **body: Any) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post(CHAT, json={"messages": HELLO, "max_tokens": 1} | body)
    assert answer.status_code == 400, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


@pytest.mark.parametrize(
    "name", ["thinking_token_budget", "thinking_budget_tokens", "reasoning_budget_tokens"]
)
def test_a_bound_reaches_the_engine_under_each_name(server: Running, name: str) -> None:
    with template(server, SOURCE, reasoning_parser="qwen3"):
        assert budget(server, **{name: 5}) == ThinkingBudget(
            tokens=5,
            opening="<think>",
            closing="</think>",
            closing_tokens=tuple(map(ord, "</think>")),
        )
        assert budget(server, **{name: -1}) is None
        assert budget(server) is None
        assert refusal(server, **{name: -2})["param"] == name
        assert refusal(server, **{name: 5, "use_beam_search": True})["param"] == name
    error = refusal(server, **{name: 5})
    assert error["param"] == name
    assert "--reasoning-parser" in error["message"]


def test_a_bound_counts_from_where_the_prompt_opened_the_reasoning(server: Running) -> None:
    for source, parser, inside in (
        (SOURCE + "<think>\n", "qwen3", True),
        (SOURCE + "<think>\n\n</think>\n\n", "qwen3", False),
        (SOURCE, "deepseek_r1", True),
    ):
        with template(server, source, reasoning_parser=parser):
            found = budget(server, thinking_token_budget=3)
        assert found is not None
        assert found.inside == inside, source


def test_a_bound_of_completions(server: Running) -> None:
    path = "/v1/completions"
    with template(server, SOURCE, reasoning_parser="qwen3"):
        found = budget(server, path, prompt="Hm? <think>", thinking_token_budget=3)
        assert found is not None
        assert (found.tokens, found.inside) == (3, True)


def test_bounds_that_differ_are_refused(server: Running) -> None:
    with template(server, SOURCE, reasoning_parser="qwen3"):
        same = {"thinking_token_budget": 5, "thinking_budget_tokens": 5}
        found = budget(server, **same)
        assert found is not None
        error = refusal(server, **same | {"reasoning_budget_tokens": 6})
        assert error["param"] == "reasoning_budget_tokens"


@pytest.mark.parametrize("off", [{"reasoning_effort": "none"}, {"enable_thinking": False}])
def test_no_reasoning_is_the_templates_switch_or_an_end_at_once(
    server: Running, off: dict[str, Any]
) -> None:
    with template(server, SOURCE, reasoning_parser="qwen3"):
        found = budget(server, **off)
        assert found is not None
        assert found.tokens == 0
        found = budget(server, **off, thinking_token_budget=4)
        assert found is not None
        assert found.tokens == 4, "the number is what is asked most exactly"
    with template(server, SWITCH, reasoning_parser="qwen3"):
        assert budget(server, **off) is None
        assert prompt(server, **off).endswith("[False]")
    assert budget(server, **off) is None, "nothing is known of any reasoning"


def test_thinking_is_switched_by_name(server: Running) -> None:
    with template(server, SWITCH, reasoning_parser="qwen3"):
        assert prompt(server, enable_thinking=True).endswith("[True]")
        assert prompt(server, enable_thinking=False, reasoning_effort="low").endswith("[False]")
        own = {"enable_thinking": 7}
        assert prompt(server, enable_thinking=True, chat_template_kwargs=own).endswith("[7]")
    error = refusal(server, enable_thinking=True, reasoning_effort="none")
    assert error["param"] == "enable_thinking"


def test_the_servers_bound_is_for_those_that_say_nothing() -> None:
    config = ServerConfig(port=0, reasoning_parser="qwen3", reasoning_budget=9)
    with serving(config=config) as server, template(server, SOURCE, reasoning_parser="qwen3"):
        for body, expected in (
            ({}, 9),
            ({"thinking_token_budget": 4}, 4),
            ({"thinking_token_budget": -1}, None),
            ({"reasoning_effort": "none"}, 0),
            ({"use_beam_search": True}, None),
        ):
            found = budget(server, **body)
            assert (None if found is None else found.tokens) == expected
        assert budget(server, "/v1/completions", prompt="x") is None


def test_a_bound_needs_to_be_told_where_reasoning_ends() -> None:
    with pytest.raises(InvalidRequest, match="needs reasoning_parser") as caught:
        asyncio.run(run_server(EngineConfig(), ServerConfig(reasoning_budget=0)))
    assert caught.value.field == "reasoning_budget"
