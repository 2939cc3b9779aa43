"""`EngineHandle`: all that the layers above may ask of an engine.

`EngineClient` implements it with one supervised engine process; several engines behind a router
can implement it as well. Whoever holds a handle does not know which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from headway.client.stream import Stream
from headway.types import Request, TokenEvent
from headway.wire import EngineInfo, EngineStats

EngineState = Literal["starting", "ready", "restarting", "failed", "closed"]
"""`restarting`: requests are accepted and wait. `failed`: the engine will not come back."""

EngineListener = Callable[[Sequence[TokenEvent], EngineStats, float], None]
"""Called with (events, statistics, monotonic seconds); see `EngineHandle.subscribe`."""


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
    def info(self) -> EngineInfo:
        """What the engine found and chose: device, limits, number of KV blocks."""
        ...

    @property
    def stats(self) -> EngineStats:
        """The latest statistics; counters never fall, not even when an engine is restarted."""
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

    async def close(self) -> None:
        """Stop the engine and wait until it is gone; live requests end with "abort"."""
        ...
