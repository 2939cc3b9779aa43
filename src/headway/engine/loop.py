"""The engine: plan, submit, commit, emit. No threads, no sockets, no tensors.

It is the one place where the two towers meet, and the same loop serves requests and simulates them:
a simulator replaces the clock and the runner, and nothing else.
"""

from __future__ import annotations

from headway.clock import Clock
from headway.errors import InvalidRequest
from headway.scheduler import Idle, Scheduler
from headway.types import Request, TokenEvent
from headway.types.runner import Runner
from headway.wire import EngineStats


class Engine:
    """Single-threaded; `add` and `abort` happen between steps."""

    def __init__(self, *, scheduler: Scheduler, runner: Runner, clock: Clock) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._step_seconds = 0.0

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return self._scheduler.has_work

    def add(self, request: Request) -> list[TokenEvent]:
        """Queue a request. One that cannot be served ends here, with an event that says why."""
        try:
            event = self._scheduler.add(request)
        except InvalidRequest as error:
            event = TokenEvent(id=request.id, finish="error", error=error.message)
        return [] if event is None else [event]

    def abort(self, request_id: str) -> list[TokenEvent]:
        """End a request; nothing if it is unknown or has ended already."""
        event = self._scheduler.abort(request_id)
        return [] if event is None else [event]

    def step(self) -> list[TokenEvent] | Idle:
        """One step, waited for, and what the requests in it hear.

        An error of the runner passes through: the step is lost and the engine cannot go on.
        """
        plan = self._scheduler.plan(self._clock.now())
        if isinstance(plan, Idle):
            return plan
        result = self._runner.submit(plan).result()
        self._step_seconds = result.seconds
        return self._scheduler.commit(plan, result, self._clock.now())

    def stats(self) -> EngineStats:
        """The state after the last step, and counters since the start."""
        stats = self._scheduler.stats()
        return EngineStats(
            step=stats.step,
            running=stats.running,
            waiting=stats.waiting,
            free_blocks=stats.free_blocks,
            cached_blocks=stats.cached_blocks,
            step_seconds=self._step_seconds,
            step_tokens=stats.step_tokens,
            idle_slots=stats.idle_slots,
            preemptions=stats.preemptions,
            computed_tokens=stats.computed_tokens,
            prefix_queries=stats.prefix_queries,
            prefix_hits=stats.prefix_hits,
        )
