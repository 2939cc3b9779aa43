"""HTTP as bytes: what a connection may bring, how much of it, and for how long."""

from __future__ import annotations

import contextlib
import socket

import pytest

from headway.config import ServerConfig
from headway.server import protocol, transport
from headway.server.protocol import MAX_FRAMING_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, HeadwayProtocol
from tests.server.conftest import Running, serving
from tests.server.raw import (
    BODY,
    CHUNKED,
    LAST,
    POST,
    VERSION,
    connected,
    post,
    rest,
    statuses,
    streaming,
    talk,
    until,
)


def connections(server: Running) -> list[HeadwayProtocol]:
    """To be looked at on the server's event loop."""
    return list(server.server.server_state.connections)  # type: ignore[arg-type]


@pytest.mark.parametrize(("more", "status"), [(0, b"200"), (1, b"431"), (30_000, b"431")])
def test_a_head_has_an_exact_limit(server: Running, more: int, status: bytes) -> None:
    start, end = b"GET /version HTTP/1.1\r\nConnection: close\r\nX: ", b"\r\n\r\n"
    filling = b"y" * (MAX_HEAD_BYTES - len(start) - len(end) + more)
    assert statuses(talk(server, start + filling + end)) == [status]


@pytest.mark.parametrize(("number", "status"), [(MAX_HEADERS - 1, b"200"), (MAX_HEADERS, b"431")])
def test_a_head_has_so_many_lines(server: Running, number: int, status: bytes) -> None:
    head = b"GET /version HTTP/1.1\r\nConnection: close\r\n" + b"a:\r\n" * number + b"\r\n"
    assert statuses(talk(server, head)) == [status]


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"0\r\n", b"1;x="], ids=["long", "many", "chunk"])
@pytest.mark.parametrize("key", [True, False])
def test_trailers_and_chunk_extensions_have_a_limit(start: bytes, key: bool) -> None:
    line = b"X: " + b"y" * 95 + b"\r\n" if start == b"0\r\n" else b"y" * 100
    config = ServerConfig(port=0, api_key=("secret",) if key else ())
    with serving(config=config) as server, connected(server) as connection:
        connection.sendall(CHUNKED)
        if key:
            # The answer comes first, and the connection ends all the same.
            assert statuses(until(connection, b"}}")) == [b"401"]
        connection.sendall(start + line * (4 * MAX_FRAMING_BYTES // 100))
        assert statuses(rest(connection)) == ([] if key else [b"431"])


def test_small_chunks_and_few_trailers_are_fine(server: Running) -> None:
    spaces = b"1\r\n \r\n" * MAX_FRAMING_BYTES
    trailer = b"X-Request-Id: evil\r\nContent-Type: text/plain\r\n\r\n"
    chunk = b"%x;a=b\r\n" % len(BODY) + BODY + b"\r\n"
    answer = talk(server, CHUNKED + spaces + chunk + b"0\r\n" + trailer + LAST)
    assert statuses(answer) == [b"200", b"200"]
    assert b"evil" not in answer


@pytest.mark.parametrize("head", [POST, POST.replace(b"/v1", b"/v2")])
def test_a_large_body_and_the_next_head_in_one_go(server: Running, head: bytes) -> None:
    large = b'{"prompt": "x", "max_tokens": 1' + b" " * 300_000 + b"}"
    answer = talk(server, post(large, head=head) + LAST)
    assert statuses(answer) == [b"200" if head == POST else b"404", b"200"]


def test_many_requests_at_once_wait_as_bytes(server: Running) -> None:
    server.hold()
    with connected(server) as connection:
        connection.sendall(post() + VERSION * 1500 + LAST)
        server.until(lambda: server.state.requests == 1)
        server.until(lambda: any(each.pipeline for each in connections(server)))
        # Each of them would be some kilobytes, and its bytes are 34.
        assert server.call(lambda: max(len(each.pipeline) for each in connections(server))) < 300
        server.go_on()
        assert statuses(rest(connection)) == [b"200"] * 1502


def test_who_leaves_with_requests_waiting_is_noticed(server: Running) -> None:
    server.hold()
    with connected(server) as connection:
        connection.sendall(post() + VERSION)
        server.until(lambda: any(each.pipeline for each in connections(server)))
    with contextlib.closing(connection):
        server.until(lambda: server.state.requests == 0)
    server.go_on()


def test_the_second_head_has_a_deadline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with serving() as server, connected(server) as connection:
        connection.sendall(VERSION)
        until(connection, b"}")
        connection.sendall(VERSION[:-4])
        assert rest(connection) == b""


def test_who_waits_for_an_answer_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with serving() as server, connected(server) as connection:
        connection.sendall(VERSION)
        until(connection, b"}")
        server.hold()
        connection.sendall(post())
        server.until(lambda: server.state.requests == 1)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        server.go_on()
        connection.settimeout(30)
        assert statuses(until(connection, b"}}")) == [b"200"]


@pytest.mark.parametrize("way", ["time", "size"])
def test_an_answered_request_is_not_read_for_ever(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for module in (protocol, transport):
        monkeypatch.setattr(module, "LINGER_SECONDS", 0.2 if way == "time" else 1000)
        monkeypatch.setattr(module, "LINGER_BYTES", 2**20)
    body = b"x" * (1000 if way == "time" else 2**22)
    with serving() as server:
        for path in (b"/v2", b"/v1"):
            head = POST.replace(b"/v1", path) + b"Content-Length: 9999999999\r\n\r\n"
            assert statuses(talk(server, head + body)) == [b"404" if path == b"/v2" else b"413"]


def test_an_answered_request_that_ends_keeps_its_connection(server: Running) -> None:
    head = POST.replace(b"/v1", b"/v2") + b"Content-Length: 5\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head)
        until(connection, b"}}")
        connection.sendall(b"x" * 5 + LAST)
        assert statuses(rest(connection)) == [b"200"]


def test_who_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.2)
    tokens = 200_000
    with (
        serving(max_model_len=2 * tokens) as server,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(streaming(tokens))
        server.until(lambda: server.state.requests == 1)
        server.until(lambda: server.state.requests == 0)
        assert server.engine.stats.step < tokens
        server.until(lambda: not connections(server))


def test_who_never_reads_the_last_bytes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FLUSH_SECONDS", 0.2)
    with serving() as server, connected(server) as connection:
        connection.sendall(VERSION)
        until(connection, b"}")
        (found,) = server.call(lambda: connections(server))
        server.call(lambda: found.transport.write(b"x" * 2**25))
        server.call(found.transport.close)
        server.until(lambda: not connections(server))


@pytest.mark.parametrize("protocol_name", [b"h2c", b"websocket"])
@pytest.mark.parametrize("chunked", [True, False])
def test_an_offered_protocol_is_declined(
    server: Running, protocol_name: bytes, chunked: bool
) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: " + protocol_name
    request = post(BODY, offer)
    if chunked:
        head = POST + offer + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = head + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
    empty = VERSION[:-2] + offer + b"\r\n\r\n"
    answer = talk(server, empty + request + LAST)
    assert statuses(answer) == [b"200"] * 3
    assert answer.count(b'"completion_tokens":1') == 1


def test_an_old_client_gets_its_stream_without_chunks(server: Running) -> None:
    answer = talk(server, streaming(2).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_client_that_asks_before_it_sends(server: Running) -> None:
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head % len(BODY))
        assert until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert statuses(rest(connection)) == [b"200"]
    assert statuses(talk(server, head % 10**9)) == [b"413"]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET http://x/version HTTP/1.1", b"200"),
        (b"OPTIONS * HTTP/1.1", b"404"),
        (b"GET /ver\x00sion HTTP/1.1", b"400"),
        (b"GET /version HTTP/1.1\r\nX: a\x00b", b"400"),
        (b"GET /version HTTP/1.1\r\nX: a\r\n b", b"400"),
        (b"GET /version HTTP/1.1\r\nX: \xff\xfe", b"200"),
    ],
)
def test_odd_request_lines(server: Running, request_line: bytes, status: bytes) -> None:
    answer = talk(server, request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert statuses(answer) == [status]
