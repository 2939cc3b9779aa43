"""What a step does with those for whom there is nothing to compute."""

from __future__ import annotations

from headway.scheduling.policy.paced import Paced
from headway.scheduling.policy.pacing.step import TURN
from headway.types.objectives import NO_PACE, Pace
from tests.scheduling.policy.pacing.views import LinearTimes, Seen, view_of

NOW = 100.0


def test_who_waits_for_the_prefix_of_another_is_not_computed_where_nothing_fits() -> None:
    """No chunk fits, so the first that can goes on all the same: not the first of all."""
    pace = Pace(ttft=1.0)
    deferred = Seen(id=1, todo=100, arrival=NOW, pace=pace, deferred=True)
    other = Seen(id=2, todo=100, arrival=NOW, pace=pace)
    slow = LinearTimes(step=0.01, token=0.02)
    view = view_of(running=[deferred, other], now=NOW, times=slow)
    assert dict(Paced().decide(view).tokens) == {2: 100}
    waiting = view_of(waiting=[deferred, other], now=NOW, times=slow)
    assert dict(Paced().decide(waiting).tokens) == {1: 0, 2: 100}


def test_who_was_admitted_after_its_patience_stays_so_until_its_turn() -> None:
    """Others come first in this step, and leave nothing."""
    stream = Seen(id=1, computed=9, generated=3, due=NOW + 0.04, pace=Pace(tpot=0.05))
    prompt = Seen(id=2, todo=4000, arrival=NOW, pace=Pace(ttft=10.0))
    patient = Seen(id=3, todo=500, arrival=NOW - 90.0, pace=NO_PACE)
    view = view_of(
        running=[stream, prompt],
        waiting=[patient],
        now=NOW,
        step=TURN,
        times=LinearTimes(position=0.0),
    )
    tokens = dict(Paced(patience=60.0).decide(view).tokens)
    assert tokens[2] > 0
    assert tokens[3] == 0
    tokens = dict(Paced(patience=100.0).decide(view).tokens)
    assert 3 not in tokens, "it is not its time yet"


def test_a_stream_from_elsewhere_joins_though_the_batch_is_too_wide_for_its_pace() -> None:
    """What decodes takes all that the pace allows, so that nobody new may join."""
    pace = Pace(ttft=1.0, tpot=0.01305)
    decodes = [
        Seen(id=number, computed=9, generated=3, due=NOW + 1.0, pace=pace) for number in range(30)
    ]
    for generated, joins in ((0, False), (5, True)):
        other = Seen(id=99, todo=20, computed=480, generated=generated, arrival=NOW, pace=pace)
        view = view_of(running=decodes, waiting=[other], now=NOW, times=LinearTimes(position=0.0))
        assert (99 in dict(Paced().decide(view).tokens)) is joins


def test_streams_from_elsewhere_go_on_though_no_time_is_left_but_not_all_in_one_step() -> None:
    pace = Pace(ttft=1.0, tpot=0.05)
    due = Seen(id=1, computed=9, generated=3, due=NOW + 0.0102, pace=pace)
    moved = [
        Seen(id=2 + number, todo=20, computed=480, generated=5, arrival=NOW, pace=pace)
        for number in range(3)
    ]
    times = LinearTimes(position=0.0)
    tokens = dict(Paced().decide(view_of(running=[due, *moved], now=NOW, times=times)).tokens)
    assert tokens == {1: 1, 2: 20}
    new = Seen(id=2, todo=20, arrival=NOW, pace=pace)
    tokens = dict(Paced().decide(view_of(running=[due, new], now=NOW, times=times)).tokens)
    assert tokens == {1: 1}
