"""An engine with the fake runner whose recording stays in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from headway.engine.loop import Engine
from headway.recording.format import EngineLine, Line, Recording, RequestLine, StepLine
from headway.recording.recorder import Recorder
from headway.scheduling.policy import policy_config
from headway.steptime.online import step_times_of
from headway.types import StepPlan, StepResult
from headway.types.engine import SchedulerConfig
from headway.types.step import Runner
from tests.recording.samples import ENGINE
from tests.scheduling.harness import EngineHarness, StepClock, make_harness

STEP_SECONDS = 0.25
"""What the clock ticks while a step is computed; the harness adds a second between steps."""


@dataclass
class Memory:
    """Keeps lines, and how many there were at each flush."""

    lines: list[Line] = field(default_factory=list)
    flushed: list[int] = field(default_factory=list)

    def write(self, line: Line) -> None:
        self.lines.append(line)

    def flush(self) -> None:
        self.flushed.append(len(self.lines))

    @property
    def requests(self) -> dict[str, RequestLine]:
        return {line.id: line for line in self.lines if isinstance(line, RequestLine)}

    @property
    def steps(self) -> tuple[StepLine, ...]:
        return tuple(line for line in self.lines if isinstance(line, StepLine))

    @property
    def recording(self) -> Recording:
        engine = self.lines[0]
        assert isinstance(engine, EngineLine)
        requests = tuple(line for line in self.lines if isinstance(line, RequestLine))
        return Recording(engine=engine, requests=requests, steps=self.steps)


@dataclass
class Ticking:
    """A runner that takes time."""

    runner: Runner
    clock: StepClock
    seconds: float = STEP_SECONDS

    def compute(self, plan: StepPlan) -> StepResult:
        self.clock.seconds += self.seconds
        return self.runner.compute(plan)


def recorded_harness(
    *, step_seconds: float = STEP_SECONDS, **options: Any
) -> tuple[EngineHarness, Memory]:
    """As `make_harness`, with a recorder that writes to memory."""
    step_times = step_times_of(ENGINE.sizes, ENGINE.machine)
    harness, memory = make_harness(**options, step_times=step_times), Memory()
    config = SchedulerConfig(
        policy=policy_config(options.get("policy", "continuous"), {"dynamic_wait": 3.0}),
        limits=harness.scheduler.limits,
        num_blocks=harness.scheduler.pool.num_blocks,
        block_size=harness.scheduler.pool.block_size,
        prefix_caching=options.get("prefix_caching", True),
    )
    line = replace(ENGINE, scheduler=config)
    harness.engine = Engine(
        scheduler=harness.scheduler,
        runner=Ticking(harness.runner, harness.clock, step_seconds),
        clock=harness.clock,
        observer=Recorder(engine=line, idle_stats=harness.scheduler.idle_stats, sink=memory),
    )
    return harness, memory
