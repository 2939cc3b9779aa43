"""How many connections there may be, and who gets in when there are too many."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from headway.config import ServerConfig
from headway.server import connections as connections_module
from headway.server import listener
from headway.server.connections import (
    PROBE_CONNECTIONS,
    Connections,
    Place,
    address_group,
    connection_bound,
)
from tests.server.conftest import Running, serving
from tests.server.raw import LAST, VERSION, connected, post, rest, statuses, talk, until

HEALTH = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"


class Silent:
    """A connection whose client owes bytes."""

    def __init__(self, place: Place | None) -> None:
        assert place is not None
        self.place = place
        self.evicted = False
        place.wait(self)

    def evict(self) -> None:
        self.evicted = True


def test_the_longest_silent_makes_room() -> None:
    connections = Connections(2, 10)
    first, second = Silent(connections.enter("a")), Silent(connections.enter("b"))
    first.place.wait(first)  # It has sent something.
    third = connections.enter("c")
    assert third is not None
    assert (first.evicted, second.evicted, third.over) == (False, True, False)
    assert connections.open == 2
    second.place.leave()  # What the closed socket says is not counted twice.
    assert connections.open == 2


def test_who_is_being_answered_stays() -> None:
    connections = Connections(2, 10)
    busy = Silent(connections.enter("a"))
    busy.place.stop_waiting(busy)
    idle = Silent(connections.enter("a"))
    assert connections.enter("b") is not None
    assert idle.evicted
    over = connections.enter("c")
    assert over is not None
    assert over.over
    assert not busy.evicted


def test_beyond_the_probes_nobody_gets_in() -> None:
    connections = Connections(1, 100)
    places = [connections.enter("a") for _ in range(1 + PROBE_CONNECTIONS)]
    assert [place is not None and place.over for place in places] == [False] + [True] * 16
    assert connections.enter("b") is None
    assert places[0] is not None
    places[0].leave()
    assert connections.enter("b") is not None


def test_an_address_has_a_bound_of_its_own() -> None:
    connections = Connections(100, 2)
    neighbour = Silent(connections.enter("b"))
    mine = [Silent(connections.enter("a")) for _ in range(3)]
    assert [each.evicted for each in mine] == [True, False, False]
    for each in mine[1:]:
        each.place.stop_waiting(each)
    assert connections.enter("a") is None
    assert connections.enter("b") is not None
    assert not neighbour.evicted
    # A Unix socket has no addresses to tell apart.
    assert all(connections.enter("") for _ in range(5))


def test_what_counts_as_one_address() -> None:
    assert address_group("192.0.2.1") != address_group("192.0.2.2")
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:1")
    assert address_group("2001:db8::1") != address_group("2001:db8:0:1::1")
    assert address_group("::ffff:192.0.2.1") == address_group("192.0.2.1")
    assert address_group("fe80::1%eth0") == address_group("fe80::2%eth0")


def test_idle_connections_keep_nobody_out() -> None:
    config = ServerConfig(port=0, max_connections=3)
    with serving(config=config) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(3)]
        for connection in idle:
            connection.sendall(VERSION)
            until(connection, b"}")
        idle[0].sendall(VERSION)  # The first is the last to have been heard of.
        until(idle[0], b"}")
        assert statuses(talk(server, LAST)) == [b"200"]
        assert rest(idle[1]) == b""
        idle[0].sendall(LAST)
        assert statuses(rest(idle[0])) == [b"200"]


def test_when_all_are_busy_probes_are_answered() -> None:
    config = ServerConfig(port=0, max_connections=2)
    with serving(config=config) as server, contextlib.ExitStack() as stack:
        server.hold()
        busy = [stack.enter_context(connected(server)) for _ in range(2)]
        for connection in busy:
            connection.sendall(post())
        server.until(lambda: server.state.requests == 2)
        refused = talk(server, LAST)
        assert statuses(refused) == [b"503"]
        assert b"retry-after: " in refused
        assert statuses(talk(server, HEALTH)) == [b"200"]
        server.go_on()
        for connection in busy:
            assert statuses(until(connection, b"}}")) == [b"200"]
        assert statuses(talk(server, LAST)) == [b"200"]


def test_one_address_with_too_many_busy_ones_is_refused() -> None:
    config = ServerConfig(port=0, max_connections_per_address=1)
    with serving(config=config) as server, connected(server) as busy:
        server.hold()
        busy.sendall(post())
        server.until(lambda: server.state.requests == 1)
        with connected(server) as other:
            refused = rest(other)
        assert statuses(refused) == [b"503"]
        assert b"too many connections" in refused
        server.go_on()
        until(busy, b"}}")


def test_every_place_is_given_back(server: Running) -> None:
    for _ in range(20):
        talk(server, LAST)
        talk(server, b"nonsense\r\n\r\n")
        with connected(server) as connection:
            connection.sendall(post()[:-5])
    server.until(lambda: server.server.connections.open == 0)
    assert not server.server.connections.waiting


def test_a_handshake_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0.2)
    with serving() as server:
        server.server.config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with connected(server) as connection:
            server.until(lambda: server.server.connections.open == 1)
            assert rest(connection) == b""
        server.until(lambda: server.server.connections.open == 0)
        server.server.config.ssl = None


def test_descriptors_bound_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = [100]
    monkeypatch.setattr(connections_module, "_used_descriptors", lambda: 10)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft[0], 200))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: soft.__setitem__(0, pair[0]))
    assert connection_bound(50) == 50
    assert soft == [100]
    assert connection_bound(100) == 100
    assert soft == [150]
    assert connection_bound(1000) == 150
    assert soft == [200]


def test_few_descriptors_and_many_idle_connections() -> None:
    """More connections than the process may have descriptors: nothing breaks, probes get in."""
    command = ["-m", "tests.server.alphabet_server", '{"port": 0}']
    script = f"ulimit -n 64; exec {sys.executable} {command[0]} {command[1]} '{command[2]}'"
    with (
        subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        ) as popen,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(popen.kill)
        assert popen.stdout is not None
        log = ""
        while "event=ready" not in log:
            log += popen.stdout.readline()
        port = int(log.split("url=http://127.0.0.1:")[1].split()[0])
        assert "event=few_descriptors" in log
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        for _ in range(10):
            assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        # What is kept free is there for an engine to be started with.
        assert psutil.Process(popen.pid).num_fds() <= 64 - 12
