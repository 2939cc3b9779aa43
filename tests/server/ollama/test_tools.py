"""Tools and reasoning in Ollama's form, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import MODEL, Running
from tests.server.openai.test_tools import CALL, HELLO, WEATHER, saying, template

PATH = "/api/chat"
BODY: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": [WEATHER]}
THINKING = (
    "{% for message in messages %}{{ message.content }};{% endfor %}"
    "{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}"
)


def ask(server: Running, **more: Any) -> list[dict[str, Any]]:
    with server.http() as http:
        answer = http.post(PATH, json=BODY | more)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_has_its_arguments_as_data(server: Running, stream: bool) -> None:
    with saying(server, "So: " + CALL):
        replies = ask(server, stream=stream)
    calls = [call for each in replies for call in each["message"].get("tool_calls", ())]
    assert [call["function"] for call in calls] == [
        {"name": "weather", "arguments": {"city": "Bern"}}
    ]
    content = "".join(each["message"]["content"] for each in replies)
    assert content.strip() == "So:"
    assert replies[-1]["done_reason"] == "stop"


def test_calls_of_the_past_and_their_results_reach_the_model(server: Running) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]
    server.llm.asked.clear()
    ask(server, messages=messages, options={"num_predict": 1})
    prompt = "".join(map(chr, server.llm.asked[0][0]))
    assert '"name": "weather"' in prompt
    assert "Bern" in prompt
    assert "rain" in prompt


@pytest.mark.parametrize(
    ("think", "shown"), [(None, ""), (True, "[True]"), (False, "[False]"), ("high", "[True]")]
)
def test_a_template_is_told_whether_to_reason(
    server: Running, think: bool | str | None, shown: str
) -> None:
    server.llm.asked.clear()
    with template(server, THINKING):
        ask(server, think=think, tools=[], options={"num_predict": 1})
    assert "".join(map(chr, server.llm.asked[0][0])) == f"hi;{shown}"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_told_apart(server: Running, stream: bool) -> None:
    with (
        template(server, THINKING, reasoning_parser="qwen3"),
        saying(server, "<think>hm</think>so"),
    ):
        replies = ask(server, think=True, stream=stream)
    thinking = "".join(each["message"].get("thinking", "") for each in replies)
    content = "".join(each["message"]["content"] for each in replies)
    assert (thinking, content) == ("hm", "so")


def test_thinking_that_is_not_wanted_ends_at_once(server: Running) -> None:
    server.engine.submitted.clear()
    with template(server, THINKING.partition("{% if")[0], reasoning_parser="qwen3"):
        ask(server, think=False, options={"num_predict": 1})
    found = server.engine.submitted[0].sampling.thinking_token_budget
    assert found is not None
    assert found.tokens == 0


def test_what_a_model_can_do(server: Running) -> None:
    with server.http() as http:
        shown = http.post("/api/show", json={"model": MODEL}).json()
        assert shown["capabilities"] == ["completion", "tools"]
        with template(server, THINKING):
            shown = http.post("/api/show", json={"model": MODEL}).json()
    assert shown["capabilities"] == ["completion", "tools", "thinking"]


def test_tools_in_a_prompt_of_llama_cpp(server: Running) -> None:
    with server.http() as http:
        answer = http.post("/apply-template", json={"messages": HELLO, "tools": [WEATHER]})
        assert "weather" in answer.json()["prompt"]
        odd = {"messages": HELLO, "tools": [WEATHER, WEATHER]}
        refused = http.post("/apply-template", json=odd)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "tools[1].function.name"
