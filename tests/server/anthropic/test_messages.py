"""`/v1/messages`, asked by the official client."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server.anthropic.conftest import (
    ASKED,
    HELLO,
    check_event,
    check_known,
    events_of,
)
from tests.server.conftest import MODEL, Running
from tests.server.openai.test_tools import template


def prompt(server: Running) -> str:
    """The last one that the engine was given."""
    return "".join(map(chr, server.llm.asked[-1][0]))


def test_an_answer_is_a_message(claude: Any) -> None:
    answer = claude.messages.create(model=MODEL, messages=HELLO, max_tokens=3)
    check_known(answer)
    assert answer.id.startswith("msg_")
    assert (answer.role, answer.type, answer.model) == ("assistant", "message", MODEL)
    assert [(block.type, block.text) for block in answer.content] == [("text", "abc")]
    assert (answer.stop_reason, answer.stop_sequence) == ("max_tokens", None)
    usage = answer.usage
    # The two that came from the cache are counted apart.
    assert usage.input_tokens + usage.cache_read_input_tokens == len("user:hi;assistant:")
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (2, 0)
    assert (usage.output_tokens, usage.service_tier) == (3, "standard")


def test_a_stream_has_every_event_in_its_place(http: httpx.Client) -> None:
    events = events_of(http, ASKED)
    for event in events:
        check_event(event)
    assert [event["type"] for event in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, last = events[0]["message"], events[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == (
        [],
        None,
        0,
    )
    assert start["usage"]["cache_read_input_tokens"] == 2
    assert last["delta"]["stop_reason"] == "max_tokens"
    assert last["usage"]["output_tokens"] == 3


def test_a_stream_adds_up_to_the_whole_answer(claude: Any) -> None:
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 9, "stop_sequences": ["g", "ef"]}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "abcd"
        streamed = stream.get_final_message()
    left_out = {"id", "content"}
    assert streamed.model_dump(exclude=left_out) == whole.model_dump(exclude=left_out)
    assert [block.text for block in streamed.content] == [block.text for block in whole.content]


def test_a_stop_sequence_is_named(claude: Any) -> None:
    answer = claude.messages.create(
        model=MODEL, messages=HELLO, max_tokens=9, stop_sequences=["zz", "d"]
    )
    assert (answer.content[0].text, answer.stop_reason) == ("abc", "stop_sequence")
    assert answer.stop_sequence == "d"


def test_the_conversation_reaches_the_template(server: Running, claude: Any) -> None:
    claude.messages.create(
        model=MODEL,
        max_tokens=1,
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc=1"},
            {"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}},
        ],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": []},
            {"role": "system", "content": "short"},
            {"role": "user", "content": [{"type": "text", "text": "c"}]},
        ],
        cache_control={"type": "ephemeral"},
    )
    assert prompt(server) == ("system:be;user:a\nb;assistant:;system:short;user:c;assistant:")


def test_results_of_tools_are_messages_of_their_own(server: Running, claude: Any) -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "1", "content": "hot"},
        {"type": "tool_result", "tool_use_id": "2", "is_error": True, "content": "off"},
        {"type": "tool_result", "tool_use_id": "3"},
        {"type": "text", "text": "so?"},
    ]
    claude.messages.create(
        model=MODEL, max_tokens=1, messages=[*HELLO, {"role": "user", "content": results}]
    )
    assert prompt(server) == "user:hi;tool:hot;tool:Error: off;tool:;user:so?;assistant:"


def test_a_last_assistant_message_is_continued(server: Running, claude: Any) -> None:
    begun = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "Well, "}]}]
    answer = claude.messages.create(model=MODEL, messages=begun, max_tokens=2)
    assert answer.content[0].text == "ab", "what was there before is not said again"
    assert prompt(server) == "user:hi;assistant:Well, "


@pytest.mark.parametrize(
    "messages",
    [
        HELLO,
        [*HELLO, {"role": "assistant", "content": "Well, "}],
        [*HELLO, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}],
    ],
)
def test_tokens_are_counted_as_they_are_read(claude: Any, messages: Any) -> None:
    asked = {"model": MODEL, "messages": messages, "system": "be"}
    count = claude.messages.count_tokens(**asked)
    check_known(count)
    usage = claude.messages.create(max_tokens=1, **asked).usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_more_than_fits_is_counted(server: Running, http: httpx.Client) -> None:
    long = "x" * 3000
    body = {"messages": [{"role": "user", "content": long}]}
    assert len(long) > server.llm.max_model_len
    answer = http.post("/v1/messages/count_tokens", json=body)
    assert answer.json() == {"input_tokens": len(f"user:{long};assistant:")}


def test_thinking_is_told_to_templates_that_read_it(server: Running, http: httpx.Client) -> None:
    """This one reads no `enable_thinking`: nothing is told, and nothing is refused."""
    for thinking in ({"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}):
        assert http.post("/v1/messages", json=ASKED | {"thinking": thinking}).status_code == 200
        assert prompt(server) == "user:hi;assistant:"
    given = ASKED | {"chat_template_kwargs": {"thinking": True}}
    assert http.post("/v1/messages", json=given).status_code == 200
    assert prompt(server) == "user:hi;[thinking=True]assistant:"


def test_thinking_is_bounded_where_the_model_is_known_to_think(
    server: Running, http: httpx.Client
) -> None:
    source = (
        "{% for m in messages %}{{ m.content }};{% endfor %}"
        "{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}"
    )

    def bound(source: str, thinking: dict[str, Any]) -> int | None:
        server.engine.submitted.clear()
        with template(server, source, reasoning_parser="qwen3"):
            answer = http.post("/v1/messages", json=ASKED | {"thinking": thinking})
        assert answer.status_code == 200, answer.text
        found = server.engine.submitted[0].sampling.thinking_token_budget
        return None if found is None else found.tokens

    enabled = {"type": "enabled", "budget_tokens": 2000}
    assert bound(source, enabled) == 2000
    assert bound(source, {"type": "adaptive"}) is None
    assert bound(source, {"type": "disabled"}) is None
    assert prompt(server).endswith("[False]")
    without = source.partition("{% if")[0]
    assert bound(without, {"type": "disabled"}) == 0
    answer = http.post("/v1/messages", json=ASKED | {"thinking": enabled | {"budget_tokens": 0}})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("thinking.budget_tokens")


def test_headers_of_versions_are_not_looked_at(http: httpx.Client) -> None:
    for headers in ({}, {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"}):
        answer = http.post("/v1/messages", json=ASKED, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
