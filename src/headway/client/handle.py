"""What the layers above see of an engine: `EngineHandle`, and the `Stream` of its requests' events.

`EngineClient` implements the handle with one supervised engine process, `EngineFleet` with several
behind a router. Whoever holds a handle does not know which of the two it is.

Events are kept until the reader of a stream asks. Those of one request are then joined into one, so
that a slow reader costs little memory (its tokens, which `max_tokens` bounds) and delays nobody. A
reader either awaits the next event, or listens and takes what is there: then no task is woken for
it, which costs more than most readers do with an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Literal, Protocol

from headway.background import soon
from headway.client.status import ReplicaStatus
from headway.types import Request, TokenEvent
from headway.types.batch_news import BatchNews
from headway.types.fleet import Role
from headway.types.response_cache import CacheOutcome
from headway.wire import EngineInfo, EngineStats


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
        preemptions=sum(event.preemptions for event in events),
        draft_tokens=sum(event.draft_tokens for event in events),
        accepted_tokens=sum(event.accepted_tokens for event in events),
        retry_after=last.retry_after,
        cached=last.cached,
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
        self._on_news: Callable[[], None] | None = None
        self._end_unread = False

    def push(self, event: TokenEvent) -> None:
        """Add an event; it is dropped if its request was cancelled or released."""
        self.add(event)
        self._tell_soon()

    def add(self, event: TokenEvent) -> None:
        """As `push`, but the reader does not know of it before the next `tell`."""
        name = event.id
        if name not in self._unfinished:
            return
        if event.finish is not None:
            self._unfinished.discard(name)
            self._end_unread = True
        unread = self._unread.get(name)
        if unread is None:
            self._unread[name] = [event]
        else:
            unread.append(event)

    def tell(self) -> None:
        """Let the reader have what was added: one that listens is called here and now."""
        if self._on_news is not None:
            self._on_news()
        elif self._new_event is not None and not self._new_event.done():
            self._new_event.set_result(None)

    def listen(self, on_news: Callable[[], None] | None) -> None:
        """Call `on_news`, which must not raise, whenever there may be something to `take`, or the
        end; None: no more. Nobody awaits events meanwhile.
        """
        self._on_news = on_news

    def take(self) -> TokenEvent | None:
        """The next event, if it is there: all that is unread of one request, in one."""
        if not self._unread:
            self._end_unread = False
            return None
        name = next(iter(self._unread))
        return join(self._unread.pop(name))

    def take_all(self) -> list[TokenEvent]:
        """One event for each request of which anything is unread."""
        unread, self._unread = self._unread, {}
        self._end_unread = False
        return [join(events) for events in unread.values()]

    @property
    def ended(self) -> bool:
        """Whether there is nothing to read any more, nor will be."""
        return not self._unread and not self._unfinished

    @property
    def going_on(self) -> bool:
        """Whether nothing has ended that is not read yet, and more is to come."""
        return bool(self._unfinished) and not self._end_unread

    def cancel(self, request_id: str | None = None) -> None:
        """Abort one request, or all, unless finished. None of their events is read any more."""
        ids = tuple(self._unfinished) if request_id is None else (request_id,)
        for name in ids:
            self._unread.pop(name, None)
        unfinished = [name for name in ids if name in self._unfinished]
        self._unfinished.difference_update(unfinished)
        if unfinished:
            self._on_cancel(unfinished)
        self._tell_soon()

    def enough(self, request_id: str) -> None:
        """End a request whose answer is complete for its reader, as by a stop string: as `cancel`,
        but what came is good for an equal request.
        """
        self.cancel(request_id)

    @property
    def outcome(self) -> CacheOutcome | None:
        """How a response cache answered, of several requests the worst; None without a cache."""
        return None

    def release(self, request_id: str) -> None:
        """Expect no more events of a request; those that came can still be read."""
        self._unfinished.discard(request_id)
        self._tell_soon()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> TokenEvent:
        while (event := self.take()) is None:
            if not self._unfinished:
                raise StopAsyncIteration
            self._new_event = asyncio.get_running_loop().create_future()
            try:
                await self._new_event
            finally:
                self._new_event = None
        return event

    def _tell_soon(self) -> None:
        """Whoever adds or cancels is not called back by the reader in the midst of it."""
        if self._on_news is None:
            self.tell()
        else:
            soon(self.tell, name="stream reader", on_failure=lambda _: self.cancel())


EngineState = Literal["starting", "ready", "restarting", "failed", "closed"]
"""`restarting`: requests are accepted and wait. `failed`: the engine will not come back."""

EngineListener = Callable[[Sequence[TokenEvent], EngineStats, float], None]
"""Called with (events, statistics, monotonic seconds); see `EngineHandle.subscribe`."""

BatchListener = Callable[[BatchNews], None]
"""Called with how far every sequence is; see `EngineHandle.watch_batch`."""
NEWS_SECONDS = 0.2
"""Between two news of the batch at least."""


class EngineHandle(Protocol):
    """Runs requests given as token ids. All methods are for the event loop that it was made on."""

    @property
    def state(self) -> EngineState:
        """Whether requests are run at present, and whether they ever will be."""
        ...

    @property
    def restarts(self) -> int:
        """How many times an engine process that had died was started again."""
        ...

    @property
    def silence(self) -> float:
        """Seconds since the engine was last heard, in which it should have said something.

        An engine that runs is heard every second. 0 while there is none.
        """
        ...

    @property
    def last_step_age(self) -> float:
        """Seconds since the last step ended, or since the engine was ready.

        It grows while there is nothing to compute, and while a step does not end.
        """
        ...

    @property
    def info(self) -> EngineInfo:
        """What the engine found and chose: device, limits, number of KV blocks."""
        ...

    @property
    def stats(self) -> EngineStats:
        """The latest statistics; counters never fall, not even when an engine is restarted."""
        ...

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        """The engines behind this handle, by their ids; one that was drained is gone."""
        ...

    async def add_replica(self, role: Role = "both") -> int:
        """Start one more engine of the same model with a role; returns its id once it is ready.

        Raises `Unavailable` where there can be none (one engine without a router, the most
        replicas, a server that ends) and `HeadwayError` where it cannot start.
        """
        ...

    async def drain(self, replica: int) -> int:
        """Give all requests of a replica to others and end it; returns how many were moved.

        Their streams go on as if nothing had happened. Raises `InvalidRequest` for an id that no
        replica has, and `Unavailable` where no other replica could go on.
        """
        ...

    async def restart(self) -> None:
        """Replace every engine process by a new one, which reads the model anew; streams go on.

        One after the other, so that as many serve as can. Returns once all are ready; raises
        `Unavailable` where one does not come back.
        """
        ...

    def submit(self, *requests: Request) -> Stream:
        """Queue requests and return one stream of all their events. Never waits.

        `Request.generated` holds tokens that are known already: generation goes on after them, and
        they are not reported again. Raises `InvalidRequest` if an id is in use, in which case none
        of the requests is queued, and `Unavailable` in the states "failed" and "closed".
        """
        ...

    def abort(self, request_id: str) -> None:
        """End a request: its stream gets an event with the finish reason "abort".

        Unknown ids are ignored. The id can be used again once the engine has let go of it.
        """
        ...

    def take(self, request_id: str) -> Request | None:
        """Take a live request away from this engine, so that another one can go on with it.

        Returns the request with all tokens that its stream has received as `generated`: submitted
        to an engine with the same model, it continues with the tokens that it would have got here.
        None for a request that is unknown or has ended.

        Its stream here gets no further event, and ends once it has none left to read; listeners
        hear nothing, since the request has not ended. The new engine reports its own
        `scheduled_at` and `cached_tokens`. Prompt logprobs are reported again unless the stream
        has had all of them.
        """
        ...

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        """Call `listener` after every step with the step's events; returns how to unsubscribe.

        It is also called with requests that end without a step (aborted, failed). It must not
        block; an exception that it raises is logged and otherwise ignored.
        """
        ...

    def watch_batch(self, listener: BatchListener) -> Callable[[], None]:
        """Call `listener` with the batch as it is, every `NEWS_SECONDS` while anything changes.

        Returns how to stop watching. The engine does this only while somebody watches. The
        listener must not block; an exception that it raises is logged and otherwise ignored.
        """
        ...

    async def close(self) -> None:
        """Stop the engine and wait until it is gone; live requests end with "abort"."""
        ...
