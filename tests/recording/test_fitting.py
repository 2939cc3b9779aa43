"""Profiles from recordings that a known model made, and errors on others."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from headway.errors import InvalidRequest
from headway.recording.fitting import (
    errors_on,
    fit_recordings,
    measured_steps,
)
from headway.recording.format import Recording, SliceLine, StepLine
from headway.steptime.model import StepTimeModel
from headway.steptime.shape import PRIOR, StepShape, shape_of
from tests.recording.samples import ENGINE, MACHINE, RECORDING, SIZES
from tests.steptime.world import part

TRUTH = StepTimeModel(SIZES, MACHINE, replace(PRIOR, compute=1.7, decode_cache=2.0))


def recording(seed: int, steps: int = 200, *, slower: float = 1.0) -> Recording:
    """Steps that take what TRUTH says, times `slower`."""
    random = Random(seed)
    lines = []
    for number in range(1, steps + 1):
        width = random.randrange(1, 9)
        slices = [SliceLine(n, random.randrange(200), 1, 1) for n in range(1, width)]
        if number % 4 == 0 or not slices:
            slices.append(SliceLine(9, random.randrange(100), random.randrange(2, 60), 1))
        step = StepLine(step=number, at=float(number), cycle=0.0, run=0.0, slices=tuple(slices))
        lines.append(replace(step, cycle=TRUTH.predict(step.shape(None)) * slower))
    return Recording(engine=replace(ENGINE, machine=MACHINE), requests=(), steps=tuple(lines))


def test_a_recorded_step_has_the_shape_of_its_plan() -> None:
    slices = (SliceLine(1, 7, 1, 1), SliceLine(2, 30, 20, 0))
    step = StepLine(step=1, at=0.0, cycle=1.0, run=1.0, slices=slices)
    plan = [part(7, 1), part(30, 20, outputs=0)]
    assert step.shape(16) == shape_of(plan, 16)


def test_steps_have_the_time_of_their_cycle() -> None:
    assert list(measured_steps(RECORDING)) == [
        (StepShape(tokens=3, sequences=1, rows=1, prefill_pairs=6, prefill_context=3), 0.5),
        (StepShape(tokens=1, sequences=1, rows=1, decodes=1, decode_context=4), 0.25),
    ]


def test_a_profile_knows_its_engine_and_predicts_other_steps() -> None:
    profile = fit_recordings([recording(1)])
    assert (profile.model, profile.hardware.dtype, profile.hardware.threads) == ("tiny", "int8", 2)
    assert profile.scheduler == ENGINE.scheduler
    assert profile.hardware.backend == "native (avx2)"
    assert profile.fit is not None
    assert profile.fit.steps == 200
    errors = errors_on(profile, recording(2))
    assert errors.all.mean < 0.02
    assert errors.all.mean <= errors.all.p95 < 0.05
    assert errors.total == pytest.approx(1.0, abs=0.02)
    assert sum(each.steps for each in errors.regimes.values()) == errors.all.steps == 200
    assert errors.regimes["mixed"].steps > 10


def test_errors_say_by_how_much() -> None:
    profile = fit_recordings([recording(1)])
    slow = errors_on(profile, recording(2, slower=1.25))
    assert slow.all.mean == pytest.approx(0.2, abs=0.01)
    assert slow.total == pytest.approx(0.8, abs=0.01)
    stalled = errors_on(profile, recording(2, slower=9.0))
    assert (stalled.stalls, stalled.all.steps) == (200, 0)


def test_recordings_of_another_engine_are_left_out() -> None:
    other = recording(3, slower=2.0)
    other = replace(
        other, engine=replace(other.engine, hardware=replace(ENGINE.hardware, threads=1))
    )
    assert fit_recordings([other, recording(1)]) == fit_recordings([recording(1)])
    both = fit_recordings([recording(4), recording(1)])
    assert both.fit is not None
    assert both.fit.steps == 400


def test_limits_that_are_unknown_must_be_given() -> None:
    unknown = recording(1)
    unknown = replace(unknown, engine=ENGINE)
    with pytest.raises(InvalidRequest, match="limits"):
        fit_recordings([unknown])
    assert fit_recordings([unknown], machine=MACHINE) == fit_recordings([recording(1)])


def test_too_little_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        fit_recordings([])
    with pytest.raises(InvalidRequest, match="too few"):
        fit_recordings([recording(1, steps=3)])
