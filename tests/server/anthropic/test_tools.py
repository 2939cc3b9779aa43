"""Tools in Anthropic's form, with a model that says what the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.server.anthropic.conftest import check_event, check_known, events_of
from tests.server.anthropic.test_blocks import added_up
from tests.server.conftest import MODEL, Running

HELLO: Any = [{"role": "user", "content": "hi"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "weather", "description": "Of a city.", "input_schema": CITY}
CALLS = "".join(
    f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
    for city in ("Bern", "Paris")
)
ASKED: Any = {"model": MODEL, "messages": HELLO, "tools": [WEATHER], "max_tokens": 300}


@contextmanager
def saying(server: Running, answer: str) -> Iterator[None]:
    server.engine.answer = answer
    try:
        yield
    finally:
        server.engine.answer = ""


def prompt(server: Running) -> str:
    return "".join(map(chr, server.llm.asked[-1][0]))


def test_calls_are_blocks(server: Running, claude: Any) -> None:
    with saying(server, "Look: " + CALLS):
        answer = claude.messages.create(**ASKED)
    check_known(answer)
    text, bern, paris = answer.content
    assert text.text.strip() == "Look:"
    assert [(each.type, each.name) for each in (bern, paris)] == [("tool_use", "weather")] * 2
    assert (bern.input, paris.input) == ({"city": "Bern"}, {"city": "Paris"})
    assert len({bern.id, paris.id}) == 2
    assert answer.stop_reason == "tool_use"


def test_streamed_calls_are_the_whole_ones(
    server: Running, claude: Any, http: httpx.Client
) -> None:
    with saying(server, "Look: " + CALLS):
        whole = claude.messages.create(**ASKED).content
        events = events_of(http, ASKED)
        with claude.messages.stream(**ASKED) as stream:
            final = stream.get_final_message()
    for event in events:
        check_event(event)
    blocks = added_up([each for each in events if each["type"].startswith("content_block")])
    assert [block["type"] for block in blocks] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in blocks[1:]] == [{"city": "Bern"}, {"city": "Paris"}]
    assert sum(each.get("delta", {}).get("type") == "input_json_delta" for each in events) > 2
    left_out = {"id"}
    assert [each.model_dump(exclude=left_out | {"parsed_output"}) for each in final.content] == [
        each.model_dump(exclude=left_out) for each in whole
    ]
    assert final.stop_reason == "tool_use"


def test_a_call_that_is_cut_off_has_what_is_complete(server: Running, claude: Any) -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern", "at": "no'
    with saying(server, call):
        answer = claude.messages.create(**(ASKED | {"max_tokens": len(call)}))
    assert answer.content[-1].input == {"city": "Bern"}
    assert answer.stop_reason == "max_tokens"


@pytest.mark.parametrize("kind", ["any", "tool"])
def test_a_call_may_be_required(server: Running, claude: Any, kind: str) -> None:
    choice = {"type": kind, "disable_parallel_tool_use": True}
    choice |= {"name": "weather"} if kind == "tool" else {}
    with saying(server, CALLS[: len(CALLS) // 2]):
        answer = claude.messages.create(**ASKED, tool_choice=choice)
    assert [block.type for block in answer.content] == ["tool_use"]
    assert answer.stop_reason == "tool_use", "also where the client chose the tool"
    must = server.llm.asked[-1][1].structured_outputs
    assert must is not None


def test_with_none_the_model_hears_of_no_tool(server: Running, claude: Any) -> None:
    claude.messages.create(**(ASKED | {"max_tokens": 1}), tool_choice={"type": "none"})
    assert prompt(server) == "user:hi;assistant:"
    claude.messages.create(**(ASKED | {"max_tokens": 1}))
    assert "weather" in prompt(server)


def test_earlier_calls_and_results_are_read(server: Running, claude: Any) -> None:
    called = {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Bern"}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "snow"}
    turns = [
        *HELLO,
        {"role": "assistant", "content": [called]},
        {"role": "user", "content": [result]},
    ]
    claude.messages.create(**(ASKED | {"messages": turns, "max_tokens": 1}))
    assert '"city": "Bern"' in prompt(server)
    assert "snow" in prompt(server)


def test_tools_are_counted(claude: Any) -> None:
    asked = {"model": MODEL, "messages": HELLO, "tools": [WEATHER]}
    count = claude.messages.count_tokens(**asked).input_tokens
    usage = claude.messages.create(**asked, max_tokens=1).usage
    assert count == usage.input_tokens + usage.cache_read_input_tokens
    without = claude.messages.count_tokens(**asked, tool_choice={"type": "none"}).input_tokens
    assert without < count
