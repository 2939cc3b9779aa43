"""A load client for an engine on this machine: no server and no text in between.

Requests go to the engine client in token ids, with nothing left to resolve, and all events of a
step are read in one pass, which stamps them with one time. So the load generator costs about as
little as can be beside the engine that it measures.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence

from headway.errors import HeadwayError
from headway.llm import AsyncLLM
from headway.perf.bench.run_load import ClientResponse, OutputLength
from headway.perf.workload.workload import WorkloadRequest
from headway.types import Request, ResolvedSampling, TokenEvent
from headway.wire import EngineStats


class EngineLoadClient:
    """Sends requests to the engine of an `AsyncLLM`. Use `with`, or `close` it."""

    def __init__(self, llm: AsyncLLM) -> None:
        self.tokens_received = 0
        """Tokens that came so far, of all requests."""
        self._client = llm.client
        self._waiting: dict[str, _PendingResponse] = {}
        self._unsubscribe = llm.client.subscribe(self._listen)

    def __enter__(self) -> EngineLoadClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening to the engine, which goes on."""
        self._unsubscribe()

    async def send(
        self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
    ) -> ClientResponse:
        """See `LoadClient`. The engine knows it by `request_id`."""
        pending = _PendingResponse()
        self._waiting[request_id] = pending
        try:
            stream = self._client.submit(_request(request, tokens, request_id))
        except HeadwayError as error:
            del self._waiting[request_id]
            return ClientResponse(outcome="error", error=error.message)
        try:
            await pending.done
        finally:
            # The stream itself is never read: cancelling it frees what it kept for a reader.
            self._waiting.pop(request_id, None)
            stream.cancel()
        return pending.response()

    def _listen(self, events: Sequence[TokenEvent], stats: EngineStats, now: float) -> None:  # noqa: ARG002
        clock = time.perf_counter()
        for event in events:
            pending = self._waiting.get(event.id)
            if pending is not None:
                self.tokens_received += len(event.tokens)
                pending.add(event, clock)


class _PendingResponse:
    """What came so far for one request."""

    __slots__ = ("_cached", "_counts", "_last", "_times", "done")

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._times = array("d")
        self._counts = array("L")
        self._cached = 0
        self._last: TokenEvent | None = None

    def add(self, event: TokenEvent, clock: float) -> None:
        if event.tokens:
            self._times.append(clock)
            self._counts.append(len(event.tokens))
        if event.cached_tokens:
            self._cached = event.cached_tokens
        if event.finish is not None and not self.done.done():
            self._last = event
            self.done.set_result(None)

    def response(self) -> ClientResponse:
        last = self._last
        assert last is not None, "asked for after the end"
        good = last.finish in ("stop", "length")
        return ClientResponse(
            times=self._times,
            counts=self._counts,
            outcome="ok" if good else "error",
            error="" if good else last.error or f"the request ended with {last.finish}",
            cached_tokens=self._cached,
        )


def _request(request: WorkloadRequest, tokens: Sequence[int], name: str) -> Request:
    ending = OutputLength.of(request)
    stops = () if ending.stop is None else (ending.stop,)
    return Request(
        id=name,
        prompt=tuple(tokens),
        sampling=ResolvedSampling(
            max_tokens=ending.max_tokens,
            min_tokens=ending.min_tokens,
            seed=0,
            temperature=0.0,
            logit_bias=tuple((token, ending.bias) for token in stops),
            stop_token_ids=stops,
        ),
        arrival=time.monotonic(),
    )
