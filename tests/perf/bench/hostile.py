"""A server on a loopback port that answers every request with bytes of the test's choosing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headway.perf.bench.http_connection import Address

Script = Sequence[bytes | float | None]
"""Bytes to send, seconds to wait, and None to close the connection."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return chunk(b"data: " + text.encode() + b"\n\n")


def whole(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@dataclass
class Hostile:
    """`response` makes the script for the n-th request, counted from 0."""

    response: Callable[[int], Script]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def address(self) -> Address:
        return Address.parse(f"http://127.0.0.1:{self.port}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _request(reader)) is not None:
                self.requests.append(request)
                for step in self.response(len(self.requests) - 1):
                    if step is None:
                        return
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                    else:
                        writer.write(step)
                        await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def hostile(response: Callable[[int], Script]) -> AsyncIterator[Hostile]:
    host = Hostile(response)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """Head and body of the next request, None once there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                head += await reader.readexactly(int(line.split(b":")[1]))
    except asyncio.IncompleteReadError:
        return None
    return head
