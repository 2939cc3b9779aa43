"""Prices, medians, and what is said of the machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headway.perf.report.price import HourlyPrice
from headway.perf.report.run import (
    Run,
    about_this_machine,
    build_report,
    median_run,
)

PRICE = HourlyPrice(3.6, "EUR")


def _run(throughput: float, system: str = "x") -> Run:
    return Run(system=system, group="g", summary={"output_throughput": throughput})


def test_cost_is_the_hours_that_a_million_tokens_take() -> None:
    # 1,000 tokens a second are 3.6 million an hour.
    report = build_report(title="t", runs=[_run(1000.0), _run(0.0)], price=PRICE)
    assert report.runs[0].cost_per_million == pytest.approx(1.0)
    assert (report.price_per_hour, report.currency, report.runs[0].currency) == (3.6, "EUR", "EUR")
    assert report.runs[1].cost_per_million is None


def test_a_price_puts_a_cost_on_every_run_that_has_none() -> None:
    given = Run(system="y", group="g", cost_per_million=9.0)
    report = build_report(title="t", runs=[_run(1000.0), given, _run(0.0)], price=PRICE)
    assert [run.cost_per_million for run in report.runs] == [pytest.approx(1.0), 9.0, None]
    assert report.runs[1].currency == "USD", "a cost that was there keeps its currency"


def test_without_a_price_there_is_no_cost() -> None:
    report = build_report(title="t", runs=[_run(1000.0)], about={"a": "b"}, notes=["n"])
    assert report.runs[0].cost_per_million is None
    assert (report.about, report.notes) == ({"a": "b"}, ("n",))


@pytest.mark.parametrize(("figures", "median"), [([3], 3), ([9, 1, 4], 4), ([4, 1, 9, 2], 2)])
def test_the_median_is_a_run_that_was_measured(figures: list[float], median: float) -> None:
    found = median_run([_run(figure) for figure in figures])
    assert found.summary["output_throughput"] == median
    several = {"output_throughput": (min(figures), max(figures))}
    assert found.ranges == (several if len(figures) > 1 else {})


def test_the_machine_is_described() -> None:
    about = about_this_machine(datetime(2026, 5, 4, 3, 2, tzinfo=UTC))
    assert about["Date"] == "2026-05-04 03:02 UTC"
    assert int(about["Cores"]) >= 1
    assert about["Memory"].endswith(" GiB")
    assert all(about.values())
