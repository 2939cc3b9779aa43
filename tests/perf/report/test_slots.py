"""Bars, idle share and percent of limit, on recordings whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.report.run import Bar
from headway.perf.report.slots import bars_of, idle_share, percent_of_limit
from headway.recording.format import StepLine
from tests.perf.report.recordings import MACHINE, decode, prefill, recording, step


def test_a_slot_that_frees_is_taken_by_the_next_to_board() -> None:
    found = recording(
        [
            step(1, [prefill(1), prefill(2)]),
            step(2, [decode(1, 4), decode(2, 4)]),
            step(3, [decode(2, 5), prefill(3)], ended=[1]),
        ],
        names=["a", "b", "c"],
    )
    slots, bars = bars_of(found)
    assert slots == 2
    assert bars == (
        Bar(0, 0.0, 1.0, 2.0, "a"),
        Bar(1, 0.0, 1.0, 3.0, "b"),
        Bar(0, 2.0, 3.0, 3.0, "c"),
    )


def test_prefill_lasts_over_all_chunks_until_a_token_is_sampled() -> None:
    found = recording(
        [
            step(1, [prefill(1, outputs=0)]),
            step(2, [prefill(1, start=4)]),
            step(3, [decode(1, 8)]),
        ]
    )
    assert bars_of(found)[1] == (Bar(0, 0.0, 2.0, 3.0, "1"),)


def test_one_that_never_gave_a_token_is_all_prefill() -> None:
    found = recording([step(1, [prefill(1, outputs=0)])])
    assert bars_of(found)[1] == (Bar(0, 0.0, 1.0, 1.0, "1"),)


def test_times_count_from_the_origin() -> None:
    found = recording([step(1, [prefill(1)])])
    assert bars_of(found, origin=8.0)[1] == (Bar(0, 2.0, 3.0, 3.0, "1"),)


def test_a_preempted_one_leaves_and_has_a_second_bar() -> None:
    found = recording(
        [
            step(1, [prefill(1), prefill(2)]),
            step(2, [decode(1, 4)], ended=[2]),
            step(3, [decode(1, 5), prefill(2, tokens=5)]),
        ],
        names=["a", "b"],
    )
    assert [bar for bar in bars_of(found)[1] if bar.request == "b"] == [
        Bar(1, 0.0, 1.0, 1.0, "b"),
        Bar(1, 2.0, 3.0, 3.0, "b"),
    ]


def test_a_return_to_an_earlier_position_is_a_preemption_even_if_not_recorded_as_one() -> None:
    found = recording([step(1, [prefill(1)]), step(2, [prefill(1, tokens=5)])])
    assert len(bars_of(found)[1]) == 2


def test_one_that_waits_a_step_on_board_keeps_its_slot() -> None:
    found = recording(
        [
            step(1, [prefill(1), prefill(2)]),
            step(2, [decode(2, 4)]),
            step(3, [decode(1, 4), decode(2, 5)]),
        ]
    )
    slots, bars = bars_of(found)
    assert slots == 2
    assert {bar.slot for bar in bars} == {0, 1}
    assert all(bar.end == 3.0 for bar in bars)


def test_slots_that_the_policy_holds_empty_are_slots() -> None:
    assert bars_of(recording([step(1, [prefill(1)], idle_slots=3)]))[0] == 4


def test_nothing_recorded() -> None:
    found = recording([])
    assert bars_of(found) == (0, ())
    assert idle_share(bars_of(found)[1], 4) is None
    assert percent_of_limit(found) is None


def test_idle_share_is_the_unused_time_of_all_slots() -> None:
    # Two slots for three seconds; one is used for three, the other for one.
    found = recording([step(1, [prefill(1), prefill(2)]), *_alone(range(2, 4))])
    assert idle_share(bars_of(found)[1], 2) == pytest.approx(2 / 6)
    assert idle_share(bars_of(found)[1], 4) == pytest.approx(8 / 12)


def _alone(numbers: Iterable[int]) -> list[StepLine]:
    return [step(number, [decode(1, number + 2)], ended=[2]) for number in numbers]


def test_idle_share_without_time_or_slots() -> None:
    assert idle_share([Bar(0, 1.0, 1.0, 1.0, "a")], 1) is None
    assert idle_share([Bar(0, 0.0, 1.0, 1.0, "a")], 0) is None


def test_percent_of_limit_of_a_step_bound_by_memory() -> None:
    # A decode reads 1.1 MB of weights and 5 positions of 2 layers; it was given a second.
    found = recording([step(1, [decode(1, 4)])])
    assert percent_of_limit(found) == pytest.approx(100 * (1.1e6 + 5 * 256) / 1e9)


def test_no_step_counts_as_faster_than_the_limit() -> None:
    """At these rates each step needs two seconds; one took one, the other eight."""
    slow = replace(MACHINE, bandwidth=(1.1e6 + 5 * 256) / 2)
    quick = step(1, [decode(1, 4)])
    other = replace(step(2, [decode(2, 4)]), cycle=8.0)
    assert percent_of_limit(recording([quick], machine=slow)) == 100.0
    assert percent_of_limit(recording([quick, other], machine=slow)) == pytest.approx(100 * 3 / 9)


def test_percent_of_limit_grows_with_the_batch() -> None:
    one = recording([step(1, [decode(1, 4)])])
    eight = recording([step(1, [decode(seq, 4) for seq in range(1, 9)])])
    assert (percent_of_limit(eight) or 0) > (percent_of_limit(one) or 0) > 0


def test_no_percent_where_the_machine_was_never_measured() -> None:
    assert percent_of_limit(recording([step(1, [decode(1, 4)])], machine=None)) is None


@st.composite
def _runs(draw: st.DrawFn) -> list[StepLine]:
    """Any arrivals and ends: each step some sequences end, some start, the others decode."""
    steps: list[StepLine] = []
    aboard: dict[int, int] = {}
    next_seq, left = 1, list[int]()
    for number in range(1, draw(st.integers(1, 12)) + 1):
        slices = [decode(seq, computed) for seq, computed in aboard.items()]
        aboard = {seq: computed + 1 for seq, computed in aboard.items()}
        for _ in range(draw(st.integers(0, 3))):
            slices.append(prefill(next_seq))
            aboard[next_seq] = 4
            next_seq += 1
        if slices:
            steps.append(step(number, slices, ended=left))
            left = []
        gone = draw(st.lists(st.sampled_from(sorted(aboard)), unique=True)) if aboard else []
        for seq in gone:
            del aboard[seq]
        left += gone
    return steps


@given(_runs())
def test_bars_never_overlap_and_no_slice_is_lost(steps: list[StepLine]) -> None:
    found = recording(steps)
    slots, bars = bars_of(found, origin=0.0)
    for slot in range(slots):
        row = sorted(bar for bar in bars if bar.slot == slot)
        assert all(one.end <= two.begin + 1e-5 for one, two in pairwise(row))
    for line in steps:
        sitting = [bar for bar in bars if bar.begin <= line.at and line.at + line.cycle <= bar.end]
        assert len(sitting) == len(line.slices)
    assert slots == max((len(line.slices) for line in steps), default=0)
    share = idle_share(bars, slots)
    assert share is None or 0.0 <= share < 1.0
