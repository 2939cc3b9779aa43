"""Tools and calls as templates see them: as data, or said in messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.llm.message_form import MessageForm
from headway.llm.tool_prompts import check_tools, tools_of, with_tools
from headway.message import TOOL_FORMATS, Tool
from headway.text import ChatTemplate, TextConfig
from headway.text.template_facts import TemplateFacts

TOOL = Tool(name="f", description="Does it.", parameters={"type": "object"})
CALLING: dict[str, Any] = {
    "role": "assistant",
    "content": "Wait. ",
    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "r"}


def facts(source: str) -> TemplateFacts:
    return ChatTemplate(source, TextConfig(eos_token_ids=())).facts


PLAIN = facts("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}")
READS_BOTH = facts(
    "{{ tools }}{% for m in messages %}{{ m.tool_calls }}{{ m.content }}{% endfor %}"
)
READS_TOOLS = facts("{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}")
HERMES = TOOL_FORMATS["hermes"]


def test_a_template_that_reads_all_gets_all_as_it_is() -> None:
    messages = [CALLING, RESULT]
    shown, tools = with_tools(messages, [TOOL], READS_BOTH, HERMES)
    assert shown == messages
    assert tools is not None
    assert tools[0]["function"]["name"] == "f"


def test_calls_are_written_though_the_template_reads_tools() -> None:
    shown, tools = with_tools([CALLING, RESULT], [TOOL], READS_TOOLS, HERMES)
    assert tools is not None
    call, result = shown
    assert call["content"].startswith("Wait. <tool_call>")
    assert result == {"role": "user", "content": "<tool_response>\nr\n</tool_response>"}


def test_results_get_the_names_that_a_template_reads() -> None:
    reads_names = facts("{% for m in messages %}{{ m.tool_calls }}{{ m.name }}{% endfor %}")
    other = {"role": "tool", "tool_call_id": "2", "content": "s"}
    own = RESULT | {"name": "own"}
    shown, _ = with_tools([CALLING, RESULT, other, own], [], reads_names, HERMES)
    assert shown == [CALLING, RESULT | {"name": "f"}, other, own]
    assert with_tools([CALLING, RESULT], [], READS_BOTH, HERMES)[0] == [CALLING, RESULT]


def test_parameters_always_have_properties() -> None:
    _, tools = with_tools([], [TOOL, Tool(name="g")], READS_BOTH, HERMES)
    assert tools is not None
    for each in tools:
        assert each["function"]["parameters"] == {"type": "object", "properties": {}}


def test_results_between_turns_join_and_others_stay() -> None:
    user = {"role": "user", "content": "u"}
    shown, _ = with_tools([CALLING, RESULT, RESULT, user, CALLING, RESULT], [], PLAIN, HERMES)
    roles = [each["role"] for each in shown]
    assert roles == ["assistant", "user", "user", "assistant", "user"]
    assert shown[1]["content"].count("<tool_response>") == 2
    assert shown[2] == user


def test_a_result_without_calls_is_the_templates_affair() -> None:
    assert with_tools([RESULT], [], PLAIN, HERMES) == ([RESULT], None)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_description_joins_the_system_message(role: str) -> None:
    content = [{"type": "text", "text": "Be kind."}]
    shown, tools = with_tools([{"role": role, "content": content}], [TOOL], PLAIN, HERMES)
    assert tools is None
    (system,) = shown
    assert system["role"] == role
    assert system["content"].startswith("Be kind.\n\n")
    assert "Does it." in system["content"]


@given(st.lists(st.sampled_from([CALLING, RESULT, {"role": "user", "content": "u"}])))
def test_nothing_that_was_given_changes(messages: list[dict[str, Any]]) -> None:
    before = [dict(each) for each in messages]
    shown, _ = with_tools(messages, [TOOL], PLAIN, HERMES)
    assert messages == before
    assert sum("<tool_call>" in each["content"] for each in shown[1:]) == messages.count(CALLING)


@pytest.mark.parametrize(
    ("given_tools", "field"),
    [
        ([{}], "tools[0].function"),
        ([{"function": {"name": 3}}], "tools[0].function"),
        ([{"function": {"name": "f"}}] * 2, "tools[1].function.name"),
        (
            [{"function": {"name": "f", "parameters": {"type": "array"}}}],
            "tools[0].function.parameters.type",
        ),
    ],
)
def test_what_is_no_tool(given_tools: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tools_of(given_tools)
    assert caught.value.field == field


def test_parameters_nest_so_deep() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(63):
        deep = {"a": deep}
    check_tools([Tool(name="f", parameters=deep)])
    with pytest.raises(InvalidRequest, match="at most 64") as caught:
        check_tools([Tool(name="f"), Tool(name="g", parameters={"a": [deep]})])
    assert caught.value.field == "tools[1].function.parameters"


@pytest.mark.parametrize("field", ["tool_call_parser", "reasoning_parser"])
def test_a_form_that_there_is_not(field: str) -> None:
    with pytest.raises(InvalidRequest, match="did you mean") as caught:
        MessageForm.choose(None, **{field: "hermess" if "tool" in field else "qwen"})
    assert caught.value.field == field


def test_ids_have_the_length_that_templates_want() -> None:
    assert len(MessageForm.choose(None, tool_call_parser="mistral").new_id()) == 9
    assert MessageForm.choose(None).new_id().startswith("call_")
