"""A search as a table and as plots: all rows are there, and the best at each place is drawn."""

from __future__ import annotations

from dataclasses import replace

from headway.perf.report.run import Report, Run
from headway.perf.report.search import trial_plots, trial_table
from headway.perf.report.trial import Trial

TRIAL = Trial(
    replicas=2,
    max_num_seqs=8,
    max_num_batched_tokens=2048,
    attainment=0.5,
    attains=False,
    measured={"ttft_p99=1s": 1.49},
)


def _report(*trials: Trial) -> Report:
    return Report(title="t", about={}, runs=(Run(system="paced", group="g"),), trials=trials)


def test_rows_are_ordered_and_columns_that_say_nothing_left_out() -> None:
    larger = replace(TRIAL, replicas=10, attains=True, attainment=1.0, measured={"tpot=1s": None})
    table = trial_table([larger, replace(TRIAL, max_num_seqs=128), TRIAL])
    assert table is not None
    assert table.columns == (
        "replicas",
        "max_num_seqs",
        "max_num_batched_tokens",
        "objectives",
        "attained",
        "tpot=1s",
        "ttft_p99=1s",
    )
    assert table.rows == (
        (False, ("2", "8", "2,048", "missed", "50 %", "-", "1.49 s")),
        (False, ("2", "128", "2,048", "missed", "50 %", "-", "1.49 s")),
        (True, ("10", "8", "2,048", "held", "100 %", "-", "-")),
    )


def test_rates_and_costs_are_columns_where_they_are_known() -> None:
    priced = replace(TRIAL, rate=3.0, cost_per_million=1.5, currency="EUR")
    table = trial_table([TRIAL, priced])
    assert table is not None
    assert table.columns[3] == "requests/s"
    assert [cells[-1] for _, cells in table.rows] == ["-", "1.50 EUR"]


def test_the_best_batch_of_each_fleet_is_drawn_over_replicas_and_over_cost() -> None:
    tried = ((4, 16, 0.9), (4, 8, 1.0), (1, 8, 0.25), (2, 16, 0.75), (2, 8, 0.5))
    trials = [
        replace(TRIAL, replicas=count, max_num_seqs=seqs, attainment=share, cost_per_million=count)
        for count, seqs, share in tried
    ]
    fleet, cost = trial_plots(_report(*trials), 0)
    assert fleet.title == "Attained over replicas"
    assert cost.x.label.endswith("USD")
    (line,) = fleet.lines
    assert [(round(4 * across), round(1 - down, 2)) for across, down in line.dots] == [
        (1, 0.25),
        (2, 0.75),
        (4, 1.0),
    ]
    assert "1.00: 25 %, 2.00: 75 %, 4.00: 100 %" in fleet.text


def test_what_costs_more_is_no_worse_than_what_costs_less() -> None:
    trials = [
        replace(TRIAL, attainment=share, cost_per_million=cost)
        for cost, share in ((0.5, 1.0), (0.6, 0.8), (0.4, 0.3), (0.3, 0.4))
    ]
    (cost_plot,) = trial_plots(_report(*trials), 0)
    assert "0.300: 40 %, 0.400: 40 %, 0.500: 100 %, 0.600: 100 %" in cost_plot.text


def test_what_was_varied_is_the_axis() -> None:
    (rates,) = trial_plots(_report(replace(TRIAL, rate=1.0), replace(TRIAL, rate=2.0)), 0)
    (widths,) = trial_plots(_report(TRIAL, replace(TRIAL, max_num_seqs=16)), 0)
    assert (rates.title, widths.title) == ("Attained over requests/s", "Attained over max_num_seqs")


def test_one_trial_is_no_line_and_none_no_table() -> None:
    assert trial_plots(_report(TRIAL), 0) == ()
    assert trial_plots(_report(), 0) == ()
    assert trial_table([]) is None
