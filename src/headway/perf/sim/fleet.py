"""Several replicas behind a router, in the order of time.

A router sees what a real one sees: which replica has how many requests and tokens under way when a
request arrives, and where it sent similar ones before. It knows neither batches nor caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, get_args

from headway.perf.sim.replica import Replica
from headway.perf.sim.results import SimulatedAnswer
from headway.perf.workload.workload import Segment, WorkloadRequest

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


def run_fleet(replicas: Seq[Replica], router: Router, answers: Seq[SimulatedAnswer]) -> None:
    """Let all requests arrive, in the order of their arrivals, and run until all have ended."""
    if len(replicas) == 1:
        for answer in answers:
            replicas[0].run_until(answer.arrival)
            replicas[0].add(answer)
        replicas[0].run_until(float("inf"))
        return
    loads = [ReplicaLoad() for _ in replicas]
    ends: list[deque[SimulatedAnswer]] = [deque() for _ in replicas]
    for answer in answers:
        now = answer.arrival
        for replica, load, past in zip(replicas, loads, ends, strict=True):
            replica.run_until(now)
            past.extend(replica.runner.ended)
            replica.runner.ended.clear()
            # A step may be over only after this arrival: then its ends are not known yet.
            while past and past[0].last <= now:
                _change(load, past.popleft(), -1)
        chosen = router.choose(answer.job, loads)
        replicas[chosen].add(answer)
        if not answer.error:
            _change(loads[chosen], answer, 1)
    for replica in replicas:
        replica.run_until(float("inf"))


def _change(load: ReplicaLoad, answer: SimulatedAnswer, sign: int) -> None:
    load.requests += sign
    load.tokens += sign * (answer.prompt_tokens + answer.job.cap)
