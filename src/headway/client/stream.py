"""What one caller hears of its requests, as an asynchronous iterator of token events.

Events wait here until the caller asks. While it does not, those of the same request are joined
into one, so that a slow caller costs little memory (its tokens, which `max_tokens` bounds) and
nobody else any time. A stream knows neither the engine nor the ledger; cancelling is a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from headway.types import TokenEvent

Cancel = Callable[[Sequence[str]], None]


def join(events: Sequence[TokenEvent]) -> TokenEvent:
    """Consecutive events of one request as a single event that says the same."""
    if len(events) == 1:
        return events[0]
    first, last = events[0], events[-1]
    return TokenEvent(
        id=first.id,
        tokens=tuple(chain.from_iterable(event.tokens for event in events)),
        logprobs=tuple(chain.from_iterable(event.logprobs for event in events)),
        prompt_logprobs=tuple(chain.from_iterable(event.prompt_logprobs for event in events)),
        finish=last.finish,
        stop_reason=last.stop_reason,
        error=last.error,
        cached_tokens=first.cached_tokens,
        scheduled_at=first.scheduled_at,
    )


class Stream:
    """Events of some requests, until each of them has finished. One consumer at a time."""

    def __init__(self, ids: Iterable[str], cancel: Cancel) -> None:
        self._open = set(ids)
        self._cancel = cancel
        self._waiting: dict[str, list[TokenEvent]] = {}
        self._wake: asyncio.Future[None] | None = None

    def push(self, event: TokenEvent) -> None:
        """Hand over an event; those of requests that were cancelled are dropped."""
        if event.id not in self._open:
            return
        if event.finish is not None:
            self._open.discard(event.id)
        self._waiting.setdefault(event.id, []).append(event)
        self._ring()

    def cancel(self, request_id: str | None = None) -> None:
        """Abort one request, or all, unless finished. Nothing more is heard of them."""
        chosen = tuple(self._open) if request_id is None else (request_id,)
        for name in chosen:
            self._waiting.pop(name, None)
        running = [name for name in chosen if name in self._open]
        self._open.difference_update(running)
        if running:
            self._cancel(running)
        self._ring()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._waiting:
            if not self._open:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        name = next(iter(self._waiting))
        return join(self._waiting.pop(name))

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
