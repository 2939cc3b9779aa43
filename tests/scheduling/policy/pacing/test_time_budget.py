"""How long a step may be where some that decode are behind."""

from __future__ import annotations

from headway.scheduling.policy.paced import Paced
from headway.types.objectives import Pace
from tests.scheduling.policy.pacing.views import LinearTimes, Seen, view_of

NOW = 100.0


def chunk_beside(*dues: float) -> int:
    """Tokens of a long prompt that are computed beside decodes due at these times, which ask for a
    token each 50 ms. A step takes 10 ms and 0.1 ms for each token."""
    pace = Pace(tpot=0.05)
    decodes = [Seen(id=n, computed=9, due=due, pace=pace) for n, due in enumerate(dues, 1)]
    prompt = Seen(id=9, todo=4000, arrival=NOW, pace=Pace(ttft=10.0))
    view = view_of(
        now=NOW, running=[*decodes, prompt], free_slots=0, times=LinearTimes(position=0.0)
    )
    return dict(Paced().decide(view).tokens).get(9, 0)


def test_who_is_on_time_leaves_what_its_next_token_leaves() -> None:
    assert 270 <= chunk_beside(NOW + 0.04) <= 300
    assert 170 <= chunk_beside(NOW + 0.04, NOW + 0.03) <= 200


def test_no_gap_is_longer_than_a_few_paces_however_far_ahead_a_stream_is() -> None:
    assert 1800 <= chunk_beside(NOW + 10.0) <= 1900


def test_who_is_behind_catches_up_with_half_of_what_its_pace_leaves() -> None:
    assert 180 <= chunk_beside(NOW - 0.01) <= 200
    assert 180 <= chunk_beside(NOW - 0.01, NOW + 0.04) <= 200


def test_nothing_is_put_before_a_token_that_is_due_sooner_than_a_step_takes() -> None:
    assert chunk_beside(NOW + 0.005, NOW + 0.04) == 0


def test_who_is_far_behind_holds_nobody_up() -> None:
    assert 270 <= chunk_beside(NOW - 1.0, NOW + 0.04) <= 300
