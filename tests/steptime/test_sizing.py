"""The arithmetic of widths: closed formulas on a linear model, and what must always hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.margins import BoundedModel, Margins, margins_of
from headway.steptime.model import Residuals
from headway.steptime.shape import Features, StepShape, shape_of
from headway.steptime.sizing import (
    MOST_WIDTH,
    Curve,
    curve_of,
    prefill_seconds,
    steady_step,
)
from headway.types.traffic import Traffic
from tests.steptime.world import WINDOWED, model, part


@dataclass(frozen=True)
class Linear:
    """Seconds as in the closed formulas: fixed, per decode, per position read, per prompt token."""

    fixed: float = 0.01
    decode: float = 1e-4
    position: float = 1e-7
    prompt: float = 2e-5
    margin: float = 1.25
    window: int | None = None

    def predict(self, shape: StepShape) -> float:
        return (
            self.fixed
            + self.decode * shape.decodes
            + self.position * shape.decode_context
            + self.prompt * (shape.tokens - shape.decodes)
        )

    def bound(self, shape: StepShape) -> float:
        return self.margin * self.predict(shape)

    def slope(self, traffic: Traffic) -> float:
        """Seconds of a step that each answer at once costs."""
        decoding = 1 - 1 / traffic.output
        own = decoding * (self.decode + self.position * traffic.context)
        return own + self.prompt * traffic.prompt / traffic.output


CHAT = Traffic(prompt=1000.0, output=200.0, context=1100.0, held=1100.0, longest=4000)


def curve(times: Linear | BoundedModel | None = None, traffic: Traffic = CHAT) -> Curve:
    return curve_of(times or Linear(), traffic, 8192)


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    prompt = draw(st.floats(1, 20_000))
    output = draw(st.floats(1, 2000))
    cached = draw(st.floats(0, 5000))
    context = cached + prompt + output / 2
    return Traffic(prompt=prompt, output=output, context=context, held=context, cached=cached)


@st.composite
def models(draw: st.DrawFn) -> BoundedModel:
    """Fitted coefficients may be anything, kinks and falling parts included."""
    found = Features(*(draw(st.floats(0.05, 5)) for _ in range(10)))
    sizes = WINDOWED if draw(st.booleans()) else model().sizes
    margins = Margins(*(), decode=draw(st.floats(1, 1.5)), mixed=draw(st.floats(1, 1.5)))
    return BoundedModel(model(sizes, found), margins)


@pytest.mark.parametrize("tpot", [0.02, 0.03, 0.05, 0.2])
def test_the_width_that_keeps_tpot_is_that_of_the_closed_formula(tpot: float) -> None:
    """b* = (TPOT/m - t0) / (t_d + t_kv c + rho t_p)."""
    times = Linear()
    expected = (tpot / times.margin - times.fixed) / times.slope(CHAT)
    found = curve(times).within(tpot)
    # A step has whole decodes and whole prompt tokens.
    assert found == pytest.approx(expected, abs=1.5)
    assert found is not None
    assert found <= expected + 1e-6


def test_capacity_is_that_of_the_closed_formula() -> None:
    """b / (output T(b))."""
    times = Linear()
    for width in (1, 10, 100, 1000):
        seconds = times.fixed + width * times.slope(CHAT)
        assert curve(times).rate_at(width) == pytest.approx(width / (200 * seconds), rel=0.02)


def test_arrivals_need_the_width_of_little_s_law() -> None:
    """b = rate * output * T(b), solved for b."""
    times, rate = Linear(), 3.0
    slope = times.slope(CHAT)
    expected = rate * 200 * times.fixed / (1 - rate * 200 * slope)
    assert curve(times).serving(rate) == pytest.approx(expected, rel=0.05)
    assert curve(times).serving(1 / (200 * slope) * 1.01) is None


def test_throughput_saturates_where_the_closed_formula_says() -> None:
    """Twice the width serves 5 % more at b = 9.5 t0 / t1."""
    times = Linear()
    expected = 9.5 * times.fixed / times.slope(CHAT)
    assert curve(times).saturated == pytest.approx(expected, rel=0.03)


def test_one_answer_alone_is_the_fastest_that_any_batch_is() -> None:
    times = Linear()
    alone = times.bound(shape_of([part(1099, 1)]))
    assert curve(times).bounds[0] == pytest.approx(alone)
    assert curve(times).within(alone * 0.99) is None
    assert curve(times).within(alone * 1.0001) is not None


def test_one_at_a_time_serves_a_prefill_and_its_decodes() -> None:
    times = Linear()
    seconds = 199 * (0.01 + 1e-4 + 1e-7 * 1100) + 0.01 + 1000 * 2e-5
    assert curve(times).rates[0] == pytest.approx(1 / seconds)


def test_a_prompt_heavy_load_may_have_less_than_one_answer_at_once() -> None:
    """A step with one decode and a whole width's prompt tokens takes too long: the width is less,
    and the decode is beside a smaller part of the next prompt."""
    times = Linear()
    heavy = Traffic(prompt=10_000.0, output=10.0, context=10_000.0, held=10_000.0)
    found = curve(times, heavy).within(times.margin * 0.022)
    assert found is not None
    assert 0 < found < 1
    assert curve(times, heavy).rate_at(found) > curve(times, heavy).rate_at(0.0)


def test_answers_of_one_token_have_no_decodes() -> None:
    scoring = replace(CHAT, output=1.0)
    step = steady_step(4.0, scoring)
    assert (step.decodes, step.tokens, step.sequences) == (0, 4000, 4)
    assert steady_step(0.0, scoring).tokens == 0


def test_a_steady_step_by_hand() -> None:
    """8 answers of 4 tokens: 2 start, whose prompts of 30 are computed, and 6 decode."""
    traffic = Traffic(prompt=30.0, output=4.0, context=40.0, held=40.0, cached=10.0)
    assert steady_step(8.0, traffic) == StepShape(
        tokens=6 + 60,
        sequences=6 + 2,
        rows=8,
        decodes=6,
        decode_context=240,
        prefill_pairs=60 * 10 + 2 * (30 * 31 // 2),
        prefill_context=2 * 40,
    )


def test_a_sliding_window_bounds_what_is_read() -> None:
    traffic = Traffic(prompt=30.0, output=4.0, context=40.0, held=40.0)
    step = steady_step(8.0, traffic, 16)
    assert step.decode_context_window == 6 * 16
    whole = shape_of([part(0, 30), part(0, 30)], 16)
    assert step.prefill_pairs_window == whole.prefill_pairs_window
    assert step.prefill_context_window == whole.prefill_context_window


@pytest.mark.parametrize("prompt", [1, 63, 64, 65, 1000, 12_345])
@pytest.mark.parametrize("cached", [0, 77])
def test_a_long_prompt_takes_as_long_as_its_chunks(prompt: int, cached: int) -> None:
    times, total, start = model(), 0.0, cached
    while start < cached + prompt:
        count = min(64, cached + prompt - start)
        total += times.predict(shape_of([part(start, count)]))
        start += count
    found = prefill_seconds(times.predict, prompt, 64, cached=cached)
    assert found == pytest.approx(total)


def test_the_look_up_agrees_with_a_search_on_the_model() -> None:
    """The real model has kinks; between the points of the curve there are lines."""
    times = BoundedModel(model())
    for tpot in (0.4, 0.6, 1.0, 3.0):
        widths = range(1, 2000)
        wide = [w for w in widths if times.bound(steady_step(w, CHAT)) <= tpot]
        found = curve(times).within(tpot)
        assert found is not None
        assert found == pytest.approx(max(wide), rel=0.02, abs=1)


@given(models(), traffics(), st.floats(1e-3, 10), st.floats(1, 2))
def test_a_tighter_objective_never_allows_a_wider_batch(
    times: BoundedModel, traffic: Traffic, tpot: float, factor: float
) -> None:
    found = curve_of(times, traffic, 512)
    tight, loose = found.within(tpot), found.within(tpot * factor)
    assert tight is None or (loose is not None and tight <= loose)
    assert tight is None or found.bound_at(tight) <= tpot * (1 + 1e-9)


@given(models(), traffics(), st.floats(0, 1000), st.floats(0, 1000))
def test_a_wider_batch_never_serves_less(
    times: BoundedModel, traffic: Traffic, one: float, other: float
) -> None:
    found = curve_of(times, traffic, 512)
    low, high = sorted((one, other))
    assert found.rate_at(low) <= found.rate_at(high)
    assert found.bound_at(low) <= found.bound_at(high)
    assert found.seconds_at(high) <= found.bound_at(high) * (1 + 1e-9)


@given(models(), traffics(), st.floats(1e-3, 1e3))
def test_the_least_width_that_serves_a_rate_serves_it(
    times: BoundedModel, traffic: Traffic, rate: float
) -> None:
    found = curve_of(times, traffic, 512)
    width = found.serving(rate)
    if width is None:
        assert found.rates[-1] < rate
    else:
        assert found.rate_at(width) >= rate * (1 - 1e-9)
        assert found.rate_at(width * 0.999) <= rate * (1 + 1e-9) or width == 0


@given(models(), traffics())
def test_every_curve_is_whole(times: BoundedModel, traffic: Traffic) -> None:
    found = curve_of(times, traffic, 512)
    assert found.widths[0] == 0
    assert found.widths[-1] == MOST_WIDTH
    assert 1 <= found.saturated <= MOST_WIDTH
    assert found == curve_of(times, traffic, 512)


def test_margins_are_quantiles_within_bounds() -> None:
    residuals = Residuals(decode=(0.9, 1.0, 1.2), mixed=(0.5, 0.7), prefill=(1.0, 9.0))
    assert margins_of(residuals, 0.75) == Margins(decode=1.1, mixed=1.0, prefill=1.5)
    assert margins_of(Residuals(), 0.98) == Margins()


def test_a_bounded_model_uses_the_margin_of_the_regime() -> None:
    times = BoundedModel(model(), Margins(decode=1.1, mixed=1.2, prefill=1.3))
    steps = {1.1: [part(9, 1)], 1.2: [part(9, 1), part(0, 8)], 1.3: [part(0, 8)]}
    for margin, slices in steps.items():
        shape = shape_of(slices)
        assert times.bound(shape) == pytest.approx(margin * times.predict(shape))
