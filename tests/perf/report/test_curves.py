"""The plots, on runs of a few requests."""

from __future__ import annotations

from collections.abc import Sequence

from headway.perf.records.record import RequestRecord
from headway.perf.report.curves import frontier, gain_over_cv, latencies, latency_cdf, over_load
from headway.perf.report.figures import TTFT
from headway.perf.report.plot import SIZE
from headway.perf.report.run import Run

TONES = {"a": 0, "b": 1}


def _records(latencies: Sequence[float]) -> tuple[RequestRecord, ...]:
    return tuple(
        RequestRecord(id=str(number), due=0, sent=0, prompt_tokens=1, ttft=0.1, latency=latency)
        for number, latency in enumerate(latencies)
    )


def _run(system: str, group: str = "g", **figures: float) -> Run:
    return Run(system=system, group=group, summary=figures)


def _at(rate: float, system: str, throughput: float, ttft: float, latency: float) -> Run:
    return Run(
        system=system,
        group=f"{rate:g}",
        rate=rate,
        summary={"output_throughput": throughput, "p50_ttft_ms": ttft, "p50_e2el_ms": latency},
    )


LOADS = [
    _at(4.0, "a", 90.0, 60.0, 900.0),
    _at(1.0, "a", 30.0, 50.0, 500.0),
    _at(1.0, "b", 30.0, 70.0, 800.0),
    _at(4.0, "b", 60.0, 5000.0, 9000.0),
]


def test_a_distribution_rises_from_none_to_all() -> None:
    run = Run(system="a", group="g", records=_records([4.0, 1.0, 2.0, 3.0]))
    plot = latency_cdf("g", [run], TONES)
    assert plot is not None
    assert not plot.x.log
    (line,) = plot.lines
    corners = [tuple(map(int, spot.split())) for spot in line.path[1:].split("L")]
    assert corners[0][1] == SIZE
    assert corners[-1] == (SIZE, 0)
    assert corners == sorted(corners, key=lambda corner: (corner[0], -corner[1]))
    assert "Medians: a 2.5 s" in plot.text


def test_a_long_column_is_thinned_but_keeps_its_ends() -> None:
    run = Run(system="a", group="g", records=_records([0.001 * n for n in range(1, 50_001)]))
    plot = latency_cdf("g", [run], TONES)
    assert plot is not None
    assert plot.lines[0].path.count("L") < 150
    assert plot.lines[0].path.endswith(f"L{SIZE} 0")


def test_latencies_far_apart_are_shown_by_powers() -> None:
    runs = [
        Run(system="a", group="g", records=_records([0.1, 0.2])),
        Run(system="b", group="g", records=_records([50.0, 60.0])),
    ]
    plot = latency_cdf("g", runs, TONES)
    assert plot is not None
    assert plot.x.log


def test_only_whole_answers_have_a_latency() -> None:
    refused = RequestRecord(id="x", due=0, sent=0, prompt_tokens=1, outcome="refused")
    broken = RequestRecord(id="y", due=0, sent=0, prompt_tokens=1, latency=9.0, outcome="error")
    run = Run(system="a", group="g", records=(*_records([2.0, 1.0]), refused, broken))
    assert latencies(run) == [1.0, 2.0]


def test_no_distribution_without_records() -> None:
    assert latency_cdf("g", [_run("a")], TONES) is None


def test_figures_over_load_go_by_rate() -> None:
    plot = over_load(TTFT, LOADS, TONES)
    assert plot is not None
    assert plot.y.log
    assert [line.system for line in plot.lines] == ["b", "a"]
    first, last = plot.lines[1].dots
    assert first[0] == 0.25
    assert last[0] == 1.0
    assert first[1] > last[1]  # downwards: the figure grows with load
    assert plot.text == "TTFT p50 at the highest load: a 60.0 ms, b 5.00 s."


def test_one_rate_is_no_curve() -> None:
    assert over_load(TTFT, LOADS[1:3], TONES) is None
    assert over_load(TTFT, [_run("a", p50_ttft_ms=3.0)], TONES) is None


def test_the_frontier_joins_rates_in_order() -> None:
    plot = frontier(LOADS, TONES)
    assert plot is not None
    line = next(line for line in plot.lines if line.system == "a")
    assert line.dots[0][0] < line.dots[1][0]
    assert frontier([_run("a", output_throughput=3.0, p50_e2el_ms=4.0)], TONES) is None


def _spread(length_cv: float, system: str, throughput: float) -> Run:
    summary = {"output_throughput": throughput}
    return Run(system=system, group=f"{length_cv}", length_cv=length_cv, summary=summary)


def test_gain_is_over_the_first_system_of_each_group() -> None:
    groups = [
        [_spread(0.9, "b", 50.0), _spread(0.9, "a", 200.0)],
        [_spread(0.3, "b", 100.0), _spread(0.3, "a", 150.0)],
    ]
    plot = gain_over_cv(groups, TONES)
    assert plot is not None
    assert plot.title == "Throughput over that of b"
    line = next(line for line in plot.lines if line.system == "a")
    assert line.dots[0][0] < line.dots[1][0]
    assert plot.y.place(4.0) == 1 - line.dots[1][1]
    assert "a 4.00 times" in plot.text


def test_gain_needs_two_variations_and_one_base() -> None:
    one = [_spread(0.9, "b", 50.0), _spread(0.9, "a", 200.0)]
    other = [_spread(0.3, "a", 50.0), _spread(0.3, "b", 200.0)]
    assert gain_over_cv([one], TONES) is None
    assert gain_over_cv([one, other], TONES) is None
    assert gain_over_cv([[_run("b", output_throughput=3.0)]], TONES) is None
