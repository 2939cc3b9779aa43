"""Replicas of the shipped engine under a virtual clock, behind a router, in the order of time.

A replica fast-forwards where nothing but decodes is certain to come; the result is the same as that
of single steps. The router is one of `headway.routing`, and knows what one in front of real engines
would: where each request was sent, and what steps told that were over before. The step under way
has told nothing yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from hashlib import blake2b
from struct import pack
from typing import NamedTuple

from headway.engine.loop import Engine
from headway.perf.sim.requests import SimulatedRequest, request_of
from headway.perf.sim.runner import SimulatedRunner
from headway.perf.workload.workload import WorkloadRequest
from headway.routing import EngineView, PromptPrefix, RequestShape, Router
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle
from headway.types import TokenEvent
from headway.types.block_hash import DIGEST_BYTES
from headway.types.objectives import pace_of


class StepNews(NamedTuple):
    """What a replica tells of one step, or of several alike."""

    at: float
    """When the last of them was over."""
    computed: int
    """Tokens."""
    events: Seq[TokenEvent]


class Replica:
    """One engine. Use in the order of time: `run_until` an arrival, then `add` it.

    One that `tells` keeps in `news` what its steps told, until somebody takes it.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        runner: SimulatedRunner,
        fast_forward: bool = True,
        tells: bool = False,
        waits_to_load: bool = False,
    ) -> None:
        """One that `waits_to_load` computes nothing while it copies keys and values."""
        self.waits_to_load = waits_to_load
        self.scheduler = scheduler
        self.runner = runner
        self.clock = clock = runner.clock
        self.news: deque[StepNews] = deque()
        self._engine = Engine(scheduler=scheduler, runner=runner, clock=clock)
        self._use_fast_forward = fast_forward
        self._tells = tells
        self._wakes = 0.0
        """When it looks again, where it had nothing to compute."""

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
            outcome = self._step()
            if isinstance(outcome, Idle):
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

    @property
    def next_step(self) -> float:
        """When its next step begins if nothing else comes; infinite where none does."""
        if not self._engine.has_work:
            return float("inf")
        return max(self.clock.seconds, self._wakes)

    def advance(self, horizon: float) -> Seq[TokenEvent]:
        """Make the next step, and tell of it; or several that only decode, of which all but the
        first begin before `horizon`."""
        clock = self.clock
        clock.seconds = began = self.next_step
        may_skip = self._use_fast_forward and began < horizon and not self.runner.awaits_first
        if may_skip and self._fast_forward(horizon):
            return ()
        outcome = self._step()
        if not isinstance(outcome, Idle):
            return outcome
        self._wakes = float("inf") if outcome.until is None else outcome.until
        if self.next_step <= began:
            raise RuntimeError("the policy waits for a time that has passed")
        return ()

    def arrive(self, request: SimulatedRequest, now: float) -> None:
        """`add` it at that time, before which all steps were made that begin before."""
        self._wake(now)
        self.add(request)

    def give(self, request: SimulatedRequest, now: float) -> None:
        """The request leaves: it goes on elsewhere."""
        self._wake(now)
        self._engine.abort(str(request.index))
        self.runner.leave(request)

    def _wake(self, now: float) -> None:
        self.clock.seconds = max(self.clock.seconds, now)
        self._wakes = 0.0

    def _step(self) -> list[TokenEvent] | Idle:
        computed = self.runner.counts.tokens
        outcome = self._engine.step()
        if isinstance(outcome, list):
            self._note_shed(outcome)
            if self._tells:
                computed = self.runner.counts.tokens - computed
                self.news.append(StepNews(self.clock.seconds, computed, outcome))
        return outcome

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
        names: list[str] = []
        if self._tells:
            names = [seq.request.id for seq in self.scheduler.queues.running.sequences]
        ended = self.scheduler.fast_forward(ahead._replace(steps=done), tokens, self.clock.seconds)
        if self._tells:
            self._tell_decodes(names, done, {event.id: event for event in ended})
        return True

    def _tell_decodes(self, names: Seq[str], steps: int, ended: Mapping[str, TokenEvent]) -> None:
        """So many steps in which these requests got a token each; the last one may be longer than
        what is known of."""
        count, begun = len(names), steps - 1
        if begun:
            events = [TokenEvent(id=name, tokens=(0,) * begun) for name in names]
            self.news.append(StepNews(self.runner.step_began, begun * count, events))
        last = [ended.get(name) or TokenEvent(id=name, tokens=(0,)) for name in names]
        self.news.append(StepNews(self.clock.seconds, count, last))


def run_fleet(
    replicas: Seq[Replica],
    views: Seq[EngineView],
    router: Router,
    requests: Seq[SimulatedRequest],
) -> None:
    """Let all requests arrive, in the order of their arrivals, and run until all have ended.

    `views` are the router's, one for each replica, which tells where there are several.
    """
    if len(replicas) == 1:
        for request in requests:
            replicas[0].run_until(request.arrival)
            replicas[0].add(request)
        replicas[0].run_until(float("inf"))
        return
    shapes = {str(request.index): shape_of(request) for request in requests}
    for request in requests:
        now = request.arrival
        for replica, view in zip(replicas, views, strict=True):
            replica.run_until(now)
            take_news(replica.news, view, shapes, now)
        shape = shapes[str(request.index)]
        chosen = router.choose(shape, views)
        replicas[chosen].add(request)
        if not request.error:
            views[chosen].sent(shape)
    for replica in replicas:
        replica.run_until(float("inf"))


def take_news(
    news: deque[StepNews], view: EngineView, shapes: Mapping[str, RequestShape], now: float
) -> None:
    """Tell the view of the steps that are over by now."""
    while news and news[0].at <= now:
        at, computed, events = news.popleft()
        view.stepped(at, computed, events)
        for event in events:
            if event.finish is not None:
                view.ended(shapes[event.id])


def shape_of(request: SimulatedRequest) -> RequestShape:
    """What a router sees of a request. A segment of its prompt stands for a run of KV blocks.

    The last segment is the request's own, so it has no name.
    """
    spec = request.spec
    return RequestShape(
        id=str(request.index),
        at=request.arrival,
        prompt_tokens=request.prompt_tokens,
        max_tokens=spec.cap,
        prefixes=_prefixes(spec),
        pace=pace_of(request.objectives),
    )


def _prefixes(spec: WorkloadRequest) -> list[PromptPrefix]:
    found: list[PromptPrefix] = []
    name, tokens = b"", 0
    for segment in spec.segments[:-1]:
        name = blake2b(name + pack("<qq", *segment), digest_size=DIGEST_BYTES).digest()
        tokens += segment.length
        found.append(PromptPrefix(name, tokens))
    return found
