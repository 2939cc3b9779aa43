"""What a streamed token takes in the API process, in calls and writes: these do not depend on the
machine, and grow where something is done for each token that was not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from headway.client import Stream
from headway.server.body_writer import BodyWriter
from headway.types import Request, TokenEvent
from tests.server.conftest import Running
from tests.server.raw import connected, post, until

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CHAT = HEAD + b"Content-Type: application/json\r\n"
MESSAGES = b'{"messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 900}'
TOKENS = 100
MOST_CALLS = 105
"""Of functions in Python and in C. Most of them are what the metrics of a step take."""


def counted(work: Callable[[], object]) -> int:
    """How many calls it makes."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture
def streams(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[_Named]:
    """Those of the requests that the engine is given, which says nothing by itself."""
    found: list[_Named] = []

    def submit(*requests: Request) -> Stream:
        found.append(_Named(requests[0].id))
        return found[-1]

    monkeypatch.setattr(server.engine, "submit", submit)
    return found


class _Named(Stream):
    """Of one request."""

    def __init__(self, name: str) -> None:
        super().__init__([name], lambda ids: None)
        self.name = name

    def say(self, **fields: Any) -> TokenEvent:
        event = TokenEvent(id=self.name, **fields)
        self.add(event)
        return event

    def say_now(self, **fields: Any) -> None:
        self.say(**fields)
        self.tell()

    @property
    def relayed(self) -> bool:
        return self._on_news is not None


def test_a_streamed_token_takes_few_calls_and_one_write(
    server: Running, streams: list[_Named], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = BodyWriter.write

    def noting(self: BodyWriter, data: bytes) -> None:
        sizes.append(len(data))
        write(self, data)

    monkeypatch.setattr(BodyWriter, "write", noting)

    def step(number: int) -> None:
        """As the client of an engine does it for every message."""
        event = streams[0].say(tokens=(97 + number % 26,))
        server.engine.report(event)  # to the metrics
        streams[0].tell()

    def steps() -> None:
        for number in range(TOKENS):
            step(number)

    with connected(server) as connection:
        connection.sendall(post(MESSAGES, head=CHAT))
        server.until(lambda: bool(streams))
        server.call(lambda: streams[0].say_now(tokens=(97,), scheduled_at=0.0))
        server.until(lambda: streams[0].relayed)
        calls = server.call(lambda: counted(steps))
        assert len(sizes) == TOKENS
        assert max(sizes) == min(sizes)
        server.call(lambda: streams[0].say_now(finish="stop"))
        until(connection, b"[DONE]")
    assert calls / TOKENS < MOST_CALLS
