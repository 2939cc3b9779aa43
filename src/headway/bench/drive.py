"""Drives a workload against a target: every job at its time, and a record of each.

An open loop sends jobs when they are due, whatever has become of the others. With a bound on
concurrency a job also waits for a place, and is due when it gets one; jobs that are all due at the
start make a closed loop of that. Latencies count from sending, so waiting here is in none of them.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Protocol

from headway.bench.lag import Lag, Probe
from headway.bench.target import Answer, Target
from headway.measurement.record import RequestRecord
from headway.workload.job import Job, Workload
from headway.workload.tokens import vocabulary_tokens


class Watch(Protocol):
    """Hears what happens while it happens, such as a progress display."""

    def sent(self) -> None: ...

    def ended(self, answer: Answer) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """What came of a workload."""

    records: tuple[RequestRecord, ...]
    """In the order of the jobs."""
    duration: float
    """Seconds from the start to the end of the last answer."""
    lag: Lag


async def drive(
    target: Target,
    workload: Workload,
    *,
    max_concurrency: int | None = None,
    watch: Watch | None = None,
    tokens: Callable[[Job], Sequence[int]] = vocabulary_tokens,
    label: str = "job",
) -> Driven:
    """Send all jobs and wait for their answers. Prompts are made before the clock starts.

    Ids of requests are `label` and a number from 1. Cancelling it cancels what is under way.
    """
    # Eight bytes a token: lists of integers would take 36, and a long trace has millions.
    prompts = [array("q", tokens(job)) for job in workload.jobs]
    names = [f"{label}-{number}" for number in range(1, len(prompts) + 1)]
    run = _Run(target, watch)
    if max_concurrency is not None:
        run.bound(min(max_concurrency, len(prompts)))
    with Probe() as probe:
        run.start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for name, job, prompt in zip(names, workload.jobs, prompts, strict=True):
                due = await run.turn(job.at)
                group.create_task(run.one(name, job, prompt, due))
        duration = time.perf_counter() - run.start
    records = tuple(run.records[name] for name in names)
    late = [max(0.0, record.sent - record.due) for record in records]
    return Driven(records=records, duration=duration, lag=probe.lag(late, duration))


class _Run:
    """One workload under way."""

    def __init__(self, target: Target, watch: Watch | None) -> None:
        self.start = 0.0
        self.records: dict[str, RequestRecord] = {}
        self._target = target
        self._watch = watch
        self._places: asyncio.Queue[float] | None = None

    def bound(self, places: int) -> None:
        """Have no more than so many requests under way."""
        # Each place is the time since when it is free, in seconds after the start.
        self._places = asyncio.Queue()
        for _ in range(places):
            self._places.put_nowait(0.0)

    async def turn(self, at: float) -> float:
        """Wait until a job may be sent; when it was due, in seconds after the start."""
        ahead = self.start + at - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        return at if self._places is None else max(at, await self._places.get())

    async def one(self, name: str, job: Job, prompt: array[int], due: float) -> None:
        sent = time.perf_counter()
        if self._watch is not None:
            self._watch.sent()
        answer = await self._target.ask(job, prompt.tolist(), id=name)
        if self._places is not None:
            self._places.put_nowait(time.perf_counter() - self.start)
        if self._watch is not None:
            self._watch.ended(answer)
        self.records[name] = record_of(
            answer, job, name=name, due=due, sent=sent - self.start, clock=sent
        )


def record_of(
    answer: Answer, job: Job, *, name: str, due: float, sent: float, clock: float
) -> RequestRecord:
    """The record of an answer to a job that was sent when `time.perf_counter` said `clock`.

    As vLLM's client has it: time to first token and latency end at the first and the last piece
    that brought tokens, and inter-token latencies are the times between pieces.
    """
    times = answer.times
    gaps = tuple(map(sub, times[1:], times))
    counted = answer.output_tokens
    asked = answer.prompt_tokens
    return RequestRecord(
        id=name,
        due=due,
        sent=sent,
        prompt_tokens=job.prompt_tokens if asked is None else asked,
        output_tokens=sum(answer.counts) if counted is None else counted,
        ttft=times[0] - clock if times else None,
        latency=times[-1] - clock if times else None,
        largest_gap=max(gaps, default=0.0),
        itls=gaps,
        cached_tokens=answer.cached_tokens,
        outcome=answer.outcome,
        error=answer.error,
    )
