"""Plots: paths of lines, axes with round values, colours of systems."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.report.plot import (
    EXTERNAL,
    LEADER,
    OWN,
    POLICY_TONES,
    axis_of,
    linear,
    lines_of,
    path_of,
    tones,
)
from headway.perf.report.run import Kind, Report, Run
from headway.scheduling.policy import POLICIES

X = linear(10.0, label="x", write=str)
Y = linear(4.0, label="y", write=str, steps=4)


def test_a_path_counts_downwards_in_thousandths() -> None:
    assert path_of([(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)]) == "M0 1000L500 750L1000 0"


def test_points_on_one_spot_are_drawn_once() -> None:
    assert path_of([(0.1, 0.1), (0.10001, 0.1), (0.2, 0.1)]) == "M100 900L200 900"
    assert path_of([]) == ""


def test_the_leading_system_lies_on_top_and_empty_ones_are_left_out() -> None:
    points = {"best": [(0.0, 0.0), (10.0, 4.0)], "other": [(5.0, 2.0)], "none": []}
    tones = {"best": 0, "other": 3, "none": 4}
    lines = lines_of(points, X, Y, tones, dots=True)
    assert [line.system for line in lines] == ["other", "best"]
    assert lines[0].dots == ((0.5, 0.5),)
    assert lines[1].path == "M0 1000L1000 0"


def test_dots_can_be_left_out() -> None:
    assert lines_of({"a": [(1.0, 1.0)]}, X, Y, {"a": 1}, dots=False)[0].dots == ()


def test_a_linear_axis_starts_at_zero_and_ends_at_a_round_value() -> None:
    axis = axis_of([3.0, 47.0], label="x", write="{:g}".format)
    assert [tick.label for tick in axis.ticks] == ["0", "10", "20", "30", "40", "50"]
    assert axis.place(25.0) == pytest.approx(0.5)
    assert [tick.place for tick in axis.ticks] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_an_exact_axis_ends_where_it_is_told() -> None:
    axis = linear(47.0, label="x", write="{:g}".format, exact=True)
    assert axis.high == 47.0
    assert axis.ticks[-1].label == "40"
    assert axis.ticks[-1].place == pytest.approx(40 / 47)


def test_a_wide_span_is_shown_by_powers() -> None:
    axis = axis_of([1.5, 400.0], label="x", write="{:g}".format, log_from=20)
    assert axis.log
    assert [tick.label for tick in axis.ticks] == ["1", "10", "100"]
    assert axis.place(10.0) == pytest.approx(math.log(10) / math.log(500))


def test_a_narrow_span_has_marks_between_the_powers() -> None:
    axis = axis_of([1.0, 9.0], label="x", write="{:g}".format, log_from=5)
    assert [tick.label for tick in axis.ticks] == ["1", "2", "5", "10"]


@pytest.mark.parametrize("values", [[], [0.0], [-3.0], [0.0, 100.0], [math.nan, math.inf]])
def test_odd_values_give_a_linear_axis(values: list[float]) -> None:
    axis = axis_of(values, label="x", write=str, log_from=2)
    assert not axis.log
    assert axis.high > axis.low


def test_values_outside_are_put_at_the_nearer_end() -> None:
    axis = linear(10.0, label="x", write=str)
    assert (axis.place(-1.0), axis.place(11.0)) == (0.0, 1.0)


@given(
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20),
    st.sampled_from([1.5, 12.0, math.inf]),
)
def test_order_is_kept_and_every_value_fits(values: list[float], log_from: float) -> None:
    axis = axis_of(values, label="x", write=str, log_from=log_from)
    slack = 1 + 1e-9
    assert axis.low <= min(values) * slack
    assert axis.high * slack >= max(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 2 <= len(axis.ticks) <= 8
    marks = [tick.place for tick in axis.ticks]
    assert marks == sorted(marks)
    assert all(0.0 <= mark <= 1.0 + 1e-9 for mark in marks)


def _report(*systems: tuple[str, Kind]) -> Report:
    runs = tuple(Run(system=name, group="g", kind=kind) for name, kind in systems)
    return Report(title="t", about={}, runs=runs)


def test_the_leader_and_external_systems_have_colours_of_their_own() -> None:
    report = _report(("theirs", "external"), ("other", "engine"), ("best", "engine"))
    assert tones(report, "best") == {"theirs": EXTERNAL[0], "other": OWN[0], "best": LEADER}


@pytest.mark.parametrize("leader", [None, *POLICIES, "other"])
def test_a_policy_has_one_colour_in_all_reports(leader: str | None) -> None:
    assert set(POLICY_TONES) == set(POLICIES)
    assert len(set(POLICY_TONES.values())) == len(POLICIES)
    for together in (list(POLICIES), list(POLICIES)[::-1], ["static"], ["continuous", "paced"]):
        report = _report(("other", "engine"), *((name, "engine") for name in together))
        found = tones(report, leader)
        assert {name: found[name] for name in together} == {
            name: POLICY_TONES[name] for name in together
        }
        assert list(found.values()).count(found["other"]) == 1


def test_few_systems_differ_and_many_still_have_a_colour() -> None:
    few = tones(_report(*((str(number), "engine") for number in range(6))), "0")
    assert len(set(few.values())) == 6
    many = tones(_report(*((str(number), "engine") for number in range(40))), None)
    assert set(many.values()) == set(OWN)


def test_a_system_has_one_colour_over_all_groups() -> None:
    report = _report(("a", "engine"), ("b", "engine"), ("a", "engine"))
    assert list(tones(report, None)) == ["a", "b"]
