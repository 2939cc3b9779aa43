"""Receives a request's body: never more than one may have, nor than all together may have.

The limits hold while reading, whatever the headers claim. What is received counts against one
budget for all connections, but for the first `FREE_BYTES` of each body, so that small requests get
in however many large ones are on their way. Where the budget is used up, the body that has stood
still for longest gives its share, and without such a one the newcomer is asked to come again.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from headway.errors import Overloaded
from headway.server.errors import BadBody

BODY_SECONDS = 120.0
"""Longest time that a client may take to send its body."""
STALL_SECONDS = 1.0
"""A body of which nothing came for so long may have to give way to another one."""
FREE_BYTES = 64 * 2**10
RETRY_SECONDS = 5.0


class BodyBudget:
    """Bytes of all bodies that are being received. For one event loop; there are no locks."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._receptions: dict[_Reception, None] = {}
        """Those that have bytes of the budget, the longest still first."""

    def take(self, reception: _Reception, size: int) -> None:
        """`size` more bytes for one body; raises `Overloaded` where they cannot be had."""
        while self.used + size > self.most:
            self._interrupt_stalled(reception)
        self.used += size
        reception.counted += size
        self._receptions.pop(reception, None)
        self._receptions[reception] = None

    def give_back(self, reception: _Reception) -> None:
        self.used -= reception.counted
        reception.counted = 0
        self._receptions.pop(reception, None)

    def _interrupt_stalled(self, newcomer: _Reception) -> None:
        now = asyncio.get_running_loop().time()
        stalled = next((each for each in self._receptions if each is not newcomer), None)
        if stalled is None or now - stalled.last_part < STALL_SECONDS:
            raise _too_much()
        self.give_back(stalled)
        stalled.interrupt()


class _Reception:
    """One body on its way."""

    def __init__(self, budget: BodyBudget, request: Request, max_bytes: int) -> None:
        self.counted = 0
        self.last_part = asyncio.get_running_loop().time()
        self._budget = budget
        self._request = request
        self._max_bytes = max_bytes
        self._deadline = asyncio.timeout(BODY_SECONDS)
        self._interrupted = False
        self._body = bytearray()

    def interrupt(self) -> None:
        """Stop waiting for it; whoever receives it gets `Overloaded`."""
        self._interrupted = True
        self._deadline.reschedule(0.0)

    async def receive(self) -> bytes:
        more = True
        try:
            async with self._deadline:
                while more:
                    more = await self._part()
        except TimeoutError:
            if self._interrupted:
                raise _too_much() from None
            raise BadBody(f"the body took over {BODY_SECONDS:g} seconds", status=408) from None
        finally:
            self._budget.give_back(self)
        return bytes(self._body)

    async def _part(self) -> bool:
        """Take the next part; returns whether there is more."""
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise BadBody("the client left while sending its body", status=400)
        part: bytes = message.get("body", b"")
        size = len(self._body) + len(part)
        if size > self._max_bytes:
            raise _too_large(self._max_bytes)
        self.last_part = asyncio.get_running_loop().time()
        free = max(0, FREE_BYTES - len(self._body))
        if len(part) > free:
            self._budget.take(self, len(part) - free)
        self._body += part
        return bool(message.get("more_body", False))


async def receive_body(request: Request, budget: BodyBudget, max_bytes: int) -> bytes:
    """The whole body. Raises `BadBody` for one that is too large, too slow or not finished, and
    `Overloaded` where too much is being received at once."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:19]) > max_bytes:
        raise _too_large(max_bytes)
    return await _Reception(budget, request, max_bytes).receive()


def _too_large(max_bytes: int) -> BadBody:
    return BadBody(f"the body is larger than {max_bytes} bytes", status=413)


def _too_much() -> Overloaded:
    return Overloaded(
        "too many large bodies are being received (max_pending_body_bytes); try again later",
        retry_after=RETRY_SECONDS,
    )
