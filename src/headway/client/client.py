"""`EngineClient`: one supervised engine process, and requests that outlive it.

When the process dies, its supervisor starts a new one and the journal says what to submit again, so
that streams pause instead of breaking. All of it runs on one event loop; the cost per step is one
message decoded and one event added per request, and then every reader is told once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec import structs

from headway.background import soon
from headway.client.handle import NEWS_SECONDS, BatchListener, EngineListener, EngineState, Stream
from headway.client.journal import JournalEntry, RequestJournal
from headway.client.listeners import Listeners
from headway.client.process import DEFAULT_COMMAND, EngineProcess, start_message
from headway.client.restarts import MonotonicStats
from headway.client.status import ReplicaState, ReplicaStatus
from headway.client.supervisor import EngineSupervisor
from headway.config import EngineConfig
from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.types import Request, TokenEvent
from headway.types.batch_news import BatchNews
from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats, Events, PreparedDraft, Start

logger = logging.getLogger(__name__)


class EngineClient:
    """The `EngineHandle` of one engine process, restarted when it dies. Obtain one with `start`."""

    def __init__(
        self,
        start: Start,
        command: Sequence[str],
        *,
        replica: int = 0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """A client without a process: `open` it. It goes by the id `replica`.

        `on_change` is called when the process is ready, has died, or is gone for good: then before
        the requests that are still here end.
        """
        self._replica, self._on_change = replica, on_change
        self._cpus, self._gpu = start.cpus, start.gpu
        self._stats = MonotonicStats()
        self._last_step = time.monotonic()
        self._journal = RequestJournal()
        self._streams: dict[str, Stream] = {}
        self._listeners: Listeners[[Sequence[TokenEvent], EngineStats, float]] = Listeners()
        self._watchers: Listeners[[BatchNews]] = Listeners()
        self._aborts: list[str] = []
        self._flushing = False
        self._replacing = False
        self._given = 0
        self._supervisor = EngineSupervisor(start, command, self)

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        prepared: Path,
        *,
        draft: PreparedDraft | None = None,
        command: Sequence[str] | None = None,
    ) -> EngineClient:
        """Start an engine process on a prepared model and wait until it is ready.

        `draft` is a draft model beside it; `command` replaces the program; raises as `open`.
        """
        client = cls(start_message(config, prepared, draft), command or DEFAULT_COMMAND)
        await client.open()
        return client

    async def open(self) -> None:
        """Start the process and wait until it is ready; raises `HeadwayError` where it cannot."""
        await self._supervisor.start()

    @property
    def state(self) -> EngineState:
        return self._supervisor.state

    @property
    def restarts(self) -> int:
        """See `EngineHandle.restarts`."""
        return self._supervisor.restarts

    @property
    def failure(self) -> str | None:
        """Why the engine is gone for good, in the state "failed"."""
        return self._supervisor.failure

    @property
    def silence(self) -> float:
        """See `EngineHandle.silence`."""
        engine = self._supervisor.engine
        return engine.watch.silence if engine is not None else 0.0

    @property
    def last_step_age(self) -> float:
        """See `EngineHandle.last_step_age`."""
        return time.monotonic() - self._last_step

    @property
    def info(self) -> EngineInfo:
        """See `EngineHandle.info`; after a restart, that of the new engine."""
        info = self._supervisor.info
        assert info is not None, "start() returns after the engine has introduced itself"
        return info

    @property
    def stats(self) -> EngineStats:
        """See `EngineHandle.stats`."""
        return self._stats.latest

    @property
    def live(self) -> int:
        """Requests that have not ended, waiting ones included."""
        return len(self._journal)

    @property
    def pid(self) -> int | None:
        """The engine's process id, None while there is no engine."""
        engine = self._supervisor.engine
        return engine.process.pid if engine is not None else None

    @property
    def kv_source(self) -> str:
        """See `Request`: where others may read what this engine has computed; "" for nowhere."""
        return self._supervisor.kv_source

    def discard_cache(self) -> None:
        """Let no engine use what the present one computes, once that is gone."""
        self._supervisor.discard_cache()

    @property
    def status(self) -> ReplicaStatus:
        """What it is doing; while its first process starts there is nothing to tell."""
        state: ReplicaState = "failed" if self.state == "closed" else self.state
        return ReplicaStatus(
            id=self._replica,
            state=state,
            pid=self.pid,
            restarts=self.restarts,
            given=self._given,
            live=self.live,
            cpus=self._cpus,
            gpu=self._gpu,
            stats=self.stats,
            info=self.info,
        )

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        """See `EngineHandle.replicas`: itself."""
        return (self.status,)

    async def add_replica(self, role: Role = "both") -> int:  # noqa: ARG002
        """See `EngineHandle.add_replica`: one engine without a router stays one."""
        raise Unavailable("this server has one engine and no router: start it with --replicas 2")

    async def drain(self, replica: int) -> int:
        """See `EngineHandle.drain`: there is no other engine to give its requests to."""
        if replica != self._replica:
            raise InvalidRequest(f"there is no replica {replica}", field="replica")
        raise Unavailable("this is the only replica: its requests could go nowhere")

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        """See `EngineHandle.subscribe`."""
        return self._listeners.add(listener)

    def watch_batch(self, listener: BatchListener) -> Callable[[], None]:
        """See `EngineHandle.watch_batch`."""
        leave = self._watchers.add(listener)
        self._ask_for_batch()

        def stop() -> None:
            leave()
            if not self._watchers:
                self._ask_for_batch()

        return stop

    def submit(self, *requests: Request) -> Stream:
        """See `EngineHandle.submit`. While the engine restarts, requests wait."""
        if self.state in ("failed", "closed"):
            raise Unavailable(self.failure or "the engine is closed")
        added: list[str] = []
        try:
            for request in requests:
                self._journal.add(request)
                added.append(request.id)
        except HeadwayError:
            self._journal.abort(added)
            raise
        stream = Stream(added, self.cancel)
        self._streams.update(dict.fromkeys(added, stream))
        self._given += len(added)
        self._schedule_flush()
        return stream

    def receive(self, entry: JournalEntry, stream: Stream) -> None:
        """Queue a request that another client has given, or a new one, with the stream it has.

        Its id is not live here. Events go to the stream as those of requests submitted here do;
        whoever made the stream calls `cancel` for it.
        """
        self._journal.receive(entry)
        self._streams[entry.request.id] = stream
        self._given += 1
        self._schedule_flush()

    def give(self, request_id: str) -> tuple[JournalEntry, Stream]:
        """Let another client `receive` a live request: nobody notices, and it is no more here."""
        entry = self._journal.entry(request_id)
        assert entry is not None, "only live requests are given away"
        self._remove([request_id])
        return entry, self._streams.pop(request_id)

    @property
    def journal(self) -> RequestJournal:
        """Its live requests, to be looked at."""
        return self._journal

    def abort(self, request_id: str) -> None:
        """See `EngineHandle.abort`."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self.cancel([request_id])
            stream.push(TokenEvent(id=request_id, finish="abort"))

    def take(self, request_id: str) -> Request | None:
        """See `EngineHandle.take`."""
        request = self._journal.remaining(request_id)
        if request is not None:
            self._remove([request_id])
            self._streams.pop(request_id).release(request_id)
        return request

    async def restart(self) -> None:
        """See `EngineHandle.restart`. Nothing that the old model computed is used again."""
        self.discard_cache()
        engine = self._supervisor.engine
        if engine is not None:
            self._replacing = self.state == "ready"
            engine.kill("it was replaced, to read the model anew")
        await self._supervisor.next_ready()

    async def close(self) -> None:
        """See `EngineHandle.close`. May be called again."""
        if self.state != "closed":
            self._supervisor.state = "closed"
            self._end_all("abort", None)
        await self._supervisor.close()

    def on_engine_events(self, message: Events, engine: EngineProcess) -> None:
        """See `EngineOwner`."""
        before = self.stats.step
        stats = self._stats.update(message.stats)
        events: list[TokenEvent] = []
        streams: list[Stream] = []
        try:
            # One by one: should one be impossible, the streams still have what the journal has.
            for told in message.events:
                event = self._journal.record(told)
                if event is not None:
                    events.append(event)
                    if (stream := self._stream_of(event)) is not None:
                        stream.add(event)
                        streams.append(stream)
            if stats.step != before:
                self._last_step = time.monotonic()
            engine.useful = engine.useful or bool(events)
            if self._journal.has_queued:
                self._schedule_flush()
            self._notify(events, stats)
        finally:
            for stream in streams:
                stream.tell()

    def on_batch_news(self, news: BatchNews) -> None:
        """See `EngineOwner`."""
        self._watchers.tell(structs.replace(news, replica=self._replica))

    def on_engine_ready(self) -> None:
        """See `EngineOwner`: queued requests can be sent."""
        self._last_step = time.monotonic()
        self._stats.engine_ready(self.info.scheduler.num_blocks)
        if self._watchers:
            self._ask_for_batch()
        self._journal.engine_ready()
        self._schedule_flush()
        if self.restarts:
            live = len(self._journal)
            logger.warning("engine restarted pid=%s live_requests=%d", self.pid, live)
        self._notify([], self.stats)
        self._on_change()

    def on_engine_died(self, error: HeadwayError) -> bool:
        """See `EngineOwner`: queue all requests again, and end one that was found to be poison."""
        logger.error("engine died live_requests=%d: %s", len(self._journal), error)
        explained = self._journal.engine_busy
        self._aborts.clear()
        poison = self._journal.engine_died(replaced=self._replacing)
        self._replacing = False
        events = [
            TokenEvent(
                id=name,
                finish="error",
                error=f"the engine process died repeatedly while running this request: {error}",
            )
            for name in poison
        ]
        for event in events:
            logger.error("request ended request_id=%s: it brought the engine down", event.id)
            self._deliver(event)
        self._notify(events, self._stats.engine_died())
        self._on_change()
        return explained

    def on_engine_failed(self, reason: str) -> None:
        """See `EngineOwner`: all requests end that nobody takes."""
        self._on_change()
        self._end_all("error", reason)

    def _ask_for_batch(self) -> None:
        """Have an engine that is ready tell its batch anew, or no more where nobody watches."""
        engine = self._supervisor.engine
        if engine is not None and self.state == "ready":
            engine.connection.watch(NEWS_SECONDS if self._watchers else None)

    def cancel(self, ids: Sequence[str]) -> None:
        """End live requests; called by their stream, or on behalf of it."""
        for name in ids:
            self._streams.pop(name, None)
        self._remove(ids)
        self._notify([TokenEvent(id=name, finish="abort") for name in ids], self.stats)

    def _remove(self, ids: Sequence[str]) -> None:
        """Forget requests, and have the engine forget them."""
        self._aborts += self._journal.abort(ids)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        # What is asked for within one turn of the event loop is sent together.
        if not self._flushing:
            self._flushing = True
            soon(self._flush, name="engine flush", on_failure=self._on_flush_failure)

    def _flush(self) -> None:
        self._flushing = False
        if (engine := self._supervisor.engine) is None:
            return
        if self._aborts:
            aborts, self._aborts = self._aborts, []
            engine.connection.abort(aborts)
        for request, reason in engine.connection.submit(self._journal.take_queued()):
            self._refuse(request.id, f"the request cannot be sent to the engine: {reason}")

    def _on_flush_failure(self, error: BaseException) -> None:
        # What the engine was to be told is in the journal, so another engine will be.
        if (engine := self._supervisor.engine) is not None:
            engine.kill(f"it could not be written to: {type(error).__name__}: {error}")

    def _refuse(self, name: str, reason: str) -> None:
        """End one request that no engine can be given."""
        logger.error("request ended request_id=%s: %s", name, reason)
        self._journal.refuse(name)
        event = TokenEvent(id=name, finish="error", error=reason)
        self._deliver(event)
        self._notify([event], self.stats)
        if self._journal.has_queued:
            self._schedule_flush()

    def _deliver(self, event: TokenEvent) -> None:
        if (stream := self._stream_of(event)) is not None:
            stream.push(event)

    def _stream_of(self, event: TokenEvent) -> Stream | None:
        """Who is to get an event, if anybody; after a request's last one it has no stream."""
        if event.finish is None:
            return self._streams.get(event.id)
        return self._streams.pop(event.id, None)

    def _notify(self, events: Sequence[TokenEvent], stats: EngineStats) -> None:
        self._listeners.tell(events, stats, time.monotonic())

    def _end_all(self, reason: Literal["abort", "error"], error: str | None) -> None:
        events = [TokenEvent(id=name, finish=reason, error=error) for name in self._journal.clear()]
        for event in events:
            self._deliver(event)
        self._notify(events, self.stats)
