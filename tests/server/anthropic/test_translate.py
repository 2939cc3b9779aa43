"""Bodies of messages as bodies of chats, and their fields' names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.anthropic.names import AnthropicNames, dotted
from headway.server.anthropic.schema import AnthropicConversation, CountTokensBody, MessagesBody
from headway.server.anthropic.translate import _choice, _tool, translate
from headway.server.anthropic.turns import ChatTurn, chat_turns
from headway.server.openai.schema import ChatBody


def body(**fields: Any) -> MessagesBody:
    hello = [{"role": "user", "content": "hi"}]
    return msgspec.convert({"messages": hello, "max_tokens": 3} | fields, MessagesBody)


def chat(*, reasons: bool = False, **fields: Any) -> ChatBody:
    return translate(body(**fields), reasons=reasons).chat


def test_fields_pass_under_the_names_of_chats() -> None:
    found = chat(
        stop_sequences=["a"],
        temperature=0.5,
        top_p=0.5,
        top_k=5,
        stream=True,
        metadata={"user_id": "u"},
        service_tier="standard_only",
        slo={"ttft_ms": 500},
        cache_salt="s",
        priority=1,
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert (found.max_tokens, found.stop, found.temperature) == (3, ["a"], 0.5)
    assert (found.top_p, found.top_k, found.stream) == (0.5, 5, True)
    assert (found.user, found.service_tier, found.cache_salt, found.priority) == (
        "u",
        "default",
        "s",
        1,
    )
    assert found.slo is not None
    assert found.slo.ttft_ms == 500
    (form,) = [getattr(found.response_format, "json_schema", None)]
    assert form is not None
    assert form.schema == {"type": "object"}


def test_what_is_absent_stays_absent() -> None:
    found = chat(service_tier="auto", metadata={})
    given_fields = {name for name in ChatBody.__struct_fields__ if getattr(found, name) is not None}
    assert given_fields == {"messages", "max_tokens"}


@pytest.mark.parametrize(
    ("thinking", "told", "budget"),
    [
        ({"type": "enabled", "budget_tokens": 7}, True, 7),
        ({"type": "adaptive"}, True, None),
        ({"type": "disabled"}, False, None),
    ],
)
def test_thinking_is_switched_and_bounded(
    thinking: dict[str, Any], told: bool, budget: int | None
) -> None:
    asked = {"thinking": thinking, "output_config": {"effort": "high"}}
    for reasons in (True, False):
        found = chat(reasons=reasons, **asked, chat_template_kwargs={"enable_thinking": 7})
        assert found.enable_thinking is told
        assert found.thinking_token_budget == (budget if reasons else None)
        assert found.chat_template_kwargs == {"enable_thinking": 7}
        assert found.reasoning_effort == "high"


def test_thinking_is_shown_unless_omitted() -> None:
    assert translate(body(), reasons=True).shows_thinking
    for display, shown in (("omitted", False), ("summarized", True), (None, True)):
        asked = body(thinking={"type": "adaptive", "display": display})
        assert translate(asked, reasons=True).shows_thinking == shown


def test_tools_are_functions() -> None:
    tools = body(
        tools=[
            {"name": "f", "input_schema": {"type": "object"}, "cache_control": {}},
            {"name": "g", "input_schema": {}, "description": "d", "strict": True, "type": "custom"},
        ]
    ).tools
    assert tools is not None
    assert [_tool(each) for each in tools] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {
            "type": "function",
            "function": {"name": "g", "parameters": {}, "description": "d", "strict": True},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": False},
            {
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": True,
            },
        ),
    ],
)
def test_choices_have_other_names(choice: dict[str, Any], told: dict[str, Any]) -> None:
    found = body(tool_choice=choice).tool_choice
    assert found is not None
    assert _choice(found) == told


def test_earlier_thinking_and_calls_are_the_assistants() -> None:
    turns = [
        {"type": "redacted_thinking", "data": "?"},
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "2", "name": "g", "input": {}},
    ]
    (found,) = chat_turns(body(messages=[{"role": "assistant", "content": turns}]))
    assert found.message == {
        "role": "assistant",
        "content": "so",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
            {"id": "2", "type": "function", "function": {"name": "g", "arguments": {}}},
        ],
    }
    assert found.calls == ["messages.0.content.3", "messages.0.content.4"]


def test_fields_of_the_chat_have_the_clients_names() -> None:
    names = AnthropicNames(
        [
            ChatTurn(message={}, own="system"),
            ChatTurn(message={}, own="messages.0.content.1", calls=["messages.0.content.2"]),
        ]
    )
    told = {
        "messages[0].content": "system",
        "messages[1].content[0].text": "messages.0.content.1",
        "messages[1].tool_calls": "messages.0.content.2",
        "messages[1].tool_calls[0].function.name": "messages.0.content.2",
        "tools[3].function.name": "tools.3.name",
        "tools[3].function.parameters.properties": "tools.3.input_schema.properties",
        "tools[3]": "tools.3",
        "tool_choice.function.name": "tool_choice.name",
        "stop": "stop_sequences",
        "stop[2]": "stop_sequences.2",
        "user": "metadata.user_id",
        "response_format": "output_config.format",
    }
    assert {name: names.get(name) for name in told} == told
    assert names.get("temperature") is None
    assert dotted("messages[1].content[20].text") == "messages.1.content.20.text"


TEXT = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=3)})
RESULT = st.fixed_dictionaries(
    {"type": st.just("tool_result"), "tool_use_id": st.just("1"), "content": st.text(max_size=3)}
)
CALL = st.just({"type": "tool_use", "id": "1", "name": "f", "input": {}})
USER = st.tuples(st.just("user"), st.text(max_size=3) | st.lists(TEXT | RESULT, max_size=4))
ASSISTANT = st.tuples(st.just("assistant"), st.text(max_size=3) | st.lists(TEXT | CALL, max_size=4))


@given(st.lists(USER | ASSISTANT, min_size=1, max_size=6))
def test_every_block_is_there_once_and_turns_are_joined(
    turns: list[tuple[str, Any]],
) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    asked = msgspec.convert({"messages": messages}, CountTokensBody)
    found = chat_turns(asked)
    sent: list[tuple[str, str]] = []
    for role, content in turns:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for each in blocks:
            kind = {"text": role, "tool_result": "tool", "tool_use": "call"}[each["type"]]
            sent.append((kind, each.get("text", each.get("content", ""))))
    told = [
        (turn.message["role"], text) for turn in found for text in texts_of(turn.message["content"])
    ]
    calls = sum(len(turn.message.get("tool_calls", ())) for turn in found)
    assert calls == sum(kind == "call" for kind, _ in sent)
    # A turn without text is there all the same; it has no block.
    left = [each for each in sent if each[0] != "call"]
    assert [each for each in told if each[1]] == [each for each in left if each[1]]
    roles = [turn.message["role"] for turn in found]
    assert all(one != after for one, after in pairwise(roles) if one != "tool")
    assert all(names_a_field(asked, turn.own) for turn in found)


def texts_of(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def names_a_field(asked: AnthropicConversation, name: str) -> bool:
    """Whether the body has this field."""
    value: Any = msgspec.to_builtins(asked)
    for step in name.split("."):
        value = value[int(step)] if step.isdecimal() else value[step]
    return value is not None
