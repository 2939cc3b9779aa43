"""Which computations are under way, and which requests each of them answers. Bookkeeping alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from headway.client.handle import Stream
from headway.client.response_cache.computation import Computation, JoinKey, Subscriber, computed
from headway.client.response_cache.stream import CachedStream
from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent


class SharedComputations:
    """All that have not ended. A computation ends with its last event or its last subscriber."""

    def __init__(self) -> None:
        self._joinable: dict[JoinKey, Computation] = {}
        self._submitted: dict[str, Computation] = {}
        """By the ids that the engine knows."""
        self._joined: dict[str, Computation] = {}
        """By the ids of their subscribers."""
        self._numbers = itertools.count()

    def __iter__(self) -> Iterator[Computation]:
        return iter(set(self._joined.values()))

    def check_ids(self, requests: Iterable[Request]) -> None:
        """Raise `InvalidRequest` for a request whose id is in use."""
        seen = set[str]()
        for request in requests:
            if request.id in self._joined or request.id in seen:
                raise InvalidRequest(
                    f"a request with the id '{request.id}' is running already", field="request_id"
                )
            seen.add(request.id)

    def under(self, join_key: JoinKey) -> Computation | None:
        """The one that a request with this key may join."""
        return self._joinable.get(join_key)

    def of_subscriber(self, request_id: str) -> Computation | None:
        """The one that answers a request."""
        return self._joined.get(request_id)

    def of_engine(self, engine_id: str) -> Computation | None:
        """The one that the engine has under an id."""
        return self._submitted.get(engine_id)

    def new(self, join_key: JoinKey, request: Request) -> Computation:
        """One that begins with this request, which is yet to subscribe."""
        made = Computation(join_key=join_key, request=computed(request, next(self._numbers)))
        self._joinable[join_key] = made
        return made

    def submitted(self, computation: Computation, source: Stream) -> None:
        """The engine computes it, and `source` has what it says."""
        computation.state = "computed"
        computation.source = source
        self._submitted[computation.request.id] = computation

    def subscribe(
        self, computation: Computation, request: Request, stream: CachedStream
    ) -> TokenEvent | None:
        """Have it answer a request, too; returns what that gets at once, if anything."""
        computation.subscribers[request.id] = Subscriber(request, stream)
        self._joined[request.id] = computation
        if computation.state == "paused":
            stream.paused.add(request.id)
        event = computation.so_far(request)
        if event is not None:
            stream.push(event)
        return event

    def advance(self, computation: Computation, event: TokenEvent) -> list[TokenEvent]:
        """Pass an event on to all subscribers; returns what they heard."""
        computation.add(event)
        told = []
        for subscriber, heard in computation.told(event):
            subscriber.stream.push(heard)
            told.append(heard)
        if event.finish is not None:
            self.end(computation)
        return told

    def leave(self, request_id: str) -> Subscriber | None:
        """A request wants no more; the engine stops if it was the last."""
        computation = self._joined.pop(request_id, None)
        if computation is None:
            return None
        left = computation.subscribers.pop(request_id)
        if not computation.subscribers:
            self.end(computation)
            if computation.source is not None:
                computation.source.cancel(computation.request.id)
        return left

    def end(self, computation: Computation) -> None:
        """Nobody can join it, and it has no subscribers any more."""
        if self._joinable.get(computation.join_key) is computation:
            del self._joinable[computation.join_key]
        self._submitted.pop(computation.request.id, None)
        for name in computation.subscribers:
            del self._joined[name]
        computation.subscribers = {}

    def distrust(self) -> None:
        """What they give is good for those who wait, and for nobody else."""
        for computation in set(self._joined.values()):
            computation.sound = False
        self._joinable.clear()
