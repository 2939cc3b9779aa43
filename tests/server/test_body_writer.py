"""Pieces that go past the application's layers are, on the wire, what goes through them."""

from __future__ import annotations

import re

import pytest

from headway.server import protocol
from headway.server.body_writer import BodyWriter
from tests.server.conftest import Running
from tests.server.raw import LAST, connected, post, rest

OLD = b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CHAT = HEAD + b"Content-Type: application/json\r\n"
STREAMED = b'{"prompt": "x", "max_tokens": 5, "n": 2, "stream": true, "seed": 1}'
MESSAGES = b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 4, "stream": true}'
NAMES = re.compile(rb"(cmpl-)\w+|(created\":)\d+|(date: )[^\r]*|(x-request-id: )\w+")
REQUESTS = (
    post(STREAMED) + LAST,
    post(MESSAGES, head=CHAT) + LAST,
    post(STREAMED, head=OLD),
    post(STREAMED.replace(b"true", b"false")) + LAST,
)


def answers(server: Running) -> list[bytes]:
    """All bytes of the answers, but for names and times."""
    found = []
    for request in REQUESTS:
        with connected(server) as connection:
            connection.sendall(request)
            found.append(NAMES.sub(rb"\1\2\3\4", rest(connection)))
    return found


def test_what_goes_past_the_layers_is_the_same_on_the_wire(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = BodyWriter.write

    def noting(self: BodyWriter, data: bytes) -> None:
        written.append(data)
        write(self, data)

    monkeypatch.setattr(BodyWriter, "write", noting)
    past = answers(server)
    # All but what is there as the answer begins: of two continuations, and of one. An old client
    # gets no chunks, and a whole answer comes in one piece anyway.
    assert len(written) == (2 * 5 - 1) + (4 - 1)
    monkeypatch.setattr(protocol, "BODY_WRITER", "nobody knows")
    assert answers(server) == past
    assert len(written) == 12
    assert b'"text":"e"' in past[0]


def test_nothing_is_written_past_a_client_that_does_not_read(server: Running) -> None:
    """Its connection says so, and the piece waits in the ordinary way."""
    ready: list[bool] = []
    with connected(server) as connection:
        server.hold()
        connection.sendall(post(STREAMED, b"Connection: close"))
        server.until(lambda: bool(server.engine.running))
        (running,) = server.call(lambda: list(server.server.server_state.connections))
        assert isinstance(running, protocol.HeadwayProtocol)
        writer = running.cycle.scope["headway.body_writer"]  # type: ignore[typeddict-item]
        ready.append(server.call(lambda: writer.ready))  # the answer has not begun
        server.go_on()
        assert b"[DONE]" in rest(connection)
        ready.append(writer.ready)  # it is complete
        running.cycle.response_complete = False
        running.cycle.disconnected = False
        ready.append(writer.ready)
        running.flow.pause_writing()
        ready.append(writer.ready)
    assert ready == [False, False, True, False]
