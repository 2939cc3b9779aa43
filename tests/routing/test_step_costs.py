"""The costs of a model's steps add up to what the model says."""

from __future__ import annotations

import pytest

from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.routing.step_costs import step_costs
from headway.steptime.shape import StepShape
from tests.perf.sim.setups import profile_of

H100 = roofline_profile(known_device("h100"), known_model("llama-3.1-8b")).step_times()


@pytest.mark.parametrize(("tokens", "cached"), [(2048, 0), (8000, 0), (3000, 5000)])
@pytest.mark.parametrize(("decodes", "context"), [(0, 0), (40, 1500)])
def test_a_step_with_prompts_is_the_sum_of_its_parts(
    tokens: int, cached: int, decodes: int, context: int
) -> None:
    costs = step_costs(H100)
    shape = StepShape().with_slice(cached, tokens, 1)
    for _ in range(decodes):
        shape = shape.with_slice(context - 1, 1, 1)
    found = costs.fixed + costs.prefill(tokens, cached)
    found += costs.decode * decodes + costs.position * decodes * context
    # What a chunk reads of its own prompt's keys is left out.
    assert found == pytest.approx(H100.predict(shape), rel=0.03)


@pytest.mark.parametrize("decodes", [1, 16, 128])
def test_a_step_of_decodes_is_near_the_model(decodes: int) -> None:
    shape = StepShape()
    for _ in range(decodes):
        shape = shape.with_slice(999, 1, 1)
    found = step_costs(H100).decodes(decodes, 1000 * decodes)
    assert found == pytest.approx(H100.predict(shape), rel=0.15)


def test_nothing_costs_less_than_nothing() -> None:
    costs = step_costs(profile_of().step_times())  # every step takes a second
    assert (costs.least, costs.fixed) == (1.0, 1.0)
    assert (costs.token, costs.pair, costs.decode, costs.position) == (0.0, 0.0, 0.0, 0.0)
