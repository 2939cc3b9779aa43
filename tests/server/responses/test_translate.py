"""Bodies of responses as bodies of chats."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headway.errors import InvalidRequest
from headway.server.responses.schema import ResponseInputItem, ResponsesBody
from headway.server.responses.translate import chat_fields, translate

USER = {"role": "user", "content": "x"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
SAID = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "y", "annotations": [], "logprobs": []}],
}


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": f"f{name}", "arguments": "{}"}


def called(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": f"f{name}", "arguments": "{}"}}


def output(name: str, value: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": name, "output": value}


def body(**fields: Any) -> ResponsesBody:
    return msgspec.convert({"input": "x"} | fields, ResponsesBody)


def messages(*items: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat_fields(body(input=items, **fields))[0]["messages"]
    return found


def test_an_assistants_items_are_one_message() -> None:
    told = messages(USER, REASONING, SAID, call("1"), call("2"), output("1"), output("2"))
    assert told == [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "y",
            "tool_calls": [called("1"), called("2")],
        },
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
        {"role": "tool", "tool_call_id": "2", "content": "ok"},
    ]


def test_what_comes_twice_is_another_message() -> None:
    assert messages(SAID, SAID) == [{"role": "assistant", "content": "y"}] * 2
    assert messages(call("1"), REASONING, SAID) == [
        {"role": "assistant", "tool_calls": [called("1")]},
        {"role": "assistant", "reasoning_content": "hm", "content": "y"},
    ]
    assert messages(call("1"), output("1"), call("2"))[2] == {
        "role": "assistant",
        "tool_calls": [called("2")],
    }


def test_content_of_every_kind() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert messages({"role": "user", "content": parts}, refusal) == [
        {"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]},
        {"role": "assistant", "content": "no"},
    ]
    told = messages(call("1"), output("1", [{"type": "input_text", "text": "z"}]))
    assert told[1]["content"] == "z"


def test_reasoning_without_text_says_nothing() -> None:
    cipher = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    assert messages(USER, cipher, SAID)[1] == {"role": "assistant", "content": "y"}
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}
    assert messages(summary, SAID)[0]["reasoning_content"] == "so"


def test_instructions_come_first_then_what_was_before() -> None:
    before = [ResponseInputItem(role="user", content="a")]
    fields, names = chat_fields(body(instructions="be", input=[USER]), before)
    assert [each["content"] for each in fields["messages"]] == ["be", "a", "x"]
    assert [names[f"messages[{place}].content"] for place in range(3)] == [
        *("instructions", "previous_response_id", "input[0].content")
    ]


def test_tools_and_choices_in_the_form_of_chats() -> None:
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": True}
    named = {"type": "function", "name": "f"}
    fields, _ = chat_fields(body(tools=[tool], tool_choice=named, parallel_tool_calls=False))
    function = {"name": "f", "description": "d", "parameters": {}, "strict": True}
    assert fields["tools"] == [{"type": "function", "function": function}]
    assert fields["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert fields["parallel_tool_calls"] is False
    some = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    fields, _ = chat_fields(body(tools=[tool], tool_choice=some))
    assert fields["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    }
    for word in ("none", "auto", "required"):
        assert chat_fields(body(tool_choice=word))[0]["tool_choice"] == word


def test_effort_is_that_of_chats() -> None:
    assert chat_fields(body(reasoning={"effort": "low"}))[0]["reasoning_effort"] == "low"
    assert "reasoning_effort" not in chat_fields(body(reasoning={}))[0]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("messages", "input"),
        ("messages[1]", "input[1]"),
        ("messages[1].tool_calls", "input[2]"),
        ("messages[1].tool_calls[1].function.arguments", "input[3].arguments"),
        ("messages[1].content[0].text", "input[1].content[0].text"),
        ("messages[2].tool_call_id", "input[4].tool_call_id"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format.json_schema.name", "text.format.name"),
        ("tools[2].function.parameters.type", "tools[2].parameters.type"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("tool_choice.allowed_tools.tools[1].function.name", "tool_choice.tools[1].name"),
    ],
)
def test_names_are_the_clients(name: str, own: str) -> None:
    items = [USER, SAID, call("1"), call("2"), output("1")]
    _, names = chat_fields(body(input=items))
    assert names[name] == own


def test_names_that_are_the_same_are_not_translated() -> None:
    _, names = chat_fields(body())
    assert names.get("temperature") is None
    assert set(names) == {name for name in names if names[name]}
    assert len(names) == len(list(names))


def test_what_chats_refuse_is_told_in_the_clients_words() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(body(input=[USER, call("1") | {"name": ""}]), [])
    assert caught.value.field == "input[1].name"
    assert caught.value.message.startswith("input[1].name: ")
