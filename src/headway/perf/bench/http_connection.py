"""HTTP/1.1 for a load generator: connections that cost next to nothing per piece of an answer.

The load generator shares its cores with the server that it measures, so what it spends on a token
is missing there. Here a read from the socket goes through one C parser straight to the reader of
the response, stamped with one time, with no task woken in between; a request is one write. Only
what talking to a model server needs is known: no redirects, no compression, no proxies.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from headway.errors import InvalidRequest

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A base URL's parts."""

    host: str
    port: int
    secure: bool
    prefix: str
    """Path before the endpoints', without a slash at its end; mostly empty."""

    @classmethod
    def parse(cls, url: str, *, field: str = "--base-url") -> Address:
        """From `http://host:port`, with or without the `/v1` that clients of OpenAI's API add.

        Raises `InvalidRequest` naming the field.
        """
        try:
            parts = urlsplit(url if "://" in url else "http://" + url)
            port = parts.port
        except ValueError as error:
            raise _wrong(url, str(error), field) from error
        if parts.scheme not in PORTS:
            raise _wrong(url, f"{parts.scheme} is neither http nor https", field)
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            why = "it needs a host and has room for nothing but a port and a path"
            raise _wrong(url, why, field)
        if any(not 33 <= ord(letter) <= 126 for letter in url):
            why = "it holds blanks, or letters that must be percent-encoded"
            raise _wrong(url, why, field)
        return cls(
            host=parts.hostname,
            port=PORTS[parts.scheme] if port is None else port,
            secure=parts.scheme == "https",
            prefix=parts.path.rstrip("/").removesuffix("/v1"),
        )

    @property
    def name(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.secure else "http"] else self.at

    @property
    def at(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.at}{self.prefix}"


def _wrong(url: str, why: str, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} {url!r} is no address of a server: {why}; one is http://127.0.0.1:8000",
        field=field,
    )


CONNECT_TIMEOUT = 30.0
"""Seconds for opening a connection."""


class ConnectionBroken(Exception):
    """An exchange that did not complete; the text says why."""

    def __init__(self, message: str, *, untouched: bool = False) -> None:
        super().__init__(message)
        self.untouched = untouched
        """The server had sent nothing."""


class ResponseReader(Protocol):
    """Reads a response as it comes. A `ValueError` that it raises breaks the exchange off."""

    def head(self, status: int) -> None: ...

    def body(self, data: bytes, clock: float) -> None:
        """Some bytes, and `time.perf_counter` when they were there."""
        ...


class HttpConnection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.usable = False
        """It is open, and the next exchange may begin."""
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reader: ResponseReader | None = None
        self._done: asyncio.Future[None] | None = None
        self._clock = 0.0
        self._received = False
        self._has_length = False
        """The head says where the body ends."""
        self._until_close = False

    async def exchange(self, request: bytes, reader: ResponseReader) -> None:
        """Send a request and read its answer to the end; raises `ConnectionBroken`."""
        assert self.usable, "the exchange before has ended and the connection is open"
        assert self._transport is not None, "it was open once"
        self.usable = self._received = self._has_length = self._until_close = False
        self._reader = reader
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._reader = self._done = None

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        self._clock = time.perf_counter()
        if self._done is None:
            self.close()
            return
        self._received = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError) as error:
            # The parser wraps what a reader raises.
            cause = error.__context__ if isinstance(error.__context__, ValueError) else error
            self._end(ConnectionBroken(f"the answer cannot be read: {cause}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._until_close:
            self._end(None)
            return
        why = "the server closed the connection" if exc is None else f"connection lost: {exc}"
        self._end(ConnectionBroken(why, untouched=not self._received))

    # What the parser calls:

    def on_message_begin(self) -> None:
        self._has_length = self._until_close = False

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        chunked = lowered == b"transfer-encoding" and b"chunked" in value.lower()
        self._has_length = self._has_length or chunked or lowered == b"content-length"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._reader is not None:
            # A body of unknown length ends with the connection.
            self._until_close = not self._has_length
            self._reader.head(status)

    def on_body(self, body: bytes) -> None:
        if self._reader is not None:
            self._reader.body(body, self._clock)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._end(None)

    def _end(self, error: ConnectionBroken | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self.usable = self._transport is not None and not self._transport.is_closing()
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class HttpConnections:
    """Connections to one server, kept and used again. Use on one event loop; `close` it."""

    def __init__(self, address: Address, *, headers: Mapping[str, str], timeout: float) -> None:
        """`headers` go with every request, `timeout` (seconds) bounds every exchange."""
        self.address = address
        self._timeout = timeout
        self._idle: list[HttpConnection] = []
        self._found: list[tuple[str, int]] = []
        self._tls = ssl.create_default_context() if address.secure else None
        self._fixed = _lines({"Host": address.name, "Accept-Encoding": "identity"} | dict(headers))

    async def get(self, path: str, reader: ResponseReader) -> None:
        """Ask for what is at a path below the base URL; raises `ConnectionBroken`."""
        await self._send(b"GET", path, b"", reader)

    async def post(self, path: str, body: bytes, reader: ResponseReader) -> None:
        """Send JSON to a path below the base URL; raises `ConnectionBroken`."""
        await self._send(b"POST", path, body, reader)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _send(self, method: bytes, path: str, body: bytes, reader: ResponseReader) -> None:
        target = (self.address.prefix + path).encode("ascii")
        sized = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        head = b"%b %b HTTP/1.1\r\n%b" % (method, target, self._fixed)
        request = b"".join((head, sized if body else b"", b"\r\n", body))
        try:
            async with asyncio.timeout(self._timeout):
                await self._exchange(request, reader)
        except TimeoutError as error:
            raise ConnectionBroken(f"no end after {self._timeout:g} s") from error

    async def _exchange(self, request: bytes, reader: ResponseReader) -> None:
        while (connection := self._kept()) is not None:
            try:
                await connection.exchange(request, reader)
            except ConnectionBroken as error:
                # The server may have closed an idle connection just then; that is no failure.
                if not error.untouched:
                    raise
            else:
                self._keep(connection)
                return
        connection = await self._open()
        await connection.exchange(request, reader)
        self._keep(connection)

    def _kept(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _keep(self, connection: HttpConnection) -> None:
        if connection.usable:
            self._idle.append(connection)

    async def _open(self) -> HttpConnection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._connect()
        except TimeoutError as error:
            raise ConnectionBroken(
                f"no connection to {self.address.at} within {CONNECT_TIMEOUT:g} s", untouched=True
            ) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise ConnectionBroken(
                f"cannot connect to {self.address.at}: {why}", untouched=True
            ) from error

    async def _connect(self) -> HttpConnection:
        """A new connection, to the address that answered first; names are looked up once."""
        loop = asyncio.get_running_loop()
        if not self._found:
            found = await loop.getaddrinfo(
                self.address.host, self.address.port, type=socket.SOCK_STREAM
            )
            self._found = [(str(info[4][0]), int(info[4][1])) for info in found]
        name = self.address.host if self._tls is not None else None
        for host, port in tuple(self._found):
            try:
                _, connection = await loop.create_connection(
                    HttpConnection, host, port, ssl=self._tls, server_hostname=name
                )
            except OSError:
                if (host, port) == self._found[-1]:
                    raise
            else:
                self._found = [(host, port)]
                return connection
        raise OSError(f"{self.address.host} has no address")


def _lines(headers: Mapping[str, str]) -> bytes:
    lines = []
    for name, value in headers.items():
        if not name or not all(33 <= ord(c) <= 126 and c != ":" for c in name):
            raise InvalidRequest(f"--header: {name!r} is no name of a header", field="--header")
        if not all(32 <= ord(c) <= 126 for c in value):
            raise InvalidRequest(
                f"the value of the header {name} holds what headers cannot", field="--header"
            )
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("ascii")
