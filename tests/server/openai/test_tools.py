"""Tools of chats, over HTTP: what is refused, what reaches the prompt, what comes of calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from headway.llm import ChatRenderer
from headway.llm.message_form import MessageForm
from headway.text import ChatTemplate, TextConfig
from tests.server.conftest import MODEL, Running

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA},
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@contextmanager
def saying(server: Running, answer: str) -> Iterator[None]:
    server.engine.answer = answer
    try:
        yield
    finally:
        server.engine.answer = ""


@contextmanager
def template(server: Running, source: str, **form: str) -> Iterator[None]:
    before = server.llm.chat_template
    shown = ChatTemplate(source, TextConfig(eos_token_ids=()))
    chosen = MessageForm.choose(source, **form) if form else None
    server.llm.chat_template = ChatRenderer.trusted(shown, chosen)
    try:
        yield
    finally:
        server.llm.chat_template = before


def prompt(server: Running, **body: Any) -> str:
    """What the model sees."""
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post(CHAT, json={"messages": HELLO, "max_tokens": 1} | body)
    assert answer.status_code == 200, answer.text
    return "".join(map(chr, server.llm.asked[0][0]))


def grammar(server: Running) -> str | None:
    """What the answer to the last prompt must match."""
    outputs = server.llm.asked[0][1].structured_outputs
    return None if outputs is None else outputs.resolved().text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "code_interpreter", "function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [named("")]}, "tools[0].function.name"),
        ({"tools": [named("a b")]}, "tools[0].function.name"),
        ({"tools": [named("f" * 129)]}, "tools[0].function.name"),
        ({"tools": [WEATHER, CLOCK, WEATHER]}, "tools[2].function.name"),
        ({"tools": [{**CLOCK, "paramaters": {}}]}, "tools[0].paramaters"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    CLOCK,
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"type": "string"}},
                    },
                ]
            },
            "tools[1].function.parameters.type",
        ),
        ({"tools": [named(f"f{number}") for number in range(129)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": named("weather")}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": named("clock")}, "tool_choice.function.name"),
        (
            {"tools": [WEATHER], "tool_choice": allowed("auto", "weather", "clock")},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"tools": [WEATHER], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"tools": [WEATHER], "structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"tools": [WEATHER], "guided_regex": "a"}, "guided_regex"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"thinking_token_budget": 5.5}, "thinking_token_budget"),
    ],
)
def test_errors_name_the_field(http: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = http.post(CHAT, json={"messages": HELLO} | body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


def test_a_schema_that_cannot_be_compiled_is_named(http: httpx.Client) -> None:
    bad = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)y"}}}
    tools = [WEATHER, {"type": "function", "function": {"name": "f", "parameters": bad}}]
    for choice in ("auto", "required"):
        answer = http.post(CHAT, json={"messages": HELLO, "tools": tools, "tool_choice": choice})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "tools[1].function.parameters"
        assert error["message"].startswith("tools[1].function.parameters: ")


def test_tools_together_are_bounded(http: httpx.Client) -> None:
    large = {"type": "object", "properties": {"a": {"enum": ["x" * 2**16]}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": large}}]
    answer = http.post(CHAT, json={"messages": HELLO, "tools": tools, "tool_choice": "required"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].function.parameters"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": []},
        {"tools": None, "tool_choice": "auto"},
        {"tool_choice": "none"},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"tools": [], "parallel_tool_calls": False},
        {"functions": [], "function_call": "none"},
    ],
)
def test_no_tools_in_any_form_are_as_none(server: Running, body: dict[str, Any]) -> None:
    plain = prompt(server)
    assert grammar(server) is None
    assert prompt(server, **body) == plain
    assert grammar(server) is None
    with saying(server, CALL), server.openai() as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, extra_body=body)
    assert answer.choices[0].message.content == CALL
    assert answer.choices[0].message.tool_calls is None


def test_a_template_that_reads_tools_gets_them(server: Running) -> None:
    source = "{% for t in tools or [] %}{{ t | tojson }};{% endfor %}{{ messages[-1].content }}"
    with template(server, source):
        shown = prompt(server, tools=[WEATHER, CLOCK])
        assert prompt(server) == "hi"
        assert prompt(server, tools=[WEATHER], tool_choice="none") == "hi"
    weather, clock, rest = shown.split(";")
    assert json.loads(weather) == WEATHER
    assert json.loads(clock)["function"]["parameters"] == {"type": "object", "properties": {}}
    assert rest == "hi"


def test_a_template_that_does_not_is_told_by_the_system_message(server: Running) -> None:
    shown = prompt(server, tools=[WEATHER])
    system, user, _ = shown.rsplit(";", 2)
    assert system.startswith("system:")
    assert "weather" in system
    assert "Of a city." in system
    assert user == "user:hi"
    messages = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert prompt(server, tools=[WEATHER], messages=messages).startswith("system:Be kind.\n\n")


def test_a_history_of_calls_is_written_where_the_template_shows_none(server: Running) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Bern"}'},
    }
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "sun"}]},
    ]
    shown = prompt(server, messages=messages)
    results = "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>"
    assert shown == f"user:hi;assistant:{CALL};user:{results};assistant:"
    with server.http() as http:
        body = {"messages": messages, "tools": [WEATHER]}
        tokens = http.post("/tokenize", json=body).json()["tokens"]
    assert "".join(map(chr, tokens)) == prompt(server, messages=messages, tools=[WEATHER])


def test_what_the_answer_must_match(server: Running) -> None:
    both = [WEATHER, CLOCK]
    prompt(server, tools=both)
    auto = grammar(server)
    prompt(server, tools=both, tool_choice="required")
    required = grammar(server)
    prompt(server, tools=both, tool_choice=named("clock"))
    clock = grammar(server)
    assert auto
    assert required
    assert clock
    assert len({auto, required, clock}) == 3
    assert "weather" in auto
    assert "weather" in required
    assert "weather" not in clock
    prompt(server, tools=both, tool_choice=allowed("required", "clock"), parallel_tool_calls=False)
    assert grammar(server) == clock
    prompt(server, tools=both, tool_choice="required", parallel_tool_calls=False)
    assert grammar(server) not in (required, clock)


def test_a_call_in_the_clients_types(server: Running) -> None:
    with saying(server, CALL), server.http() as http:
        body: Any = {"messages": HELLO, "tools": [WEATHER]}
        raw = http.post(CHAT, json=body).json()
        forced = http.post(CHAT, json=body | {"tool_choice": "required"}).json()
        chosen = http.post(CHAT, json=body | {"tool_choice": named("weather")}).json()
        cut = http.post(CHAT, json=body | {"max_tokens": len(CALL) - 18}).json()
    ChatCompletion.model_validate(raw, strict=True)
    (choice,) = raw["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call.pop("id").startswith("call_")
    function = {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert call == {"type": "function", "function": function}
    assert forced["choices"][0]["finish_reason"] == "tool_calls"
    assert chosen["choices"][0]["finish_reason"] == "stop"
    assert cut["choices"][0]["finish_reason"] == "length"
    (part,) = cut["choices"][0]["message"]["tool_calls"]
    assert '{"city": "Bern"}'.startswith(part["function"]["arguments"])
    assert len(part["function"]["arguments"]) > 3


def test_a_call_while_streaming_in_openais_chunks(server: Running) -> None:
    body = {"messages": HELLO, "tools": [WEATHER], "stream": True}
    with saying(server, "Well. " + CALL), server.http() as http:
        events = http.post(CHAT, json=body).text.split("\n\n")[:-2]
    choices = [json.loads(event[6:])["choices"][0] for event in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    content = [each["delta"] for each in choices[1:] if "content" in each["delta"]]
    assert "".join(each["content"] for each in content).strip() == "Well."
    assert all(set(each) == {"content"} for each in content)
    calls = [each["delta"]["tool_calls"] for each in choices if "tool_calls" in each["delta"]]
    first, *rest = calls
    assert [set(each) for each in first] == [{"index", "id", "type", "function"}]
    assert (first[0]["index"], first[0]["type"]) == (0, "function")
    assert first[0]["function"]["name"] == "weather"
    for (each,) in rest:
        assert set(each) == {"index", "function"}
        assert set(each["function"]) == {"arguments"}
    arguments = [each["function"]["arguments"] for (each,) in calls]
    assert "".join(arguments) == '{"city": "Bern"}'
    assert len(arguments) > 10, "arguments come as they are generated"
    assert choices[-1]["delta"] == {}
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert all(each["finish_reason"] is None for each in choices[:-1])


def test_n_answers_with_calls_and_log_probabilities(server: Running) -> None:
    asked: Any = {
        "model": MODEL,
        "messages": HELLO,
        "tools": [WEATHER],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 1,
    }
    with saying(server, CALL), server.openai() as client:
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True))
    ids = set()
    for number, choice in enumerate(whole.choices):
        assert choice.message.tool_calls
        ids.add(choice.message.tool_calls[0].id)
        assert choice.logprobs
        assert choice.logprobs.content
        assert "".join(each.token for each in choice.logprobs.content) == CALL
        streamed = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == number]
        tokens = [
            each.token
            for piece in streamed
            if piece.logprobs and piece.logprobs.content
            for each in piece.logprobs.content
        ]
        assert "".join(tokens) == CALL
    assert len(ids) == 2, "every call has an id of its own"


def test_the_clients_helpers_run_a_stream(client: openai.OpenAI, server: Running) -> None:
    with (
        saying(server, CALL),
        client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream,
    ):
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert answer.choices[0].message.tool_calls
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Bern"}'


def test_a_response_format_beside_tools(server: Running) -> None:
    """As at OpenAI, the answer calls tools, or else its content has the format."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["zz"]}}}
    prompt(server, tools=[CLOCK], response_format=form)
    both = grammar(server) or ""
    assert "zz" in both
    assert "clock" in both
    prompt(server, tools=[CLOCK], response_format=form, tool_choice="required")
    assert "zz" not in (grammar(server) or "zz")
    prompt(server, tools=[CLOCK], response_format={"type": "text"})
    text = grammar(server)
    prompt(server, tools=[CLOCK])
    assert grammar(server) == text


def test_a_schema_that_nests_too_deeply_is_an_error_of_the_client(http: httpx.Client) -> None:
    for depth in (70, 400, 2000):
        schema: Any = {"type": "string"}
        for _ in range(depth):
            schema = {"type": "object", "properties": {"a": schema}}
        tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        for path in (CHAT, "/tokenize"):
            text = json.dumps({"messages": HELLO, "tools": "TOOLS"}).replace(
                '"TOOLS"', dumped(tools)
            )
            answer = http.post(path, content=text, headers={"content-type": "application/json"})
            assert answer.status_code in ((400,) if path == CHAT else (200, 400)), answer.text


def dumped(value: Any) -> str:
    """JSON of any depth."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return json.dumps(value)
    finally:
        sys.setrecursionlimit(before)


def test_arguments_of_a_history_that_nest_too_deeply_are_an_error_of_the_client(
    http: httpx.Client,
) -> None:
    for depth in (100, 300, 490, 900):
        arguments = '{"a":' * depth + "1" + "}" * depth
        for given in (arguments, json.dumps(arguments)):
            call = f'{{"id": "1", "function": {{"name": "f", "arguments": {given}}}}}'
            messages = f'[{{"role": "assistant", "tool_calls": [{call}]}}]'
            answer = http.post(
                CHAT,
                content=f'{{"messages": {messages}, "max_tokens": 1}}',
                headers={"content-type": "application/json"},
            )
            assert answer.status_code in (200, 400), answer.text
    answer = http.post(
        CHAT,
        json={
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "no JSON"}}],
                }
            ]
        },
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"


def test_pieces_that_become_certain_at_once_have_their_log_probabilities_once(
    server: Running,
) -> None:
    """The end brings what a stop string and a marker held back, in two parts."""
    body = {
        "messages": HELLO,
        "tools": [WEATHER],
        "stream": True,
        "logprobs": True,
        "return_token_ids": True,
        "stop": "b<tz",
        "max_tokens": 4,
    }
    with saying(server, "ab<t!"), server.http() as http:
        events = http.post(CHAT, json=body).text.split("\n\n")[:-2]
    choices = [json.loads(event[6:])["choices"][0] for event in events]
    assert [each["delta"].get("content") for each in choices[-3:]] == ["b", "<t", None]
    scored = [each["logprobs"]["content"] for each in choices if each["logprobs"]]
    assert "".join(token["token"] for each in scored for token in each) == "ab<t"
    ids = [token for each in choices for token in each.get("token_ids") or ()]
    assert "".join(map(chr, ids)) == "ab<t"


def test_markers_that_are_special_tokens_are_shown_to_the_parser(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = server.llm.tokenizer
    plain = tokenizer.token_bytes
    monkeypatch.setattr(tokenizer, "_special", frozenset((0,)))
    monkeypatch.setattr(
        tokenizer, "token_bytes", lambda token: plain(token) if token else b"<tool_call>"
    )
    monkeypatch.setitem(tokenizer.known_bytes, 0, b"<tool_call>")
    prompt(server, tools=[WEATHER], skip_special_tokens=True)
    assert server.llm.asked[0][1].skip_special_tokens is False
    prompt(server)
    assert server.llm.asked[0][1].skip_special_tokens is True


def test_a_result_may_name_its_tool(server: Running) -> None:
    result = {"role": "tool", "content": "rain", "name": "weather"}
    assert "rain" in prompt(server, messages=[*HELLO, result])


def test_tools_that_cannot_fit_are_not_rendered(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[object] = []
    monkeypatch.setattr(server.llm, "render", lambda *given, **_: rendered.append(given))
    described = {"name": "f", "description": "d" * 128 * 1000}
    with server.http() as http:
        body = {"messages": HELLO, "tools": [{"type": "function", "function": described}]}
        answers = [http.post(path, json=body) for path in (CHAT, "/tokenize")]
    for answer in answers:
        assert answer.json()["error"]["param"] == "tools"
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert rendered == []
