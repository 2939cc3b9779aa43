"""Writes pieces of an answer's body to the connection at once, past the layers of the application.

In ASGI every piece is a message that is awaited by each layer in turn, though none of them looks at
anything but the head. The connection offers this object in the request's scope, and whoever streams
an answer may use it once the head is sent. Where there is none, or it is not ready, the piece goes
the ordinary way, which also waits for a client that reads too slowly.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

BODY_WRITER = "headway.body_writer"
"""Its key in a request's scope."""


class BodyWriter:
    """Of one request on its connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def ready(self) -> bool:
        """Whether a piece can be written now: the answer has begun, has no end yet and comes in
        chunks, and the client reads."""
        cycle = self._cycle
        return (
            cycle.response_started
            and not cycle.response_complete
            and cycle.chunked_encoding is True
            and not cycle.flow.write_paused
            and not cycle.disconnected
        )

    def write(self, data: bytes) -> None:
        """Write a piece, which is not empty, as one chunk. Only when `ready`."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
