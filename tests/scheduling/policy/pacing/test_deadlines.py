"""When tokens are due."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.policy.pacing.deadlines import (
    EXPECTED_OUTPUT,
    best_effort,
    first_token_due,
    slack,
    token_dues,
    token_seconds,
)
from headway.types.objectives import NO_PACE, Pace
from tests.scheduling.policy.pacing.views import Seen


def test_the_first_token_is_due_by_its_objective_or_by_patience() -> None:
    assert first_token_due(Seen(arrival=5, pace=Pace(ttft=2)), 60) == 7
    assert first_token_due(Seen(arrival=5, pace=Pace(tpot=2)), 60) == 65
    assert first_token_due(Seen(arrival=5, pace=Pace(e2el=10)), 60) == 10
    assert first_token_due(Seen(arrival=5, pace=Pace(e2el=1000)), 60) == 65


def test_the_next_token_is_due_by_the_pace() -> None:
    seq = Seen(due=11.0, pace=Pace(tpot=1))
    assert slack(seq, now=5.0) == 6.0
    assert slack(seq, now=12.0) == -1.0


def test_a_gap_is_bounded_whatever_was_banked() -> None:
    seq = Seen(due=100.0, pace=Pace(tpot=1, itl=2))
    assert slack(seq, now=1.0) == 2.0


def test_the_time_of_a_whole_answer_is_shared_by_its_tokens() -> None:
    seq = Seen(first_token_at=1, generated=1, pace=Pace(e2el=128))
    assert slack(seq, now=1.0) == pytest.approx(127 / (EXPECTED_OUTPUT - 1))
    beyond = Seen(first_token_at=1, generated=1000, pace=Pace(e2el=128))
    assert slack(beyond, now=28.0) == pytest.approx(100 / 500)


def test_without_objectives_nothing_is_due() -> None:
    assert slack(Seen(first_token_at=0, generated=1), now=5.0) == math.inf
    assert token_seconds(Seen()) == math.inf
    assert best_effort(Seen(pace=NO_PACE))
    assert best_effort(Seen(pace=Pace(ttft=1), late=True))
    assert not best_effort(Seen(pace=Pace(ttft=1)))


seconds = st.sampled_from([math.inf, 0.02, 0.5, 3.0])


@given(
    paces=st.lists(
        st.tuples(seconds, seconds, seconds, seconds, st.booleans(), st.floats(0, 50)), max_size=8
    ),
    now=st.floats(0, 50),
)
def test_all_at_once_is_each_by_itself(
    paces: list[tuple[float, float, float, float, bool, float]], now: float
) -> None:
    seqs = [
        Seen(pace=Pace(ttft=ttft, tpot=tpot, itl=itl, e2el=e2el), late=late, due=due, generated=3)
        for ttft, tpot, itl, e2el, late, due in paces
    ]
    each = [(slack(seq, now), token_seconds(seq)) for seq in seqs if not best_effort(seq)]
    assert token_dues(seqs, now) == each
