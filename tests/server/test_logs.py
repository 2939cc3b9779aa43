"""Log lines: one an event, and none that a client can forge."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from headway.config import ServerConfig
from headway.types import TokenEvent
from tests.server.conftest import serving


def test_a_request_leaves_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="headway.server")
    with serving() as server, server.http() as http:
        body = {"prompt": "x", "max_tokens": 3, "user": "me\nyou"}
        http.post("/v1/completions", json=body, headers={"X-Request-Id": "r1"})
        http.post("/v1/completions", json=body | {"n": 0}, headers={"X-Request-Id": "r2"})
    received, finished, refused = [record.getMessage() for record in caplog.records]
    assert received.startswith("event=received id=cmpl-")
    assert "request_id=r1 path=/v1/completions prompts=1 n=1 prompt_tokens=2" in received
    assert received.endswith(r'user="me\nyou"')
    assert "finish=length prompt_tokens=2 cached_tokens=2 completion_tokens=3" in finished
    assert refused.startswith("event=refused request_id=r2 path=/v1/completions status=400")


def test_drafts_are_logged_with_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="headway.server")
    with serving() as server, server.http() as http:
        server.engine.drafts = (3, 1)
        http.post("/v1/completions", json={"prompt": "x", "max_tokens": 3})
    finished = caplog.records[-1].getMessage()
    assert "completion_tokens=3 draft_tokens=6 accepted_tokens=2 first_token_seconds" in finished


def test_how_a_request_ended_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="headway.server")
    body = {"prompt": "x", "max_tokens": 3}
    with serving() as server, server.http() as http, ThreadPoolExecutor() as pool:
        server.engine.fault = (2, TokenEvent(id="", finish="error", error="it broke"))
        assert http.post("/v1/completions", json=body).status_code == 500
        server.engine.fault = None
        server.hold()
        waiting = pool.submit(http.post, "/v1/completions", json=body)
        server.until(lambda: server.state.requests == 1)
        server.call(server.state.cancel_all)
        assert waiting.result().status_code == 503
    lines = [record.getMessage() for record in caplog.records]
    ends = [line for line in lines if not line.startswith(("event=received", "event=refused"))]
    failed, aborted = ends
    assert re.match(r'event=failed id=\S+ reason="it broke" prompt_tokens=2', failed)
    assert "completion_tokens=2 first_token_seconds=0." in failed
    assert re.match(
        r"event=aborted id=\S+ reason=shutdown prompt_tokens=2 cached_tokens=0", aborted
    )
    assert "first_token_seconds" not in aborted


def test_request_lines_can_be_turned_off_but_not_those_of_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="headway.server")
    body = {"prompt": "x", "max_tokens": 3}
    config = ServerConfig(port=0, enable_log_requests=False)
    with serving(config=config) as server, server.http() as http:
        assert http.post("/v1/completions", json=body).status_code == 200
        assert http.post("/v1/completions", json=body | {"n": 0}).status_code == 400
        assert caplog.records == []
        server.engine.fault = (2, TokenEvent(id="", finish="error", error="it broke"))
        assert http.post("/v1/completions", json=body).status_code == 500
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["event=failed"]


def test_prompts_and_answers_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "correct horse battery staple"
    with serving() as server, server.http() as http:
        body = {"prompt": secret, "max_tokens": 26}
        answer = http.post("/v1/completions", json=body).json()["choices"][0]["text"]
        messages = [{"role": "user", "content": secret}]
        assert http.post("/v1/chat/completions", json={"messages": messages}).status_code == 200
        assert http.post("/v1/completions", json=body | {"n": 0}).status_code == 400
    assert answer == "abcdefghijklmnopqrstuvwxyz"
    ours = [record for record in caplog.records if record.name.startswith("headway")]
    assert len(ours) >= 5
    assert [
        each for each in ours if secret in each.getMessage() or answer in each.getMessage()
    ] == []
