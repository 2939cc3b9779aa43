"""Replicas of the shipped engine under a virtual clock, behind a router, in the order of time.

A replica fast-forwards where nothing but decodes is certain to come; the result is the same as that
of single steps. A router sees what a real one sees: how many requests and tokens each replica has
in flight when a request arrives, and where it sent similar ones before. It knows neither batches
nor caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, get_args

from headway.engine.loop import Engine
from headway.perf.sim.requests import SimulatedRequest, request_of
from headway.perf.sim.runner import SimulatedRunner
from headway.perf.workload.workload import Segment, WorkloadRequest
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle


class Replica:
    """One engine. Use in the order of time: `run_until` an arrival, then `add` it."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        runner: SimulatedRunner,
        fast_forward: bool = True,
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.clock = clock = runner.clock
        self._engine = Engine(scheduler=scheduler, runner=runner, clock=clock)
        self._use_fast_forward = fast_forward

    def add(self, request: SimulatedRequest) -> None:
        """The request arrives. One that can never be served is refused: its `error` says why."""
        for event in self._engine.add(request_of(request)):
            request.error = event.error or "refused"

    def run_until(self, until: float) -> None:
        """All steps that begin before `until`; a step that is longer moves the clock beyond it."""
        clock = self.clock
        while self._engine.has_work and clock.seconds < until:
            if self._use_fast_forward and self._fast_forward(until):
                continue
            outcome = self._engine.step()
            if isinstance(outcome, Idle):
                if outcome.until is None:
                    break
                clock.seconds = max(clock.seconds, min(outcome.until, until))
        if until < float("inf"):
            clock.seconds = max(clock.seconds, until)
        elif self._engine.has_work:
            raise RuntimeError("the engine is idle for good with requests left")

    def _fast_forward(self, until: float) -> bool:
        most = self.runner.steps_until_an_end()
        ahead = self.scheduler.quiet_steps(self.clock.seconds, most)
        if not ahead.steps:
            return False
        before = self.runner.counts.steps
        tokens = self.runner.fast_forward(ahead.steps, until)
        done = self.runner.counts.steps - before
        self.scheduler.advance(ahead._replace(steps=done), tokens)
        return True


RouterName = Literal["round-robin", "least-requests", "least-tokens", "prefix-affine"]
ROUTERS: tuple[RouterName, ...] = get_args(RouterName)
MOST_OVER_MEAN = 1.25
"""A replica with more requests than this times the mean gets no more for the sake of a prefix."""


@dataclass(slots=True, kw_only=True)
class ReplicaLoad:
    """What the router has sent to one replica and not heard the end of."""

    requests: int = 0
    tokens: int = 0
    """Their prompts, and as much as their callers allow."""


class Router(Protocol):
    """Chooses a replica for each request, in the order of arrival."""

    def choose(self, job: WorkloadRequest, loads: Seq[ReplicaLoad]) -> int: ...


@dataclass(slots=True)
class RoundRobin:
    """Each in its turn, whatever it has to do."""

    turn: int = -1

    def choose(self, job: WorkloadRequest, loads: Seq[ReplicaLoad]) -> int:  # noqa: ARG002
        self.turn = (self.turn + 1) % len(loads)
        return self.turn


@dataclass(frozen=True, slots=True)
class Least:
    """Whoever has least under way; of equals the first."""

    measure: Callable[[ReplicaLoad], int]

    def choose(self, job: WorkloadRequest, loads: Seq[ReplicaLoad]) -> int:  # noqa: ARG002
        return min(range(len(loads)), key=lambda index: self.measure(loads[index]))


@dataclass(slots=True)
class PrefixAffine:
    """Whoever last saw the longest beginning of the prompt, unless it has too much to do."""

    seen: dict[tuple[Segment, ...], int] = field(default_factory=dict)

    def choose(self, job: WorkloadRequest, loads: Seq[ReplicaLoad]) -> int:
        chosen = min(range(len(loads)), key=lambda index: loads[index].requests)
        most = MOST_OVER_MEAN * (1 + sum(load.requests for load in loads)) / len(loads)
        # The last segment is a request's own.
        for length in range(len(job.segments) - 1, 0, -1):
            known = self.seen.get(job.segments[:length])
            if known is not None and loads[known].requests < most:
                chosen = known
                break
        for length in range(1, len(job.segments)):
            self.seen[job.segments[:length]] = chosen
        return chosen


_MAKERS: Mapping[RouterName, Callable[[], Router]] = MappingProxyType(
    {
        "round-robin": RoundRobin,
        "least-requests": lambda: Least(lambda load: load.requests),
        "least-tokens": lambda: Least(lambda load: load.tokens),
        "prefix-affine": PrefixAffine,
    }
)


def make_router(name: RouterName) -> Router:
    return _MAKERS[name]()


def run_fleet(replicas: Seq[Replica], router: Router, requests: Seq[SimulatedRequest]) -> None:
    """Let all requests arrive, in the order of their arrivals, and run until all have ended."""
    if len(replicas) == 1:
        for request in requests:
            replicas[0].run_until(request.arrival)
            replicas[0].add(request)
        replicas[0].run_until(float("inf"))
        return
    loads = [ReplicaLoad() for _ in replicas]
    ends: list[deque[SimulatedRequest]] = [deque() for _ in replicas]
    for request in requests:
        now = request.arrival
        for replica, load, past in zip(replicas, loads, ends, strict=True):
            replica.run_until(now)
            past.extend(replica.runner.ended)
            replica.runner.ended.clear()
            # A step may be over only after this arrival: then its ends are not known yet.
            while past and past[0].last <= now:
                _change(load, past.popleft(), -1)
        chosen = router.choose(request.spec, loads)
        replicas[chosen].add(request)
        if not request.error:
            _change(loads[chosen], request, 1)
    for replica in replicas:
        replica.run_until(float("inf"))


def _change(load: ReplicaLoad, request: SimulatedRequest, sign: int) -> None:
    load.requests += sign
    load.tokens += sign * (request.prompt_tokens + request.spec.cap)
