"""Replicas of the shipped engine under a virtual clock, behind a router, in the order of time.

A replica fast-forwards where nothing but decodes is certain to come; the result is the same as that
of single steps. The router is one of `headway.routing`: it sees how many requests and tokens each
replica has in flight when a request arrives, and neither batches nor caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq
from hashlib import blake2b
from struct import pack

from headway.engine.loop import Engine
from headway.perf.sim.requests import SimulatedRequest, request_of
from headway.perf.sim.runner import SimulatedRunner
from headway.perf.workload.workload import WorkloadRequest
from headway.routing import EngineView, RequestShape, Router
from headway.scheduling.scheduler import Scheduler
from headway.types import TokenEvent
from headway.types.block_hash import DIGEST_BYTES


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
            if isinstance(outcome, list):
                self._note_shed(outcome)
            else:
                if outcome.until is None:
                    break
                before = clock.seconds
                clock.seconds = max(before, min(outcome.until, until))
                if clock.seconds == before:
                    raise RuntimeError("the policy waits for a time that has passed")
        if until < float("inf"):
            clock.seconds = max(clock.seconds, until)
        elif self._engine.has_work:
            raise RuntimeError("the engine is idle for good with requests left")

    def _note_shed(self, events: list[TokenEvent]) -> None:
        for event in events:
            if event.retry_after is not None:
                self.runner.refuse(int(event.id), event.error or "shed")

    def _fast_forward(self, until: float) -> bool:
        most = self.runner.steps_until_an_end()
        ahead = self.scheduler.fast_forward_steps(self.clock.seconds, most)
        if not ahead.steps:
            return False
        before = self.runner.counts.steps
        if ahead.until is not None:
            until = min(until, ahead.until)
        tokens = self.runner.fast_forward(ahead.steps, until)
        done = self.runner.counts.steps - before
        if not done:
            raise RuntimeError("skipped ahead by no step")
        self.scheduler.fast_forward(ahead._replace(steps=done), tokens, self.clock.seconds)
        return True


def run_fleet(replicas: Seq[Replica], router: Router, requests: Seq[SimulatedRequest]) -> None:
    """Let all requests arrive, in the order of their arrivals, and run until all have ended."""
    if len(replicas) == 1:
        for request in requests:
            replicas[0].run_until(request.arrival)
            replicas[0].add(request)
        replicas[0].run_until(float("inf"))
        return
    shapes = {request.index: shape_of(request.spec) for request in requests}
    views = [EngineView() for _ in replicas]
    ends: list[deque[SimulatedRequest]] = [deque() for _ in replicas]
    for request in requests:
        now = request.arrival
        for replica, view, past in zip(replicas, views, ends, strict=True):
            replica.run_until(now)
            past.extend(replica.runner.ended)
            replica.runner.ended.clear()
            # A step may be over only after this arrival: then its ends are not known yet.
            while past and past[0].last <= now:
                view.ended(shapes[past.popleft().index])
        shape = shapes[request.index]
        chosen = router.choose(shape, views)
        replicas[chosen].add(request)
        if not request.error:
            views[chosen].sent(shape)
    for replica in replicas:
        replica.run_until(float("inf"))


def shape_of(spec: WorkloadRequest) -> RequestShape:
    """What a router sees of a request. A segment of its prompt stands for a run of KV blocks.

    The last segment is the request's own, so it has no name.
    """
    names: list[bytes] = []
    name = b""
    for segment in spec.segments[:-1]:
        name = blake2b(name + pack("<qq", *segment), digest_size=DIGEST_BYTES).digest()
        names.append(name)
    return RequestShape(prompt_tokens=spec.prompt_tokens, max_tokens=spec.cap, prefixes=names)
