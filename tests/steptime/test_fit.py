"""The fit finds what made the data: exactly without noise, nearly with it, and despite stalls."""

from __future__ import annotations

from random import Random

import pytest

from headway.errors import InvalidRequest
from headway.steptime.fit import LEAST_STEPS, Measured, errors_of, fit
from headway.steptime.shape import PRIOR, StepShape, shape_of
from tests.steptime.world import MACHINE, SIZES, decodes, model, part


def some_shapes(number: int, seed: int) -> list[StepShape]:
    """Steps as service has them: mostly decodes of all widths, some prompts, some of both."""
    random = Random(seed)
    found = []
    for _ in range(number):
        width = int(2 ** random.uniform(0, 6))
        parts = [part(random.randrange(1, 2000), 1) for _ in range(width)]
        kind = random.random()
        if kind < 0.4:
            prompt = part(random.randrange(0, 500), random.randrange(2, 400))
            parts = [prompt, *(parts if kind < 0.2 else ())]
        found.append(shape_of(parts))
    return found


def noisy(shapes: list[StepShape], spread: float, seed: int) -> list[Measured]:
    random, truth = Random(seed), model()
    return [(shape, truth.predict(shape) * random.lognormvariate(0.0, spread)) for shape in shapes]


def test_without_noise_the_truth_is_found() -> None:
    found, quality = fit(noisy(some_shapes(400, 1), 0.0, 1), SIZES, MACHINE)
    assert quality.mean < 0.002
    assert quality.p95 < 0.01
    assert (quality.steps, quality.stalls) == (400, 0)
    held_out = noisy(some_shapes(100, 2), 0.0, 2)
    assert errors_of(found, held_out).mean < 0.005


def test_noise_is_averaged_out_on_other_steps() -> None:
    found, _ = fit(noisy(some_shapes(600, 3), 0.08, 3), SIZES, MACHINE)
    assert errors_of(found, noisy(some_shapes(200, 4), 0.0, 4)).mean < 0.03


def test_stalls_are_counted_and_not_learned() -> None:
    random = Random(5)
    steps = noisy(some_shapes(400, 5), 0.03, 5)
    stalled = [(shape, t * 8 if random.random() < 0.05 else t) for shape, t in steps]
    number = sum(a != b for a, b in zip(steps, stalled, strict=True))
    assert number > 5
    found, quality = fit(stalled, SIZES, MACHINE)
    assert quality.stalls == number
    assert errors_of(found, steps).mean < 0.04


def test_no_coefficient_is_negative_whatever_the_times() -> None:
    random = Random(6)
    steps = [(shape, random.uniform(1e-3, 1.0)) for shape in some_shapes(100, 6)]
    found, _ = fit(steps, SIZES, MACHINE)
    assert min(found.coefficients) >= 0.0


def test_what_the_data_leave_open_stays_near_the_prior() -> None:
    steps = noisy([decodes(*([50] * n)) for n in range(1, 60)], 0.0, 7)
    found = fit(steps, SIZES, MACHINE)[0].coefficients
    assert found.prefill_attention / PRIOR.prefill_attention == pytest.approx(
        found.prefill_cache / PRIOR.prefill_cache, rel=0.01
    )
    # As far from the limits as decoding is, which in the truth is 1.1 to 1.6 times as long.
    assert 1.0 < found.prefill_attention < 2.0


def test_a_machine_far_from_its_limits_is_learned_too() -> None:
    """A limit that is twenty times what the kernels reach must not make every step a stall."""
    steps = [(shape, 20 * seconds) for shape, seconds in noisy(some_shapes(300, 8), 0.02, 8)]
    found, quality = fit(steps, SIZES, MACHINE)
    assert quality.stalls == 0
    assert errors_of(found, steps).mean < 0.05


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="too few"):
        fit(noisy(some_shapes(LEAST_STEPS - 1, 9), 0.0, 9), SIZES, MACHINE)
    assert errors_of(model(), []).steps == 0


def test_of_very_many_steps_some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = noisy(some_shapes(400, 10), 0.0, 10)
    monkeypatch.setattr("headway.steptime.fit.MOST_STEPS", 100)
    found, quality = fit(steps, SIZES, MACHINE)
    assert quality.steps == 400
    assert found.coefficients == fit(steps[::4], SIZES, MACHINE)[0].coefficients
    assert quality.mean < 0.01
