"""When tokens are due."""

from __future__ import annotations

import math

import pytest

from headway.scheduling.policy.pacing.deadlines import (
    EXPECTED_OUTPUT,
    best_effort,
    first_token_due,
    slack,
    token_seconds,
)
from headway.types.objectives import NO_PACE, Pace
from tests.scheduling.policy.pacing.views import Seen


def test_the_first_token_is_due_by_its_objective_or_by_patience() -> None:
    assert first_token_due(Seen(arrival=5, pace=Pace(ttft=2)), 60) == 7
    assert first_token_due(Seen(arrival=5, pace=Pace(tpot=2)), 60) == 65
    assert first_token_due(Seen(arrival=5, pace=Pace(e2el=10)), 60) == 10
    assert first_token_due(Seen(arrival=5, pace=Pace(e2el=1000)), 60) == 65


def test_an_early_first_token_banks_no_time() -> None:
    pace = Pace(ttft=10, tpot=1)
    early = Seen(arrival=0, first_token_at=2, generated=1, pace=pace)
    assert slack(early, now=2.0) == 1.0
    late = Seen(arrival=0, first_token_at=12, generated=1, pace=pace)
    assert slack(late, now=12.0) == -1.0, "a late first token does not move what comes after"


def test_fast_tokens_bank_time() -> None:
    seq = Seen(first_token_at=0, generated=11, pace=Pace(tpot=1))
    assert slack(seq, now=5.0) == 6.0


def test_tokens_of_an_earlier_engine_were_not_made_since_the_first_one_here() -> None:
    seq = Seen(first_token_at=0, generated=11, resumed=10, pace=Pace(tpot=1))
    assert slack(seq, now=0.0) == 1.0


def test_a_gap_is_bounded_whatever_was_banked() -> None:
    seq = Seen(first_token_at=0, generated=100, pace=Pace(tpot=1, itl=2))
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
