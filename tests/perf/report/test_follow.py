"""What the page's script is told: every bar, and one place for a request in all systems."""

from __future__ import annotations

from headway.perf.records.record import RequestRecord
from headway.perf.report.follow import TICKS, chart_facts
from headway.perf.report.run import Bar, Run


def _run(system: str, bars: list[Bar], ids: list[str], slots: int | None = 2) -> Run:
    records = tuple(
        RequestRecord(
            id=name,
            due=0.5,
            sent=0.5,
            prompt_tokens=7 + place,
            output_tokens=3,
            cached_tokens=4,
        )
        for place, name in enumerate(ids)
    )
    return Run(system=system, group="g", bars=tuple(bars), records=records, slots=slots)


ONE = _run(
    "a",
    [Bar(0, 1.0, 1.5, 2.0, "request-1"), Bar(1, 1.0, 1.5, 3.0, "request-2")],
    ["request-1", "request-2"],
)
OTHER = _run("b", [Bar(0, 4.0, 4.5, 9.0, "request-2")], ["request-2", "request-1"])


def test_a_request_has_one_place_in_all_systems() -> None:
    facts = chart_facts([ONE, OTHER], 8.0, {"a": 1, "b": 1}, most_bars=9)
    assert facts["requests"] == ["1", "2"]
    one, other = facts["lanes"]
    assert one["bars"] == [0, 10_000, 15_000, 20_000, 0, 1, 10_000, 15_000, 30_000, 1]
    assert other["bars"] == [0, 40_000, 45_000, 90_000, 1]
    assert one["facts"] == [5_000, 7, 3, 4, 5_000, 8, 3, 4]
    assert other["facts"] == [5_000, 8, 3, 4, 5_000, 7, 3, 4]
    assert (facts["ticks"], facts["until"]) == (TICKS, 80_000)


def test_a_lane_is_drawn_up_to_its_end_or_that_of_the_axis() -> None:
    facts = chart_facts([ONE, OTHER], 8.0, {"a": 1, "b": 3}, most_bars=9)
    assert [lane["span"] for lane in facts["lanes"]] == [30_000, 80_000]
    assert [lane["every"] for lane in facts["lanes"]] == [1, 3]


def test_a_run_of_too_many_bars_cannot_be_followed() -> None:
    facts = chart_facts([ONE, OTHER], 8.0, {"a": 1, "b": 1}, most_bars=1)
    assert facts["requests"] == ["2", "1"]
    assert [(lane["bars"], lane["facts"]) for lane in facts["lanes"][:1]] == [([], [])]
    assert facts["lanes"][1]["bars"]


def test_a_bar_without_a_record_is_known_to_be_there_and_no_more() -> None:
    run = _run("a", [Bar(0, 1.0, 1.5, 2.0, "lost")], [], slots=None)
    (lane,) = chart_facts([run], 8.0, {"a": 1}, most_bars=9)["lanes"]
    assert (lane["facts"], lane["slots"]) == ([-1, -1, -1, -1], 0)
