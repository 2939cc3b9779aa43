"""Admission: how many requests are in flight, whether new ones are accepted, and cancelling.

Every generating request has a `RequestHandle` from its admission to its last byte, and leaves by
leaving the `with` block of `ServerState.admit`, so none is forgotten. A request's continuations
(prompts times n) are counted against `max_num_queued_reqs`. This module knows neither HTTP messages
nor what a request asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from headway.config import ServerConfig
from headway.errors import InvalidRequest, ModelNotFound, Overloaded, Unavailable
from headway.llm import AsyncLLM, GenerationRequest
from headway.server.ignored_fields import IgnoredFields
from headway.server.receiving import BodyBudget
from headway.types import FinishReason
from headway.types.sampling_defaults import DefaultSampling

Phase = Literal["starting", "open", "draining"]
"""Of the server's life: no engine yet; accepting requests; only finishing those in flight."""
CancelReason = Literal["disconnect", "client", "shutdown"]
"""The client left, or asked for it; or the server stops."""

FIRST_RETRY_AFTER = 1.0
"""Seconds after which a client may try again while it is not known how long requests take."""
MAX_RETRY_AFTER = 60.0
MOST_SILENCE = 3.0
"""Seconds without a sign of life from the engine, which gives one every second, that pass for
chance. It is replaced much later; till then it may come back."""


class AdmissionObserver(Protocol):
    """Hears what the engine cannot tell: which requests came, and which were refused."""

    def started(self, request: GenerationRequest) -> None:
        """A request goes to the engine."""
        ...

    def finished(self, request: GenerationRequest, reasons: Sequence[FinishReason]) -> None:
        """It has ended; how each of `request.requests` did."""
        ...

    def refused(self, reason: str) -> None: ...


@dataclass(slots=True, eq=False)
class RequestHandle:
    """One generating request in flight. Times are monotonic seconds."""

    id: str
    finish_reasons: list[FinishReason]
    """How each continuation ended; "abort" until something better is known."""
    task: asyncio.Task[object] | None
    admitted_at: float = field(default_factory=time.monotonic)
    first_token_at: float | None = None
    cancel_reason: CancelReason | None = None
    shed: bool = False
    """The engine had no room for it, at least not in time."""
    done: bool = False
    generation: GenerationRequest | None = None
    """What the engine was given; None while the prompt is rendered and encoded."""

    def cancel(self, reason: CancelReason) -> None:
        """End the request by cancelling its task; harmless once it is done."""
        if self.cancel_reason is None and not self.done and self.task is not None:
            self.cancel_reason = reason
            self.task.cancel()

    def uncancel(self) -> None:
        """Take the cancellation back: the task has seen it and ends by itself."""
        if self.task is not None:
            self.task.uncancel()

    @property
    def finish(self) -> str:
        """The ways in which continuations ended, for logs."""
        return ",".join(sorted(set(self.finish_reasons)))

    def fail(self) -> None:
        """Those continuations that had not ended did so with an error."""
        self.finish_reasons = ["error" if r == "abort" else r for r in self.finish_reasons]


class ServerState:
    """What all endpoints share: configuration, model, and the requests in flight.

    For one event loop; there are no locks.
    """

    def __init__(self, config: ServerConfig, names: tuple[str, ...]) -> None:
        """`names` are those under which the model is served; the first is in every answer."""
        self.config = config
        self.names = names
        self.created = int(time.time())
        self.phase: Phase = "starting"
        self.continuations = 0
        """Of all requests in flight."""
        self.observers: list[AdmissionObserver] = []
        self.bodies = BodyBudget(config.max_pending_body_bytes or 4 * config.max_body_bytes)
        self.ignored_fields = IgnoredFields()
        self._llm: AsyncLLM | None = None
        self._in_flight: set[RequestHandle] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = FIRST_RETRY_AFTER

    @property
    def requests(self) -> int:
        """HTTP requests in flight that generate."""
        return len(self._in_flight)

    @property
    def llm(self) -> AsyncLLM:
        """The model; raises `Unavailable` while it starts."""
        if self._llm is None:
            raise Unavailable("the server is starting")
        return self._llm

    @property
    def default_sampling(self) -> DefaultSampling:
        """The model's; plain ones while it starts, as nothing is generated then."""
        return DefaultSampling() if self._llm is None else self._llm.default_sampling

    @property
    def alive(self) -> bool:
        """Whether there is an engine that runs, or that is being restarted."""
        return self._llm is not None and self._llm.client.state in ("ready", "restarting")

    @property
    def not_ready(self) -> str | None:
        """Why a request that came now would not be served at once; None where it would."""
        if self.phase != "open":
            return self.phase
        client = self.llm.client
        if client.state != "ready":
            return f"the engine is {client.state}"
        serving = sum(each.state == "ready" for each in client.replicas)
        if serving <= 1 and client.silence > MOST_SILENCE:  # of several, others go on
            return f"the engine has been silent for {client.silence:.0f} s"
        return None

    def open(self, llm: AsyncLLM) -> None:
        """Accept requests from now on, unless the server is draining already."""
        self._llm = llm
        if self.phase == "starting":
            self.phase = "open"

    def drain(self) -> None:
        """Refuse new requests from now on; those in flight may finish."""
        self.phase = "draining"

    def cancel(self, request_id: str) -> None:
        """Cancel a request as its client asks, if it is in flight."""
        for handle in tuple(self._in_flight):
            if handle.id == request_id:
                handle.cancel("client")

    def cancel_all(self) -> None:
        """Cancel every request in flight; their clients are told that the server stopped."""
        for handle in tuple(self._in_flight):
            handle.cancel("shutdown")

    async def until_idle(self) -> None:
        """Returns once no request is in flight."""
        await self._idle.wait()

    def check_model(self, name: str | None) -> None:
        """Raises `ModelNotFound` unless `name` is one that is served here."""
        if name is not None and name not in self.names:
            raise ModelNotFound(
                f"the model {name[:200]!r} is not served here; served: {', '.join(self.names)}",
                field="model",
            )

    @contextmanager
    def admit(self, request_id: str, continuations: int) -> Iterator[RequestHandle]:
        """Count a request as in flight within the block, or refuse it.

        Raises `Unavailable` while the server starts, drains or has no engine, `InvalidRequest` for
        more continuations than there may ever be, and `Overloaded` where there are too many now;
        its `retry_after` is how long requests have taken lately.
        """
        self._check_phase()
        self._check_room(continuations)
        handle = RequestHandle(request_id, ["abort"] * continuations, asyncio.current_task())
        self._in_flight.add(handle)
        self.continuations += continuations
        self._idle.clear()
        try:
            yield handle
        except asyncio.CancelledError:
            # From `started` on, whoever sends the answer knows what may still be said in it.
            if handle.cancel_reason is None or handle.generation is not None:
                raise
            handle.uncancel()
            left = handle.cancel_reason != "shutdown"
            raise Unavailable("the client left" if left else "the server stopped") from None
        finally:
            self._remove(handle)

    def started(self, handle: RequestHandle, generation: GenerationRequest) -> None:
        """The request's prompts are encoded, and it goes to the engine."""
        handle.generation = generation
        for observer in self.observers:
            observer.started(generation)

    def refuse(self, reason: str) -> None:
        """Count a request that is refused."""
        for observer in self.observers:
            observer.refused(reason)

    def _check_phase(self) -> None:
        if self.phase == "draining":
            self.refuse("draining")
            raise Unavailable("the server is shutting down")
        if self.phase == "starting":
            self.refuse("starting")
            raise Unavailable("the server is starting")
        if not self.alive:
            self.refuse("engine_failed")
            raise Unavailable("the engine has failed; see the server's log")

    def _check_room(self, continuations: int) -> None:
        bound = self.config.max_num_queued_reqs
        if continuations > bound:
            raise InvalidRequest(
                f"{continuations} continuations (prompts times n) exceed the server's {bound}",
                field="n",
            )
        if self.continuations + continuations > bound:
            self.refuse("queue_full")
            raise Overloaded(
                f"{self.continuations} of at most {bound} requests are in flight; try again later",
                retry_after=self._mean_seconds,
            )

    def _remove(self, handle: RequestHandle) -> None:
        handle.done = True
        self._in_flight.discard(handle)
        self.continuations -= len(handle.finish_reasons)
        if handle.generation is not None:
            if not handle.shed:  # That takes no time, which says nothing of those that are served.
                seconds = min(time.monotonic() - handle.admitted_at, MAX_RETRY_AFTER)
                self._mean_seconds += 0.1 * (seconds - self._mean_seconds)
            for observer in self.observers:
                observer.finished(handle.generation, handle.finish_reasons)
        if not self._in_flight:
            self._idle.set()
