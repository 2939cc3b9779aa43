"""Profiles from recordings: the step-time model fitted to what an engine really did.

The time of a step here is its cycle, from one plan to the next, so that planning, sampling and
telling count as well as kernels. A recording has no cycles in which the engine waited for work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from headway.errors import InvalidRequest
from headway.recording.format import EngineLine, Recording
from headway.steptime.fit import STALL, Errors, Measured, errors_of, fit
from headway.steptime.model import REGIMES, Regime, StepTimeModel, regime, residuals_of
from headway.steptime.profiles import Profile
from headway.steptime.shape import PeakRates


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedErrors:
    """A profile's relative errors on a recording; steps that stalled are counted apart."""

    all: Errors
    regimes: Mapping[Regime, Errors]
    stalls: int
    total: float
    """Predicted over measured time of all steps but stalls."""


def measured_steps(recording: Recording) -> Iterator[Measured]:
    """Every step's shape and the seconds of its cycle."""
    window = recording.engine.sizes.window
    for step in recording.steps:
        if step.cycle > 0.0 and step.slices:
            yield step.shape(window), step.cycle


def fit_recordings(recordings: Sequence[Recording], *, machine: PeakRates | None = None) -> Profile:
    """The profile of the last recording's engine, from all recordings of its like.

    `machine` replaces the limits that were recorded. Raises `InvalidRequest` where there are too
    few steps, or limits were neither recorded nor given.
    """
    if not recordings:
        raise InvalidRequest("the recording is empty", field="steps")
    engine = recordings[-1].engine
    limits = machine or engine.machine
    if limits is None:
        raise InvalidRequest(
            "the recording does not know the machine's limits: `headway doctor --limits` measures "
            "them, and engines started after that record them",
            field="machine",
        )
    steps = [
        step
        for recording in recordings
        if _alike(recording.engine, engine)
        for step in measured_steps(recording)
    ]
    model, quality = fit(steps, engine.sizes, limits)
    # A stall takes its time whatever the step: as a factor on long steps it would be too much.
    seen = [
        (regime(step[0]), step[1], model.predict(step[0]))
        for step in steps
        if not _stalled(model, step)
    ]
    return Profile(
        model=engine.model,
        hardware=engine.hardware,
        scheduler=engine.scheduler,
        sizes=engine.sizes,
        machine=limits,
        coefficients=model.coefficients,
        residuals=residuals_of(seen),
        fit=quality,
    )


def errors_on(profile: Profile, recording: Recording) -> CheckedErrors:
    """How far the profile is off on a recording's steps, in all and by regime."""
    model = profile.step_times()
    steps = list(measured_steps(recording))
    kept = [step for step in steps if not _stalled(model, step)]
    predicted = sum(model.predict(shape) for shape, _ in kept)
    return CheckedErrors(
        all=errors_of(model, kept),
        regimes={
            name: errors_of(model, [step for step in kept if regime(step[0]) == name])
            for name in REGIMES
        },
        stalls=len(steps) - len(kept),
        total=predicted / sum(seconds for _, seconds in kept) if kept else 1.0,
    )


def _stalled(model: StepTimeModel, step: Measured) -> bool:
    return step[1] > STALL * model.predict(step[0])


def _alike(one: EngineLine, other: EngineLine) -> bool:
    """Whether steps of both take the same time."""
    return (one.model, one.hardware, one.sizes) == (other.model, other.hardware, other.sizes)
