"""Load on an engine of this machine: no server and no text in between, so serving costs the rest.

Requests go to the engine client in token ids, with nothing left to resolve, and all events of a
step are read in one pass, which stamps them with one time. So the load generator costs about as
little as can be beside the engine that it measures.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from headway.config import EngineConfig
from headway.errors import HeadwayError, InvalidRequest, Overloaded
from headway.llm import AsyncLLM
from headway.perf.bench.run_load import ClientResponse, LoadResult, OutputLength, Progress, run_load
from headway.perf.records.record import Outcome
from headway.perf.workload.synthetic import warm_up
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest, vocabulary_tokens
from headway.types import Request, ResolvedSampling, TokenEvent
from headway.types.objectives import Objective
from headway.wire import EngineInfo, EngineStats


class EngineLoadClient:
    """Sends requests to the engine of an `AsyncLLM`. Use `with`, or `close` it."""

    def __init__(self, llm: AsyncLLM) -> None:
        self.tokens_received = 0
        """Tokens that came so far, of all requests."""
        self._client = llm.client
        self._objectives = llm.objectives
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
            wanted = request.objectives or self._objectives.get(request.service_class, ())
            stream = self._client.submit(_request(request, tokens, request_id, wanted))
        except HeadwayError as error:
            del self._waiting[request_id]
            outcome: Outcome = "refused" if isinstance(error, Overloaded) else "error"
            return ClientResponse(outcome=outcome, error=error.message)
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

    __slots__ = ("_accepted", "_cached", "_counts", "_drafts", "_last", "_times", "done")

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._times = array("d")
        self._counts = array("L")
        self._cached = self._drafts = self._accepted = 0
        self._last: TokenEvent | None = None

    def add(self, event: TokenEvent, clock: float) -> None:
        if event.tokens:
            self._times.append(clock)
            self._counts.append(len(event.tokens))
        if event.cached_tokens:
            self._cached = event.cached_tokens
        self._drafts += event.draft_tokens
        self._accepted += event.accepted_tokens
        if event.finish is not None and not self.done.done():
            self._last = event
            self.done.set_result(None)

    def response(self) -> ClientResponse:
        last = self._last
        assert last is not None, "asked for after the end"
        good = last.finish in ("stop", "length")
        failure: Outcome = "error" if last.retry_after is None else "refused"
        return ClientResponse(
            times=self._times,
            counts=self._counts,
            outcome="ok" if good else failure,
            error="" if good else last.error or f"the request ended with {last.finish}",
            cached_tokens=self._cached,
            draft_tokens=self._drafts,
            accepted_tokens=self._accepted,
        )


def _request(
    request: WorkloadRequest,
    tokens: Sequence[int],
    name: str,
    objectives: tuple[Objective, ...],
) -> Request:
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
        tenant=request.tenant,
        service_class=request.service_class,
        objectives=objectives,
    )


MAX_TOKEN = 30_000
"""Prompts are made of token ids below this, or below the vocabulary's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRunResult:
    """Workloads that an engine ran, one after the other."""

    results: tuple[LoadResult, ...]
    info: EngineInfo
    preemptions: int


async def run_workloads(
    config: EngineConfig,
    workloads: Sequence[Workload],
    *,
    warmups: int = 0,
    max_concurrency: int | None = None,
    progress: bool = True,
    command: Sequence[str] | None = None,
) -> EngineRunResult:
    """Start an engine, warm it up with so many requests, and run the workloads in turn.

    `command` replaces the engine program. Raises `InvalidRequest` for a request that cannot fit.
    """
    async with await AsyncLLM.start(config, progress=progress, command=command) as llm:
        for workload in workloads:
            check_fit(workload, llm.max_model_len)
        high = min(MAX_TOKEN, llm.model_config.vocab_size)
        load = partial(
            run_load,
            max_concurrency=max_concurrency,
            tokens=partial(vocabulary_tokens, high=high),
        )
        total = sum(len(workload.requests) for workload in workloads)
        with EngineLoadClient(llm) as client:
            if warmups and total:
                await load(client, warm_up(workloads[0], warmups), label="warm-up")
            before = llm.client.stats.preemptions
            with Progress(total, tokens=lambda: client.tokens_received, show=progress) as observer:
                results = [
                    await load(client, workload, observer=observer, label=f"run-{number}")
                    for number, workload in enumerate(workloads, 1)
                ]
        return EngineRunResult(
            results=tuple(results),
            info=llm.client.info,
            preemptions=llm.client.stats.preemptions - before,
        )


def check_fit(workload: Workload, max_model_len: int) -> None:
    """Raise `InvalidRequest` for a request that is longer than the longest sequence."""
    longest = max((request.prompt_tokens + request.cap for request in workload.requests), default=0)
    if longest > max_model_len:
        raise InvalidRequest(
            f"a prompt and its most tokens come to {longest}, but the longest sequence has "
            f"{max_model_len}; ask for less, cap it with --output-cap, or scale the trace with "
            "--length-scale",
            field="--input-len",
        )


def batches(*, size: int, prompt: int, output: int, count: int) -> tuple[Workload, ...]:
    """So many workloads of one batch each: equal lengths, prompts that differ, all at once."""
    one = WorkloadRequest(segments=(Segment(0, prompt),), output=output, cap=output)
    return tuple(
        Workload(
            name=f"{size} x {prompt}+{output}",
            requests=tuple(
                replace(one, segments=(Segment(number * size + row, prompt),))
                for row in range(size)
            ),
        )
        for number in range(count)
    )
