"""One request in a simulation: how long its answer will be, when its tokens came, its slot.

Only the simulated runner and its `Slots` write them. Times are seconds on the virtual clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar
from headway.perf.workload.workload import WorkloadRequest, distinct_tokens
from headway.types import Request, ResolvedSampling
from headway.types.objectives import Objective

STOP = -1
"""The token that ends an answer before its cap."""


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedRequest:
    """A request of the workload, and what has become of it so far."""

    index: int
    """Its place in the workload; also its id and its seed."""
    spec: WorkloadRequest
    arrival: float
    prompt_tokens: int
    generated: int = 0
    first: float | None = None
    """When its first token came."""
    last: float = 0.0
    """When its latest token came."""
    largest_gap: float = 0.0
    cached_tokens: int = 0
    started: bool = False
    """Some replica has computed part of it."""
    slot: int = -1
    """Its place in the batch; none while it waits."""
    slot_since: float = 0.0
    """When it took its slot."""
    slot_first_token: float | None = None
    """When its first token in this slot came."""
    error: str = ""
    """Why it was refused."""
    draft_tokens: int = 0
    """Tokens that were computed ahead for it ..."""
    accepted_tokens: int = 0
    """... and those of them that its answer has."""
    objectives: tuple[Objective, ...] = ()
    """What is asked of it: its own objectives, or those of the simulation."""
    kv_source: str = ""
    """The replica that computed its prompt, where it was handed over."""

    @property
    def token(self) -> int:
        """What it generates, again and again."""
        return token_of(self.index)


def token_of(index: int) -> int:
    """What a request generates: no other does, so that no two answers look alike."""
    return -2 - index


class Slots:
    """The slots of one replica's batch: a sequence takes the lowest free one until it leaves.

    The time spent in them is always summed; bars are kept only where they are to be drawn.
    """

    def __init__(self, *, keep_bars: bool) -> None:
        self.bars: list[Bar] = []
        self.seconds = 0.0
        """Time that sequences spent in slots, summed."""
        self.used = 0
        """How many slots were ever taken."""
        self._free: list[int] = []
        self._keep = keep_bars

    def take(self, request: SimulatedRequest, now: float) -> None:
        if self._free:
            request.slot = heappop(self._free)
        else:
            request.slot = self.used
            self.used += 1
        request.slot_since = now
        request.slot_first_token = None

    def free(self, request: SimulatedRequest, now: float) -> None:
        self.seconds += now - request.slot_since
        if self._keep:
            first = now if request.slot_first_token is None else request.slot_first_token
            self.bars.append(Bar(request.slot, request.slot_since, first, now, str(request.index)))
        heappush(self._free, request.slot)
        request.slot = -1


def request_of(request: SimulatedRequest) -> Request:
    """What the engine is sent. It learns an answer's length no sooner than a real one would."""
    spec = request.spec
    return Request(
        id=str(request.index),
        prompt=distinct_tokens(spec),
        sampling=ResolvedSampling(
            max_tokens=spec.cap,
            seed=request.index,
            stop_token_ids=(STOP,) if spec.cap > spec.output else (),
        ),
        generated=(request.token,) * request.generated,
        arrival=request.arrival,
        tenant=spec.tenant,
        service_class=spec.service_class,
        objectives=request.objectives,
        kv_source=request.kv_source,
    )


def record_of(request: SimulatedRequest) -> RequestRecord:
    """What became of it, as a client without delays of its own would have seen it."""
    refused = bool(request.error)
    return RequestRecord(
        id=str(request.index),
        due=request.arrival,
        sent=request.arrival,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.generated,
        ttft=None if request.first is None else request.first - request.arrival,
        latency=None if request.first is None else request.last - request.arrival,
        largest_gap=request.largest_gap,
        cached_tokens=request.cached_tokens,
        draft_tokens=request.draft_tokens,
        accepted_tokens=request.accepted_tokens,
        outcome="refused" if refused else "ok",
        error=request.error,
        tenant=request.spec.tenant,
        service_class=request.spec.service_class,
        objectives=request.spec.objectives,
    )
