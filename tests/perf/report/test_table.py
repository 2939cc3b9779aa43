"""The terminal's tables."""

from __future__ import annotations

from dataclasses import replace

from headway.perf.report.run import Report, Run
from headway.perf.report.table import table, tables
from tests.perf.report.fabricated import report


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
