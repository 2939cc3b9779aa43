"""The stream of requests that a response cache answers, and who answers them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from headway.background import soon
from headway.client.handle import Stream
from headway.types import TokenEvent
from headway.types.response_cache import CacheOutcome

_WORST: tuple[CacheOutcome, ...] = ("miss", "joined", "hit")


class StreamOwner(Protocol):
    """What a stream tells whoever answers it."""

    def leave(self, ids: Sequence[str]) -> None:
        """Nobody reads these requests any more."""
        ...

    def keep(self, request_id: str) -> None:
        """What a request has got is an answer for its reader, who leaves."""
        ...

    def resume(self, request_id: str) -> None:
        """The beginning of its answer has been read: unless it has left, it wants more."""
        ...


class CachedStream(Stream):
    """Its events come from memory, or from computations that others may share."""

    def __init__(self, ids: Iterable[str], owner: StreamOwner) -> None:
        super().__init__(ids, owner.leave)
        self.outcomes: dict[str, CacheOutcome] = {}
        """How each request is answered."""
        self.paused: set[str] = set()
        """Requests whose answers go on only when somebody has read their beginning."""
        self._owner = owner

    @property
    def outcome(self) -> CacheOutcome | None:
        """See `Stream.outcome`."""
        found = set(self.outcomes.values())
        return next((each for each in _WORST if each in found), None)

    def enough(self, request_id: str) -> None:
        """See `Stream.enough`."""
        self._owner.keep(request_id)
        self.cancel(request_id)

    @property
    def going_on(self) -> bool:
        """See `Stream.going_on`: what waits for its reader does not."""
        return super().going_on and not self.paused

    def take(self) -> TokenEvent | None:
        """See `Stream.take`."""
        event = super().take()
        if event is not None:
            self._read(event)
        return event

    def take_all(self) -> list[TokenEvent]:
        """See `Stream.take_all`."""
        events = super().take_all()
        for event in events:
            self._read(event)
        return events

    def _read(self, event: TokenEvent) -> None:
        if event.id not in self.paused:
            return
        self.paused.discard(event.id)
        # In the turn of the event loop in which a reader gets a beginning it may have enough.
        soon(
            partial(self._owner.resume, event.id),
            name="response cache",
            on_failure=lambda _: self.cancel(),
        )
