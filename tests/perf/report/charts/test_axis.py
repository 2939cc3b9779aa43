"""Axes: every value has a place, and the written ones are round."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.report.charts.plot import axis_of, linear


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
