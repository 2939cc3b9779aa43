"""The model that learns while it serves: what it finds, follows, doubts, and does not believe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, isfinite, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.steptime.conformal import LEAST, MOST
from headway.steptime.fit import Measured
from headway.steptime.model import Regime, StepTimeModel
from headway.steptime.online import BELIEVED, FEW, OnlineStepTimes
from headway.steptime.shape import Features, StepShape, shape_of
from headway.types import Slice
from tests.steptime.test_fit import noisy, some_shapes
from tests.steptime.world import MACHINE, SIZES, TRUTH, WINDOWED, decodes, model, part, slices


def run(times: OnlineStepTimes, steps: Iterable[Measured]) -> list[float]:
    """Learn steps; the relative error of each, as it was predicted before."""
    errors = []
    for shape, seconds in steps:
        errors.append(abs(times.predict(shape) / seconds - 1.0))
        times.learn(shape, seconds)
    return errors


def slower(steps: Iterable[Measured], factor: float) -> list[Measured]:
    return [(shape, factor * seconds) for shape, seconds in steps]


def learned(spread: float = 0.03, steps: int = 1000, seed: int = 1) -> OnlineStepTimes:
    times = OnlineStepTimes(SIZES, MACHINE)
    run(times, noisy(some_shapes(steps, seed), spread, seed))
    return times


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def error_without_noise(times: OnlineStepTimes, seed: int = 99) -> float:
    steps = noisy(some_shapes(200, seed), 0.0, seed)
    return mean(abs(times.predict(shape) / seconds - 1.0) for shape, seconds in steps)


def test_before_any_step_it_predicts_the_prior_or_the_profile() -> None:
    shape = shape_of([part(30, 1), part(0, 40)])
    prior = OnlineStepTimes(SIZES, MACHINE)
    assert prior.predict(shape) == StepTimeModel(SIZES, MACHINE).predict(shape)
    assert prior.bound(shape) == MOST * prior.predict(shape)
    profile = OnlineStepTimes(SIZES, MACHINE, TRUTH)
    assert profile.predict(shape) == model().predict(shape)
    assert LEAST * profile.predict(shape) < profile.bound(shape) < MOST * profile.predict(shape)
    assert OnlineStepTimes(WINDOWED, MACHINE).window == WINDOWED.window


@settings(max_examples=20)
@given(st.lists(st.floats(0.1, 4.0), min_size=10, max_size=10), st.integers(0, 1000))
def test_a_hidden_model_is_found_within_a_thousand_steps(factors: list[float], seed: int) -> None:
    truth = model(coefficients=Features(*(a * b for a, b in zip(TRUTH, factors, strict=True))))
    times = OnlineStepTimes(SIZES, MACHINE)
    errors = run(times, [(shape, truth.predict(shape)) for shape in some_shapes(1000, seed)])
    assert mean(errors[-200:]) < 0.03


def test_with_noise_the_error_is_hardly_more_than_the_noise() -> None:
    spread = 0.08
    errors = run(OnlineStepTimes(SIZES, MACHINE), noisy(some_shapes(2000, 2), spread, 2))
    expected = 0.8 * spread  # The mean deviation of a normal distribution.
    assert mean(errors[1000:]) < 1.25 * expected


@pytest.mark.parametrize("factor", [1 / 3, 3.0])
def test_a_prior_that_is_off_by_a_factor_is_right_after_ten_steps(factor: float) -> None:
    steps = noisy([decodes(*([50] * n)) for n in (3, 4, 5, 6) * 5], 0.03, 3)
    errors = run(OnlineStepTimes(SIZES, MACHINE), slower(steps, factor))
    assert mean(errors[10:]) < 0.06


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_a_change_of_speed_is_followed_within_some_dozens_of_steps(factor: float) -> None:
    times = learned()
    errors = run(times, slower(noisy(some_shapes(100, 4), 0.03, 4), factor))
    assert mean(errors[40:]) < 0.05
    assert times.status.gain == pytest.approx(factor, abs=0.08)


def test_the_speed_of_decodes_tells_that_of_prefills() -> None:
    times, prompt = learned(), shape_of([part(100, 300)])
    before = times.predict(prompt)
    narrow = [decodes(*([400] * n)) for n in (4, 8, 16, 32) * 40]
    run(times, slower(noisy(narrow, 0.02, 5), 1.3))
    assert times.predict(prompt) == pytest.approx(1.3 * before, rel=0.12)


def test_a_hundred_thousand_decodes_neither_blow_up_nor_forget_prefills() -> None:
    times, random = learned(), Random(6)
    prompts = [shape_of([part(s, n)]) for s, n in ((0, 200), (300, 100), (0, 30))]
    shapes = [decodes(*([random.randrange(1, 2000)] * n)) for n in range(1, 21)]
    truth = {shape: model().predict(shape) for shape in shapes}
    for n in range(100_000):
        shape = shapes[n % 20]
        times.learn(shape, truth[shape] * random.lognormvariate(0.0, 0.03))
    for shape in prompts:
        assert times.predict(shape) == pytest.approx(model().predict(shape), rel=0.15)
    errors = run(times, noisy(some_shapes(200, 7), 0.03, 7))
    assert mean(errors) < 0.06


regimes: dict[Regime, Callable[[Random], list[Slice]]] = {
    "decode": lambda r: [part(r.randrange(1, 900), 1)] * r.randint(1, 20),
    "mixed": lambda r: [part(r.randrange(1, 900), 1)] * r.randint(1, 20) + [part(0, 64)],
    "prefill": lambda r: [part(r.randrange(0, 300), r.randint(2, 200))],
}


@pytest.mark.parametrize("name", regimes)
@pytest.mark.parametrize("wanted", [0.02, 0.1])
def test_each_regime_misses_its_bound_as_often_as_wanted(name: Regime, wanted: float) -> None:
    times, random = OnlineStepTimes(SIZES, MACHINE, miss_rate=wanted), Random(8)
    shapes = [shape_of(regimes[name](random)) for _ in range(6000)]
    steps = noisy(shapes, 0.05, 8)
    run(times, steps[:3000])
    run(times, slower(steps[3000:], 1.2))
    found = times.status.regimes[name]
    assert found.steps == 6000
    assert found.miss_rate == pytest.approx(wanted, rel=0.25)
    assert times.bound(shapes[0]) == found.margin * times.predict(shapes[0])


def test_stalls_are_counted_and_not_learned() -> None:
    times, shape = learned(), decodes(40, 50, 60)
    before = times.status
    for _ in range(4):
        times.learn(shape, 8 * times.predict(shape))
    after = times.status
    assert (after.stalls, after.steps) == (before.stalls + 4, before.steps)
    assert after.coefficients == before.coefficients
    assert after.regimes == before.regimes


def test_rare_stalls_are_never_believed() -> None:
    random = Random(9)
    steps = noisy(some_shapes(3000, 9), 0.03, 9)
    stalled = [(shape, 10 * t if random.random() < 0.05 else t) for shape, t in steps]
    times = OnlineStepTimes(SIZES, MACHINE)
    run(times, stalled)
    number = sum(a != b for a, b in zip(steps, stalled, strict=True))
    assert times.status.stalls == pytest.approx(number, abs=4)
    assert error_without_noise(times) < 0.05
    assert times.status.regimes["decode"].margin < 1.2


def test_a_machine_that_became_much_slower_is_believed() -> None:
    times = learned()
    errors = run(times, slower(noisy(some_shapes(120, 10), 0.03, 10), 5.0))
    assert mean(errors[40:]) < 0.1
    assert times.status.stalls < 3 * BELIEVED


def test_a_burst_of_stalls_that_was_believed_does_not_last() -> None:
    times, shape = learned(), decodes(*([300] * 8))
    for _ in range(25):
        times.learn(shape, 8 * model().predict(shape))
    errors = run(times, noisy(some_shapes(150, 11), 0.03, 11))
    assert mean(errors[50:]) < 0.08


def test_over_estimates_are_unlearned_from_the_smaller_steps_that_are_planned_instead() -> None:
    """A scheduler that takes prompts for three times as long plans small chunks of them only."""
    times = OnlineStepTimes(
        SIZES,
        MACHINE,
        Features(*(3 * each if n in (2, 6, 7) else each for n, each in enumerate(TRUTH))),
    )
    large = shape_of([part(0, 400)])
    assert times.predict(large) > 2.5 * model().predict(large)
    random = Random(12)
    chunks = [shape_of([part(random.randrange(200), random.randint(2, 24))]) for _ in range(300)]
    run(times, noisy(chunks, 0.03, 12))
    assert times.predict(large) == pytest.approx(model().predict(large), rel=0.25)


def relied_on(times: OnlineStepTimes) -> bool:
    """Asked anew each time: a checker of types takes a property for a constant."""
    return times.reliable and times.status.regimes["decode"].reliable


def test_while_predictions_are_off_the_margin_is_the_largest() -> None:
    times, shape = OnlineStepTimes(SIZES, MACHINE), decodes(*([300] * 8))
    run(times, noisy([shape] * 50, 0.01, 13))
    assert relied_on(times)
    assert times.status.regimes["decode"].margin < MOST
    assert times.status.regimes["mixed"].margin == MOST  # Nothing is known of these yet.
    random = Random(13)
    run(times, [(shape, random.choice((0.2, 1.0, 4.0))) for _ in range(100)])
    assert not relied_on(times)
    assert times.bound(shape) == MOST * times.predict(shape)
    run(times, noisy([shape] * 200, 0.01, 14))
    assert relied_on(times)
    assert times.status.regimes["decode"].error < 0.1


@pytest.mark.parametrize(("every", "relied"), [(100, True), (1, False)])
def test_it_is_relied_on_while_what_is_off_takes_little_time(every: int, relied: bool) -> None:
    times, random = OnlineStepTimes(SIZES, MACHINE), Random(17)
    prompt = shape_of([part(0, 64)])
    for number, step in enumerate(noisy([decodes(*([300] * 8))] * 2000, 0.01, 17)):
        times.learn(*step)
        if number % every == 0:
            times.learn(prompt, model().predict(prompt) * random.choice((0.05, 0.15, 0.4)))
    assert not times.status.regimes["prefill"].reliable
    assert times.reliable == relied


@settings(max_examples=50)
@given(
    st.lists(st.tuples(slices(), st.floats(0.0, inf, exclude_min=True)), max_size=30),
    slices(),
)
def test_whatever_comes_coefficients_are_not_negative_and_predictions_finite(
    steps: list[tuple[list[Slice], float]], asked: list[Slice]
) -> None:
    times = OnlineStepTimes(WINDOWED, MACHINE)
    shape = shape_of(asked, times.window)
    for parts, seconds in steps:
        for _ in range(FEW):
            times.learn(shape_of(parts, times.window), seconds)
        assert min(times.status.coefficients) >= 0.0
        predicted, bound = times.predict(shape), times.bound(shape)
        assert 0.0 < predicted <= bound <= MOST * predicted
        assert isfinite(bound)
    assert times.predict(StepShape()) > 0.0
    assert isfinite(times.status.gain)


@pytest.mark.parametrize("seconds", [0.0, -1.0, nan])
def test_a_step_without_a_time_tells_nothing(seconds: float) -> None:
    times = learned()
    before = times.status
    times.learn(decodes(5), seconds)
    times.learn(StepShape(), 1.0)
    assert times.status == before


def test_equal_steps_make_equal_models() -> None:
    assert learned(seed=15).status == learned(seed=15).status


def test_the_status_tells_errors_as_they_were() -> None:
    times = OnlineStepTimes(SIZES, MACHINE)
    assert (times.status.steps, times.status.mean, times.status.gain) == (0, 0.0, 1.0)
    errors = run(times, noisy(some_shapes(600, 16), 0.05, 16))
    status = times.status
    assert status.steps == 600
    assert status.mean == pytest.approx(mean(errors[-256:]))
    assert status.p95 == pytest.approx(sorted(errors[-256:])[243], rel=0.05)
    assert sum(each.steps for each in status.regimes.values()) == 600


def test_a_share_of_misses_must_be_one() -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        OnlineStepTimes(SIZES, MACHINE, miss_rate=0.0)
