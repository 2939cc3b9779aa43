"""Descriptions of formats: found by their templates, written for models, whole."""

from __future__ import annotations

import json

import pytest

from headway.errors import InvalidRequest
from headway.message import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    ToolCall,
    describe_tools,
    format_for_template,
    shown_tokens,
    write_calls,
)
from tests.message.calls import FORMS, NOTHING, WEATHER, call, message, pairs

TEMPLATES = [
    ("{% for message in messages %}<|im_start|>", "hermes"),
    ('... within <tool_call></tool_call> XML tags: <tool_call>\n{"name": ...', "hermes"),
    ('Respond in the format {"name": function name, "parameters": dictionary of', "llama3_json"),
    ("{{- '<|python_tag|>' }}", "llama3_json"),
    ("<|python_start|>[func_name1(params_name1=...)]<|python_end|>", "pythonic"),
    ("{{ '[TOOL_CALLS] [' }}", "mistral"),
    ("{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", "mistral_named"),
    ("<start_of_turn>model", "gemma3"),
    ("<start_of_turn>model <start_function_call>call:", "functiongemma"),
    ("<|turn>model <|tool_call>call:", "gemma4"),
    ("<|tool_call|>", "granite"),
    ("<tool_calls>", "jamba"),
    ("<|tool_call_start|>[", "lfm2"),
    ("functools[", "phi4_mini_json"),
    ("<function_calls>", "olmo3"),
]


@pytest.mark.parametrize(("template", "name"), TEMPLATES, ids=str)
def test_a_template_tells_its_format(template: str, name: str) -> None:
    assert format_for_template(template) == name
    assert name in TOOL_FORMATS


def test_names_are_those_of_other_servers() -> None:
    others = ("hermes", "llama3_json", "llama4_json", "llama4_pythonic", "mistral", "pythonic")
    assert set(others) < set(TOOL_FORMATS)
    assert TOOL_FORMATS["llama4_json"] is TOOL_FORMATS["llama3_json"]
    assert all(form.name == name for name, form in REASONING_FORMATS.items())


@pytest.mark.parametrize("name", FORMS)
def test_a_model_is_told_to_write_what_is_read(name: str) -> None:
    form = TOOL_FORMATS[name]
    told = describe_tools(form, [WEATHER, NOTHING])
    for tool in (WEATHER, NOTHING):
        assert f'"name": "{tool.name}"' in told
    assert str(WEATHER.description) in told
    assert json.dumps(WEATHER.parameters) in told
    example = write_calls(form, [call("name_of_tool", {"name_of_argument": "value"})])
    assert f"\n{example}\n" in told
    if form.marker_needed:
        found = pairs(message(name, example).tool_calls)
        assert found == [("name_of_tool", {"name_of_argument": "value"})]


@pytest.mark.parametrize("arguments", ["[1]", "{", "x", "[" * 100_000])
def test_a_history_of_broken_calls_is_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequest, match="arguments of the call of f are not a JSON object"):
        write_calls(TOOL_FORMATS["hermes"], [ToolCall(id="", name="f", arguments=arguments)])


def test_a_history_without_calls_is_empty() -> None:
    assert write_calls(TOOL_FORMATS["hermes"], []) == ""
    empty = ToolCall(id="", name="f", arguments="")
    assert write_calls(TOOL_FORMATS["pythonic"], [empty]) == "[f()]"


def test_special_tokens_that_parsers_must_see() -> None:
    lfm2, gemma = TOOL_FORMATS["lfm2"], REASONING_FORMATS["gemma4"]
    special = ("<|tool_call_start|>", "<|tool_call_end|>", "<|channel>", "<|im_end|>", "[ARGS]")
    assert shown_tokens(special, lfm2) == {"<|tool_call_start|>", "<|tool_call_end|>"}
    assert shown_tokens(special, lfm2, gemma) == set(special[:3])
    assert shown_tokens(special, TOOL_FORMATS["mistral"]) == {"[ARGS]"}
    assert shown_tokens((), lfm2) == shown_tokens(special, TOOL_FORMATS["hermes"]) == frozenset()
