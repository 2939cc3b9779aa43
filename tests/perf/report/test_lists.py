"""Bars with their values written out."""

from __future__ import annotations

from headway.perf.report.curves import bar_list
from headway.perf.report.figures import COST, IDLE, THROUGHPUT, ratio
from headway.perf.report.run import Run

TONES = {"a": 1, "b": 0, "c": 2}
RUNS = [
    Run(system="a", group="g", summary={"output_throughput": 50.0}, idle_share=0.5),
    Run(system="b", group="g", summary={"output_throughput": 200.0}, idle_share=0.0),
    Run(system="c", group="g"),
]


def test_the_largest_value_fills_the_row_and_absent_ones_have_none() -> None:
    found = bar_list("t", THROUGHPUT, RUNS, TONES, compare=ratio)
    assert found is not None
    assert [(row.system, row.share, row.tone) for row in found.rows] == [
        ("a", 0.25, 1),
        ("b", 1.0, 0),
    ]
    assert found.rows[0].times == ""
    assert found.rows[1].times.startswith("4.00")


def test_shares_are_of_the_whole() -> None:
    found = bar_list("t", IDLE, RUNS, TONES, full=1.0)
    assert found is not None
    assert [(row.share, row.value, row.times) for row in found.rows] == [
        (0.5, "50 %", ""),
        (0.0, "0 %", ""),
    ]


def test_nothing_to_show() -> None:
    assert bar_list("t", IDLE, RUNS[2:], TONES) is None
    zero = bar_list("t", IDLE, RUNS[1:2], TONES)
    assert zero is not None
    assert zero.rows[0].share == 0.0


def test_a_price_has_its_currency_and_rounds_their_range() -> None:
    run = Run(
        system="a",
        group="g",
        summary={"output_throughput": 50.0},
        ranges={"output_throughput": (48.0, 51.5)},
        cost_per_million=1.25,
        currency="EUR",
    )
    cost = bar_list("t", COST, [run], TONES)
    throughput = bar_list("t", THROUGHPUT, [run], TONES)
    assert cost is not None
    assert throughput is not None
    assert (cost.rows[0].value, cost.rows[0].rounds) == ("1.25 EUR", "")
    assert throughput.rows[0].rounds == "48.0 to 51.5 tokens/s"
