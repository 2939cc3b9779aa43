"""What drafts cost: what the model says, put right by what steps took."""

from __future__ import annotations

from random import Random

import pytest

from headway.scheduling.speculation.draft_seconds import (
    FEWEST,
    LEAST_SHARE,
    MOST,
    DraftSeconds,
    StepClass,
    step_class,
)
from headway.steptime.shape import StepShape, decodes_after
from tests.scheduling.speculation.machines import KnownTimes, seconds_of

PLAIN = decodes_after([10, 20])
DRAFTED = PLAIN.with_drafts(10, 3)
FREE = step_class(2, constrained=False)
CONSTRAINED = step_class(2, constrained=True)


def further(seconds: DraftSeconds, kind: StepClass = FREE) -> float:
    plain = seconds.plain(PLAIN)
    return seconds.further(plain, DRAFTED, 3, kind, alone=plain)


def test_before_any_step_the_model_is_believed() -> None:
    seconds = DraftSeconds(KnownTimes())
    assert seconds.plain(PLAIN) == seconds_of(2)
    assert further(seconds) == pytest.approx(seconds_of(5) - seconds_of(2))


def test_a_draft_is_never_held_for_free() -> None:
    seconds = DraftSeconds(KnownTimes(lambda tokens: 1.0))
    assert further(seconds) == pytest.approx(3 * LEAST_SHARE)
    beside = seconds.further(1.0, DRAFTED, 3, FREE, alone=0.1)
    assert beside == pytest.approx(0.3 * LEAST_SHARE), "that there is a prompt makes it no dearer"


@pytest.mark.parametrize("factor", [0.7, 1.0, 2.5])
def test_what_steps_took_puts_the_model_right(factor: float) -> None:
    seconds, random = DraftSeconds(KnownTimes()), Random(1)
    plain, said = seconds_of(2), seconds_of(5) - seconds_of(2)
    for _ in range(200):
        seconds.learn(plain, PLAIN, 0, FREE, plain * random.uniform(0.9, 1.1))
        took = (plain + factor * said) * random.uniform(0.95, 1.05)
        seconds.learn(plain, DRAFTED, 3, FREE, took)
    assert further(seconds) == pytest.approx(factor * said, rel=0.25)


def test_a_model_that_is_off_for_all_steps_is_not_held_against_drafts() -> None:
    """All steps take half as long again: then drafts do too, and no more than that."""
    seconds = DraftSeconds(KnownTimes())
    plain, said = seconds_of(2), seconds_of(5) - seconds_of(2)
    for _ in range(300):
        seconds.learn(plain, PLAIN, 0, FREE, 1.5 * plain)
        seconds.learn(plain, DRAFTED, 3, FREE, 1.5 * (plain + said))
    assert further(seconds) == pytest.approx(1.5 * said, rel=0.1)


def test_steps_with_a_grammar_and_of_other_widths_are_learned_apart() -> None:
    seconds = DraftSeconds(KnownTimes())
    plain, said = seconds_of(2), seconds_of(5) - seconds_of(2)
    for _ in range(100):
        seconds.learn(plain, DRAFTED, 3, CONSTRAINED, plain + 3 * said)
    assert further(seconds, CONSTRAINED) == pytest.approx(3 * said, rel=0.1)
    assert further(seconds) == pytest.approx(said)
    assert step_class(3, constrained=False) == FREE != step_class(4, constrained=False)


def test_a_stall_tells_little_and_many_are_no_stalls() -> None:
    """Drafts that cost a hundred times what the model says are found out."""
    plain, said = seconds_of(2), seconds_of(5) - seconds_of(2)
    once = DraftSeconds(KnownTimes())
    for _ in range(100):
        once.learn(plain, DRAFTED, 3, FREE, plain + said)
    once.learn(plain, DRAFTED, 3, FREE, 100.0)
    once.learn(plain, DRAFTED, 3, FREE, 0.0)
    assert said < further(once) < 2.5 * said
    often = DraftSeconds(KnownTimes())
    for _ in range(20):
        often.learn(plain, DRAFTED, 3, FREE, plain + 100 * said)
    assert further(often) > 0.9 * MOST * said


def test_the_ratio_is_bounded() -> None:
    seconds = DraftSeconds(KnownTimes())
    plain, said = seconds_of(2), seconds_of(5) - seconds_of(2)
    for _ in range(300):
        seconds.learn(plain, DRAFTED, 3, FREE, 0.1 * plain)
    assert further(seconds) == pytest.approx(FEWEST * said)
    slow = DraftSeconds(KnownTimes(lambda tokens: 1.0 + 0.001 * tokens))
    for _ in range(300):
        slow.learn(1.002, DRAFTED, 3, FREE, 2.9)
    assert further(slow) == pytest.approx(MOST * 3 * LEAST_SHARE, rel=0.01)


def test_the_shape_with_drafts_is_that_of_its_slices() -> None:
    assert StepShape().with_slice(10, 4, 4).with_slice(20, 1, 1) == DRAFTED
    near = decodes_after([10, 20], 12).with_drafts(10, 3, 12)
    assert near == StepShape().with_slice(10, 4, 4, 12).with_slice(20, 1, 1, 12)
    assert PLAIN.with_drafts(10, 0) is PLAIN
