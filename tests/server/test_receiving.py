"""Bodies on their way: of one request, and of all together."""

from __future__ import annotations

import socket

import pytest

from headway.config import ServerConfig
from headway.server import receiving
from headway.server.receiving import FREE_BYTES
from tests.server.conftest import Running, serving
from tests.server.raw import BODY, CHUNKED, POST, connected, post, statuses, talk, until

LIMIT = 4 * FREE_BYTES
CONFIG = ServerConfig(port=0, max_body_bytes=LIMIT, max_pending_body_bytes=LIMIT)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_body_over_the_limit_that_never_ends(claimed: bool) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    head = POST + b"Content-Length: 999999999\r\n\r\n" if claimed else CHUNKED
    with serving(config=CONFIG) as server, connected(server) as connection:
        connection.sendall(head + (b"" if claimed else chunk * (LIMIT // 0x8000 + 2)))
        answer = until(connection, b"}}")
        assert statuses(answer) == [b"413"]
        assert b"connection: close" in answer
        # More of it may come for a while, and nothing of that is held.
        connection.sendall(chunk * 20)
        (found,) = server.call(lambda: tuple(server.server.server_state.connections))
        assert server.call(lambda: len(found.cycle.body)) <= LIMIT  # type: ignore[union-attr]
        assert server.call(lambda: server.state.bodies.used) == 0


def begin(server: Running, connection: socket.socket, used: int) -> None:
    """Send a body but for its end, and wait until it is counted."""
    connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b" " * (LIMIT - 100))
    server.until(lambda: server.state.bodies.used == used)


COUNTED = LIMIT - 100 - FREE_BYTES
"""What one body that lacks 100 bytes takes of the budget."""


def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 1000.0)
    with serving(config=CONFIG) as server, connected(server) as first:
        begin(server, first, COUNTED)
        large = talk(server, post(b" " * (LIMIT - 100), b"Connection: close"))
        assert statuses(large) == [b"429"]
        assert b"retry-after: 5" in large
        assert b"max_pending_body_bytes" in large
        # A small one needs nothing of the budget.
        assert statuses(talk(server, post(BODY, b"Connection: close"))) == [b"200"]
        assert server.state.bodies.used == COUNTED
        first.sendall(b" " * 100)
        assert statuses(until(first, b"}}")) == [b"400"]
        assert server.state.bodies.used == 0


def test_a_body_that_stands_still_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 0.0)
    with serving(config=CONFIG) as server, connected(server) as first, connected(server) as second:
        begin(server, first, COUNTED)
        second.sendall(POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b" " * (LIMIT - 100))
        assert statuses(until(first, b"}}")) == [b"429"]
        second.sendall(b" " * 100)
        assert statuses(until(second, b"}}")) == [b"400"]
        assert server.state.bodies.used == 0


def test_a_client_that_leaves_gives_its_share_back() -> None:
    with serving(config=CONFIG) as server:
        with connected(server) as first:
            begin(server, first, COUNTED)
        server.until(lambda: server.state.bodies.used == 0)
