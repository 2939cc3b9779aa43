"""Hands the deltas of a request on in the turn of the event loop in which they come.

To wake a task for every token, and to pass its bytes through all layers of the application, costs
more than to make the bytes. So while the client reads, the engine's message itself calls what
decodes, encodes and writes; the task of the request sleeps. It goes on for whatever takes time: a
client that reads too slowly, and the end. Where nothing is sent before the end, most news can wait
until there is more. Knows neither text nor HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from headway.llm import Delta, RequestStream


class Receiver(Protocol):
    """What becomes of deltas."""

    @property
    def ready(self) -> bool:
        """Whether it can `write` now what it takes."""
        ...

    def take(self, delta: Delta) -> bytes:
        """Take in the next delta; returns what is to be written, perhaps nothing."""
        ...

    def write(self, data: bytes) -> None:
        """Write without waiting."""
        ...


class Relay:
    """Between the deltas of one request and whoever receives them."""

    def __init__(self, deltas: RequestStream, receiver: Receiver, *, patience: int = 0) -> None:
        """So many times news is left to be joined with what follows, unless something ended."""
        self._events = deltas.events
        self._delta_of = deltas.delta_of
        self._receiver = receiver
        self._patience = patience
        self._waited = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: Exception | None = None

    async def run(self) -> None:
        """Relay until the last delta, or until the receiver is not ready any more.

        Raises what taking a delta raises; what was made of those before it is written.
        """
        self._events.listen(self._on_news)
        try:
            self._on_news()
            await self._over
        except asyncio.CancelledError:
            if self._patience:
                self._taken()  # so that all is counted that came
            raise
        finally:
            self._events.listen(None)
        if self._error is not None:
            raise self._error

    def _on_news(self) -> None:
        if self._over.done():
            return
        if self._waited < self._patience and self._events.going_on:
            self._waited += 1
            return
        self._waited = 0
        if not self._receiver.ready:
            self._over.set_result(None)
            return
        if data := self._taken():
            self._receiver.write(data)
        if self._error is not None or self._events.ended:
            self._over.set_result(None)

    def _taken(self) -> bytes:
        """What the receiver makes of all that is there, of whatever continuation."""
        data = b""
        try:
            for event in self._events.take_all():
                data += self._receiver.take(self._delta_of(event))
        except Exception as error:
            self._error = error
        return data
