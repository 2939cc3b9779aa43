"""Refusals of `/v1/responses` name the client's own field."""

from __future__ import annotations

import httpx
import pytest

PATH = "/v1/responses"
MESSAGE = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [MESSAGE, {"content": "x"}]}, "input[1].role"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [MESSAGE, {"role": "user", "content": [{}]}]}, "input[1].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
        ),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [MESSAGE, {"type": "item_reference", "id": "x"}]}, "input[1].id"),
        ({"input": [{"id": "msg_x"}]}, "input[0].id"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "function_call"}]}, "input[0].call_id"),
        ({"input": [MESSAGE, CALL | {"name": ""}]}, "input[1].name"),
        (
            {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]},
            "input[0].call_id",
        ),
        ({"input": "x" * 2000}, "input"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "max_output_tokens": 999}, "max_output_tokens"),
        ({"input": "x", "temperature": "hot"}, "temperature"),
        ({"input": "x", "top_logprobs": 99}, "top_logprobs"),
        ({"input": "x", "include": ["everything"]}, "include[0]"),
        ({"input": "x", "truncation": "middle"}, "truncation"),
        ({"input": "x", "metadata": {"a": 1}}, "metadata"),
        ({"input": "x", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"input": "x", "text": {"format": {"type": "yaml"}}}, "text.format.type"),
        (
            {"input": "x", "text": {"format": {"type": "json_schema", "name": "x"}}},
            "text.format.schema",
        ),
        (
            {
                "input": "x",
                "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "no"}}},
            },
            "text.format",
        ),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        (
            {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": 3}]},
            "tools[0].parameters",
        ),
        ({"input": "x", "tools": [{"type": "function", "name": "f", "x": 3}]}, "tools[0].x"),
        ({"input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        (
            {"input": "x", "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
            "tool_choice.tools",
        ),
        ({"input": "x", "reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "conversation": "c"}, "conversation"),
        ({"input": "x", "previous_response_id": "resp_no"}, "previous_response_id"),
        ({"input": "x", "background": True, "stream": True}, "background"),
        ({"input": "x", "background": True, "store": False}, "background"),
        ({"input": "x", "background": True, "max_output_tokens": 999}, "max_output_tokens"),
        ({"input": "x", "no_such_field": 1}, "no_such_field"),
        ({"input": "x", "priority": 1}, "priority"),
        ({"input": "x", "model": "other"}, "model"),
    ],
)
def test_errors_name_the_field(http: httpx.Client, body: dict[str, object], field: str) -> None:
    answer = http.post(PATH, json=body)
    assert answer.status_code == (404 if field == "model" else 400)
    error = answer.json()["error"]
    assert error["param"] == field
    assert field.partition(".")[0].partition("[")[0] in error["message"]


def test_an_item_too_large_is_a_request_too_large(http: httpx.Client) -> None:
    items = [MESSAGE] * 1001
    error = http.post(PATH, json={"input": items}).json()["error"]
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
