"""Responses in the background: polled, cancelled, deleted, failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import httpx
import openai
import pytest
from openai.types.responses import Response

from headway.llm import ChoiceCollector
from headway.server import generate
from headway.server.responses.formatter import ResponsesFormatter
from headway.types import TokenEvent
from tests.server.conftest import MODEL, Running
from tests.server.responses.checking import checked

BODY = {"input": "hi", "max_output_tokens": 3, "background": True}


def begin(http: httpx.Client) -> str:
    answer = http.post("/v1/responses", json=BODY)
    assert answer.status_code == 200, answer.text
    begun = checked(answer.json())
    assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
    name: str = begun["id"]
    return name


def test_it_is_asked_for_until_it_is_there(server: Running, client: openai.OpenAI) -> None:
    server.hold()
    begun = client.responses.create(model=MODEL, input="hi", background=True, max_output_tokens=3)
    assert client.responses.retrieve(begun.id).status == "queued"
    server.go_on()
    server.until_idle()
    ended = client.responses.retrieve(begun.id)
    assert (ended.status, ended.output_text, ended.background) == ("incomplete", "abc", True)


def test_it_is_in_progress_from_its_first_token(server: Running, http: httpx.Client) -> None:
    server.hold()
    name = begin(http)
    count = server.engine.stats.step
    # One token at a time: the gate closes again once the engine has made one.
    subscribed = server.call(lambda: server.engine.subscribe(lambda *_: server.engine.gate.clear()))
    server.go_on()
    server.until(lambda: server.engine.stats.step > count)
    assert http.get(f"/v1/responses/{name}").json()["status"] == "in_progress"
    server.call(subscribed)
    server.go_on()
    server.until_idle()


def test_it_is_cancelled(server: Running, client: openai.OpenAI, http: httpx.Client) -> None:
    server.hold()
    name = begin(http)
    cancelled = client.responses.cancel(name)
    assert cancelled.status == "cancelled"
    assert server.call(lambda: (server.state.requests, server.engine.running)) == (0, set())
    server.go_on()
    assert client.responses.cancel(name) == client.responses.retrieve(name) == cancelled
    checked(http.get(f"/v1/responses/{name}").json())


def test_one_that_has_ended_stays_what_it_is(
    server: Running, client: openai.OpenAI, http: httpx.Client
) -> None:
    name = begin(http)
    server.until_idle()
    ended: Response = client.responses.cancel(name)
    assert (ended.status, ended.output_text) == ("incomplete", "abc")


def test_only_the_background_is_cancelled(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="hi", max_output_tokens=1)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(answer.id)


def test_one_that_is_deleted_stops(
    server: Running, client: openai.OpenAI, http: httpx.Client
) -> None:
    server.hold()
    name = begin(http)
    client.responses.delete(name)
    assert server.call(lambda: server.state.requests) == 0
    server.go_on()
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(name)


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_one_that_is_being_written_in_a_thread_does_not_come_back(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    write = ResponsesFormatter.body

    def slow(self: ResponsesFormatter, choices: Sequence[ChoiceCollector]) -> bytes:
        begun.set()
        assert go_on.wait(10)
        written = write(self, choices)
        done.set()
        return written

    monkeypatch.setattr(generate, "LONG_ANSWER", 1)
    monkeypatch.setattr(ResponsesFormatter, "body", slow)
    path = f"/v1/responses/{begin(http)}"
    assert begun.wait(10)
    ended = http.post(path + "/cancel") if how == "cancel" else http.delete(path)
    assert ended.status_code == 200
    go_on.set()
    assert done.wait(10)
    after = http.get(path)
    assert after.json() == ended.json() if how == "cancel" else after.status_code == 404


def test_one_that_fails_says_so(server: Running, http: httpx.Client) -> None:
    fault = TokenEvent(id="", tokens=(), finish="error", error="it broke")
    server.call(lambda: setattr(server.engine, "fault", (1, fault)))
    try:
        name = begin(http)
        server.until_idle()
        failed = checked(http.get(f"/v1/responses/{name}").json())
    finally:
        server.call(lambda: setattr(server.engine, "fault", None))
    assert failed["status"] == "failed"
    assert failed["error"]["message"] == "it broke"


def test_what_it_goes_on_from_must_have_ended(server: Running, http: httpx.Client) -> None:
    server.hold()
    name = begin(http)
    more = http.post("/v1/responses", json={"input": "x", "previous_response_id": name})
    assert more.json()["error"]["param"] == "previous_response_id"
    server.go_on()
    server.until_idle()
    more = http.post("/v1/responses", json=BODY | {"previous_response_id": name})
    assert more.status_code == 200
    server.until_idle()


def test_a_client_that_leaves_does_not_stop_it(server: Running) -> None:
    server.hold()
    with server.http() as http:
        name = begin(http)
    server.go_on()
    server.until_idle()
    with server.http() as http:
        assert http.get(f"/v1/responses/{name}").json()["status"] == "incomplete"
