"""The slot chart: what is drawn is what was there, however long the run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.report.run import Bar, Run
from headway.perf.report.slot_chart import ROW, WIDTH, Lane, slot_chart

TONES = {"a": 0, "b": 1, "c": 2}


def _run(system: str, bars: list[Bar], slots: int | None = 1) -> Run:
    return Run(system=system, group="g", bars=tuple(bars), slots=slots, idle_share=0.25)


def _drawn(path: str) -> list[tuple[int, int, int]]:
    """Rectangles as (left, row, width)."""
    found = re.findall(r"M(\d+) (\d+)h(\d+)v\d+h-\d+z", path)
    return [(int(left), (int(top) - 1) // ROW, int(width)) for left, top, width in found]


def _only(runs: list[Run], most_bars: int = 1000) -> Lane:
    chart = slot_chart("g", runs, TONES, most_bars=most_bars)
    assert chart is not None
    return chart.lanes[0]


def test_a_bar_is_drawn_as_prefill_and_decode() -> None:
    lane = _only([_run("a", [Bar(0, 0.0, 2.5, 10.0, "r"), Bar(1, 5.0, 6.0, 10.0, "s")])])
    units = lane.units
    assert _drawn(lane.prefill) == [(0, 0, units // 4), (units // 2, 1, units // 10)]
    left, row, width = _drawn(lane.decode)[0]
    assert (left, row) == (units // 4, 0)
    assert 0.99 * 0.75 * units < width < 0.75 * units  # a gap before the next one
    assert (lane.slots, lane.rows) == (2, 2)
    # Right of the longest run there is room for its time.
    assert 0.8 * WIDTH < units < 0.9 * WIDTH
    assert lane.share == pytest.approx(units / WIDTH)


def test_a_fleet_s_chart_says_whose_slots_it_shows() -> None:
    bars = [Bar(0, 0.0, 1.0, 2.0, "r")]
    fleet = replace(_run("a", bars), settings={"replicas": 3}, summary={"output_throughput": 9.0})
    first = "1 slot of the first of 3 replicas"
    assert _only([fleet]).figures == f"{first}, all: 25 % idle, 9.00 tokens/s"
    assert _only([replace(fleet, idle_share=None)]).figures == f"{first}, all: 9.00 tokens/s"
    assert _only([_run("a", bars)]).figures == "1 slot, 25 % idle"


def test_a_fleet_that_only_clients_saw_has_no_slots_of_the_first() -> None:
    bars = [Bar(0, 0.0, 1.0, 2.0, "r")]
    seen = replace(_run("a", bars, None), idle_share=None, settings={"replicas": 2})
    seen = replace(seen, summary={"output_throughput": 9.0})
    assert _only([seen]).figures == "at most 1 in flight, 9.00 tokens/s"


def test_all_systems_share_one_time_axis() -> None:
    runs = [_run("a", [Bar(0, 0, 1, 20, "r")]), _run("b", [Bar(0, 0, 1, 10, "r")])]
    chart = slot_chart("g", runs, TONES, most_bars=10)
    assert chart is not None
    longer, shorter = chart.lanes
    assert longer.share == pytest.approx(2 * shorter.share)
    assert longer.share * chart.axis.high == pytest.approx(20.0)
    assert [lane.time for lane in chart.lanes] == ["20.0 s", "10.0 s"]


def test_a_far_slower_system_is_cut_and_says_so() -> None:
    slow = [Bar(0, float(n), n + 0.5, n + 1.0, str(n)) for n in range(100)]
    runs = [_run("a", slow), _run("b", [Bar(0, 0, 1, 5, "r")])]
    chart = slot_chart("g", runs, TONES, most_bars=1000)
    assert chart is not None
    first, second = chart.lanes
    assert chart.axis.high == 20.0
    assert (first.goes_on, second.goes_on) == (True, False)
    assert len(_drawn(first.decode)) == 20
    assert first.time == "100 s"


def test_slots_that_were_never_taken_are_rows_too() -> None:
    lane = _only([_run("a", [Bar(0, 0, 1, 2, "r")], slots=6)])
    assert (lane.slots, lane.rows) == (6, 6)
    assert lane.figures.startswith("6 slots, 25 % idle")


def test_of_many_slots_evenly_picked_ones_are_drawn() -> None:
    lane = _only([_run("a", [Bar(slot, 0, 1, 2, "r") for slot in range(256)])])
    assert lane.slots == 256
    assert lane.rows <= 48
    assert {row for _, row, _ in _drawn(lane.decode)} == set(range(lane.rows))


def test_too_many_bars_become_cells_that_keep_the_holes() -> None:
    # Two slots: one always full, one empty in the second half.
    full = [Bar(0, n / 100, n / 100, (n + 1) / 100, "r") for n in range(1000)]
    half = [Bar(1, n / 100, n / 100, (n + 1) / 100, "r") for n in range(500)]
    lane = _only([_run("a", full + half)], most_bars=100)
    assert lane.merged
    first, second = _drawn(lane.decode)
    assert first[2] == pytest.approx(lane.units, abs=WIDTH // 100)
    assert second[2] == pytest.approx(lane.units // 2, abs=WIDTH // 50)


def test_systems_without_bars_are_left_out() -> None:
    assert slot_chart("g", [Run(system="a", group="g")], TONES, most_bars=10) is None
    assert slot_chart("g", [], TONES, most_bars=10) is None
    both = slot_chart(
        "g", [Run(system="a", group="g"), _run("b", [Bar(0, 0, 1, 2, "r")])], TONES, most_bars=9
    )
    assert both is not None
    assert [lane.system for lane in both.lanes] == ["b"]


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.floats(0, 50), st.floats(0, 5), st.floats(0.01, 20)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 40),
)
def test_nothing_is_drawn_outside_and_never_more_than_allowed(
    shapes: list[tuple[int, float, float, float]], most_bars: int
) -> None:
    bars = [
        Bar(slot, begin, begin + prefill, begin + prefill + decode, "r")
        for slot, begin, prefill, decode in shapes
    ]
    lane = _only([_run("a", bars)], most_bars)
    drawn = _drawn(lane.prefill) + _drawn(lane.decode)
    assert all(left + width <= lane.units + 1 for left, _, width in drawn)
    assert all(row < lane.rows for _, row, _ in drawn)
    assert len(_drawn(lane.decode)) <= max(most_bars, lane.rows)
