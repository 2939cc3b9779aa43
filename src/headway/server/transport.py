"""A transport whose end loses no answer, and comes however little the client does for it.

A socket that is closed while bytes of the client are still unread resets the connection, and the
answer may be lost with it. So the writing side ends first, and what still comes is thrown away for
a moment. A transport that is closed waits for its client to read the rest, which need not happen
either: after a while the connection is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.background import later

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 2**20
"""For so long, and so much, a request is read on after its answer, and thrown away."""
FLUSH_SECONDS = 10.0
"""Time for the client to read what was written before the end."""


class LingeringTransport:
    """What uvicorn's protocol uses of a transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lingering = False
        self.unread = False
        """A request has begun of which more is to come."""
        self.write = transport.write
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._discarded = 0

    def is_closing(self) -> bool:
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """End once all is written; where the client is still sending, or said twice, see above."""
        if self.unread and not self.is_closing():
            self.linger()
        else:
            self.close_now()

    def linger(self) -> None:
        """Write nothing more, and throw away what comes, until the client is done or too long."""
        self.lingering = True
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._arm(LINGER_SECONDS, self.close_now)

    def discard(self, size: int) -> None:
        """So many bytes came while lingering."""
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.abort()

    def close_now(self) -> None:
        """End once all is written, or cannot be."""
        self._transport.close()
        self._arm(FLUSH_SECONDS, self.abort)

    def abort(self) -> None:
        """End without writing what is not written yet."""
        self._transport.abort()

    def lost(self) -> None:
        """The connection is no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _arm(self, seconds: float, what: Callable[[], None]) -> None:
        self.lost()
        self._timer = later(
            seconds, what, name="end of a connection", on_failure=lambda _: self.abort()
        )
