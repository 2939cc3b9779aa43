"""The events of some requests, as an asynchronous iterator for the one who submitted them.

Events are kept until the reader asks. Those of one request are then joined into one, so that a
slow reader costs little memory (its tokens, which `max_tokens` bounds) and delays nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from headway.types import TokenEvent


def join(events: Sequence[TokenEvent]) -> TokenEvent:
    """Consecutive events of one request as a single event with the same contents."""
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
    """Iterates over the events of requests until each of them has finished. One reader at a time.

    `on_cancel` is called with the ids of unfinished requests that the reader cancels.
    """

    def __init__(self, ids: Iterable[str], on_cancel: Callable[[Sequence[str]], None]) -> None:
        self._unfinished = set(ids)
        self._on_cancel = on_cancel
        self._unread: dict[str, list[TokenEvent]] = {}
        self._new_event: asyncio.Future[None] | None = None

    def push(self, event: TokenEvent) -> None:
        """Add an event; it is dropped if its request was cancelled or released."""
        if event.id not in self._unfinished:
            return
        if event.finish is not None:
            self._unfinished.discard(event.id)
        self._unread.setdefault(event.id, []).append(event)
        self._wake_reader()

    def cancel(self, request_id: str | None = None) -> None:
        """Abort one request, or all, unless finished. None of their events is read any more."""
        ids = tuple(self._unfinished) if request_id is None else (request_id,)
        for name in ids:
            self._unread.pop(name, None)
        unfinished = [name for name in ids if name in self._unfinished]
        self._unfinished.difference_update(unfinished)
        if unfinished:
            self._on_cancel(unfinished)
        self._wake_reader()

    def release(self, request_id: str) -> None:
        """Expect no more events of a request; those that came can still be read."""
        self._unfinished.discard(request_id)
        self._wake_reader()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._unread:
            if not self._unfinished:
                raise StopAsyncIteration
            self._new_event = asyncio.get_running_loop().create_future()
            try:
                await self._new_event
            finally:
                self._new_event = None
        name = next(iter(self._unread))
        return join(self._unread.pop(name))

    def _wake_reader(self) -> None:
        if self._new_event is not None and not self._new_event.done():
            self._new_event.set_result(None)
