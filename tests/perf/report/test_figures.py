"""Figures as people read them, and the terminal's table of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.perf.report.figures import (
    FIGURES,
    ITL,
    LATENCY,
    THROUGHPUT,
    Unit,
    groups,
    heading,
    present,
    ratio,
    shown,
    table,
    tables,
    three,
)
from headway.perf.report.run import Report, Run
from tests.perf.report.fabricated import report


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (0.1, "0.100"), (1, "1.00"), (9.999, "10.0"), (99.96, "100")],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert three(value) == text


def test_thousands_are_parted() -> None:
    assert three(12345.6) == "12,346"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "-"),
        (12.34, "ms", "12.3 ms"),
        (1500.0, "ms", "1.50 s"),
        (999.6, "ms", "1.00 s"),
        (90.0, "s", "90.0 s"),
        (0.051, "share", "5.1 %"),
        (0.51, "share", "51 %"),
        (0.0, "share", "0 %"),
        (8.04, "percent", "8.0 %"),
        (57.0, "percent", "57 %"),
        (3.0, "count", "3"),
        (1234.5, "tokens/s", "1,234"),
    ],
)
def test_units(value: float | None, unit: Unit, text: str) -> None:
    assert shown(value, unit) == text


def test_ratios_are_to_the_base_and_empty_without_one() -> None:
    assert ratio(3.0, 2.0).startswith("1.50")
    assert ratio(30.0, 2.0).startswith("15.0")
    assert ratio(3000.0, 2.0).startswith("1,500")
    assert ratio(3.0, None) == ratio(3.0, 0.0) == ratio(None, 3.0) == ""


def test_a_median_goes_by_either_name() -> None:
    assert LATENCY.of(Run(system="x", group="g", summary={"median_e2el_ms": 5.0})) == 5.0
    both = {"p50_e2el_ms": 4.0, "median_e2el_ms": 5.0}
    assert LATENCY.of(Run(system="x", group="g", summary=both)) == 4.0


def test_an_answer_in_one_piece_has_no_time_between_tokens() -> None:
    assert ITL.of(Run(system="x", group="g", summary={"p50_itl_ms": 0.0})) is None


def test_only_figures_that_somebody_has_are_present() -> None:
    one = Run(system="x", group="g", summary={"output_throughput": 5.0, "failed": 0.0})
    two = Run(system="y", group="g", summary={"duration": 5.0, "failed": 0.0}, idle_share=0.0)
    assert [figure.label for figure in present([one, two], brief=False)] == [
        "output",
        "idle slots",
        "time",
    ]
    assert [figure.label for figure in present([one, two], brief=True)] == ["output", "idle slots"]


def test_failures_are_shown_where_there_are_any() -> None:
    failing = Run(system="x", group="g", summary={"failed": 2.0})
    assert [figure.label for figure in present([failing], brief=False)] == ["failed"]


def test_labels_are_unique() -> None:
    labels = [figure.label for figure in FIGURES]
    assert len(set(labels)) == len(labels)
    assert THROUGHPUT in FIGURES


def test_groups_keep_the_order_of_the_report() -> None:
    runs = tuple(Run(system=system, group=group) for system, group in ("ab", "xa", "cb"))
    found = groups(Report(title="t", about={}, runs=runs))
    assert {name: [run.system for run in row] for name, row in found.items()} == {
        "b": ["a", "c"],
        "a": ["x"],
    }
    assert list(found) == ["b", "a"]


def test_a_heading_says_what_the_name_does_not() -> None:
    run = Run(system="x", group="cap 8", length_cv=0.314, rate=2.0)
    assert heading("cap 8", [run]) == "cap 8 · lengths vary by 31 % · 2 requests/s"
    assert heading("2 requests/s", [run]) == "2 requests/s · lengths vary by 31 %"
    equal = Run(system="x", group="g", length_cv=0.0, rate=2.11696)
    assert heading("g", [equal]) == "g · equal lengths · 2.12 requests/s"
    assert heading("alone", []) == "alone"


def _run(system: str, throughput: float, latency: float) -> Run:
    summary = {"output_throughput": throughput, "p50_e2el_ms": latency}
    return Run(system=system, group="g", summary=summary)


def test_figures_stand_under_their_headings_with_ratios_to_the_first() -> None:
    lines = table([_run("static", 100.0, 2000.0), _run("continuous", 250.0, 500.0)]).splitlines()
    assert lines[0].split() == ["output", "latency"]
    assert lines[1].split() == ["system", "tokens/s", "p50"]
    assert set(lines[2]) == {"-"}
    assert lines[3].split()[:2] == ["static", "100"]
    second = lines[4].split()
    assert second[0] == "continuous"
    assert second[2].startswith("2.50")
    assert second[-1].startswith("0.25")


def test_columns_are_aligned() -> None:
    lines = table([_run("a", 100.0, 2000.0), _run("a longer name", 25.0, 50.0)]).splitlines()
    assert lines[3].rindex("s") == lines[4].rindex("ms") + 1


def test_one_system_has_nothing_to_compare_with() -> None:
    assert len(table([_run("alone", 100.0, 20.0)]).splitlines()[-1].split()) == 4


def test_all_groups_title_and_notes() -> None:
    made = report()
    text = tables(made)
    assert text.startswith(made.title + "\n\n")
    assert text.count("\nsystem ") == 6
    assert text.endswith("- Prompts <all> differ & share nothing.\n")
    assert max(map(len, text.splitlines())) <= 140


def test_a_report_without_runs_is_a_title() -> None:
    assert tables(Report(title="Nothing", about={}, runs=())) == "Nothing\n"


def test_a_run_without_figures_has_a_name() -> None:
    bare = replace(_run("bare", 1.0, 1.0), summary={})
    assert "bare" in table([bare])
