"""Requests that the engine sheds: 429 with a time to come again, as long as nothing was sent."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import openai
import pytest

from headway.config import ServerConfig
from headway.types import TokenEvent
from tests.server.conftest import Running, serving

PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 900, "temperature": 1},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 900,
        "temperature": 1,
    },
}
every_path = pytest.mark.parametrize("path", PATHS)


def shed(server: Running, *, retry_after: float = 2.2, ids: str = "") -> None:
    """From now on the engine sheds what comes, or those whose ids end so."""
    event = TokenEvent(id="", finish="error", error="too late", retry_after=retry_after)
    server.engine.fault, server.engine.faulty = (0, event), ids


@pytest.fixture(autouse=True)
def mended(server: Running) -> Any:
    yield
    server.engine.fault, server.engine.faulty = None, ""


def is_refusal(answer: httpx.Response, retry_after: str) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.headers["retry-after"] == retry_after
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["message"], error["type"]) == ("too late", "rate_limit_error")


@every_path
@pytest.mark.parametrize("stream", [False, True])
def test_a_shed_request_gets_429_and_no_stream_begins(
    server: Running, http: httpx.Client, path: str, stream: bool
) -> None:
    for seconds, header in ((2.2, "3"), (0.01, "1"), (0.0, "1"), (7.0, "7")):
        shed(server, retry_after=seconds)
        is_refusal(http.post(path, json=PATHS[path] | {"stream": stream}), header)


@every_path
@pytest.mark.parametrize("stream", [False, True])
def test_all_continuations_are_shed(
    server: Running, http: httpx.Client, path: str, stream: bool
) -> None:
    shed(server)
    is_refusal(http.post(path, json=PATHS[path] | {"n": 3, "stream": stream}), "3")


@every_path
def test_none_of_several_continuations_goes_on_without_the_others(
    server: Running, http: httpx.Client, path: str
) -> None:
    shed(server, ids="-1")
    is_refusal(http.post(path, json=PATHS[path] | {"n": 3}), "3")
    server.until_idle()
    shed(server, ids="-p1")
    if path == "/v1/completions":
        is_refusal(http.post(path, json=PATHS[path] | {"prompt": ["x", "y"]}), "3")


@every_path
def test_a_stream_that_has_begun_breaks_off_with_an_event(
    server: Running, http: httpx.Client, path: str
) -> None:
    """The first continuation speaks before the second is shed."""
    shed(server, ids="-1")
    answer = http.post(path, json=PATHS[path] | {"n": 2, "stream": True})
    assert answer.status_code == 200
    events = answer.text.split("\n\n")
    assert "rate_limit_error" in events[-3]
    assert events[-2:] == ["data: [DONE]", ""]


def test_clients_see_a_rate_limit(server: Running, client: openai.OpenAI) -> None:
    shed(server)
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="alphabet", prompt="x", stream=stream)
        assert caught.value.response.headers["retry-after"] == "3"


def test_a_client_that_comes_again_is_served(server: Running) -> None:
    """The official client waits as it is told, which is a second here."""
    shed(server, retry_after=0.5)
    waits: list[float] = []

    def mend(request: httpx.Request) -> None:
        if "x-stainless-retry-count" in request.headers:
            waits.append(float(request.headers["x-stainless-retry-count"]))
            if waits[-1] == 1:
                server.engine.fault = None

    http = httpx.Client(event_hooks={"request": [mend]})
    with server.openai(max_retries=2, http_client=http) as client:
        answer = client.completions.create(model="alphabet", prompt="x", max_tokens=2)
    assert answer.choices[0].text == "ab"
    assert waits == [0, 1]


def test_an_error_that_is_no_shedding_stays_one(server: Running, http: httpx.Client) -> None:
    event = TokenEvent(id="", finish="error", error="it broke", scheduled_at=1.0)
    server.engine.fault = (0, event)
    answer = http.post("/v1/completions", json=PATHS["/v1/completions"])
    assert answer.status_code == 500
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("logged", [True, False])
def test_the_log_says_so_unless_requests_are_not_logged(
    logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = ServerConfig(port=0, enable_log_requests=logged)
    with serving(config=config) as server, server.http() as http:
        shed(server)
        assert http.post("/v1/completions", json=PATHS["/v1/completions"]).status_code == 429
    lines = [line for line in caplog.messages if line.startswith("event=shed ")]
    assert len(lines) == logged
    assert all("retry_after=2.2" in line for line in lines)


def test_what_is_shed_at_once_says_nothing_of_how_long_requests_take(
    server: Running, http: httpx.Client
) -> None:
    before = server.state._mean_seconds
    shed(server)
    http.post("/v1/completions", json=PATHS["/v1/completions"])
    assert server.state._mean_seconds == before
    server.engine.fault = None
    http.post("/v1/completions", json=PATHS["/v1/completions"])
    assert server.state._mean_seconds != before
