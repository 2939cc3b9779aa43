"""Paths of lines."""

from __future__ import annotations

from headway.perf.report.charts.plot import linear, lines_of, path_of

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
