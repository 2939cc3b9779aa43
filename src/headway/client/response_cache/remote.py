"""Answers that several servers share through a Redis, which is never waited for.

All lookups and writes of a moment go together in one exchange of bounded time. Where anything is
wrong with it, every lookup is a miss, at once, until a probe in the background finds it well again:
a request notices nothing but that it is computed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from headway.background import watched
from headway.errors import InvalidRequest
from headway.extras import has_redis, needs_redis

EXCHANGE_SECONDS = 0.05
PROBE_SECONDS = 2.0
FIRST_PAUSE = 1.0
"""Seconds from a failure to the next probe; twice as long after each that fails ..."""
LONGEST_PAUSE = 30.0
"""... up to this."""
MOST_AT_ONCE = 64
"""Lookups, and writes, of one exchange."""
MOST_VALUE_BYTES = 2**20
"""Of a value that is asked for; a longer one is cut, and so is none."""
MOST_QUEUED_BYTES = 8 * 2**20
"""Of values to be written; more are dropped."""
PREFIX = b"headway:answer:"

logger = logging.getLogger(__name__)


class RemoteWrite(NamedTuple):
    """A value to be kept; one that is not `whole` takes the place of none."""

    key: bytes
    value: bytes
    whole: bool


class RemoteLink(Protocol):
    """A connection to a store of bytes; may raise anything."""

    async def ping(self) -> None: ...

    async def exchange(
        self, wanted: Sequence[bytes], writes: Sequence[RemoteWrite]
    ) -> Sequence[bytes]:
        """Write, and return the values of the wanted keys, empty where there is none."""
        ...

    async def close(self) -> None: ...


class RemoteAnswers:
    """Lookups and writes for one event loop; `start` it, and `close` it in the end."""

    def __init__(self, link: RemoteLink, *, pause: float = FIRST_PAUSE) -> None:
        """`pause`: seconds from a failure to the next probe."""
        self._link = link
        self._first_pause = pause
        self._wanted: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._writes: dict[bytes, RemoteWrite] = {}
        self._queued_bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self.up = False
        """Whether it is worth asking."""
        self.hits = 0
        """Values that were found."""
        self.failures = 0
        """Exchanges and probes that failed."""

    def start(self) -> None:
        """Connect in the background."""
        self._probe_after(0.0)

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys, None for each that is not there or cannot be had now."""
        if not self.up:
            return [None] * len(keys)
        loop = asyncio.get_running_loop()
        futures = []
        for key in keys:
            if key not in self._wanted:
                self._wanted[key] = loop.create_future()
            futures.append(self._wanted[key])
        self._wake()
        await asyncio.wait(futures)
        return [future.result() for future in futures]

    def put(self, key: bytes, value: bytes, *, whole: bool) -> None:
        """Have a value kept, if that can be done; never waits."""
        if self.up and self._queued_bytes + len(value) <= MOST_QUEUED_BYTES:
            replaced = self._writes.get(key)
            self._queued_bytes += len(value) - (len(replaced.value) if replaced else 0)
            self._writes[key] = RemoteWrite(key, value, whole)
            self._wake()

    async def close(self) -> None:
        """Stop asking; what waits gets nothing."""
        self.up = False
        tasks = [task for task in (self._worker, self._prober) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._link.close()
        except Exception as error:
            logger.debug("closing the shared response cache: %r", error)

    def _wake(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = watched(
                self._work(), name="shared response cache", on_failure=self._broke
            )

    async def _work(self) -> None:
        while self._wanted or self._writes:
            wanted = {key: self._wanted[key] for key in list(self._wanted)[:MOST_AT_ONCE]}
            writes = self._some_writes()
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    values = await self._link.exchange(list(wanted), writes)
                found = list(zip(wanted.items(), values, strict=True))
            except Exception as error:
                self._broke(error)
                return
            for (key, future), value in found:
                del self._wanted[key]
                self.hits += bool(value)
                future.set_result(value or None)

    def _some_writes(self) -> list[RemoteWrite]:
        """Those that an exchange may take with it, which is one at least if there is any."""
        taken: list[RemoteWrite] = []
        size = 0
        while self._writes and len(taken) < MOST_AT_ONCE and size < MOST_VALUE_BYTES:
            taken.append(self._writes.pop(next(iter(self._writes))))
            size += len(taken[-1].value)
        self._queued_bytes -= size
        return taken

    def _broke(self, error: BaseException) -> None:
        self.failures += 1
        if self.up:
            self.up = False
            reason = str(error) or type(error).__name__
            logger.warning("the shared response cache is not asked for now: %s", reason)
            self._probe_after(self._first_pause)
        self._drop()

    def _drop(self) -> None:
        """Nobody waits for what cannot be had."""
        wanted, self._wanted = self._wanted, {}
        self._writes.clear()
        self._queued_bytes = 0
        for future in wanted.values():
            future.set_result(None)

    def _probe_after(self, pause: float) -> None:
        self._prober = watched(
            self._probe(pause), name="shared response cache probe", on_failure=self._broke
        )

    async def _probe(self, pause: float) -> None:
        """Until it answers; what goes wrong is told once."""
        told = pause > 0
        while True:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._link.ping()
            except Exception as error:
                self.failures += 1
                if not told:
                    told = True
                    reason = str(error) or type(error).__name__
                    logger.warning("the shared response cache cannot be reached: %s", reason)
                pause = min(max(2 * pause, self._first_pause), LONGEST_PAUSE)
                continue
            self.up = True
            logger.info("the shared response cache is asked from now on")
            return


class RedisLink:
    """A Redis, by its URL. Values expire after `max_age` seconds."""

    def __init__(self, url: str, *, max_age: float) -> None:
        """Raises `InvalidRequest` where the client is not installed, or the URL is none."""
        if not has_redis():
            raise needs_redis("a shared response cache", field="response_cache_redis")
        from redis.asyncio import Redis

        try:
            # One exchange at a time; a lost connection is an error here, and a probe's business.
            self._redis: Any = Redis.from_url(url, max_connections=2, retry=None)
        except ValueError as error:
            raise InvalidRequest(
                f"response_cache_redis is no address of a Redis: {error}",
                field="response_cache_redis",
            ) from None
        self._milliseconds = max(1, int(max_age * 1000))

    async def ping(self) -> None:
        await self._redis.ping()

    async def exchange(
        self, wanted: Sequence[bytes], writes: Sequence[RemoteWrite]
    ) -> Sequence[bytes]:
        """See `RemoteLink`."""
        pipeline = self._redis.pipeline(transaction=False)
        for each in writes:
            pipeline.set(PREFIX + each.key, each.value, px=self._milliseconds, nx=not each.whole)
        for key in wanted:
            pipeline.getrange(PREFIX + key, 0, MOST_VALUE_BYTES - 1)
        answers: list[bytes] = await pipeline.execute()
        return answers[len(writes) :]

    async def close(self) -> None:
        await self._redis.aclose()
