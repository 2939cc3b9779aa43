"""What the load generator sends its jobs to: something with one method.

A server behind a URL and an engine in this process are both targets, and so is anything that a
comparison wants to put beside them. A target tells when tokens came; what that means as latencies
is worked out elsewhere, once for all.

Drives a workload against a target: every job at its time, and a record of each.

An open loop sends jobs when they are due, whatever has become of the others. With a bound on
concurrency a job also waits for a place, and is due when it gets one; jobs that are all due at the
start make a closed loop of that. Latencies count from sending, so waiting here is in none of them.

A line on the terminal that moves while a workload runs: done, running, failed, tokens a second.

It is drawn twice a second whatever happens, so it costs nothing per token. Nothing is drawn where
standard error is no terminal.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import sub
from types import TracebackType
from typing import Protocol

from tqdm import tqdm

from headway.perf.bench.client_delay import ClientDelay, ClientDelayProbe
from headway.perf.records.record import Outcome, RequestRecord
from headway.perf.workload.tokens import vocabulary_tokens
from headway.perf.workload.workload import Workload, WorkloadRequest

STOP_TOKEN = 5
"""Ends a request by itself, forced to come; any token that models have would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResponse:
    """What came back for one job."""

    times: Sequence[float] = ()
    """When each piece with tokens came, in seconds of `time.perf_counter`."""
    counts: Sequence[int] = ()
    """Tokens in each piece, as far as one can tell; as long as `times`."""
    outcome: Outcome = "ok"
    error: str = ""
    """Why, where the outcome is not "ok"."""
    cached_tokens: int = 0
    """Prompt tokens from the target's prefix cache, where it says so."""
    output_tokens: int | None = None
    """All tokens as the target itself counted them; None where `counts` is the best there is."""
    prompt_tokens: int | None = None
    """Likewise of the prompt; None where the job's own length stands."""


class LoadClient(Protocol):
    """Answers jobs, many at a time."""

    async def ask(self, job: WorkloadRequest, tokens: Sequence[int], *, id: str) -> ClientResponse:  # noqa: A002
        """Have the job done with `tokens` as its prompt, exactly as long as the job says.

        Returns when nothing more will come. Whatever goes wrong on the target's side is an answer
        with another outcome than "ok", never an exception.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How sampling must be set so that an answer has exactly its job's length.

    A job whose cap is its length ends at `max_tokens`. One that may be longer ends by itself: from
    token `output` on the stop token is allowed, and its bias then makes it the likeliest. So the
    server cannot know the length before, as with real requests.
    """

    max_tokens: int
    min_tokens: int = 0
    stop: int | None = None
    bias: float = 100.0

    @classmethod
    def of(cls, job: WorkloadRequest) -> Ending:
        if job.cap <= job.output:
            return cls(max_tokens=job.output)
        return cls(max_tokens=job.cap, min_tokens=job.output - 1, stop=STOP_TOKEN)


class LoadObserver(Protocol):
    """Hears what happens while it happens, such as a progress display."""

    def sent(self) -> None: ...

    def ended(self, answer: ClientResponse) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came of a workload."""

    records: tuple[RequestRecord, ...]
    """In the order of the jobs."""
    duration: float
    """Seconds from the start to the end of the last answer."""
    lag: ClientDelay


async def run_load(
    target: LoadClient,
    workload: Workload,
    *,
    max_concurrency: int | None = None,
    watch: LoadObserver | None = None,
    tokens: Callable[[WorkloadRequest], Sequence[int]] = vocabulary_tokens,
    label: str = "job",
) -> LoadResult:
    """Send all jobs and wait for their answers. Prompts are made before the clock starts.

    Ids of requests are `label` and a number from 1. Cancelling it cancels what is under way.
    """
    # Eight bytes a token: lists of integers would take 36, and a long trace has millions.
    prompts = [array("q", tokens(job)) for job in workload.jobs]
    names = [f"{label}-{number}" for number in range(1, len(prompts) + 1)]
    run = _Run(target, watch)
    if max_concurrency is not None:
        run.bound(min(max_concurrency, len(prompts)))
    with ClientDelayProbe() as probe:
        run.start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for name, job, prompt in zip(names, workload.jobs, prompts, strict=True):
                due = await run.turn(job.at)
                group.create_task(run.one(name, job, prompt, due))
        duration = time.perf_counter() - run.start
    records = tuple(run.records[name] for name in names)
    late = [max(0.0, record.sent - record.due) for record in records]
    return LoadResult(records=records, duration=duration, lag=probe.lag(late, duration))


class _Run:
    """One workload under way."""

    def __init__(self, target: LoadClient, watch: LoadObserver | None) -> None:
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

    async def one(self, name: str, job: WorkloadRequest, prompt: array[int], due: float) -> None:
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
    answer: ClientResponse,
    job: WorkloadRequest,
    *,
    name: str,
    due: float,
    sent: float,
    clock: float,
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


INTERVAL = 0.5
"""Seconds between two drawings."""


class Progress:
    """A `LoadObserver` of `headway.perf.bench.run_load`; use `with`, on an event loop."""

    def __init__(self, total: int, *, tokens: Callable[[], int], show: bool = True) -> None:
        """`tokens` says how many tokens came so far, of all requests."""
        self._bar = tqdm(total=total, unit="req", disable=None if show else True, leave=False)
        self._tokens = tokens
        self._begun = self._done = self._failed = 0
        self._seen = tokens()
        self._at = time.perf_counter()
        self._timer: asyncio.TimerHandle | None = None

    def sent(self) -> None:
        self._begun += 1

    def ended(self, answer: ClientResponse) -> None:
        self._done += 1
        self._failed += answer.outcome != "ok"

    def text(self) -> str:
        """What is said beside the bar; tokens a second are those since it was said last."""
        now, seen = time.perf_counter(), self._tokens()
        rate = (seen - self._seen) / max(now - self._at, 1e-9)
        self._at, self._seen = now, seen
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._begun - self._done} running{failed}, {rate:,.0f} tok/s"

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            self._tick()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._bar.close()

    def _tick(self) -> None:
        self._bar.n = self._done
        self._bar.set_postfix_str(self.text())
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._tick)
