"""`/v1/chat/completions`, asked by the official client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from headway.llm import ChatRenderer
from headway.text import ChatTemplate, TextConfig
from tests.server.conftest import MODEL, Running, serving

HELLO: Any = [{"role": "user", "content": "hi"}]


def test_an_answer_is_a_message(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == "abc"
    assert choice.finish_reason == "length"
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("user:hi;assistant:")


def test_a_stream_names_the_role_first_and_the_reason_last(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    role, first, second, finish, usage = list(stream)
    assert (role.choices[0].delta.role, role.choices[0].delta.content) == ("assistant", "")
    assert first.choices[0].delta.content == "a"
    assert first.choices[0].delta.role is None
    assert second.choices[0].delta.content == "b"
    assert finish.choices[0].delta.content is None
    assert finish.choices[0].finish_reason == "length"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 2


def test_as_much_as_fits_unless_asked_otherwise(server: Running) -> None:
    server.llm.asked.clear()
    with server.openai() as client:
        client.chat.completions.create(model=MODEL, messages=HELLO, stop="f")
    assert server.llm.asked[0][1].max_tokens is None


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit(http: httpx.Client, name: str) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": HELLO, name: 4}).json()
    assert answer["choices"][0]["message"]["content"] == "abcd"


def test_the_conversation_reaches_the_template(server: Running) -> None:
    server.llm.asked.clear()
    messages = [
        {"role": "developer", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None},
        {"role": "tool", "content": "d"},
    ]
    body = {"messages": messages, "chat_template_kwargs": {"thinking": True}}
    with server.http() as http:
        assert http.post("/v1/chat/completions", json=body | {"stop": "b"}).status_code == 200
    text = "".join(map(chr, server.llm.asked[0][0]))
    assert text == "system:be;user:a\nb;assistant:c;tool:d;[thinking=True]assistant:"


def test_the_last_message_goes_on_and_is_echoed(server: Running) -> None:
    server.llm.asked.clear()
    body = {
        "messages": [*HELLO, {"role": "assistant", "content": "Well, "}],
        "continue_final_message": True,
        "echo": True,
        "max_tokens": 2,
    }
    with server.http() as http:
        answer = http.post("/v1/chat/completions", json=body).json()
        events = http.post("/v1/chat/completions", json=body | {"stream": True}).text
    assert answer["choices"][0]["message"]["content"] == "Well, ab"
    assert "".join(map(chr, server.llm.asked[0][0])) == "user:hi;assistant:Well, "
    deltas = [json.loads(e[6:])["choices"][0]["delta"] for e in events.split("\n\n")[:-2]]
    assert "".join(delta.get("content", "") for delta in deltas) == "Well, ab"


def test_logprobs_have_bytes(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=1
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    token = logprobs.content[0]
    assert (token.token, token.logprob, token.bytes) == ("a", -0.5, [97])
    assert [(top.token, top.logprob) for top in token.top_logprobs] == [("b", -0.25), ("a", -0.5)]


def test_logprobs_while_streaming(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, max_tokens=2, stream=True
    )
    tokens = []
    for chunk in stream:
        logprobs = chunk.choices[0].logprobs
        if logprobs is not None and logprobs.content is not None:
            tokens += [entry.token for entry in logprobs.content]
    assert tokens == ["a", "b"]


def test_n_answers_each_with_its_role(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, n=2, max_tokens=2, stream=True
    )
    roles, texts = set(), ["", ""]
    for chunk in stream:
        choice = chunk.choices[0]
        if choice.delta.role is not None:
            roles.add(choice.index)
        texts[choice.index] += choice.delta.content or ""
    assert roles == {0, 1}
    assert texts == ["ab", "ab"]


def test_token_ids_and_prompt_logprobs(http: httpx.Client) -> None:
    body = {"messages": HELLO, "max_tokens": 1, "return_token_ids": True}
    prompt = [ord(letter) for letter in "user:hi;assistant:"]
    answer = http.post("/v1/chat/completions", json=body | {"prompt_logprobs": 0}).json()
    assert answer["prompt_token_ids"] == prompt
    assert answer["choices"][0]["token_ids"] == [97]
    assert answer["prompt_logprobs"][:1] == [None]
    assert len(answer["prompt_logprobs"]) == len(prompt)
    events = http.post("/v1/chat/completions", json=body | {"stream": True}).text.split("\n\n")
    chunks = [json.loads(event[6:]) for event in events[:-2]]
    assert [chunk.get("prompt_token_ids") for chunk in chunks] == [prompt, None, None]
    assert [chunk["choices"][0].get("token_ids") for chunk in chunks] == [None, [97], None]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": HELLO, "tools": [{}]}, "tools[0].type"),
        ({"messages": HELLO, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"messages": HELLO, "modalities": ["text", "audio"]}, "modalities[1]"),
        ({"messages": HELLO, "response_format": {"type": "yaml"}}, "response_format.type"),
        ({"messages": HELLO, "chat_template": "{{ x }}"}, "chat_template"),
        ({"messages": HELLO, "functions": [{}]}, "functions"),
        ({"messages": HELLO, "top_logprobs": 3}, "top_logprobs"),
        ({"messages": HELLO, "logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({"messages": HELLO, "logprobs": 3}, "logprobs"),
        ({"messages": HELLO, "max_completion_tokens": 0}, "max_completion_tokens"),
        ({"messages": HELLO, "max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"messages": HELLO, "metadata": 3}, "metadata"),
        ({"messages": HELLO, "no_such_field": 3}, "no_such_field"),
        ({"messages": HELLO, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        (
            {"messages": HELLO, "continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
        ),
        ({"messages": [{"role": "<king>", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"messages": [{"role": "user", "content": "x" * 2000}]}, "messages"),
    ],
)
def test_errors_name_the_field(http: httpx.Client, body: dict[str, object], field: str) -> None:
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_fields_without_effect_may_say_so(http: httpx.Client) -> None:
    body = {
        "messages": HELLO,
        "max_tokens": 1,
        "store": False,
        "service_tier": "auto",
        "user": "somebody\nevent=forged",
        "tool_choice": "none",
        "tools": None,
        "response_format": {"type": "text"},
        "temperature": None,
    }
    assert http.post("/v1/chat/completions", json=body).status_code == 200


def test_a_model_without_template_says_what_to_do() -> None:
    with (
        serving(template=False) as server,
        server.openai() as client,
        pytest.raises(openai.BadRequestError, match="chat template"),
    ):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_a_history_of_calls_reaches_the_template_as_data() -> None:
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.name }}"
        " {{ c.function.arguments.city or c.function.arguments }}]{% endfor %}"
        "{{ '!' if 'tool_calls' in m }};{% endfor %}"
    )
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "B"}'}}
    odd = {"id": "2", "type": "function", "function": {"name": "g", "arguments": "no json"}}
    messages: list[Any] = [
        {"role": "assistant", "content": None, "tool_calls": [call, odd], "refusal": None},
        {"role": "tool", "tool_call_id": "1", "content": "rain", "cache_control": {"type": "x"}},
        {"role": "king", "content": [{"type": "text", "text": "y", "cache_control": {}}]},
        {"role": "assistant", "content": "z", "tool_calls": [], "annotations": [], "audio": None},
    ]
    with serving() as server, server.http() as http:
        template = ChatTemplate(source, TextConfig(eos_token_ids=()))
        server.llm.chat_template = ChatRenderer.trusted(template)
        tokens = http.post("/tokenize", json={"messages": messages}).json()["tokens"]
        body = {"messages": messages, "max_tokens": 1}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    shown = "assistant:[1 f B][2 g no json]!;tool:rain;king:y;assistant:z;"
    assert "".join(map(chr, tokens)) == shown


def test_what_is_absent_is_null(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1}).json()
    assert set(answer) == {
        *("id", "object", "created", "model", "choices", "usage", "service_tier"),
        *("system_fingerprint", "prompt_token_ids", "prompt_logprobs"),
    }
    assert answer["system_fingerprint"] is answer["service_tier"] is None
    assert answer["prompt_token_ids"] is answer["prompt_logprobs"] is None
    (choice,) = answer["choices"]
    assert choice["logprobs"] is choice["stop_reason"] is choice["token_ids"] is None
    rest = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
    assert choice["message"] == {"role": "assistant", "content": "a"} | rest
    ChatCompletion.model_validate(answer, strict=True)


def test_a_fingerprint_is_told_where_there_is_one() -> None:
    body = {"messages": HELLO, "max_tokens": 1}
    with serving() as server, server.http() as http:
        server.llm.fingerprint = "fp_1"
        for path, asked in (
            ("/v1/chat/completions", body),
            ("/v1/completions", {"prompt": "x", "max_tokens": 1}),
        ):
            assert http.post(path, json=asked).json()["system_fingerprint"] == "fp_1"
            events = http.post(path, json=asked | {"stream": True}).text.split("\n\n")[:-2]
            told = {json.loads(event[6:])["system_fingerprint"] for event in events}
            assert told == {"fp_1"}


def test_timings_are_told_on_request(http: httpx.Client) -> None:
    body = {"messages": HELLO, "max_tokens": 3, "n": 2, "timings_per_token": True}
    whole = http.post("/v1/chat/completions", json=body).json()
    assert whole["timings"]["predicted_n"] == 3
    assert (
        whole["timings"]["prompt_n"] + whole["timings"]["cache_n"]
        == whole["usage"]["prompt_tokens"]
    )
    events = http.post("/v1/chat/completions", json=body | {"stream": True}).text.split("\n\n")
    counts: dict[int, list[int]] = {0: [], 1: []}
    for event in events[:-2]:
        chunk = json.loads(event[6:])
        (choice,) = chunk["choices"]
        if "role" not in choice["delta"]:
            counts[choice["index"]].append(chunk["timings"]["predicted_n"])
    assert counts == {0: [1, 2, 3, 3], 1: [1, 2, 3, 3]}
    plain = {"messages": HELLO, "max_tokens": 1}
    assert "timings" not in http.post("/v1/chat/completions", json=plain).json()
    assert "timings" not in http.post("/v1/chat/completions", json=plain | {"stream": True}).text


def test_the_chunk_of_the_role_comes_before_any_token(http: httpx.Client) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"messages": HELLO, "max_tokens": 2, "stream": True, "stream_options": options}
    events = http.post("/v1/chat/completions", json=body).text.split("\n\n")[:-2]
    usages = [json.loads(event[6:])["usage"] for event in events]
    assert [usage["completion_tokens"] for usage in usages] == [0, 1, 2, 2, 2]
    prompt = len("user:hi;assistant:")
    assert [usage["total_tokens"] - prompt for usage in usages] == [0, 1, 2, 2, 2]


def test_tokens_may_be_written_as_their_ids(http: httpx.Client) -> None:
    body = {"messages": HELLO, "max_tokens": 1, "logprobs": True, "top_logprobs": 1}
    answer = http.post("/v1/chat/completions", json=body | {"return_tokens_as_token_ids": True})
    (token,) = answer.json()["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["bytes"]) == ("token_id:97", [97])
    assert token["top_logprobs"][0]["token"] == "token_id:98"


def test_greedy_continuations_are_as_many_as_asked(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, n=2, temperature=0, max_tokens=2
    )
    assert [choice.message.content for choice in answer.choices] == ["ab", "ab"]
