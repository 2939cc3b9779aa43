"""Nothing is accepted and ignored: every field of every body changes the answer, or is refused.

Each row of a table has a body without the field, and a value for it; a field that a schema has and
its table lacks is an error here.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from headway.server.openai.schema import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    Message,
    SamplingBody,
    SloBody,
    StreamOptions,
    TokenizeBody,
)
from tests.server.conftest import Running

Row = tuple[dict[str, Any], Any]

HELLO = [{"role": "user", "content": "x"}]
ANSWERED = [*HELLO, {"role": "assistant", "content": "y"}]
COMPLETION: dict[str, Any] = {"prompt": "x", "max_tokens": 3}
CHAT: dict[str, Any] = {"messages": HELLO, "max_tokens": 3}
SAMPLING: dict[str, Row] = {
    "model": ({}, "other"),
    "n": ({}, 2),
    "max_tokens": ({}, 4),
    "min_tokens": ({}, 2),
    "temperature": ({}, 0.5),
    "top_p": ({}, 0.5),
    "top_k": ({}, 5),
    "min_p": ({}, 0.5),
    "presence_penalty": ({}, 0.5),
    "frequency_penalty": ({}, 0.5),
    "repetition_penalty": ({}, 0.5),
    "logit_bias": ({}, {"5": 1}),
    "allowed_token_ids": ({}, [97]),
    "bad_words": ({}, ["no"]),
    "seed": ({}, 7),
    "stop": ({}, "b"),
    "stop_token_ids": ({}, [98]),
    "include_stop_str_in_output": ({"stop": "b"}, True),
    "ignore_eos": ({}, True),
    "skip_special_tokens": ({}, False),
    "prompt_logprobs": ({}, 1),
    "stream": ({}, True),
    "stream_options": ({"stream": True}, {"include_usage": True}),
    "return_token_ids": ({}, True),
    "truncate_prompt_tokens": ({}, 1),
    "priority": ({}, 3),
    "cache_salt": ({}, "mine"),
    "user": ({}, "somebody"),
    "slo": ({}, {"ttft_ms": 500}),
    "response_format": ({}, {"type": "json_object"}),
    "store": ({}, True),
    "service_tier": ({}, "flex"),
}
COMPLETIONS: dict[str, Row] = SAMPLING | {
    "prompt": ({}, "y"),
    "echo": ({}, True),
    "logprobs": ({}, 1),
    "best_of": ({}, 2),
    "add_special_tokens": ({}, False),
    "suffix": ({}, "end"),
}
CHATS: dict[str, Row] = SAMPLING | {
    "messages": ({}, ANSWERED),
    "max_completion_tokens": ({}, 4),
    "logprobs": ({}, True),
    "top_logprobs": ({"logprobs": True}, 1),
    "echo": ({"messages": ANSWERED}, True),
    "add_generation_prompt": ({}, False),
    "continue_final_message": ({"messages": ANSWERED}, True),
    "add_special_tokens": ({}, True),
    "chat_template_kwargs": ({}, {"thinking": True}),
    "chat_template": ({}, "{{ x }}"),
    "tools": ({}, []),
    "tool_choice": ({}, "auto"),
    "functions": ({}, []),
    "function_call": ({}, "auto"),
}
TOKENIZES: dict[str, Row] = {
    "model": ({}, "other"),
    "prompt": ({}, "y"),
    "messages": ({"prompt": None}, HELLO),
    "add_special_tokens": ({}, False),
    "add_generation_prompt": ({"prompt": None, "messages": HELLO}, False),
    "continue_final_message": ({"prompt": None, "messages": ANSWERED}, True),
    "chat_template_kwargs": ({"prompt": None, "messages": HELLO}, {"thinking": True}),
    "return_token_strs": ({}, True),
}
DETOKENIZES: dict[str, Row] = {"model": ({}, "other"), "tokens": ({}, [98])}
MESSAGES: dict[str, Row] = {
    "role": ({}, "system"),
    "content": ({}, "y"),
    "name": ({}, "Ann"),
    "tool_call_id": ({"role": "tool"}, "1"),
    "tool_calls": ({"role": "assistant"}, [{}]),
    "function_call": ({"role": "assistant"}, {}),
    "refusal": ({"role": "assistant"}, "no"),
    "audio": ({"role": "assistant"}, {}),
    "annotations": ({"role": "assistant"}, []),
}
OPTIONS: dict[str, Row] = {
    "include_usage": ({}, True),
    "continuous_usage_stats": ({}, True),
}
SLOS: dict[str, Row] = {
    "ttft_ms": ({}, 500),
    "tpot_ms": ({}, 50.5),
    "itl_ms": ({}, 50),
    "deadline_ms": ({}, 5000),
    "class": ({}, "interactive"),
}
TABLES: tuple[tuple[type[msgspec.Struct], str, dict[str, Any], dict[str, Row]], ...] = (
    (CompletionBody, "/v1/completions", COMPLETION, COMPLETIONS),
    (ChatBody, "/v1/chat/completions", CHAT, CHATS),
    (TokenizeBody, "/tokenize", {"prompt": "x"}, TOKENIZES),
    (DetokenizeBody, "/detokenize", {"tokens": [97]}, DETOKENIZES),
)
Case = tuple[str, dict[str, Any], dict[str, Any]]
"""A path, a body without the field, and one with it."""
CASES: list[Case] = [
    (path, base | extra, base | extra | {field: value})
    for _, path, base, table in TABLES
    for field, (extra, value) in table.items()
]
CASES += [
    (
        "/v1/chat/completions",
        CHAT | {"messages": [HELLO[0] | extra]},
        CHAT | {"messages": [HELLO[0] | extra | {name: value}]},
    )
    for name, (extra, value) in MESSAGES.items()
]
CASES += [
    (
        "/v1/completions",
        COMPLETION | {"stream": True, "stream_options": {}},
        COMPLETION | {"stream": True, "stream_options": {name: value}},
    )
    for name, (_, value) in OPTIONS.items()
]
CASES += [
    ("/v1/completions", COMPLETION | {"slo": {}}, COMPLETION | {"slo": {name: value}})
    for name, (_, value) in SLOS.items()
]


def observe(
    server: Running, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, Any]
) -> object:
    """Everything that a body leads to, without what differs from request to request."""
    caplog.clear()
    server.llm.asked.clear()
    server.engine.submitted.clear()
    with server.http() as http:
        answer = http.post(path, json=body)
    text = re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", answer.text)
    requests = [
        replace(
            each,
            id="",
            caller="",
            group="",
            arrival=0.0,
            sampling=replace(each.sampling, seed=each.sampling.seed if "seed" in body else 0),
        )
        for each in server.engine.submitted
    ]
    asked = [params for _, params, _, _ in server.llm.asked]
    users = re.findall(r"user=\S+", caplog.text)
    return answer.status_code, text, requests, asked, users


@pytest.mark.parametrize(("path", "without", "given"), CASES)
def test_every_field_makes_a_difference(
    server: Running,
    caplog: pytest.LogCaptureFixture,
    path: str,
    without: dict[str, Any],
    given: dict[str, Any],
) -> None:
    caplog.set_level(logging.INFO)
    before = observe(server, caplog, path, without)
    assert observe(server, caplog, path, without) == before, "only the field makes a difference"
    assert observe(server, caplog, path, given) != before


def test_no_field_is_left_out() -> None:
    for kind, _, _, table in TABLES:
        assert set(table) == set(kind.__struct_fields__)
    assert set(MESSAGES) == set(Message.__struct_fields__)
    assert set(OPTIONS) == set(StreamOptions.__struct_fields__)
    assert set(SLOS) == {field.encode_name for field in msgspec.structs.fields(SloBody)}
    assert set(SAMPLING) == set(SamplingBody.__struct_fields__)
