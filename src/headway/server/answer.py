"""Serves one generating request over HTTP: admission, generation, the answer whole or as events.

An `Answer` is an ASGI application for a single request, and does the three things that must not
be forgotten: whoever disconnects is aborted, whoever waits too long for a first token is told so,
and an error after the first byte is sent as an event. The first byte waits for the first delta,
so that errors before it have a status of their own. How answers look is the `Writer`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Protocol

from starlette.types import Receive, Scope, Send

from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.llm import Delta
from headway.server.errors import detail_of, encode_error
from headway.server.house import House, Visit
from headway.server.job import Choice, Job, Numbered, Tally, Usage, open_deltas
from headway.server.logs import line, log
from headway.server.sampling import renamed

DONE = b"data: [DONE]\n\n"
EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Writer(Protocol):
    """How one endpoint writes its answers."""

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The complete JSON body."""
        ...

    def piece(self, number: int, delta: Delta, usage: Usage | None) -> bytes:
        """The events that a delta of choice `number` gives; empty where it says nothing yet."""
        ...

    def closing(self, usage: Usage) -> bytes:
        """The event with the counts that ends a stream on request."""
        ...


class Answer:
    """What an endpoint returns to have `job` generated and written by `writer`."""

    def __init__(
        self, house: House, job: Job, writer: Writer, *, words: Mapping[str, str] | None = None
    ) -> None:
        """`words` maps names of parameters to this endpoint's names for them, for errors."""
        self._house = house
        self._job = job
        self._writer = writer
        self._tally = Tally(job)
        self._words = dict(words or {})
        self._started = False
        self._first_token: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job = self._job
        with self._house.admit(job.id, job.continuations) as visit:
            self._note_arrival(scope)
            watcher = asyncio.create_task(_watch(receive, visit))
            try:
                await self._generate(visit, send)
            except asyncio.CancelledError:
                if visit.evicted is None:
                    raise
                visit.stay()
                self._note_end("aborted", visit, reason=visit.evicted)
                if visit.evicted == "shutdown":
                    await self._fail(Unavailable("the server stopped"), send)
            except HeadwayError as fault:
                error = renamed(fault, self._words) if isinstance(fault, InvalidRequest) else fault
                visit.fail()
                self._note_end("failed", visit, reason=error.message)
                await self._fail(error, send)
            except Exception as error:
                visit.fail()
                self._note_end("failed", visit, reason=type(error).__name__)
                if self._started:
                    log.exception(line("error", id=job.id))
                await self._fail(error, send)
            else:
                self._note_end("finished", visit, finish=",".join(sorted(set(visit.reasons))))
            finally:
                watcher.cancel()

    async def _generate(self, visit: Visit, send: Send) -> None:
        """Run the job and send its answer."""
        async with (
            open_deltas(self._house.backend, self._job) as deltas,
            aclosing(self._noted(deltas, visit)) as noted,
        ):
            if self._job.stream:
                await self._send_events(noted, send)
                return
            choices = [Choice(number) for number in range(self._job.continuations)]
            async for number, delta in noted:
                choices[number].add(delta)
        await self._send_whole(self._writer.whole(choices, self._tally.usage()), send)

    async def _noted(
        self, deltas: AsyncIterator[Numbered], visit: Visit
    ) -> AsyncGenerator[Numbered, None]:
        """The same deltas, counted; the first of them comes within `queue_timeout`."""
        limit = self._house.config.queue_timeout
        try:
            async with asyncio.timeout(limit):
                item = await anext(deltas, None)
        except TimeoutError:
            self._house.refuse("queue_timeout")
            raise Unavailable(f"no turn came within the queue timeout of {limit:g} s") from None
        self._first_token = time.monotonic()
        while item is not None:
            number, delta = item
            self._tally.add(delta)
            if delta.finish_reason is not None:
                visit.reasons[number] = delta.finish_reason
            yield item
            item = await anext(deltas, None)

    async def _send_events(self, deltas: AsyncIterator[Numbered], send: Send) -> None:
        job, writer, tally = self._job, self._writer, self._tally
        async for number, delta in deltas:
            data = writer.piece(number, delta, tally.usage() if job.continuous_usage else None)
            if data:
                await self._send_event(data, send)
        last = writer.closing(tally.usage()) if job.include_usage else b""
        await self._send_event(last + DONE, send, more=False)

    async def _send_event(self, data: bytes, send: Send, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        await send({"type": "http.response.body", "body": data, "more_body": more})

    async def _send_whole(self, data: bytes, send: Send) -> None:
        self._started = True
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _fail(self, error: Exception, send: Send) -> None:
        """Tell the client: as the last event of a stream, or, before that, by raising."""
        if not self._started:
            raise error
        data = b"data: " + encode_error(detail_of(error)) + b"\n\n" + DONE
        await self._send_event(data, send, more=False)

    def _note_arrival(self, scope: Scope) -> None:
        job = self._job
        room = self._house.backend.max_model_len - min(map(len, job.prompts))
        max_tokens = room if job.params.max_tokens is None else job.params.max_tokens
        for observer in self._house.observers:
            observer.arrived(job.id, job.engine_ids(), n=job.params.n, max_tokens=max_tokens)
        log.info(
            line(
                "received",
                id=job.id,
                request_id=scope.get("headway.request_id"),
                path=scope["path"],
                prompts=len(job.prompts),
                n=job.params.n,
                prompt_tokens=self._tally.prompt_tokens,
                max_tokens=max_tokens,
                stream=str(job.stream).lower(),
                user=job.user,
            )
        )

    def _note_end(self, event: str, visit: Visit, **fields: object) -> None:
        now = time.monotonic()
        first = None if self._first_token is None else self._first_token - visit.since
        log.info(
            line(
                event,
                id=self._job.id,
                **fields,
                prompt_tokens=self._tally.prompt_tokens,
                cached_tokens=self._tally.cached_tokens,
                completion_tokens=self._tally.completion_tokens,
                first_token_seconds=first,
                seconds=now - visit.since,
            )
        )


async def _watch(receive: Receive, visit: Visit) -> None:
    """Evict the request when its client leaves. Its body has been read, so nothing else comes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    visit.evict("disconnect")
