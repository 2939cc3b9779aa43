"""One replica: the shipped engine, scheduler, policy and block pool under a virtual clock.

Where nothing but decodes is certain to come, the scheduler skips ahead instead of stepping; the
result is the same.
"""

from __future__ import annotations

from headway.engine.loop import Engine
from headway.perf.sim.results import SimulatedAnswer, request_of
from headway.perf.sim.runner import SimulatedRunner
from headway.scheduling import Idle, Scheduler


class Replica:
    """Use in the order of time: `run_until` an arrival, then `add` it."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        runner: SimulatedRunner,
        skipping: bool = True,
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.clock = clock = runner.clock
        self._engine = Engine(scheduler=scheduler, runner=runner, clock=clock)
        self._skipping = skipping

    def add(self, answer: SimulatedAnswer) -> None:
        """The request arrives. One that can never be served is refused: its `error` says why."""
        for event in self._engine.add(request_of(answer)):
            answer.error = event.error or "refused"

    def run_until(self, until: float) -> None:
        """All steps that begin before `until`; a step that is longer moves the clock beyond it."""
        clock = self.clock
        while self._engine.has_work and clock.seconds < until:
            if self._skipping and self._skip(until):
                continue
            news = self._engine.step()
            if isinstance(news, Idle):
                if news.until is None:
                    break
                clock.seconds = max(clock.seconds, min(news.until, until))
        if until < float("inf"):
            clock.seconds = max(clock.seconds, until)
        elif self._engine.has_work:
            raise RuntimeError("the engine is idle for good with requests left")

    def _skip(self, until: float) -> bool:
        most = self.runner.steps_until_an_end()
        quiet = self.scheduler.quiet_steps(self.clock.seconds, most)
        if not quiet.steps:
            return False
        before = self.runner.tally.steps
        tokens = self.runner.skip(quiet.steps, until)
        done = self.runner.tally.steps - before
        self.scheduler.advance(quiet._replace(steps=done), tokens)
        return True
