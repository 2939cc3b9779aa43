"""Static batching with padding: how a model is served by a loop around a `generate` function.

Requests go in batches. Every row of a batch generates until the batch's slowest is done, and all
answers are there when the batch ends; a request that comes in the meantime waits for the next one.
What a row generates beyond its own length is padding, and nobody's answer. Whatever computes a
batch stands behind one method: this engine, or another program.
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
from headway.perf.workload.tokens import vocabulary_tokens
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimes:
    """What one batch took. Times are seconds after it began."""

    rows: tuple[Sequence[float], ...] = ()
    """For each row, when each of its tokens was there."""
    error: str = ""
    """Why the batch failed, if it did."""


class Computes(Protocol):
    """Generates for all rows of a batch at once."""

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        """So many tokens for every prompt; failures are in the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedRun:
    """What came of a workload, and where its rows sat."""

    records: tuple[RequestRecord, ...]
    duration: float
    bars: tuple[Bar, ...]
    """Each ends where its own answer was complete; until its batch ends its slot computes
    padding, which counts as idle."""


async def drive_padded(
    computer: Computes,
    workload: Workload,
    *,
    seats: int,
    tokens: Callable[[WorkloadRequest], Sequence[int]] = vocabulary_tokens,
    label: str = "job",
) -> PaddedRun:
    """Serve a workload in batches of at most `seats`, by arrival: whoever is there departs."""
    prompts = [tokens(job) for job in workload.jobs]
    jobs = workload.jobs
    records: list[RequestRecord] = []
    bars: list[Bar] = []
    start = time.perf_counter()
    now = 0.0
    while len(records) < len(jobs):
        first = len(records)
        await asyncio.sleep(max(0.0, jobs[first].at - now))
        now = time.perf_counter() - start
        last = first + 1
        while last < min(len(jobs), first + seats) and jobs[last].at <= now:
            last += 1
        batch = jobs[first:last]
        times = await computer.run(prompts[first:last], max(job.output for job in batch))
        began, now = now, time.perf_counter() - start
        names = [f"{label}-{number}" for number in range(first + 1, last + 1)]
        records += _records(batch, names, now, times.error)
        bars += _bars(batch, names, began, times.rows)
    return PaddedRun(records=tuple(records), duration=now, bars=tuple(bars))


def _records(
    batch: Sequence[WorkloadRequest], names: Sequence[str], end: float, error: str
) -> list[RequestRecord]:
    """Answers that came as a whole: the first token is there when the last one is."""
    return [
        RequestRecord(
            id=name,
            due=job.at,
            sent=job.at,
            prompt_tokens=job.prompt_tokens,
            output_tokens=0 if error else job.output,
            ttft=None if error else end - job.at,
            latency=None if error else end - job.at,
            outcome="error" if error else "ok",
            error=error,
        )
        for job, name in zip(batch, names, strict=True)
    ]


def _bars(
    batch: Sequence[WorkloadRequest],
    names: Sequence[str],
    began: float,
    rows: Sequence[Sequence[float]],
) -> list[Bar]:
    return [
        Bar(slot, began, began + row[0], began + row[job.output - 1], name)
        for slot, (job, name, row) in enumerate(zip(batch, names, rows, strict=False))
    ]


class OnTarget:
    """A batch computed by a target that answers many requests at a time, such as this engine."""

    def __init__(self, target: LoadClient) -> None:
        self._target = target
        self._batches = 0

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        self._batches += 1
        start = time.perf_counter()
        # Made in one turn of the event loop, so that they reach the engine together.
        answers = await asyncio.gather(
            *(
                self._target.ask(
                    WorkloadRequest(segments=(Segment(0, len(prompt)),), output=tokens, cap=tokens),
                    prompt,
                    id=f"batch-{self._batches}-{row}",
                )
                for row, prompt in enumerate(prompts, 1)
            )
        )
        failed = next((answer for answer in answers if answer.outcome != "ok"), None)
        if failed is not None:
            return BatchTimes(error=failed.error or failed.outcome)
        rows = tuple(
            [
                at - start
                for at, count in zip(answer.times, answer.counts, strict=True)
                for _ in range(count)
            ]
            for answer in answers
        )
        short = next((row for row in rows if len(row) != tokens), None)
        if short is not None:
            return BatchTimes(error=f"a row has {len(short)} tokens and not {tokens}")
        return BatchTimes(rows=rows)
