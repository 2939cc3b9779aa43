"""Busy time and its least: sums by hand, and in an engine that waits in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.engine.loop import BusyTime, Engine
from headway.types import Slice, StepPlan
from tests.recording.engine import STEP_SECONDS, Ticking, recorded_house
from tests.scheduling.house import make_house, request_of


def plan_of(tokens: int) -> StepPlan:
    part = Slice(seq=1, start=0, tokens=range(tokens), blocks=(), sample=True)
    return StepPlan(step=1, slices=[part])


def tokens_of(plan: StepPlan) -> float:
    """A machine that computes a token a second."""
    return float(sum(len(part.tokens) for part in plan.slices))


def test_a_cycle_counts_when_it_has_ended() -> None:
    cycles = BusyTime(tokens_of)
    cycles.begin(plan_of(3), 10.0)
    assert (cycles.busy, cycles.ideal) == (0.0, 0.0)
    cycles.begin(plan_of(1), 14.0)
    assert (cycles.busy, cycles.ideal) == (4.0, 3.0)
    cycles.end(15.5)
    cycles.end(99.0)
    assert (cycles.busy, cycles.ideal) == (5.5, 4.0)


def test_without_limits_there_is_no_least_time() -> None:
    cycles = BusyTime()
    cycles.begin(plan_of(3), 0.0)
    cycles.end(2.0)
    assert (cycles.busy, cycles.ideal) == (2.0, 0.0)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), min_size=1, max_size=5))
def test_busy_time_is_that_of_the_recorded_cycles(asked: list[tuple[int, int]]) -> None:
    """Whatever is asked; and the least time is that of all tokens computed."""
    house, memory = recorded_house()
    house.engine = Engine(
        scheduler=house.scheduler,
        runner=Ticking(house.runner, house.clock),
        clock=house.clock,
        watch=house.engine._watch,
        ideal=tokens_of,
    )
    for number, (output, prompt) in enumerate(asked):
        house.add(request_of(str(number), prompt=tuple(range(prompt)), max_tokens=output))
        house.step()
        if number % 2:
            house.drain()
            house.clock.seconds += 50.0
    house.drain()
    stats = house.engine.stats()
    assert stats.busy_seconds == pytest.approx(sum(step.cycle for step in memory.steps))
    assert stats.ideal_seconds == pytest.approx(stats.computed_tokens)


def test_time_without_work_is_not_busy() -> None:
    house = make_house()
    house.engine = Engine(
        scheduler=house.scheduler, runner=Ticking(house.runner, house.clock), clock=house.clock
    )
    house.add(request_of(max_tokens=1))
    house.drain()
    house.clock.seconds += 1000.0
    house.add(request_of("b", max_tokens=9))
    house.step()
    house.abort("b")
    assert house.engine.stats().busy_seconds == STEP_SECONDS + STEP_SECONDS + 1.0
