"""Requests as bytes, for what HTTP libraries do not let one send."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

from tests.server.conftest import Running

POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
VERSION = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BODY = b'{"prompt": "x", "max_tokens": 1}'


def post(body: bytes = BODY, *headers: bytes, head: bytes = POST) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return head + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def streaming(tokens: int) -> bytes:
    return post(json.dumps({"prompt": "x", "max_tokens": tokens, "stream": True}).encode())


@contextlib.contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            answer += part
    return answer


def until(connection: socket.socket, text: bytes) -> bytes:
    """What comes up to some bytes."""
    answer = b""
    while text not in answer:
        part = connection.recv(2**16)
        assert part, answer
        answer += part
    return answer


def talk(server: Running, data: bytes) -> bytes:
    """Send bytes and read until the server closes the connection."""
    with connected(server) as connection:
        # The server may close before all is sent; its answer can still be read.
        with contextlib.suppress(OSError):
            connection.sendall(data)
        return rest(connection)


def statuses(answer: bytes) -> list[bytes]:
    """Of all responses, in their order."""
    return [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
