"""Prices, medians, and what is said of the machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headway.perf.report.run import (
    Run,
    about_this_machine,
    build_report,
    median_run,
)


def _run(throughput: float, system: str = "x") -> Run:
    return Run(system=system, group="g", summary={"output_throughput": throughput})


def test_cost_is_the_hours_that_a_million_tokens_take() -> None:
    # 1,000 tokens a second are 3.6 million an hour.
    report = build_report(title="t", runs=[_run(1000.0), _run(0.0)], price_per_hour=3.6)
    assert report.runs[0].cost_per_million == pytest.approx(1.0)
    assert report.runs[1].cost_per_million is None


def test_a_price_puts_a_cost_on_every_run_that_has_none() -> None:
    given = Run(system="y", group="g", cost_per_million=9.0)
    report = build_report(title="t", runs=[_run(1000.0), given, _run(0.0)], price_per_hour=3.6)
    assert [run.cost_per_million for run in report.runs] == [pytest.approx(1.0), 9.0, None]


def test_without_a_price_there_is_no_cost() -> None:
    report = build_report(title="t", runs=[_run(1000.0)], about={"a": "b"}, notes=["n"])
    assert report.runs[0].cost_per_million is None
    assert (report.about, report.notes) == ({"a": "b"}, ("n",))


@pytest.mark.parametrize(("figures", "median"), [([3], 3), ([9, 1, 4], 4), ([4, 1, 9, 2], 2)])
def test_the_median_is_a_run_that_was_measured(figures: list[float], median: float) -> None:
    assert median_run([_run(figure) for figure in figures]).summary["output_throughput"] == median


def test_the_machine_is_described() -> None:
    about = about_this_machine(datetime(2026, 5, 4, 3, 2, tzinfo=UTC))
    assert about["Date"] == "2026-05-04 03:02 UTC"
    assert int(about["Cores"]) >= 1
    assert about["Memory"].endswith(" GiB")
    assert all(about.values())
