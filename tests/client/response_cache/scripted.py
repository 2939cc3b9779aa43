"""An engine that gives a token when a test says so, and what its tokens must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headway.client import EngineListener, EngineState, Stream
from headway.client.handle import BatchListener
from headway.errors import Unavailable
from headway.types import Request, ResolvedSampling, TokenEvent, TokenLogprobs
from headway.wire import EngineStats
from tests.client.one_engine import OneEngine


def request(
    name: str,
    prompt: Iterable[int] = (5, 6, 7),
    *,
    max_tokens: int = 6,
    arrival: float = 0.0,
    priority: int = 0,
    logprobs: int | None = None,
    seed: int = 0,
    temperature: float = 0.0,
    tenant: str = "",
    cache_salt: str = "",
) -> Request:
    sampling = ResolvedSampling(
        max_tokens=max_tokens, seed=seed, logprobs=logprobs, temperature=temperature
    )
    return Request(
        id=name,
        prompt=tuple(prompt),
        sampling=sampling,
        arrival=arrival,
        priority=priority,
        tenant=tenant,
        cache_salt=cache_salt,
    )


def token_at(asked: Request, position: int) -> int:
    """What the engine gives at a position of an answer: of the request's own words, no others."""
    seed = asked.sampling.seed if asked.sampling.temperature else 0
    return (7 * sum(asked.prompt) + seed + 13 * position) % 97


def expected(asked: Request) -> list[int]:
    """The tokens of a whole answer."""
    return [token_at(asked, position) for position in range(asked.sampling.max_tokens)]


@dataclass(slots=True)
class _Progress:
    request: Request
    stream: Stream
    count: int


class ScriptedEngine(OneEngine):
    """An `EngineHandle` that computes when `step` is called."""

    def __init__(self) -> None:
        self.state: EngineState = "ready"
        self.restarts = 0
        self.silence = 0.0
        self.last_step_age = 0.0
        self.stats = EngineStats()
        self.running: dict[str, _Progress] = {}
        self.submitted: list[Request] = []
        self.cancelled: list[str] = []
        self.closed = False
        self.watching: list[BatchListener] = []
        self._listeners: list[EngineListener] = []

    def submit(self, *requests: Request) -> Stream:
        if self.state in ("failed", "closed"):
            raise Unavailable(f"the engine is {self.state}")
        stream = Stream([each.id for each in requests], self._cancel)
        for each in requests:
            assert each.id not in self.running
            self.running[each.id] = _Progress(each, stream, len(each.generated))
        self.submitted += requests
        return stream

    def step(self) -> None:
        """A token for every request."""
        self.stats = EngineStats(step=self.stats.step + 1, running=len(self.running))
        events = [self._token(each) for each in self.running.values()]
        self._tell(events)

    def end(self, event: TokenEvent) -> None:
        """A request ends by this event."""
        self._tell([event])

    def abort(self, request_id: str) -> None:
        if request_id in self.running:
            self._tell([TokenEvent(id=request_id, finish="abort")])

    def take(self, request_id: str) -> Request | None:
        return None

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def watch_batch(self, listener: BatchListener) -> Callable[[], None]:
        self.watching.append(listener)
        return lambda: self.watching.remove(listener)

    async def close(self) -> None:
        self.state, self.closed = "closed", True
        self._tell([TokenEvent(id=name, finish="abort") for name in self.running])

    def _token(self, each: _Progress) -> TokenEvent:
        sampling = each.request.sampling
        first = each.count == len(each.request.generated)
        token = token_at(each.request, each.count)
        each.count += 1
        scored = TokenLogprobs(token=token, logprob=-0.5, rank=1, top=((token, -0.5),))
        return TokenEvent(
            id=each.request.id,
            tokens=(token,),
            logprobs=() if sampling.logprobs is None else (scored,),
            finish="length" if each.count == sampling.max_tokens else None,
            cached_tokens=2 if first else 0,
            scheduled_at=50.0 if first else None,
        )

    def _tell(self, events: Sequence[TokenEvent]) -> None:
        for event in events:
            told = self.running[event.id]
            if event.finish is not None:
                del self.running[event.id]
            told.stream.push(event)
        for listener in self._listeners:
            listener(events, self.stats, time.monotonic())

    def _cancel(self, ids: Sequence[str]) -> None:
        for name in ids:
            del self.running[name]
            self.cancelled.append(name)
        for listener in self._listeners:
            listener([TokenEvent(id=name, finish="abort") for name in ids], self.stats, 0.0)
