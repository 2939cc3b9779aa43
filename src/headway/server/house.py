"""Who is in the house, whether the doors are open, and who must leave.

Every generating request holds a `Visit` from admission to its last byte; leaving the `with` block
is the only way out, so nothing can stay behind. The house counts continuations against its bound,
turns newcomers away while it starts, drains or is full, and can send everybody home. It knows
neither HTTP messages nor what a request asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from headway.config import ServerConfig
from headway.errors import InvalidRequest, ModelNotFound, Overloaded, Unavailable
from headway.server.backend import Backend

log = logging.getLogger("headway.server")

Doors = Literal["starting", "open", "draining"]
Eviction = Literal["disconnect", "shutdown"]

FIRST_GUESS = 1.0
"""Seconds to ask a client to wait while nothing is known about how long requests take."""
LONGEST_WAIT = 60.0


class Observer(Protocol):
    """Hears what the engine cannot tell: who came, and who was turned away."""

    def arrived(
        self, request_id: str, engine_ids: Sequence[tuple[str, int]], *, n: int, max_tokens: int
    ) -> None:
        """A request was admitted; its continuations by engine id, with their prompt lengths."""
        ...

    def refused(self, reason: str) -> None: ...

    def left(self, request_id: str, reasons: Sequence[str]) -> None:
        """It is gone; how each continuation ended."""
        ...


@dataclass(slots=True, eq=False)
class Visit:
    """One generating request while it is here."""

    request_id: str
    reasons: list[str]
    """How each continuation ended; "abort" until something better is known."""
    task: asyncio.Task[None] | None
    evicted: Eviction | None = None
    done: bool = False
    since: float = field(default_factory=time.monotonic)

    def evict(self, reason: Eviction) -> None:
        """End the request by cancelling its task; harmless once it is done."""
        if self.evicted is None and not self.done and self.task is not None:
            self.evicted = reason
            self.task.cancel()

    def fail(self) -> None:
        """Those continuations that had not ended did so with an error."""
        self.reasons = ["error" if reason == "abort" else reason for reason in self.reasons]

    def stay(self) -> None:
        """Take the cancellation back, for the task has heard it and ends by itself."""
        if self.task is not None:
            self.task.uncancel()


class House:
    """The state that all endpoints share. One event loop; no locks."""

    def __init__(self, config: ServerConfig, names: tuple[str, ...]) -> None:
        self.config = config
        self.names = names
        self.started = int(time.time())
        self.doors: Doors = "starting"
        self.continuations = 0
        self.observers: list[Observer] = []
        self._backend: Backend | None = None
        self._visits: set[Visit] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stay = FIRST_GUESS

    @property
    def requests(self) -> int:
        """Generating requests in the house."""
        return len(self._visits)

    @property
    def backend(self) -> Backend:
        """The model; raises `Unavailable` while it starts."""
        if self._backend is None:
            raise Unavailable("the server is starting")
        return self._backend

    @property
    def ready(self) -> bool:
        """Whether a request that came now would be served."""
        return self.doors == "open" and self.alive

    @property
    def alive(self) -> bool:
        """Whether there is a model that runs, or that is being started again."""
        return self._backend is not None and self._backend.client.state in ("ready", "restarting")

    def open(self, backend: Backend) -> None:
        self._backend = backend
        if self.doors == "starting":
            self.doors = "open"

    def drain(self) -> None:
        """Turn newcomers away from now on; who is in may finish."""
        self.doors = "draining"

    def evict_all(self) -> None:
        for visit in tuple(self._visits):
            visit.evict("shutdown")

    async def until_empty(self) -> None:
        await self._empty.wait()

    def check_model(self, name: str | None) -> None:
        """Raises `ModelNotFound` unless `name` is one that is served here."""
        if name is not None and name not in self.names:
            raise ModelNotFound(
                f"the model {name[:200]!r} is not served here; served: {', '.join(self.names)}",
                field="model",
            )

    def check_open(self) -> None:
        """Raises `Unavailable` while the server starts or leaves."""
        if self.doors == "draining":
            self.refuse("draining")
            raise Unavailable("the server is shutting down")
        if self.doors == "starting":
            self.refuse("starting")
        if self.backend.client.state not in ("ready", "restarting"):
            self.refuse("engine_failed")
            raise Unavailable("the engine has failed; see the server's log")

    def check_count(self, continuations: int) -> None:
        """Raises `InvalidRequest` where one request asks for more than the house ever holds."""
        bound = self.config.max_num_queued_reqs
        if continuations > bound:
            raise InvalidRequest(
                f"{continuations} continuations (prompts times n) exceed the server's {bound}",
                field="n",
            )

    @contextmanager
    def admit(self, request_id: str, continuations: int) -> Iterator[Visit]:
        """A place for so many continuations; raises `Overloaded`, `Unavailable`, `InvalidRequest`.

        `Overloaded.retry_after` is how long requests have lately stayed.
        """
        self.check_open()
        self.check_count(continuations)
        bound = self.config.max_num_queued_reqs
        if self.continuations + continuations > bound:
            self.refuse("queue_full")
            raise Overloaded(
                f"the server holds {self.continuations} of {bound} requests; try again later",
                retry_after=self._stay,
            )
        visit = Visit(request_id, ["abort"] * continuations, asyncio.current_task())
        self._enter(visit)
        try:
            yield visit
        finally:
            self._leave(visit)

    def refuse(self, reason: str) -> None:
        """Count a request that is turned away."""
        for observer in self.observers:
            observer.refused(reason)

    def _enter(self, visit: Visit) -> None:
        self._visits.add(visit)
        self.continuations += len(visit.reasons)
        self._empty.clear()

    def _leave(self, visit: Visit) -> None:
        visit.done = True
        self._visits.discard(visit)
        self.continuations -= len(visit.reasons)
        stayed = min(time.monotonic() - visit.since, LONGEST_WAIT)
        self._stay += 0.1 * (stayed - self._stay)
        for observer in self.observers:
            observer.left(visit.request_id, visit.reasons)
        if not self._visits:
            self._empty.set()
