"""Requests that mean harm, or were never requests: each gets its 4xx, and nothing stays behind."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.server import protocol, receiving
from headway.server.protocol import MAX_HEAD_BYTES
from tests.server.conftest import Running, serving
from tests.server.raw import talk

JSON = {"content-type": "application/json"}
COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"
ODD_VALUES: tuple[Any, ...] = (
    True,
    -1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    1e308,
    "",
    "x",
    "\x00",
    [],
    [[]],
    [None],
    {},
    {"": {}},
    [[[[1]]]],
    "9" * 1000,
)
FIELDS = (
    "n",
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "seed",
    "stop",
    "stop_token_ids",
    "prompt_logprobs",
    "stream",
    "stream_options",
    "truncate_prompt_tokens",
    "priority",
    "cache_salt",
    "user",
    "response_format",
    "store",
    "service_tier",
    "model",
    "prompt",
    "messages",
    "logprobs",
    "top_logprobs",
    "echo",
    "suffix",
    "tools",
    "functions",
    "chat_template",
    "chat_template_kwargs",
    "__proto__",
    "constructor",
    "role",
)
RAW_BODIES = (
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"[]",
    b'"text"',
    b"NaN",
    b"{'prompt': 'x'}",
    b'{"prompt": "x",}',
    b'{"prompt": "x"} {}',
    b'{"prompt": "x", "temperature": NaN}',
    b'{"prompt": "x", "temperature": Infinity}',
    b'{"prompt": "x", "temperature": -Infinity}',
    b'{"prompt": "x", "temperature": 1e999}',
    b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}",
    b'{"prompt": "x", "n": 1.5}',
    b'{"prompt": "x", "n": "1"}',
    b'{"prompt": "\xff\xfe"}',
    b'{"prompt": "\xed\xa0\x80"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "\\udc00x"}',
    b'{"prompt": "x", "user": "\\ud800\\ud800"}',
    b'{"prompt": "\x01"}',
    b'\xef\xbb\xbf{"prompt": "x"}',
    '{"prompt": "x"}'.encode("utf-16"),
    b'{"prompt": ' + b"[" * 100_000,
    b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"prompt": "x", "chat_template_kwargs": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    b'{"a":' * 200_000,
    b'{"prompt": "x", "' + b"k" * 100_000 + b'": 1}',
    b"\x00" * 1000,
    b"prompt=x&max_tokens=3",
)


@pytest.mark.parametrize("path", [COMPLETION, CHAT, "/tokenize", "/detokenize"])
@pytest.mark.parametrize("body", RAW_BODIES, ids=range(len(RAW_BODIES)))
def test_broken_bodies(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 1000


def test_deep_nesting_inside_a_free_field(http: httpx.Client) -> None:
    deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    message = b'{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": '
    answer = http.post(CHAT, content=message + deep + b"}", headers=JSON)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/responses",
            {
                "input": "x",
                "max_output_tokens": 1,
                "tools": [{"type": "function", "name": "f", "output_schema": "DEEP"}],
            },
        ),
        (
            "/v1/messages/count_tokens",
            {
                "model": "alphabet",
                "messages": [
                    {"role": "user", "content": "x"},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "DEEP"}],
                    },
                    {"role": "user", "content": "x"},
                ],
            },
        ),
    ],
)
@pytest.mark.parametrize("depth", range(940, 1000, 2))
def test_what_is_just_not_too_deep_to_be_read(
    http: httpx.Client, path: str, body: dict[str, Any], depth: int
) -> None:
    """It may be too deep to be looked at, or written, from where more functions are in calls."""
    deep = '{"a":' * depth + "1" + "}" * depth
    answer = http.post(path, content=json.dumps(body).replace('"DEEP"', deep), headers=JSON)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.text


def _wrong_field(rng: random.Random) -> tuple[str, bytes]:
    """One field of a good request becomes an odd value; those that fit by luck are drawn again."""
    good: dict[str, Any] = {"prompt": "x", "max_tokens": 1}
    path = rng.choice((COMPLETION, CHAT))
    if path == CHAT:
        good = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    good[rng.choice(FIELDS)] = rng.choice(ODD_VALUES)
    return path, json.dumps(good).encode()


def _cut_off(rng: random.Random) -> tuple[str, bytes]:
    body = json.dumps({"prompt": "x" * rng.randrange(50), "stop": ["a", "b"]}).encode()
    return COMPLETION, body[: rng.randrange(len(body))]


def _flipped(rng: random.Random) -> tuple[str, bytes]:
    body = bytearray(json.dumps({"prompt": "x", "max_tokens": 1, "stop": ["a"]}).encode())
    for _ in range(rng.randrange(1, 5)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return COMPLETION, bytes(body)


def _noise(rng: random.Random) -> tuple[str, bytes]:
    return rng.choice((COMPLETION, CHAT, "/tokenize")), rng.randbytes(rng.randrange(200))


def _soup(rng: random.Random) -> tuple[str, bytes]:
    parts = ["{", "}", "[", "]", ":", ",", '"', '"prompt"', '"n"', "1", "-", "e9", "null", "\\u"]
    return COMPLETION, "".join(rng.choices(parts, k=rng.randrange(1, 40))).encode()


MAKERS: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (
    _wrong_field,
    _cut_off,
    _flipped,
    _noise,
    _soup,
)


def be_hostile(http: httpx.Client, *, refusals: int, seed: int, busy: bool = False) -> None:
    """Send generated bodies until so many were refused, each with a 4xx that says why.

    `busy`: the server has others to serve, and may have no room.
    """
    rng = random.Random(seed)
    refused = 0
    while refused < refusals:
        path, body = rng.choice(MAKERS)(rng)
        answer = http.post(path, content=body, headers=JSON)
        # Some of them are fine by luck; none may be a fault of ours.
        allowed = (200, 400, 404, 429, 503) if busy else (200, 400, 404)
        assert answer.status_code in allowed, (path, body, answer.text)
        if answer.status_code != 200:
            refused += 1
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_thousand_generated_bodies(server: Running) -> None:
    with server.http() as http:
        be_hostile(http, refusals=1000, seed=20)
    server.until_idle()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", "/%00", 404),
        ("GET", "/%ff%fe", 404),
        ("GET", "/v1//completions", 404),
        ("GET", COMPLETION, 405),
        ("DELETE", CHAT, 405),
        ("POST", "/health", 405),
        ("PATCH", "/v1/models", 405),
        ("OPTIONS", COMPLETION, 405),
    ],
)
def test_paths_and_methods(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_bodies_that_are_not_json(http: httpx.Client, headers: dict[str, str]) -> None:
    assert http.post(COMPLETION, content=b'{"prompt":"x"}', headers=headers).status_code == 415


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_the_limit(chunked: bool) -> None:
    body = b'{"prompt": "' + b"x" * 5000 + b'"}'
    content = iter([body[:1000], body[1000:]]) if chunked else body
    config = ServerConfig(port=0, max_body_bytes=4096)
    with serving(config=config) as server, server.http() as http:
        answer = http.post(COMPLETION, content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        fits = b'{"prompt": "' + b"x" * 900 + b'"}'
        assert http.post(COMPLETION, content=fits, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\nzz\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400(server: Running, data: bytes) -> None:
    answer = talk(server, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["message"]


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"y" * 2 * MAX_HEAD_BYTES,
        b"X: y\r\n" * MAX_HEAD_BYTES,
        b"y" * 2 * MAX_HEAD_BYTES,
    ],
)
def test_a_head_without_end(server: Running, head: bytes) -> None:
    answer = talk(server, b"GET / HTTP/1.1\r\n" + head)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_garbage_after_a_request_ends_it(server: Running) -> None:
    server.hold()
    body = b'{"prompt": "x"}'
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: "
    answer = talk(server, head + b"%d\r\n\r\n" % len(body) + body + b"\x00garbage\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    server.until_idle()
    server.go_on()


@pytest.mark.parametrize("head", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nX: y\r\n", b"\r\n"])
def test_a_head_that_never_ends(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    with serving() as server:
        assert talk(server, head) == b""


def test_a_body_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "BODY_SECONDS", 0.05)
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    with serving() as server:
        answer = talk(server, head + b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer


def test_a_client_that_leaves_while_sending(server: Running) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + b"Content-Length: 100\r\n\r\n{")
    server.until_idle()
