"""One admitted request, told apart from HTTP: what is to be generated, and what has come so far.

A job has one or more prompts with n continuations each; choice number = prompt number * n +
continuation. `open_deltas` runs them all and gives their deltas in one sequence, as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from headway.errors import EngineError, HeadwayError, InvalidRequest, Unavailable
from headway.llm import Delta
from headway.server.backend import Backend, DeltaStream
from headway.types import FinishReason, SamplingParams, TokenLogprobs

Numbered = tuple[int, Delta]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to generate. `id` is unique and is what the engine and the client call the request."""

    id: str
    created: int
    """Unix seconds."""
    prompts: tuple[list[int], ...]
    params: SamplingParams
    priority: int = 0
    cache_salt: str = ""
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    user: str | None = None

    @property
    def continuations(self) -> int:
        return len(self.prompts) * self.params.n

    def prompt_id(self, number: int) -> str:
        """The id under which one prompt goes to `AsyncLLM.stream`."""
        return self.id if len(self.prompts) == 1 else f"{self.id}-p{number}"

    def engine_ids(self) -> list[tuple[str, int]]:
        """What the engine calls each continuation, in choice order, and its prompt's length."""
        n = self.params.n
        return [
            (self.prompt_id(number) + (f"-{index}" if n > 1 else ""), len(prompt))
            for number, prompt in enumerate(self.prompts)
            for index in range(n)
        ]


class PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


@dataclass(slots=True)
class Tally:
    """Counts of a job so far. A prompt counts once, however many continuations it has."""

    job: Job
    prompt_tokens: int = field(init=False)
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __post_init__(self) -> None:
        self.prompt_tokens = sum(map(len, self.job.prompts))

    def add(self, delta: Delta) -> None:
        self.completion_tokens += len(delta.token_ids)
        if delta.index == 0 and delta.cached_tokens:
            self.cached_tokens += delta.cached_tokens

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details=PromptDetails(self.cached_tokens),
        )


@dataclass(slots=True)
class Choice:
    """One continuation as far as it has come."""

    number: int
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.prompt_logprobs.extend(delta.prompt_logprobs)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason


@asynccontextmanager
async def open_deltas(backend: Backend, job: Job) -> AsyncIterator[AsyncIterator[Numbered]]:
    """Start the job; on leaving the block whatever still runs is aborted.

    Raises `InvalidRequest` where a prompt cannot be served. Iterating raises `EngineError`,
    `Unavailable` or `InvalidRequest` where the engine ends a continuation with an error.
    """
    streams: list[DeltaStream] = []
    try:
        for number, prompt in enumerate(job.prompts):
            streams.append(
                backend.stream(
                    prompt,
                    job.params,
                    request_id=job.prompt_id(number),
                    priority=job.priority,
                    cache_salt=job.cache_salt,
                )
            )
        async with _together(backend, streams, job.params.n) as deltas:
            yield deltas
    finally:
        for stream in streams:
            stream.cancel()


@asynccontextmanager
async def _together(
    backend: Backend, streams: list[DeltaStream], n: int
) -> AsyncIterator[AsyncIterator[Numbered]]:
    """All the streams as one; a single stream, the common case, without a queue."""
    if len(streams) == 1:
        async with aclosing(_checked(backend, streams[0])) as deltas:
            yield deltas
        return
    queue: asyncio.Queue[Numbered | Exception | None] = asyncio.Queue()
    pumps = [
        asyncio.create_task(_pump(backend, stream, number * n, queue))
        for number, stream in enumerate(streams)
    ]
    try:
        async with aclosing(_merged(queue, len(streams))) as deltas:
            yield deltas
    finally:
        for pump in pumps:
            pump.cancel()


async def _checked(backend: Backend, stream: DeltaStream) -> AsyncGenerator[Numbered, None]:
    restarts = backend.client.restarts
    async for delta in stream:
        if delta.finish_reason == "error":
            raise _error(backend, delta, restarts)
        yield delta.index, delta


async def _pump(
    backend: Backend,
    stream: DeltaStream,
    first: int,
    queue: asyncio.Queue[Numbered | Exception | None],
) -> None:
    try:
        async for index, delta in _checked(backend, stream):
            queue.put_nowait((first + index, delta))
    except Exception as error:
        queue.put_nowait(error)
    queue.put_nowait(None)


async def _merged(
    queue: asyncio.Queue[Numbered | Exception | None], streams: int
) -> AsyncGenerator[Numbered, None]:
    while streams:
        item = await queue.get()
        if item is None:
            streams -= 1
        elif isinstance(item, Exception):
            raise item
        else:
            yield item


def _error(backend: Backend, delta: Delta, restarts: int) -> HeadwayError:
    """Why the engine gave up: what it never scheduled was refused on arrival.

    `restarts` is the client's count from when the request began: a request that brought engines
    down was not refused, though it may never have been scheduled either.
    """
    message = delta.error or "the engine could not finish the request"
    if backend.client.state not in ("ready", "restarting"):
        return Unavailable(message)
    refused = delta.scheduled_at is None and not delta.token_ids
    if refused and backend.client.restarts == restarts:
        return InvalidRequest(message)
    return EngineError(message)
