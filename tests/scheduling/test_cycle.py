"""What the step-time model is told of a step is what the step was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.stats import Idle
from headway.steptime.shape import shape_of
from tests.scheduling.harness import make_harness, request_of
from tests.scheduling.policy.pacing.views import LinearTimes
from tests.scheduling.proposers import Fixed, Guesser
from tests.scheduling.test_every_policy import Scene, modest, scenes


@modest
@given(scene=scenes(), drafts=st.booleans(), window=st.sampled_from([None, 6]))
def test_the_shape_that_is_learned_is_that_of_the_plan(
    scene: Scene, drafts: bool, window: int | None
) -> None:
    times = LinearTimes()
    times.window = window
    harness = make_harness(
        blocks=scene.blocks,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
        first_guess=scene.first_guess,
        proposer=Guesser(1) if drafts else None,
        step_times=times,
    )
    for _, request in scene.arrivals:
        harness.add(request)
    while harness.engine.has_work:
        assert not isinstance(harness.step(), Idle)
    planned = [shape_of(plan.slices, window) for plan in harness.runner.plans]
    learned = [shape for shape, _ in times.learned]
    assert learned == planned[: len(learned)]
    assert len(learned) >= len(planned) - 1, "the last step has no end that says anything"


def test_without_step_times_nothing_is_counted() -> None:
    harness = make_harness(step_times=None)
    harness.add(request_of())
    harness.drain()
    assert harness.ends["a"].finish == "length"


class Slow(Fixed):
    """Takes a quarter of a second."""

    @property
    def seconds(self) -> float:
        return 0.25


def test_what_it_took_to_find_drafts_is_no_part_of_the_step() -> None:
    times = LinearTimes()
    harness = make_harness(proposer=Slow((1,)), step_times=times)
    harness.add(request_of(prompt=(1, 2, 3), max_tokens=9))
    harness.drain()
    # The prompt's step asks nobody; of the last one it is not known how long it took.
    assert [seconds for _, seconds in times.learned] == [1.0] + [0.75] * (len(times.learned) - 1)
    assert len(times.learned) > 2
