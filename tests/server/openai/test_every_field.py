"""Nothing is accepted and ignored: every field of every body changes the answer, or is refused.

Each row of a table has a body without the field, and a value for it; a field that a schema has and
its table lacks is an error here.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.server.body import NOT_SUPPORTED
from headway.server.openai.harmless import HarmlessFields
from headway.server.openai.schema import (
    ChatBody,
    CompletionBody,
    HarmlessChatFields,
    Message,
    SamplingBody,
    SloBody,
    StreamOptions,
)
from headway.server.openai.token_bodies import DetokenizeBody, TokenizeBody
from tests.server.conftest import Running

Row = tuple[dict[str, Any], Any]

HELLO = [{"role": "user", "content": "x"}]
ANSWERED = [*HELLO, {"role": "assistant", "content": "y"}]
COMPLETION: dict[str, Any] = {"prompt": "x", "max_tokens": 3}
CHAT: dict[str, Any] = {"messages": HELLO, "max_tokens": 3}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
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
    "repeat_last_n": ({}, 64),
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
    "logprob_token_ids": ({"logprobs": 1}, [99]),
    "stream": ({}, True),
    "stream_options": ({"stream": True}, {"include_usage": True}),
    "return_tokens_as_token_ids": ({"logprobs": 1}, True),
    "return_token_ids": ({}, True),
    "truncate_prompt_tokens": ({}, 1),
    "truncation_side": ({"truncate_prompt_tokens": 1}, "right"),
    "use_beam_search": ({}, True),
    "length_penalty": ({}, 0.5),
    "priority": ({}, 3),
    "cache_salt": ({}, "mine"),
    "user": ({}, "somebody"),
    "slo": ({}, {"ttft_ms": 500}),
    "response_format": ({}, {"type": "json_object"}),
    "structured_outputs": ({}, {"regex": "a"}),
    "guided_json": ({}, {"type": "null"}),
    "guided_regex": ({}, "a"),
    "guided_choice": ({}, ["a"]),
    "guided_grammar": ({}, 'root ::= "a"'),
    "guided_whitespace_pattern": ({"guided_json": {}}, "[ ]"),
    "json_schema": ({}, {"type": "null"}),
    "grammar": ({}, 'start: "a"'),
    "service_tier": ({}, "flex"),
    "thinking_token_budget": ({}, 5),
}
COMPLETIONS: dict[str, Row] = SAMPLING | {
    "truncation_side": ({"truncate_prompt_tokens": 1, "prompt": "yx"}, "right"),
    "prompt": ({}, "y"),
    "echo": ({}, True),
    "logprobs": ({}, 1),
    "best_of": ({}, 2),
    "add_special_tokens": ({}, False),
    "suffix": ({}, "end"),
}
CHATS: dict[str, Row] = SAMPLING | {
    "return_tokens_as_token_ids": ({"logprobs": True}, True),
    "logprob_token_ids": ({"logprobs": True}, [99]),
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
    "tools": ({}, TOOLS),
    "tool_choice": ({"tools": TOOLS}, "required"),
    "parallel_tool_calls": ({"tools": TOOLS}, False),
    "timings_per_token": ({}, True),
    "prediction": ({}, {"type": "content", "content": "ab"}),
}
TOKENIZES: dict[str, Row] = {
    "model": ({}, "other"),
    "prompt": ({}, "y"),
    "messages": ({"prompt": None}, HELLO),
    "add_special_tokens": ({}, False),
    "add_generation_prompt": ({"prompt": None, "messages": HELLO}, False),
    "continue_final_message": ({"prompt": None, "messages": ANSWERED}, True),
    "chat_template_kwargs": ({"prompt": None, "messages": HELLO}, {"thinking": True}),
    "tools": ({"prompt": None, "messages": HELLO}, TOOLS),
    "return_token_strs": ({}, True),
    "content": ({"prompt": None}, "y"),
    "add_special": ({"prompt": None, "content": "y"}, True),
    "parse_special": ({"prompt": None, "content": "y"}, False),
    "with_pieces": ({"prompt": None, "content": "y"}, True),
}
DETOKENIZES: dict[str, Row] = {"model": ({}, "other"), "tokens": ({}, [98])}
MESSAGES: dict[str, Row] = {
    "role": ({}, "system"),
    "content": ({}, "y"),
    "name": ({}, "Ann"),
    "tool_calls": ({"role": "assistant"}, [{"function": {"name": "f"}}]),
}
OPTIONS: dict[str, Row] = {
    "include_usage": ({}, True),
    "continuous_usage_stats": ({"include_usage": True}, True),
}
SLOS: dict[str, Row] = {
    "ttft_ms": ({}, 500),
    "tpot_ms": ({}, 50.5),
    "itl_ms": ({}, 50),
    "deadline_ms": ({}, 5000),
    "class": ({}, "interactive"),
}
HARMLESS: dict[str, tuple[Any, Any]] = {
    "metadata": ({"a": ["b"]}, 3),
    "store": (True, "yes"),
    "prompt_cache_key": ("k", "k" * 513),
    "prompt_cache_retention": ("24h", 24),
    "prompt_cache_options": ({"mode": "x"}, "x"),
    "safety_identifier": ("s", 1),
    "verbosity": ("low", "loud"),
    "spaces_between_special_tokens": (True, False),
    "session_id": ("s", []),
    "modalities": (["text"], ["audio"]),
    "functions": ([], [{"name": "f"}]),
    "function_call": ("none", {"name": "f"}),
}
"""Fields that make no difference: a value that passes, and one that is refused."""
OF_REASONING: dict[str, tuple[Any, Any]] = {
    "include_reasoning": (False, "no"),
    "reasoning_effort": ("low", "enormous"),
    "enable_thinking": (False, "no"),
    "thinking_budget_tokens": (-1, 5),
    "reasoning_budget_tokens": (-1, 5),
}
"""Those that make none where the model does not reason; see `test_reasoning`."""
HARMLESS_IN_MESSAGES: dict[str, Any] = {
    "tool_call_id": "1",
    "reasoning_content": "hm",
    "reasoning": "hm",
}
"""Those that make none where the chat template does not read them."""
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
        COMPLETION | {"stream": True, "stream_options": extra},
        COMPLETION | {"stream": True, "stream_options": extra | {name: value}},
    )
    for name, (extra, value) in OPTIONS.items()
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


@pytest.mark.parametrize("name", HARMLESS | OF_REASONING)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_harmless_field_makes_none_and_is_checked(
    server: Running, caplog: pytest.LogCaptureFixture, path: str, name: str
) -> None:
    if path == "/v1/completions" and name not in HarmlessFields.__struct_fields__:
        pytest.skip("chats have it alone")
    caplog.set_level(logging.INFO)
    base = COMPLETION if path == "/v1/completions" else CHAT
    passes, refused = (HARMLESS | OF_REASONING)[name]
    before = observe(server, caplog, path, base)
    assert observe(server, caplog, path, base | {name: passes}) == before
    assert observe(server, caplog, path, base | {name: None}) == before
    with server.http() as http:
        answer = http.post(path, json=base | {name: refused})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(name)


def test_harmless_fields_of_messages_and_streams(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/v1/chat/completions"
    more: dict[str, Any] = {"id": "m", "cache_control": {"type": "ephemeral"}, "audio": None}
    marked = [HELLO[0] | HARMLESS_IN_MESSAGES | more]
    before = observe(server, caplog, path, CHAT)
    assert observe(server, caplog, path, CHAT | {"messages": marked}) == before
    parts = [{"type": "text", "text": "x", "cache_control": {}, "prompt_cache_breakpoint": {}}]
    assert observe(server, caplog, path, CHAT | {"messages": [HELLO[0] | {"content": parts}]}) == (
        before
    )
    stream = CHAT | {"stream": True, "stream_options": {}}
    options = {"include_obfuscation": True}
    assert observe(server, caplog, path, stream | {"stream_options": options}) == observe(
        server, caplog, path, stream
    )


def test_the_document_has_every_harmless_field_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "fields.md").read_text()
    table = text.partition("## Taken, and without effect")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert named == {*HARMLESS, "stream_options.include_obfuscation", "cache_control"}


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_every_parameter_of_the_official_client_is_known(kind: str) -> None:
    module = import_module(
        "openai.types.chat.completion_create_params"
        if kind == "chat"
        else "openai.types.completion_create_params"
    )
    parameters = set(module.CompletionCreateParamsBase.__annotations__)
    body = ChatBody if kind == "chat" else CompletionBody
    assert parameters - set(body.__struct_fields__) - NOT_SUPPORTED == set()


def test_no_field_is_left_out() -> None:
    for kind, _, _, table in TABLES:
        assert set(table) == set(kind.__struct_fields__) - set(HARMLESS) - set(OF_REASONING)
    assert set(MESSAGES) == set(Message.__struct_fields__) - set(HARMLESS_IN_MESSAGES)
    assert set(OPTIONS) == set(StreamOptions.__struct_fields__) - {"include_obfuscation"}
    assert set(SLOS) == {field.encode_name for field in msgspec.structs.fields(SloBody)}
    assert set(SAMPLING) == set(SamplingBody.__struct_fields__) - set(HARMLESS)
    of_chats = set(HarmlessChatFields.__struct_fields__) - set(SamplingBody.__struct_fields__)
    assert set(HARMLESS) == of_chats | set(HarmlessFields.__struct_fields__)
