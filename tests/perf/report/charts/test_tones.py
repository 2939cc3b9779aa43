"""Colours of systems."""

from __future__ import annotations

from headway.perf.report.charts.plot import LEADER, OUTSIDE, OWN, tones
from headway.perf.report.run import Kind, Report, Run


def _report(*systems: tuple[str, Kind]) -> Report:
    runs = tuple(Run(system=name, group="g", kind=kind) for name, kind in systems)
    return Report(title="t", about={}, runs=runs)


def test_the_leader_and_systems_from_outside_have_colours_of_their_own() -> None:
    report = _report(("theirs", "outside"), ("static", "engine"), ("best", "engine"))
    assert tones(report, "best") == {"theirs": OUTSIDE[0], "static": OWN[0], "best": LEADER}


def test_few_systems_differ_and_many_still_have_a_colour() -> None:
    few = tones(_report(*((str(number), "engine") for number in range(6))), "0")
    assert len(set(few.values())) == 6
    many = tones(_report(*((str(number), "engine") for number in range(40))), None)
    assert set(many.values()) == set(OWN)


def test_a_system_has_one_colour_over_all_groups() -> None:
    report = _report(("a", "engine"), ("b", "engine"), ("a", "engine"))
    assert list(tones(report, None)) == ["a", "b"]
