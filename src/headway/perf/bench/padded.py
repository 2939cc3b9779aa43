"""Static batching with padding: how a model is served by a loop around a `generate` function.

Requests go in batches. Every row of a batch generates until the batch's longest is done, and all
answers are delivered when the batch ends; a request that arrives in the meantime waits for the next
one. What a row generates beyond its own length is padding. A `BatchGenerator` computes a batch:
this engine, or another program.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.perf.bench.run_load import LoadClient
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest, vocabulary_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimes:
    """What one batch took. Times are seconds after it began."""

    rows: tuple[Sequence[float], ...] = ()
    """For each row, when each of its tokens was there."""
    error: str = ""
    """Why the batch failed, if it did."""


class BatchGenerator(Protocol):
    """Generates for all rows of a batch at once."""

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        """So many tokens for every prompt; failures are in the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedRun:
    """The result of a workload, and the slots of its rows."""

    records: tuple[RequestRecord, ...]
    duration: float
    bars: tuple[Bar, ...]
    """Each ends where its own answer was complete; until its batch ends its slot computes
    padding, which counts as idle."""


async def run_padded_load(
    generator: BatchGenerator,
    workload: Workload,
    *,
    slots: int,
    tokens: Callable[[WorkloadRequest], Sequence[int]] = vocabulary_tokens,
    label: str = "request",
) -> PaddedRun:
    """Serve a workload in batches of at most `slots`: whatever has arrived when one can start."""
    prompts = [tokens(request) for request in workload.requests]
    requests = workload.requests
    records: list[RequestRecord] = []
    bars: list[Bar] = []
    start = time.perf_counter()
    now = 0.0
    while len(records) < len(requests):
        first = len(records)
        await asyncio.sleep(max(0.0, requests[first].at - now))
        now = time.perf_counter() - start
        last = first + 1
        while last < min(len(requests), first + slots) and requests[last].at <= now:
            last += 1
        batch = requests[first:last]
        times = await generator.run(prompts[first:last], max(request.output for request in batch))
        began, now = now, time.perf_counter() - start
        names = [f"{label}-{number}" for number in range(first + 1, last + 1)]
        records += _records(batch, names, now, times.error)
        bars += _bars(batch, names, began, times.rows)
    return PaddedRun(records=tuple(records), duration=now, bars=tuple(bars))


def _records(
    batch: Sequence[WorkloadRequest], names: Sequence[str], end: float, error: str
) -> list[RequestRecord]:
    """Answers that come in one piece: the first token arrives with the last."""
    return [
        RequestRecord(
            id=name,
            due=request.at,
            sent=request.at,
            prompt_tokens=request.prompt_tokens,
            output_tokens=0 if error else request.output,
            outcome="error" if error else "ok",
            error=error,
        ).with_times(() if error else (end,), sent=request.at)
        for request, name in zip(batch, names, strict=True)
    ]


def _bars(
    batch: Sequence[WorkloadRequest],
    names: Sequence[str],
    began: float,
    rows: Sequence[Sequence[float]],
) -> list[Bar]:
    return [
        Bar(slot, began, began + row[0], began + row[request.output - 1], name)
        for slot, (request, name, row) in enumerate(zip(batch, names, rows, strict=False))
    ]


class ClientBatchGenerator:
    """A batch generated through a load client: every row is a request of its own."""

    def __init__(self, client: LoadClient) -> None:
        self._client = client
        self._batches = 0

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        self._batches += 1
        start = time.perf_counter()
        # Made in one turn of the event loop, so that they reach the engine together.
        responses = await asyncio.gather(
            *(
                self._client.send(
                    WorkloadRequest(segments=(Segment(0, len(prompt)),), output=tokens, cap=tokens),
                    prompt,
                    request_id=f"batch-{self._batches}-{row}",
                )
                for row, prompt in enumerate(prompts, 1)
            )
        )
        failed = next((response for response in responses if response.outcome != "ok"), None)
        if failed is not None:
            return BatchTimes(error=failed.error or failed.outcome)
        rows = tuple(
            [
                at - start
                for at, count in zip(response.times, response.counts, strict=True)
                for _ in range(count)
            ]
            for response in responses
        )
        short = next((row for row in rows if len(row) != tokens), None)
        if short is not None:
            return BatchTimes(error=f"a row has {len(short)} tokens and not {tokens}")
        return BatchTimes(rows=rows)
