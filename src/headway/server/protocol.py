"""HTTP on the socket: uvicorn's httptools protocol, with bounds on what a client can make it hold.

httptools parses headers, trailers and chunk extensions of any length for as long as they come.
Here a head has a size limit and a deadline; so have chunk framing and trailers; a request that is
answered before all of it came is read on for a moment only; and a client that does not read its
answer is cut off. What is no HTTP at all gets its 400 in the same JSON shape as every other error.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headway.background import later, soon
from headway.server.body_writer import BODY_WRITER, BodyWriter
from headway.server.connections import PROBES, Connections, Place
from headway.server.errors import RETRY_AFTER, plain_error, refusal_bytes
from headway.server.transport import LINGER_BYTES, LINGER_SECONDS, LingeringTransport

MAX_HEAD_BYTES = 64 * 2**10
MAX_HEADERS = 256
HEAD_SECONDS = 60.0
"""From the connection's start, or the last answer on it, to the end of the next request's head."""
PROBE_HEAD_SECONDS = 5.0
"""The same on a connection that is one too many."""
MAX_FRAMING_BYTES = 64 * 2**10
"""For chunk extensions and trailers: what comes beside a body, and `CHUNK_BYTES` a chunk."""
CHUNK_BYTES = 16
WRITE_SECONDS = 60.0
"""Longest time in which a client may read nothing of what waits for it."""
PIECE_BYTES = 8 * 2**10
"""The parser gets so much at once, so that bounds are looked at in between."""

_TOO_MANY = plain_error(
    503,
    "too many connections; try again later",
    {"retry-after": str(RETRY_AFTER), "connection": "close"},
)
"""The application on a connection that is one too many, but for probes."""


class HeadwayProtocol(HttpToolsProtocol):
    """One client connection."""

    transport: LingeringTransport  # type: ignore[assignment]

    def __init__(self, *args: Any, place: Place | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = place or Place(Connections(1, 1), "", over=False)
        self._in_head = True
        self._muted = False
        """What the parser says of a head is known already."""
        self._heads = 0
        self._head_bytes = 0
        self._framing_bytes = 0
        self._skipped_bytes = 0
        self._held = b""
        """Bytes that wait for the answer to a request before them."""
        self._answering: RequestResponseCycle | None = None
        """Whose task runs; `self.cycle` is the newest, which may have to wait for it."""
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(LingeringTransport(transport))  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.place.stop_waiting(self)
        self.place.leave()
        self._forget_deadline()
        self.resume_writing()
        self.transport.lost()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.lingering:
            self.transport.discard(len(data))
        elif self._held:
            self._hold(self._held + data)
        elif not self.transport.is_closing():
            self._unset_keepalive_if_required()
            if self._answering is None or self._answering.more_body:
                self.place.wait(self)
            self._parse(memoryview(data))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = later(
                WRITE_SECONDS,
                self.transport.abort,
                name="write deadline",
                on_failure=lambda _: self.transport.abort(),
            )

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def evict(self) -> None:
        """Close at once: the client owes bytes, and others need the room."""
        self._disconnect()
        self.transport.abort()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._muted:
            return
        self._framing_bytes = 0
        self._skipped_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # A trailer. None means anything here, and none must pass for a header.
        if len(self.headers) >= MAX_HEADERS:
            raise _Refused(431, f"the request has more than {MAX_HEADERS} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        over = self.place.over and self.url.partition(b"?")[0].decode("latin-1") not in PROBES
        self.app = _TOO_MANY if over else self.config.loaded_app
        self.transport.unread = True
        super().on_headers_complete()
        self._in_head = False
        self._heads += 1
        self._forget_deadline()
        if self.expect_100_continue:
            # Whether a body follows an answer that comes first is the client's choice.
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        self._framing_bytes -= CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        if self.cycle.response_complete:
            self._skipped_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._muted and self.parser.should_upgrade() and self._framing_headers():
            return  # The parser takes the body for the other protocol; see `_decline_upgrade`.
        self._in_head = True
        self._head_bytes = 0
        self.transport.unread = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._expect_head()
        else:
            self.place.stop_waiting(self)

    # What uvicorn's cycles call.

    def on_response_complete(self) -> None:
        unread = self.cycle.response_complete and not self._in_head
        self._answering = None
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if unread:
            self._expect(LINGER_SECONDS)
        elif self._answering is None:
            self._expect_head()
        if self._held:
            soon(
                self._parse_held,
                name="pipelined request",
                on_failure=lambda _: self.transport.abort(),
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            # uvicorn makes its cycles by itself, without a place to choose their class.
            cycle.__class__ = _OldClientCycle
        cycle.scope[BODY_WRITER] = BodyWriter(cycle)  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _parse(self, view: memoryview) -> None:
        while view and not self.transport.is_closing():
            if self.pipeline:
                # One request may wait for the answer to another; what follows is kept as bytes.
                self._hold(bytes(view))
                return
            room = MAX_HEAD_BYTES - self._head_bytes if self._in_head else PIECE_BYTES
            if room <= 0:
                self._refuse(431, f"the request's head is larger than {MAX_HEAD_BYTES} bytes")
                return
            view = view[self._feed(view[: min(room, PIECE_BYTES)]) :]

    def _feed(self, piece: memoryview) -> int:
        """Parse a piece; returns how much of it was parsed."""
        was_in_head, heads, size = self._in_head, self._heads, len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            size = upgrade.args[0]
            self._decline_upgrade()
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.status, cause.message)
            else:
                self._refuse(400, "the request is not valid HTTP")
            return len(piece)
        if was_in_head and heads == self._heads:
            self._head_bytes += size
        elif not was_in_head and not self._in_head:
            self._framing_bytes += size
            self._check_unread()
        return size

    def _decline_upgrade(self) -> None:
        """The client offers another protocol (Java's clients do, with every request), which is for
        the server to take or to leave. The parser takes what follows for that protocol; another
        one reads on, which is told how the body comes."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if framing := self._framing_headers():
            self._muted = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
            self._muted = False

    def _framing_headers(self) -> bytes:
        """Those that say how the body comes; empty where there is none."""
        names = (b"content-length", b"transfer-encoding")
        return b"".join(n + b": " + v + b"\r\n" for n, v in self.headers if n in names)

    def _check_unread(self) -> None:
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self._refuse(431, "the request's chunk extensions and trailers are too large")
        elif self._skipped_bytes > LINGER_BYTES:
            self.transport.abort()

    def _hold(self, data: bytes) -> None:
        self._held = data
        self.flow.pause_reading()

    def _parse_held(self) -> None:
        held, self._held = self._held, b""
        if not self.transport.is_closing():
            self._parse(memoryview(held))

    def _expect_head(self) -> None:
        self._expect(PROBE_HEAD_SECONDS if self.place.over else HEAD_SECONDS)

    def _expect(self, seconds: float) -> None:
        self.place.wait(self)
        self._forget_deadline()
        self._deadline = later(
            seconds,
            self._on_deadline,
            name="head deadline",
            on_failure=lambda _: self.transport.abort(),
        )

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        if self._answering is None:
            self.transport.close_now()

    def _disconnect(self) -> None:
        """Whoever answers a request of this connection is to stop."""
        waiting = [cycle for cycle, _ in self.pipeline]
        for cycle in (self._answering, self.cycle, *waiting):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def _refuse(self, status: int, message: str) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        answered = self._answering is not None and self._answering.response_started
        if not self._in_head and self.cycle.response_complete:
            answered = True
        self._disconnect()
        if not answered:
            self.transport.write(refusal_bytes(status, message))
        self.transport.linger()


class _OldClientCycle(RequestResponseCycle):
    """Answers HTTP/1.0, which knows no chunks: where no length is given, the body ends with the
    connection."""

    _unframed = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if not any(name.lower() == b"content-length" for name, _ in message["headers"]):
                self.chunked_encoding = False
                self._unframed = True
        elif self._unframed:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class _Refused(Exception):
    """Raised where the parser calls, to stop it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
