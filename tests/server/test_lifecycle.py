"""Requests that do not simply finish: the client leaves, they wait, fail, or are refused."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from headway.config import ServerConfig
from headway.server.openai.completions import CompletionFormatter
from headway.types import TokenEvent
from headway.types.grammar import GRAMMAR_ERROR
from headway.types.sampling import NOTHING_LEFT
from tests.server.conftest import MODEL, Running, serving

PROMPT = {"prompt": "x", "max_tokens": 500}
CHAT = {"messages": [{"role": "user", "content": "x"}]}
JSON_FORM = {"type": "json_object"}
MESSAGES = {
    "max_tokens": 9,
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
}
TOOL = {"type": "function", "function": {"name": "clock"}}
ENDLESS = 2 * 10**6
"""A context in which a million tokens fit."""


def send(server: Running, body: dict[str, object]) -> socket.socket:
    """Send a completion request on a bare socket and do not wait for the answer."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(30)
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("extra", [{}, {"n": 3}, {"prompt": ["x", "y"], "n": 2}])
def test_who_leaves_is_aborted(server: Running, stream: bool, extra: dict[str, object]) -> None:
    server.hold()
    connection = send(server, PROMPT | extra | {"stream": stream})
    server.until(lambda: server.state.requests == 1)
    assert server.engine.running
    connection.close()
    server.until_idle()
    server.go_on()


def test_who_leaves_in_mid_stream_is_aborted() -> None:
    with serving(max_model_len=ENDLESS) as server:
        connection = send(server, PROMPT | {"max_tokens": 10**6, "stream": True})
        assert b"200 OK" in connection.recv(1000)
        connection.close()
        server.until_idle()


def test_two_hundred_who_leave_leave_nothing(server: Running) -> None:
    connections = []
    for number in range(200):
        if number % 50 == 25:
            server.hold()
        elif number % 50 == 0:
            server.go_on()
        connections.append(send(server, PROMPT | {"stream": number % 2 == 0, "n": 1 + number % 3}))
    for connection in connections[::2] + connections[1::2]:
        connection.close()
    server.until_idle()
    server.go_on()


def test_an_error_before_the_first_token_has_a_status(server: Running) -> None:
    refusal = TokenEvent(id="", finish="error", error="it can never fit")
    broken = TokenEvent(id="", finish="error", error="logits not finite", scheduled_at=1.0)
    try:
        with server.http() as http:
            for event, status in ((refusal, 400), (broken, 500)):
                server.engine.fault = (0, event)
                for stream in (True, False):
                    answer = http.post("/v1/completions", json=PROMPT | {"stream": stream})
                    assert answer.status_code == status
                    assert answer.json()["error"]["message"] == event.error
    finally:
        server.engine.fault = None


def test_parameters_that_leave_no_token_are_the_clients_fault(server: Running) -> None:
    event = TokenEvent(id="", finish="error", error=NOTHING_LEFT, tokens=(97,))
    server.engine.fault = (1, event)
    try:
        with server.http() as http:
            answer = http.post("/v1/completions", json=PROMPT)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == NOTHING_LEFT
    finally:
        server.engine.fault = None


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/v1/completions", PROMPT | {"guided_regex": "a+"}, "guided_regex"),
        ("/v1/chat/completions", CHAT | {"response_format": JSON_FORM}, "response_format"),
        ("/v1/chat/completions", CHAT | {"tools": [TOOL], "tool_choice": "required"}, "tools"),
    ],
)
def test_a_grammar_that_outgrows_its_limits_is_named_as_the_client_gave_it(
    server: Running, path: str, asked: dict[str, Any], field: str
) -> None:
    event = TokenEvent(id="", finish="error", error=f"{GRAMMAR_ERROR}too ambiguous")
    server.engine.fault = (1, event)
    try:
        with server.http() as http:
            answer = http.post(path, json=asked)
        assert answer.status_code == 400
        assert answer.json()["error"] | {"code": 400} == {
            "message": f"{field}: too ambiguous",
            "type": "invalid_request_error",
            "param": field,
            "code": 400,
        }
        with server.http() as http:
            events = http.post(path, json=asked | {"stream": True}).text.split("\n\n")
        told = next(json.loads(each[6:]) for each in events if '"error"' in each)
        assert told == answer.json()
    finally:
        server.engine.fault = None


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/api/chat", CHAT | {"model": MODEL, "format": "json"}, "format"),
        ("/completion", {"prompt": "x", "json_schema": {}}, "json_schema"),
        ("/v1/messages", CHAT | MESSAGES, "output_config.format"),
        ("/v1/responses", {"input": "x", "text": {"format": JSON_FORM}}, "text.format"),
    ],
)
def test_so_it_is_in_streams_of_other_dialects(
    server: Running, path: str, asked: dict[str, Any], field: str
) -> None:
    event = TokenEvent(id="", finish="error", error=f"{GRAMMAR_ERROR}too ambiguous")
    server.engine.fault = (1, event)
    try:
        with server.http() as http:
            text = http.post(path, json=asked | {"stream": True}).text
    finally:
        server.engine.fault = None
    assert f"{field}: too ambiguous" in text
    assert "structured_outputs" not in text


def test_an_error_in_mid_stream_is_an_event(server: Running) -> None:
    server.engine.fault = (2, TokenEvent(id="", finish="error", error="broken"))
    try:
        with server.openai() as client:
            stream = client.completions.create(model=MODEL, prompt="x", stream=True)
            assert [next(stream).choices[0].text for _ in range(2)] == ["a", "b"]
            with pytest.raises(openai.APIError, match="broken"):
                next(stream)
    finally:
        server.engine.fault = None


def test_an_error_among_several_prompts_ends_them_all(server: Running) -> None:
    server.engine.fault = (2, TokenEvent(id="", finish="error", error="broken", tokens=(1,)))
    try:
        with server.http() as http:
            answer = http.post("/v1/completions", json=PROMPT | {"prompt": ["x", "y", "z"]})
        assert answer.status_code == 500
        server.until_idle()
    finally:
        server.engine.fault = None


def test_a_full_server_says_when_to_come_back() -> None:
    with serving(config=ServerConfig(port=0, max_num_queued_reqs=4)) as server:
        server.hold()
        with ThreadPoolExecutor() as pool, server.http() as http:
            waiting = [
                pool.submit(http.post, "/v1/completions", json=PROMPT | {"n": 2}) for _ in range(2)
            ]
            server.until(lambda: server.state.continuations == 4)
            refused = http.post("/v1/completions", json=PROMPT)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == "queue_full"
            load = http.get("/load").json()
            assert (load["server_load"], load["continuations"]) == (2, 4)
            never = http.post("/v1/completions", json=PROMPT | {"n": 5})
            assert never.status_code == 400
            server.go_on()
            assert [answer.result().status_code for answer in waiting] == [200, 200]
            assert http.post("/v1/completions", json=PROMPT).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_no_turn_in_time_is_a_503(stream: bool) -> None:
    with serving(config=ServerConfig(port=0, queue_timeout=0.05)) as server:
        server.hold()
        with server.http() as http:
            answer = http.post("/v1/completions", json=PROMPT | {"stream": stream})
        assert answer.status_code == 503
        assert "queue timeout" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"]
        server.until_idle()


def test_a_draining_server_finishes_what_runs_and_refuses_what_comes() -> None:
    with serving() as server, server.http() as http, ThreadPoolExecutor() as pool:
        server.hold()
        running = pool.submit(http.post, "/v1/completions", json=PROMPT)
        server.until(lambda: server.state.requests == 1)
        server.call(server.state.drain)
        refused = http.post("/v1/completions", json=PROMPT)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert http.get("/ready").status_code == 503
        assert http.get("/health").status_code == 200
        server.go_on()
        assert running.result().status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_who_is_cancelled_is_told(stream: bool) -> None:
    with serving() as server, server.http() as http, ThreadPoolExecutor() as pool:
        server.hold()
        waiting = pool.submit(http.post, "/v1/completions", json=PROMPT | {"stream": stream})
        server.until(lambda: server.state.requests == 1)
        server.call(server.state.cancel_all)
        answer = waiting.result()
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "unavailable_error"


def test_who_is_cancelled_in_mid_stream_is_told() -> None:
    with serving(max_model_len=ENDLESS) as server:
        connection = send(server, {"prompt": "x", "max_tokens": 10**6, "stream": True})
        data = connection.recv(100)
        server.call(server.state.cancel_all)
        while b"[DONE]" not in data:
            part = connection.recv(2**16)
            assert part
            data = data[-1000:] + part
        assert b'"error":{"message":"the server stopped"' in data
        connection.close()


def test_who_is_cancelled_before_the_engine_has_the_request_is_told() -> None:
    with serving() as server, server.http() as http, ThreadPoolExecutor() as pool:
        server.call(server.llm.encoding.clear)
        waiting = pool.submit(http.post, "/v1/completions", json=PROMPT)
        server.until(lambda: server.state.requests == 1)
        server.call(server.state.cancel_all)
        answer = waiting.result()
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the server stopped"
        assert not server.llm.asked


def test_a_full_server_encodes_nothing() -> None:
    with serving(config=ServerConfig(port=0, max_num_queued_reqs=1)) as server:
        server.hold()
        with ThreadPoolExecutor() as pool, server.http() as http:
            running = pool.submit(http.post, "/v1/completions", json=PROMPT)
            server.until(lambda: bool(server.engine.running))
            assert http.post("/v1/completions", json=PROMPT).status_code == 429
            assert server.llm.encoded == 1
            server.go_on()
            assert running.result().status_code == 200


def test_a_prompt_that_is_refused_counts_neither_as_received_nor_as_finished() -> None:
    with serving() as server, server.http() as http:
        assert http.post("/v1/completions", json={"prompt": [1] * 2000}).status_code == 400
        found = http.get("/metrics").text
    assert "vllm:request_success_total{" not in found
    assert 'vllm:request_params_n_count{model_name="alphabet"} 0.0' in found


def test_a_starting_server_answers_503_and_then_serves() -> None:
    with serving(ready=False) as server, server.http() as http:
        for path in ("/ready", "/health", "/v1/models", "/load"):
            assert http.get(path).status_code == 503
        assert http.post("/v1/completions", json=PROMPT).status_code == 503
        assert http.get("/metrics").status_code == 200
        server.call(lambda: server.state.open(server.llm))
        assert http.get("/ready").status_code == 200
        assert http.post("/v1/completions", json=PROMPT).status_code == 200


def test_a_dead_engine_shows_in_health() -> None:
    with serving() as server, server.http() as http:
        assert http.get("/ready").status_code == 200
        server.engine.state = "restarting"
        assert http.get("/health").status_code == 200
        answer = http.get("/ready")
        assert answer.status_code == 503
        assert "the engine is restarting" in answer.json()["error"]["message"]
        assert http.post("/v1/completions", json=PROMPT).status_code == 200
        server.engine.state = "failed"
        assert http.get("/health").status_code == 503
        assert http.get("/ready").status_code == 503
        assert http.post("/v1/completions", json=PROMPT).status_code == 503


def test_a_silent_engine_shows_in_ready() -> None:
    with serving() as server, server.http() as http:
        server.engine.silence = 2.0
        assert http.get("/ready").status_code == 200
        server.engine.silence = 4.0
        assert http.get("/health").status_code == 200
        answer = http.get("/ready")
        assert answer.status_code == 503
        assert "silent for 4 s" in answer.json()["error"]["message"]


def test_a_request_id_goes_there_and_back(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json=PROMPT, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b'])
def test_an_odd_request_id_is_replaced(http: httpx.Client, given: str) -> None:
    found = http.get("/version", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert found
    assert found != given


def test_equal_request_ids_do_not_collide(server: Running) -> None:
    server.hold()
    with server.http() as http, ThreadPoolExecutor() as pool:
        headers = {"X-Request-Id": "same"}
        both = [
            pool.submit(http.post, "/v1/completions", json=PROMPT, headers=headers)
            for _ in range(2)
        ]
        server.until(lambda: len(server.engine.running) == 2)
        server.go_on()
        assert [answer.result().status_code for answer in both] == [200, 200]


def test_a_bug_is_told_without_its_details(server: Running) -> None:
    server.llm.bug = ZeroDivisionError("secret")
    try:
        with server.http() as http:
            for stream in (True, False):
                body = PROMPT | {"stream": stream}
                answer = http.post("/v1/completions", json=body, headers={"X-Request-Id": "b"})
                assert answer.status_code == 500
                assert answer.headers["x-request-id"] == "b"
                assert answer.json()["error"]["type"] == "internal_error"
                assert "secret" not in answer.text
    finally:
        server.llm.bug = None


def test_a_bug_in_mid_stream_is_an_event(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(formatter: CompletionFormatter) -> bytes:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(CompletionFormatter, "end", broken)
    body = PROMPT | {"stream": True, "stream_options": {"include_usage": True}}
    with server.http() as http:
        answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"error":{"message":"internal error' in answer.text
    assert "secret" not in answer.text
