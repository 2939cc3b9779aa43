"""`EngineClient`: one supervised engine process, and requests that outlive it.

A single task supervises the process. When it dies, a new one is started and the journal says what
to submit again, so that streams pause instead of breaking. All of it runs on one event loop; the
cost per step is one message decoded and one push per token event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from headway.client.handle import EngineListener, EngineState, Stream
from headway.client.journal import RequestJournal
from headway.client.process import (
    DEFAULT_COMMAND,
    MAX_DEATHS,
    EngineProcess,
    MonotonicStats,
    RestartPolicy,
)
from headway.config import EngineConfig
from headway.errors import HeadwayError, Unavailable
from headway.logs import log_format
from headway.types import Request, TokenEvent
from headway.wire import Abort, EngineInfo, EngineStats, Events, FromEngine, Ready, Start

logger = logging.getLogger(__name__)


class EngineClient:
    """The `EngineHandle` of one engine process, restarted when it dies. Obtain one with `start`."""

    def __init__(self, start: Start, command: Sequence[str]) -> None:
        self.restarts = 0
        self.failure: str | None = None
        """Why the engine is gone for good, in the state "failed"."""
        self._start = start
        self._command = tuple(command)
        self._state: EngineState = "starting"
        self._info: EngineInfo | None = None
        self._stats = MonotonicStats()
        self._journal = RequestJournal()
        self._streams: dict[str, Stream] = {}
        self._listeners: list[EngineListener] = []
        self._aborts: list[str] = []
        self._flushing = False
        self._engine: EngineProcess | None = None
        self._ready: asyncio.Future[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        prepared: Path,
        *,
        command: Sequence[str] | None = None,
    ) -> EngineClient:
        """Start an engine process on a prepared model and wait until it is ready.

        `command` replaces the program. Raises `HeadwayError` where the engine cannot start.
        """
        # The engine logs as much as the program that it serves, and in the same form.
        level = logging.getLogger().getEffectiveLevel()
        start = Start(
            config=config, prepared=str(prepared), log_level=level, log_format=log_format()
        )
        client = cls(start, command or DEFAULT_COMMAND)
        await client._launch()
        client._supervisor = asyncio.create_task(client._supervise(), name="headway-engine")
        return client

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def info(self) -> EngineInfo:
        """See `EngineHandle.info`; after a restart, that of the new engine."""
        assert self._info is not None, "start() returns after the engine has introduced itself"
        return self._info

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
        return self._engine.process.pid if self._engine is not None else None

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        """See `EngineHandle.subscribe`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def submit(self, *requests: Request) -> Stream:
        """See `EngineHandle.submit`. While the engine restarts, requests wait."""
        if self._state in ("failed", "closed"):
            raise Unavailable(self.failure or "the engine is closed")
        added: list[str] = []
        try:
            for request in requests:
                self._journal.add(request)
                added.append(request.id)
        except HeadwayError:
            self._journal.abort(added)
            raise
        stream = Stream(added, self._abort)
        self._streams.update(dict.fromkeys(added, stream))
        self._schedule_flush()
        return stream

    def abort(self, request_id: str) -> None:
        """See `EngineHandle.abort`."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self._abort([request_id])
            stream.push(TokenEvent(id=request_id, finish="abort"))

    def take(self, request_id: str) -> Request | None:
        """See `EngineHandle.take`."""
        request = self._journal.remaining(request_id)
        if request is not None:
            self._remove([request_id])
            self._streams.pop(request_id).release(request_id)
        return request

    async def close(self) -> None:
        """See `EngineHandle.close`. May be called again."""
        if self._state != "closed":
            self._state = "closed"
            self._end_all("abort", None)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._engine is not None:
            await self._engine.end()
            self._engine = None

    def _abort(self, ids: Sequence[str]) -> None:
        """End requests; called by their stream, or on behalf of it."""
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
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._engine is None:
            return
        if self._aborts:
            self._engine.connection.send(Abort(ids=self._aborts))
            self._aborts = []
        self._engine.connection.submit(self._journal.take_queued())

    def _on_message(self, message: FromEngine) -> None:
        """Called by the connection for every message from the engine."""
        engine = self._engine
        if engine is None:
            return
        if isinstance(message, Events):
            self._on_events(message, engine)
        elif isinstance(message, Ready):
            self._info = message.info
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        else:
            engine.failed = message
            engine.connection.close()

    def _on_events(self, message: Events, engine: EngineProcess) -> None:
        stats = self._stats.update(message.stats)
        recorded = map(self._journal.record, message.events)
        events = [event for event in recorded if event is not None]
        for event in events:
            self._deliver(event)
        engine.useful = engine.useful or bool(events)
        if self._journal.has_queued:
            self._schedule_flush()
        self._notify(events, stats)

    def _deliver(self, event: TokenEvent) -> None:
        finished = event.finish is not None
        stream = self._streams.pop(event.id, None) if finished else self._streams.get(event.id)
        if stream is not None:
            stream.push(event)

    def _notify(self, events: Sequence[TokenEvent], stats: EngineStats) -> None:
        now = time.monotonic()
        for listener in self._listeners:
            try:
                listener(events, stats, now)
            except Exception:
                logger.exception("a listener failed")

    async def _launch(self) -> None:
        """Start a process and wait for its `Ready`; raises `HeadwayError`, leaving none behind."""
        ready = self._ready = asyncio.get_running_loop().create_future()
        engine = self._engine = await EngineProcess.launch(self._command, self._on_message)
        try:
            engine.connection.send(self._start)
            await asyncio.wait((ready, engine.connection.lost), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._engine = None
            await engine.end()
            raise
        if not ready.done():
            self._engine = None
            raise await engine.death_reason("while starting")
        self._state = "ready"
        self._journal.engine_ready()
        self._schedule_flush()

    async def _supervise(self) -> None:
        """Keep an engine alive until the client is closed or the engine has failed for good."""
        policy = RestartPolicy()
        while (engine := self._engine) is not None:
            await engine.connection.lost
            self._state = "restarting"
            self._engine = None
            error = await engine.death_reason("while running")
            explained = self._journal.engine_busy
            self._engine_died(error)
            wait = policy.died(
                lifetime=time.monotonic() - engine.started,
                useful=engine.useful,
                explained=explained,
            )
            while not await self._relaunched(wait):
                wait = policy.died(lifetime=0.0, useful=False, explained=False)

    async def _relaunched(self, wait: float | None) -> bool:
        """Start a new engine after `wait` seconds; true when done or never to be tried again."""
        if wait is None:
            self.failure = f"the engine died {MAX_DEATHS} times in a row and stays down"
            logger.error("engine failed: %s", self.failure)
            self._state = "failed"
            self._end_all("error", self.failure)
            return True
        await asyncio.sleep(wait)
        self.restarts += 1
        try:
            await self._launch()
        except HeadwayError as error:
            logger.error("engine restart failed: %s", error)
            return False
        logger.warning("engine restarted pid=%s live_requests=%d", self.pid, len(self._journal))
        return True

    def _engine_died(self, error: HeadwayError) -> None:
        """Queue all requests again, and end the one that the journal found to be poison."""
        logger.error("engine died live_requests=%d: %s", len(self._journal), error)
        self._aborts.clear()
        poison = self._journal.engine_died()
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

    def _end_all(self, reason: Literal["abort", "error"], error: str | None) -> None:
        events = [TokenEvent(id=name, finish=reason, error=error) for name in self._journal.clear()]
        for event in events:
            self._deliver(event)
        self._notify(events, self.stats)
