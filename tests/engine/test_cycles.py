"""Busy time and its least: sums by hand, and in an engine that waits in between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.engine.loop import BusyTime, Engine
from headway.types import Slice, StepPlan
from tests.recording.engine import STEP_SECONDS, Ticking, recorded_harness
from tests.scheduling.harness import make_harness, request_of


def plan_of(tokens: int) -> StepPlan:
    part = Slice(seq=1, start=0, tokens=range(tokens), blocks=(), outputs=1)
    return StepPlan(step=1, slices=[part])


def tokens_of(slices: Iterable[Slice]) -> float:
    """A machine that computes a token a second."""
    return float(sum(len(part.tokens) for part in slices))


def thousandths_of(slices: Iterable[Slice]) -> float:
    """One that needs 1 ms for a token, which is less than any step here takes."""
    return tokens_of(slices) / 1000


def test_a_cycle_counts_when_it_has_ended() -> None:
    cycles = BusyTime(tokens_of)
    cycles.begin(plan_of(3), 10.0)
    assert (cycles.busy, cycles.ideal) == (0.0, 0.0)
    cycles.begin(plan_of(1), 14.0)
    assert (cycles.busy, cycles.ideal) == (4.0, 3.0)
    cycles.end(15.5)
    cycles.end(99.0)
    assert (cycles.busy, cycles.ideal) == (5.5, 4.0)


def test_no_cycle_counts_as_faster_than_it_was() -> None:
    told: list[float] = []
    cycles = BusyTime(tokens_of, told.append)
    cycles.begin(plan_of(9), 10.0)
    cycles.begin(plan_of(1), 12.0)
    cycles.end(15.0)
    assert (cycles.busy, cycles.ideal) == (5.0, 2.0 + 1.0)
    assert told == [2.0, 3.0]


def test_without_limits_there_is_no_least_time() -> None:
    cycles = BusyTime()
    cycles.begin(plan_of(3), 0.0)
    cycles.end(2.0)
    assert (cycles.busy, cycles.ideal) == (2.0, 0.0)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), min_size=1, max_size=5))
def test_busy_time_is_that_of_the_recorded_cycles(asked: list[tuple[int, int]]) -> None:
    """Whatever is asked; and the least time is that of all tokens computed."""
    harness, memory = recorded_harness()
    harness.engine = Engine(
        scheduler=harness.scheduler,
        runner=Ticking(harness.runner, harness.clock),
        clock=harness.clock,
        observer=harness.engine._observers[0],
        ideal=thousandths_of,
    )
    for number, (output, prompt) in enumerate(asked):
        harness.add(request_of(str(number), prompt=tuple(range(prompt)), max_tokens=output))
        harness.step()
        if number % 2:
            harness.drain()
            harness.clock.seconds += 50.0
    harness.drain()
    stats = harness.engine.stats()
    assert stats.busy_seconds == pytest.approx(sum(step.cycle for step in memory.steps))
    assert stats.ideal_seconds == pytest.approx(stats.computed_tokens / 1000)


def test_time_without_work_is_not_busy() -> None:
    harness = make_harness()
    harness.engine = Engine(
        scheduler=harness.scheduler,
        runner=Ticking(harness.runner, harness.clock),
        clock=harness.clock,
    )
    harness.add(request_of(max_tokens=1))
    harness.drain()
    harness.clock.seconds += 1000.0
    harness.add(request_of("b", max_tokens=9))
    harness.step()
    harness.abort("b")
    assert harness.engine.stats().busy_seconds == STEP_SECONDS + STEP_SECONDS + 1.0
