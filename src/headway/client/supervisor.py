"""`EngineSupervisor`: keeps one engine process running, and says when that is over for good.

One task waits for the process's end and starts the next; another watches over it, and kills a
process that hangs, which so dies like any other. Should either task end by an exception, the engine
has failed for good: nobody would replace it any more. What the requests are to hear of all this is
the owner's business, who gets the events unread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Protocol

from msgspec.structs import replace

from headway.background import watched
from headway.client.descriptors import DescriptorReserve
from headway.client.handle import EngineState
from headway.client.kept_cache import CacheMemoryFile, keeps_cache
from headway.client.process import EngineProcess, Shortage
from headway.client.restarts import MAX_DEATHS, RestartPolicy
from headway.client.watchdog import TICK, longest_step
from headway.errors import HeadwayError, Unavailable
from headway.types.batch_news import BatchNews
from headway.wire import EngineInfo, Events, Failed, FromEngine, Heartbeat, Ready, Start

SHORTAGE_WAIT = 1.0
"""Seconds between attempts to start an engine that the machine lacks something for."""

logger = logging.getLogger(__name__)


class EngineOwner(Protocol):
    """Hears of the engine, on the event loop."""

    def on_engine_events(self, message: Events, engine: EngineProcess) -> None:
        """A step, a refusal or an abort was reported."""
        ...

    def on_batch_news(self, news: BatchNews) -> None:
        """The batch was told, as somebody watches it."""
        ...

    def on_engine_ready(self) -> None:
        """A process is ready for requests."""
        ...

    def on_engine_died(self, error: HeadwayError) -> bool:
        """The process that was ready is gone; returns whether requests may have caused that."""
        ...

    def on_engine_failed(self, reason: str) -> None:
        """There will be no other process."""
        ...


class EngineSupervisor:
    """One engine process at a time, `engine`, which is None between two of them."""

    def __init__(self, start: Start, command: Sequence[str], owner: EngineOwner) -> None:
        self.state: EngineState = "starting"
        self.restarts = 0
        self.failure: str | None = None
        """Why the engine is gone for good, in the state "failed"."""
        self.info: EngineInfo | None = None
        """Of the latest process that was ready."""
        self.engine: EngineProcess | None = None
        # A recording is to hold all that its engine's plans depended on.
        keep = start.config.keep_kv_cache and start.config.record is None
        self._cache = CacheMemoryFile() if keep else None
        descriptor = None if self._cache is None else self._cache.descriptor
        self._start = replace(start, kv_cache_fd=descriptor)
        self._command = tuple(command)
        self._owner = owner
        self._ready: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None
        """Done with the next process that is ready, or when there will be none."""
        self._reserve = DescriptorReserve()
        self._tasks: list[asyncio.Task[None]] = []
        self._may_adopt = True
        """What the present engine leaves in its KV cache may be used by others."""

    async def start(self) -> None:
        """Start the first process and wait until it is ready.

        Raises `HeadwayError` where it cannot start, leaving none behind.
        """
        self._run_in_background(self._watch(), "engine watchdog")
        try:
            await self._launch()
        except BaseException:
            await self.close()
            raise
        self._run_in_background(self._supervise(), "engine supervisor")

    async def next_ready(self) -> None:
        """Wait until another process than the present one is ready.

        Raises `Unavailable` where there will be none.
        """
        if self.state not in ("failed", "closed"):
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)
        if self.state in ("failed", "closed"):
            raise Unavailable(self.failure or "the engine is closed")

    async def close(self) -> None:
        """Stop supervising, and wait until the process is gone. May be called again."""
        self.state = "closed"
        self._tell_next()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.engine is not None:
            await self.engine.end()
            self.engine = None
        self._reserve.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def kv_source(self) -> str:
        """Where other engines can read the KV cache, as long as it may be used; else ""."""
        return self._cache.path if self._cache is not None and self._may_adopt else ""

    def discard_cache(self) -> None:
        """Let nobody use what the present engine computes, once it is gone, or what the last one
        has left."""
        self._may_adopt = self.engine is None
        if self._may_adopt and self._cache is not None:
            self._cache.discard()

    def _run_in_background(self, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(watched(work, name=name, on_failure=self._on_task_failure))

    def _on_task_failure(self, error: BaseException) -> None:
        """Half a supervision is none: end the other half and the present engine, and say so."""
        for task in self._tasks:
            task.cancel()
        if self.engine is not None:
            self.engine.kill("it is not supervised any more")
        self._fail(f"the engine's supervision failed: {type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        if self.state in ("failed", "closed"):
            return
        self.failure = reason
        self.state = "failed"
        logger.error("engine failed: %s", reason)
        self._tell_next()
        self._owner.on_engine_failed(reason)

    def _on_message(self, message: FromEngine) -> None:
        """Called by the connection for every message from the engine."""
        engine = self.engine
        if engine is None:
            return
        engine.watch.heard()
        if isinstance(message, Heartbeat):
            engine.watch.on_heartbeat(message)
        elif isinstance(message, Ready):
            self._on_ready(message.info, engine)
        elif isinstance(message, Failed):
            engine.failed = message
            engine.connection.close()
        elif isinstance(message, BatchNews):
            self._owner.on_batch_news(message)
        else:
            self._owner.on_engine_events(message, engine)

    def _on_ready(self, info: EngineInfo, engine: EngineProcess) -> None:
        self.info = info
        timeout = self._start.config.step_timeout
        engine.watch.ready(longest_step(info) if timeout is None else timeout)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def _launch(self) -> None:
        """Start a process and wait for its `Ready`; raises `HeadwayError`, leaving none behind."""
        ready = self._ready = asyncio.get_running_loop().create_future()
        descriptor = self._start.kv_cache_fd
        engine = self.engine = await EngineProcess.launch(
            self._command,
            self._on_message,
            self._reserve,
            () if descriptor is None else (descriptor,),
        )
        try:
            engine.connection.start(self._start)
            await asyncio.wait((ready, engine.connection.lost), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.engine = None
            await engine.end()
            raise
        if not ready.done():
            self.engine = None
            raise await engine.death_reason("while starting")
        self._start = replace(self._start, restart=True)
        self.state = "ready"
        self._tell_next()
        self._owner.on_engine_ready()

    def _tell_next(self) -> None:
        waited_for, self._next = self._next, None
        if waited_for is not None and not waited_for.done():
            waited_for.set_result(None)

    async def _supervise(self) -> None:
        """Keep an engine alive until it has failed for good."""
        policy = RestartPolicy()
        while (engine := self.engine) is not None:
            await engine.connection.lost
            self.state = "restarting"
            self.engine = None
            error = await engine.death_reason("while running")
            kept = self._may_adopt and keeps_cache(engine.exit_code, useful=engine.useful)
            self._may_adopt = True
            if not kept:
                self.discard_cache()
            explained = self._owner.on_engine_died(error)
            wait = policy.died(
                lifetime=time.monotonic() - engine.started,
                useful=engine.useful,
                explained=explained,
            )
            while not await self._relaunched(wait):
                self.discard_cache()
                wait = policy.died(lifetime=0.0, useful=False, explained=False)

    async def _relaunched(self, wait: float | None) -> bool:
        """Start a new engine after `wait` seconds; true when done or never to be tried again."""
        if wait is None:
            self._fail(f"the engine died {MAX_DEATHS} times in a row and stays down")
            return True
        await asyncio.sleep(wait)
        self.restarts += 1
        try:
            await self._launch_when_possible()
        except HeadwayError as error:
            logger.error("engine restart failed: %s", error)
            return False
        except Exception:
            logger.exception("engine restart failed")
            return False
        return True

    async def _launch_when_possible(self) -> None:
        """As `_launch`, but waits for what the machine lacks at present, such as descriptors."""
        told = False
        while True:
            try:
                return await self._launch()
            except Shortage as error:
                if not told:
                    logger.error("engine restart waits until it is possible: %s", error)
                    told = True
            await asyncio.sleep(SHORTAGE_WAIT)

    async def _watch(self) -> None:
        """Kill an engine process that hangs, and keep the reserved descriptors."""
        while True:
            await asyncio.sleep(TICK)
            self._reserve.fill()
            engine = self.engine
            reason = engine.watch.tick() if engine is not None else None
            if engine is not None and reason is not None:
                logger.error("engine hangs pid=%d: %s; it is replaced", engine.process.pid, reason)
                engine.kill(f"it hung: {reason}")
