"""The load generator: sends a workload's requests at their times and makes a record of each.

It sends through a `LoadClient`, something with one method: a server behind a URL, an engine in this
process, or whatever else is to be compared. A client says when tokens came; latencies are worked
out here, once for all.

An open loop sends requests when they are due, whatever has become of the others. With a bound on
concurrency a request also waits for a place, and is due when it gets one; requests that are all due
at the start make a closed loop of that. Latencies count from sending, so waiting here is in none of
them. A slow client makes a fast server look slow: `ClientDelay` says whether this one kept up.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from headway.perf.records.record import Outcome, RequestRecord
from headway.perf.records.summary import percentile
from headway.perf.workload.workload import Workload, WorkloadRequest, vocabulary_tokens

PROBE_INTERVAL = 0.02
"""Seconds between two timers that `ClientDelayProbe` sets."""
TOLERABLE = 0.025
"""Seconds of delay at the 99th percentile from which on figures are not to be trusted."""
TOLERABLE_SHARE = 0.01
"""Requests may be late by this share of the run: a thousand at once cannot leave at once."""
FULL = 0.9
"""Share of one core from which on the client is the bottleneck, or nearly so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDelay:
    """How late the client was, in seconds."""

    late_p99: float
    """Sending, behind the time when a request was due."""
    late_max: float
    wake_p99: float
    """Of the event loop, behind the time of a timer."""
    wake_max: float
    busy: float
    """Processor time of the client's thread, as a share of the run's duration."""
    duration: float

    @property
    def warning(self) -> str | None:
        """A sentence for the reader of the figures; None if the client kept up."""
        reasons = []
        if self.wake_p99 > TOLERABLE:
            reasons.append(f"its event loop woke up to {self.wake_p99 * 1e3:.0f} ms late (p99)")
        if self.late_p99 > max(TOLERABLE, TOLERABLE_SHARE * self.duration):
            reasons.append(f"requests left up to {self.late_p99 * 1e3:.0f} ms late (p99)")
        if self.busy > FULL:
            reasons.append(f"it used {self.busy:.0%} of a core")
        if not reasons:
            return None
        return (
            f"the client could not keep up: {', '.join(reasons)}; latencies include its own "
            "delay, so ask for less or run it on other cores"
        )


class ClientDelayProbe:
    """Measures the event loop that it is entered on, with `with`, until it is left."""

    def __init__(self) -> None:
        self._delays = array("d")
        self._timer: asyncio.TimerHandle | None = None
        self._cpu = 0.0

    def __enter__(self) -> ClientDelayProbe:
        self._loop = asyncio.get_running_loop()
        self._cpu = time.thread_time()
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._cpu = time.thread_time() - self._cpu

    def result(self, late: Sequence[float], duration: float) -> ClientDelay:
        """What was measured, once left; `late` is how late each request was sent, in seconds."""
        return ClientDelay(
            late_p99=percentile(late, 99) if late else 0.0,
            late_max=max(late, default=0.0),
            wake_p99=percentile(self._delays, 99) if self._delays else 0.0,
            wake_max=max(self._delays, default=0.0),
            busy=self._cpu / duration if duration > 0 else 0.0,
            duration=duration,
        )

    def _arm(self) -> None:
        # The loop's own clock stands still within a turn, on uvloop at least.
        due = time.perf_counter() + PROBE_INTERVAL
        self._timer = self._loop.call_later(PROBE_INTERVAL, self._fire, due)

    def _fire(self, due: float) -> None:
        self._delays.append(max(0.0, time.perf_counter() - due))
        self._arm()


STOP_TOKEN = 5
"""Ends a request by itself, forced to come; any token that models have would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResponse:
    """What came back for one request."""

    times: Sequence[float] = ()
    """When each piece with tokens came, in seconds of `time.perf_counter`."""
    counts: Sequence[int] = ()
    """Tokens in each piece, as far as one can tell; as long as `times`."""
    outcome: Outcome = "ok"
    error: str = ""
    """Why, where the outcome is not "ok"."""
    cached_tokens: int = 0
    """Prompt tokens from the server's prefix cache, where it says so."""
    draft_tokens: int = 0
    """Tokens that the server computed ahead of their sampling, where it says so."""
    accepted_tokens: int = 0
    """Those of them that are part of the answer."""
    output_tokens: int | None = None
    """All tokens as the server itself counted them; None where `counts` is the best there is."""
    prompt_tokens: int | None = None
    """Likewise of the prompt; None where the request's own length stands."""


class LoadClient(Protocol):
    """Sends requests to something that answers them, many at a time."""

    async def send(
        self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
    ) -> ClientResponse:
        """Send a request with `tokens` as its prompt, asking for exactly its output length.

        Returns when nothing more will come. Whatever goes wrong on the server's side is a response
        with another outcome than "ok", never an exception.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLength:
    """How sampling must be set so that an answer has exactly its request's length.

    A request whose cap is its length ends at `max_tokens`. One that may be longer ends by itself:
    from token `output` on the stop token is allowed, and its bias then makes it the likeliest. So
    the server cannot know the length before, as with real requests.
    """

    max_tokens: int
    min_tokens: int = 0
    stop: int | None = None
    bias: float = 100.0

    @classmethod
    def of(cls, request: WorkloadRequest) -> OutputLength:
        if request.cap <= request.output:
            return cls(max_tokens=request.output)
        return cls(max_tokens=request.cap, min_tokens=request.output - 1, stop=STOP_TOKEN)


class LoadObserver(Protocol):
    """Is told what happens while it happens, such as a progress display."""

    def sent(self) -> None: ...

    def ended(self, response: ClientResponse) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came of a workload."""

    records: tuple[RequestRecord, ...]
    """In the order of the requests."""
    duration: float
    """Seconds from the start to the end of the last answer."""
    client_delay: ClientDelay


async def run_load(
    client: LoadClient,
    workload: Workload,
    *,
    max_concurrency: int | None = None,
    observer: LoadObserver | None = None,
    tokens: Callable[[WorkloadRequest], Sequence[int]] = vocabulary_tokens,
    label: str = "request",
) -> LoadResult:
    """Send all requests and wait for their answers. Prompts are made before the clock starts.

    Ids of requests are `label` and a number from 1. Cancelling it cancels what is in flight.
    """
    # Eight bytes a token: lists of integers would take 36, and a long trace has millions.
    prompts = [array("q", tokens(request)) for request in workload.requests]
    names = [f"{label}-{number}" for number in range(1, len(prompts) + 1)]
    run = _Run(client, observer)
    if max_concurrency is not None:
        run.bound(min(max_concurrency, len(prompts)))
    with ClientDelayProbe() as probe:
        run.start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for name, request, prompt in zip(names, workload.requests, prompts, strict=True):
                due = await run.turn(request.at)
                group.create_task(run.one(name, request, prompt, due))
        duration = time.perf_counter() - run.start
    records = tuple(run.records[name] for name in names)
    late = [max(0.0, record.sent - record.due) for record in records]
    return LoadResult(records=records, duration=duration, client_delay=probe.result(late, duration))


class _Run:
    """One workload while it runs."""

    def __init__(self, client: LoadClient, observer: LoadObserver | None) -> None:
        self.start = 0.0
        self.records: dict[str, RequestRecord] = {}
        self._client = client
        self._observer = observer
        self._free_at: asyncio.Queue[float] | None = None

    def bound(self, places: int) -> None:
        """Have no more than so many requests in flight."""
        # Each place is the time since when it is free, in seconds after the start.
        self._free_at = asyncio.Queue()
        for _ in range(places):
            self._free_at.put_nowait(0.0)

    async def turn(self, at: float) -> float:
        """Wait until a request may be sent; returns when it was due, in seconds after the start."""
        ahead = self.start + at - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        return at if self._free_at is None else max(at, await self._free_at.get())

    async def one(
        self, name: str, request: WorkloadRequest, prompt: array[int], due: float
    ) -> None:
        sent = time.perf_counter()
        if self._observer is not None:
            self._observer.sent()
        response = await self._client.send(request, prompt.tolist(), request_id=name)
        if self._free_at is not None:
            self._free_at.put_nowait(time.perf_counter() - self.start)
        if self._observer is not None:
            self._observer.ended(response)
        self.records[name] = record_of(
            response, request, name=name, due=due, sent=sent - self.start, clock=sent
        )


def record_of(
    response: ClientResponse,
    request: WorkloadRequest,
    *,
    name: str,
    due: float,
    sent: float,
    clock: float,
) -> RequestRecord:
    """The record of a request that was sent when `time.perf_counter` said `clock`."""
    generated, prompt = response.output_tokens, response.prompt_tokens
    record = RequestRecord(
        id=name,
        due=due,
        sent=sent,
        prompt_tokens=request.prompt_tokens if prompt is None else prompt,
        output_tokens=sum(response.counts) if generated is None else generated,
        cached_tokens=response.cached_tokens,
        draft_tokens=response.draft_tokens,
        accepted_tokens=response.accepted_tokens,
        outcome=response.outcome,
        error=response.error,
        tenant=request.tenant,
        service_class=request.service_class,
        objectives=request.objectives,
    )
    return record.with_times(response.times, sent=clock)


INTERVAL = 0.5
"""Seconds between two drawings."""


class Progress:
    """A line on the terminal: done, running, failed, tokens a second. Use `with`, on an event loop.

    A `LoadObserver` that is drawn twice a second whatever happens, so it costs nothing per token;
    nothing is drawn where standard error is no terminal.
    """

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

    def ended(self, response: ClientResponse) -> None:
        self._done += 1
        self._failed += response.outcome != "ok"

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

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._bar.close()

    def _tick(self) -> None:
        self._bar.n = self._done
        self._bar.set_postfix_str(self.text())
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._tick)
