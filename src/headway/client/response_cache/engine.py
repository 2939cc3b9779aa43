"""`CachingEngine`: an engine handle that computes no answer twice.

It is for requests whose answers are functions of what they ask: greedy ones, and those with a seed
of their caller's. One that was answered before gets the answer from memory. One that is being
computed for somebody else joins that: it gets what came so far and then every event, and the engine
is told to stop only when the last one has left. Since tokens do not depend on the batch, each gets
what it would have got alone. Others share nothing: give them to the engine itself.

Only whole answers are kept, and beginnings that their reader had enough of. Such a beginning is
sent first; if a reader wants more, the engine goes on after it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headway.background import watched
from headway.client.handle import BatchListener, EngineHandle, EngineListener, EngineState, Stream
from headway.client.response_cache.answer import Answer, decode_answer, encode_answer
from headway.client.response_cache.computation import Computation, replayed
from headway.client.response_cache.keys import CacheKeys
from headway.client.response_cache.remote import RemoteAnswers
from headway.client.response_cache.sharing import SharedComputations
from headway.client.response_cache.store import AnswerStore
from headway.client.response_cache.stream import CachedStream
from headway.client.status import ReplicaStatus
from headway.errors import HeadwayError
from headway.types import FinishReason, Request, TokenEvent
from headway.types.fleet import Role
from headway.types.response_cache import CacheOutcome
from headway.wire import EngineInfo, EngineStats

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class CacheCounts:
    """Since the start, of requests, each continuation counted."""

    queries: int = 0
    hits: int = 0
    """Answered from memory, at least their beginning."""
    joined: int = 0
    """Answered by the computation of another one."""
    tokens: int = 0
    """Generated tokens that they got without being computed for them."""

    def count(self, outcomes: Collection[CacheOutcome]) -> None:
        """So were requests answered."""
        found = list(outcomes)
        self.queries += len(found)
        self.hits += found.count("hit")
        self.joined += found.count("joined")


class CachingEngine:
    """An `EngineHandle` over another one; for one event loop."""

    def __init__(
        self,
        engine: EngineHandle,
        *,
        keys: CacheKeys,
        store: AnswerStore,
        remote: RemoteAnswers | None = None,
    ) -> None:
        """`remote` has what other servers answered; it is told nothing before `trust`."""
        self.counts = CacheCounts()
        self.store = store
        self.remote = remote
        self._engine = engine
        self._keys = keys
        self._trusted = False
        self._shared = SharedComputations()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[EngineListener] = []
        engine.subscribe(self._on_engine)

    @property
    def state(self) -> EngineState:
        return self._engine.state

    @property
    def restarts(self) -> int:
        """See `EngineHandle.restarts`."""
        return self._engine.restarts

    @property
    def silence(self) -> float:
        """See `EngineHandle.silence`."""
        return self._engine.silence

    @property
    def last_step_age(self) -> float:
        """See `EngineHandle.last_step_age`."""
        return self._engine.last_step_age

    @property
    def info(self) -> EngineInfo:
        """See `EngineHandle.info`."""
        return self._engine.info

    @property
    def stats(self) -> EngineStats:
        """See `EngineHandle.stats`; what is not computed is not in them."""
        return self._engine.stats

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        """See `EngineHandle.replicas`."""
        return self._engine.replicas

    async def add_replica(self, role: Role = "both") -> int:
        """See `EngineHandle.add_replica`."""
        return await self._engine.add_replica(role)

    async def drain(self, replica: int) -> int:
        """See `EngineHandle.drain`."""
        return await self._engine.drain(replica)

    async def restart(self) -> None:
        """See `EngineHandle.restart`. What was computed until then is not answered again."""
        try:
            await self._engine.restart()
        finally:
            self.forget()

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        """See `EngineHandle.subscribe`. Also called, as without a step, with kept answers."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def watch_batch(self, listener: BatchListener) -> Callable[[], None]:
        """See `EngineHandle.watch_batch`: what is answered from memory is in no batch."""
        return self._engine.watch_batch(listener)

    def submit(self, *requests: Request) -> Stream:
        """See `EngineHandle.submit`; what was answered before needs no engine."""
        if any(request.generated for request in requests):
            return self._engine.submit(*requests)
        self._shared.check_ids(requests)
        stream = CachedStream([request.id for request in requests], self)
        known: list[TokenEvent | None] = []
        new: list[Computation] = []
        for request, key in zip(requests, self._keys.of(requests), strict=True):
            outcome, event = self._find(key, request, stream, new)
            stream.outcomes[request.id] = outcome
            known.append(event)
        try:
            self._begin(new)
        except HeadwayError:
            stream.cancel()
            raise
        self.counts.count(stream.outcomes.values())
        self._notify([event for event in known if event is not None])
        return stream

    def abort(self, request_id: str) -> None:
        """See `EngineHandle.abort`. Others that share its computation go on."""
        left = self._shared.leave(request_id)
        if left is None:
            self._engine.abort(request_id)
            return
        event = TokenEvent(id=request_id, finish="abort")
        left.stream.push(event)
        self._notify([event])

    def take(self, request_id: str) -> Request | None:
        """See `EngineHandle.take`. Others that share its computation go on here."""
        computation = self._shared.of_subscriber(request_id)
        left = self._shared.leave(request_id)
        if computation is None or left is None:
            return self._engine.take(request_id)
        left.stream.release(request_id)
        return computation.remaining(left.request)

    async def close(self) -> None:
        """See `EngineHandle.close`."""
        try:
            await self._engine.close()
        finally:
            for task in self._tasks:
                task.cancel()
            self._end(self._shared, "abort", None)  # those that the engine did not have
            if self.remote is not None:
                await self.remote.close()

    def forget(self) -> None:
        """Give no answer again that was computed so far, or is in the making: they may be wrong.

        Those who wait for one still get it.
        """
        self.store.clear()
        self._shared.distrust()

    def trust(self) -> None:
        """The model's files are known to be sound: answers may be told to other servers."""
        self._trusted = True

    def leave(self, ids: Sequence[str]) -> None:
        """See `StreamOwner`."""
        for name in ids:
            self._shared.leave(name)
        self._notify([TokenEvent(id=name, finish="abort") for name in ids])

    def keep(self, request_id: str) -> None:
        """See `StreamOwner`. While others read on, there will be more to keep."""
        computation = self._shared.of_subscriber(request_id)
        if computation is not None and len(computation.subscribers) == 1:
            self._keep(computation)

    def resume(self, request_id: str) -> None:
        """See `StreamOwner`."""
        computation = self._shared.of_subscriber(request_id)
        if computation is not None and computation.state == "paused":
            self._compute_later([computation])

    def _find(
        self, key: bytes, request: Request, stream: CachedStream, new: list[Computation]
    ) -> tuple[CacheOutcome, TokenEvent | None]:
        """Answer a request, or find who will; returns what it gets at once, if anything.

        A computation that is to begin is added to `new`.
        """
        join_key = (key, request.priority, request.service_class, request.objectives)
        running = self._shared.under(join_key)
        if running is not None:
            outcome: CacheOutcome = "hit" if running.state == "paused" else "joined"
            return outcome, self._shared.subscribe(running, request, stream)
        answer = decode_answer(self.store.get(key))
        if answer is not None and answer.finish is not None:
            event = replayed(answer, request)
            stream.push(event)
            return "hit", event
        computation = self._shared.new(join_key, request)
        if answer is None:
            new.append(computation)
            return "miss", self._shared.subscribe(computation, request, stream)
        computation.fill(answer)
        return "hit", self._shared.subscribe(computation, request, stream)

    def _begin(self, new: list[Computation]) -> None:
        """Compute, unless another server has answered it; asking one happens in the background."""
        if new and self.remote is not None and self.remote.up:
            self._in_background(self._look_up(new, self.remote), new)
        else:
            self._compute(new)

    async def _look_up(self, new: list[Computation], remote: RemoteAnswers) -> None:
        values = await remote.get([each.key for each in new])
        missing = []
        for computation, value in zip(new, values, strict=True):
            answer = decode_answer(value)
            if not computation.subscribers:
                continue
            if value is None or answer is None:
                missing.append(computation)
            else:
                self.store.put(computation.key, value)
                self._answer(computation, answer)
        self._compute_later(missing)

    def _answer(self, computation: Computation, answer: Answer) -> None:
        """Another server had it, or its beginning."""
        subscribers = list(computation.subscribers.values())
        if answer.finish is not None:
            self._shared.end(computation)
        else:
            computation.fill(answer)
        told = []
        for request, stream in subscribers:
            if stream.outcomes[request.id] == "miss":
                stream.outcomes[request.id] = "hit"
                self.counts.hits += 1
            if answer.finish is None:
                stream.paused.add(request.id)
            told.append(replayed(answer, request))
            stream.push(told[-1])
        self._notify(told)

    def _compute_later(self, computations: list[Computation]) -> None:
        """Compute for requests whose `submit` has returned: errors end them."""
        try:
            self._compute(computations)
        except HeadwayError as error:
            self._end(computations, "error", error.message)

    def _compute(self, computations: list[Computation]) -> None:
        if not computations:
            return
        source = self._engine.submit(*(each.remaining(each.request) for each in computations))
        for each in computations:
            self._shared.submitted(each, source)
        self._drain(source, computations)

    def _drain(self, source: Stream, computations: list[Computation]) -> None:
        """Forget the engine's events, which came by `_on_engine` already."""

        def on_news() -> None:
            source.take_all()
            if source.ended:
                source.listen(None)
                self._end(computations, "error", "the engine ended without an answer")

        source.listen(on_news)

    def _in_background(
        self, work: Coroutine[Any, Any, None], computations: list[Computation]
    ) -> None:
        def failed(error: BaseException) -> None:
            self._end(computations, "error", f"{type(error).__name__}: {error}")

        task = watched(work, name="response cache", on_failure=failed)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(
        self, computations: Iterable[Computation], finish: FinishReason, reason: str | None
    ) -> None:
        """End those that have not ended, for no fault of the requests."""
        told: list[TokenEvent] = []
        for each in computations:
            if each.subscribers:
                event = TokenEvent(
                    id=each.request.id,
                    finish=finish,
                    error=reason,
                    scheduled_at=each.request.arrival,
                )
                told += self._shared.advance(each, event)
                if each.source is not None:
                    each.source.cancel(each.request.id)
        self._notify(told)

    def _on_engine(self, events: Sequence[TokenEvent], stats: EngineStats, now: float) -> None:
        """See `EngineHandle.subscribe`: what the engine says, each subscriber hears."""
        told: list[TokenEvent] = []
        for event in events:
            computation = self._shared.of_engine(event.id)
            if computation is None:
                told.append(event)
                continue
            told += self._shared.advance(computation, event)
            if event.finish is not None:
                self._keep(computation)
        self._tell(told, stats, now)

    def _keep(self, computation: Computation) -> None:
        answer = computation.answer() if computation.state == "computed" else None
        value = None if answer is None else encode_answer(answer)
        if answer is None or value is None:
            return
        kept = self.store.put(computation.key, value)
        if kept and self._trusted and self.remote is not None:
            self.remote.put(computation.key, value, whole=answer.finish is not None)

    def _notify(self, events: Sequence[TokenEvent]) -> None:
        """Tell listeners of what was no step of the engine."""
        if events:
            self._tell(events, self.stats, time.monotonic())

    def _tell(self, events: Sequence[TokenEvent], stats: EngineStats, now: float) -> None:
        self.counts.tokens += sum(len(event.tokens) for event in events if event.cached)
        for listener in self._listeners:
            try:
                listener(events, stats, now)
            except Exception:
                logger.exception("a listener failed")
