"""The engine: plan, compute, commit, emit. No threads, no sockets, no tensors.

It is the one place where the two towers meet, and the same loop serves requests and simulates them:
a simulator replaces the clock and the runner, and nothing else.

A cycle lasts from one plan to the next, or to the end of work: what a step costs in truth, with the
engine's own share. The two sums together say how much of the machine is used; waiting counts in
neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from headway.clock import Clock
from headway.engine.pacing import Pacing
from headway.engine.watching import BatchWatch
from headway.errors import InvalidRequest
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle
from headway.steptime.shape import StepTime
from headway.types import Request, StepPlan, StepResult, TokenEvent
from headway.types.step import Runner
from headway.wire import EngineStats

GATE_SECONDS = 0.002
"""Between two looks for compiled grammars, where there is nothing else to do."""


class BusyTime:
    """Sums over all cycles that have ended, in seconds; `ideal` predicts a step's least time.

    No cycle counts as faster than it was: a least time above its own is an error of the limits.
    `on_cycle` is told how long each cycle was.
    """

    def __init__(
        self,
        ideal: StepTime | None = None,
        on_cycle: Callable[[float], None] | None = None,
    ) -> None:
        self.busy = 0.0
        self.ideal = 0.0
        """0 where the machine's limits are not known."""
        self._ideal_of = ideal
        self._on_cycle = on_cycle
        self._began: float | None = None
        self._least = 0.0

    def begin(self, plan: StepPlan, now: float) -> None:
        """A step was planned `now`, which ends the cycle before it."""
        self.end(now)
        self._began = now
        self._least = self._ideal_of(plan.slices) if self._ideal_of is not None else 0.0

    def end(self, now: float) -> None:
        """There is nothing more to compute; harmless where that was known."""
        if self._began is not None:
            seconds = now - self._began
            self.busy += seconds
            self.ideal += min(self._least, seconds)
            self._began = None
            if self._on_cycle is not None:
                self._on_cycle(seconds)


class Gate(Protocol):
    """Holds requests back that cannot run yet, since something is made ready for them elsewhere."""

    def hold(self, request: Request) -> bool:
        """Whether a request must wait; then `take` gives it back later."""
        ...

    def drop(self, request_id: str) -> bool:
        """Forget a request; False for one that is not held."""
        ...

    def take(self) -> list[Request]:
        """Those that need not wait any longer, in the order in which they came."""
        ...

    def __len__(self) -> int:
        """How many are held."""
        ...


class EngineObserver(Protocol):
    """Sees all that happens in an engine and changes nothing. Times are the engine's clock's."""

    def on_add(self, request: Request, event: TokenEvent | None, now: float, /) -> None:
        """A request was queued, or ended at once: then `event` says how."""
        ...

    def on_abort(self, request_id: str, now: float, /) -> None:
        """A live request was ended."""
        ...

    def on_shed(self, event: TokenEvent, now: float, /) -> None:
        """A waiting request was refused for overload; `event` is its end."""
        ...

    def on_step(
        self,
        plan: StepPlan,
        result: StepResult,
        events: Sequence[TokenEvent],
        began: float,
        now: float,
        /,
    ) -> None:
        """A step was planned at `began` and is over."""
        ...

    def on_idle(self, now: float, /) -> None:
        """There is nothing to compute at present, or nothing that may be computed yet."""
        ...


class Engine:
    """Single-threaded; `add` and `abort` happen between steps.

    `ideal` tells the seconds that a step would take at the machine's limits, where they are known,
    and `on_cycle` is told how long it took. `pacing` says what its batches follow from. What `gate`
    holds is in no batch yet.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        runner: Runner,
        clock: Clock,
        observer: EngineObserver | None = None,
        ideal: StepTime | None = None,
        on_cycle: Callable[[float], None] | None = None,
        pacing: Pacing | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._observers: list[EngineObserver] = [] if observer is None else [observer]
        self.batch_watch: BatchWatch | None = None
        """None while nobody watches the batch."""
        self._cycles = BusyTime(ideal, on_cycle)
        self._pacing = pacing
        self._gate = gate
        self._step_seconds = 0.0
        self._held = False
        """The policy holds all that wait back, and nothing runs."""

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return self._scheduler.has_work or bool(self._gate)

    def add(self, request: Request) -> list[TokenEvent]:
        """Queue a request. One that cannot be served ends here, with an event that says why."""
        if self._gate is not None and self._gate.hold(request):
            return []
        return self._queue(request)

    def _queue(self, request: Request) -> list[TokenEvent]:
        try:
            event = self._scheduler.add(request)
        except InvalidRequest as error:
            event = TokenEvent(id=request.id, finish="error", error=error.message)
        for observer in self._observers:
            observer.on_add(request, event, self._clock.now())
        return [] if event is None else [event]

    def abort(self, request_id: str) -> list[TokenEvent]:
        """End a request; nothing if it is unknown or has ended already."""
        if self._gate is not None and self._gate.drop(request_id):
            return [TokenEvent(id=request_id, finish="abort")]
        event = self._scheduler.abort(request_id)
        if event is None:
            return []
        now = self._clock.now()
        for observer in self._observers:
            observer.on_abort(request_id, now)
        self._idle_without_work(now)
        return [event]

    def step(self) -> list[TokenEvent] | Idle:
        """One step, and what the requests in it are told.

        An error of the runner passes through: the step is lost and the engine cannot go on.
        """
        told = self._queue_compiled()
        began = self._clock.now()
        plan = self._scheduler.plan(began)
        told += self._take_shed(began)
        self._held = isinstance(plan, Idle)
        if isinstance(plan, Idle):
            self._on_idle(began)
            return told or self._until_compiled(plan, began)
        self._cycles.begin(plan, began)
        if self._pacing is not None:
            self._pacing.on_plan(plan, began)
        result = self._runner.compute(plan)
        self._step_seconds = result.seconds
        now = self._clock.now()
        events = self._scheduler.commit(plan, result, now)
        for observer in self._observers:
            observer.on_step(plan, result, events, began, now)
        self._idle_without_work(now)
        return told + events

    def watch(self, interval: float | None) -> None:
        """Have a `batch_watch` that tells every so many seconds; None: none any more."""
        if self.batch_watch is not None:
            self._observers.remove(self.batch_watch)
            self.batch_watch = None
        if interval is not None:
            self.batch_watch = BatchWatch(self._scheduler, interval)
            self._observers.append(self.batch_watch)

    def stats(self) -> EngineStats:
        """The state after the last step, and counters since the start."""
        stats = self._scheduler.stats()
        held = 0 if self._gate is None else len(self._gate)
        return EngineStats(
            step=stats.step,
            running=stats.running,
            waiting=stats.waiting + held,
            deferred=stats.waiting if self._held else min(stats.waiting, stats.idle_slots),
            free_blocks=stats.free_blocks,
            cached_blocks=stats.cached_blocks,
            step_seconds=self._step_seconds,
            step_tokens=stats.step_tokens,
            idle_slots=stats.idle_slots,
            preemptions=stats.preemptions,
            gave_way=stats.gave_way,
            drafts=stats.drafts,
            draft_tokens=stats.draft_tokens,
            accepted_tokens=stats.accepted_tokens,
            accepted_per_position=stats.accepted_per_position,
            declined=stats.declined,
            relegated=stats.relegated,
            shed=stats.shed,
            computed_tokens=stats.computed_tokens,
            prefix_queries=stats.prefix_queries,
            prefix_hits=stats.prefix_hits,
            busy_seconds=self._cycles.busy,
            ideal_seconds=self._cycles.ideal,
            pacing=None if self._pacing is None else self._pacing.news(),
        )

    def _queue_compiled(self) -> list[TokenEvent]:
        compiled = [] if self._gate is None else self._gate.take()
        return [event for request in compiled for event in self._queue(request)]

    def _until_compiled(self, idle: Idle, now: float) -> Idle:
        """When to look again, where a grammar is being compiled: soon."""
        if not self._gate:
            return idle
        soon = now + GATE_SECONDS
        return Idle(until=soon if idle.until is None else min(soon, idle.until))

    def _take_shed(self, now: float) -> list[TokenEvent]:
        shed = self._scheduler.take_shed()
        for observer in self._observers:
            for event in shed:
                observer.on_shed(event, now)
        return shed

    def _idle_without_work(self, now: float) -> None:
        if not self._scheduler.has_work:
            self._on_idle(now)

    def _on_idle(self, now: float) -> None:
        self._cycles.end(now)
        for observer in self._observers:
            observer.on_idle(now)
