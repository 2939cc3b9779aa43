"""What a report's page draws of the figures: horizontal bars, and plots.

The plots are the distribution of latency, figures over load, the gain over the variation of
lengths, and throughput against latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headway.perf.records.summary import percentile
from headway.perf.report.close import THROUGHPUT as RANGED
from headway.perf.report.close import range_text
from headway.perf.report.figures import LATENCY, THROUGHPUT, Compare, Figure, shown, three
from headway.perf.report.plot import Plot, Points, Write, axis_of, linear, lines_of
from headway.perf.report.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class BarRow:
    """One system's bar."""

    system: str
    tone: int
    share: float
    """Length of the bar, 0 to 1."""
    value: str
    times: str
    """Over the first row's, or how far from it; empty where it says nothing."""
    rounds: str = ""
    """The range over several rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarList:
    """Bars from 0 to the largest value."""

    title: str
    note: str
    rows: tuple[BarRow, ...]


def bar_list(
    title: str,
    figure: Figure,
    runs: Sequence[Run],
    tones: Mapping[str, int],
    *,
    compare: Compare | None = None,
    full: float | None = None,
) -> BarList | None:
    """The systems that have the figure; None without any.

    `compare` writes what each is beside the first row's; `full` is the value of a whole bar.
    """
    values = [(run, figure.of(run)) for run in runs]
    found = [(run, value) for run, value in values if value is not None]
    if not found:
        return None
    top = full or max(value for _, value in found) or 1.0
    base = found[0][1]
    rows = tuple(
        BarRow(
            system=run.system,
            tone=tones[run.system],
            share=min(1.0, max(0.0, value / top)),
            value=figure.written(run),
            times=compare(value, base) if compare and place else "",
            rounds=range_text(run, RANGED) if figure is THROUGHPUT else "",
        )
        for place, (run, value) in enumerate(found)
    )
    return BarList(title=title, note=figure.means, rows=rows)


Tones = Mapping[str, int]

_SAMPLES = 120
# Where values span more than this, the small ones would lie on the axis.
_LOG_FROM = 12.0


def latency_cdf(name: str, runs: Sequence[Run], tones: Tones) -> Plot | None:
    """Which share of the requests had their whole answer after how long; None without records."""
    columns = {run.system: latencies(run) for run in runs}
    columns = {system: column for system, column in columns.items() if column}
    if not columns:
        return None
    marks = [column[int(0.02 * len(column))] for column in columns.values()]
    marks += [column[-1] for column in columns.values()]
    x = axis_of(marks, label="latency", write=_seconds, log_from=2 * _LOG_FROM, steps=4)
    y = linear(1.0, label="requests answered", write=lambda share: f"{100 * share:.0f} %", steps=4)
    points = {system: _distribution(column) for system, column in columns.items()}
    medians = ", ".join(
        f"{system} {_seconds(percentile(column, 50))}" for system, column in columns.items()
    )
    return Plot(
        title=name,
        note="Further left is faster.",
        text=f"Share of requests answered over latency. Medians: {medians}.",
        x=x,
        y=y,
        lines=lines_of(points, x, y, tones, dots=False),
    )


def latencies(run: Run) -> list[float]:
    """Seconds to the last token of all whole answers, the shortest first."""
    found = (record.latency for record in run.records if record.outcome == "ok")
    return sorted(latency for latency in found if latency is not None)


def _distribution(column: Sequence[float]) -> Points:
    """So many points of it that a line looks smooth, both ends included."""
    last = len(column) - 1
    picked = sorted({round(last * sample / _SAMPLES) for sample in range(_SAMPLES + 1)})
    return [(column[0], 0.0)] + [(column[index], (index + 1) / len(column)) for index in picked]


def over_load(figure: Figure, runs: Sequence[Run], tones: Tones) -> Plot | None:
    """A figure over offered requests a second; None where fewer than two rates have it."""
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        value = figure.of(run)
        if run.rate is not None and value is not None:
            points.setdefault(run.system, []).append((run.rate, value))
    rates = {rate for row in points.values() for rate, _ in row}
    if len(rates) < 2:
        return None
    for row in points.values():
        row.sort()
    values = [value for row in points.values() for _, value in row]
    x = axis_of(rates, label="offered requests/s", write="{:g}".format)
    y = axis_of(values, label="lower is better", write=_writer(figure), log_from=_LOG_FROM, steps=4)
    return Plot(
        title=f"{figure.label} over load",
        note="Lower is better.",
        text=f"{figure.label} at the highest load: " + _last(points, figure),
        x=x,
        y=y,
        lines=lines_of(points, x, y, tones, dots=True),
    )


def frontier(runs: Sequence[Run], tones: Tones) -> Plot | None:
    """Median latency over throughput, a line a system through its rates; None without two."""
    points: dict[str, list[tuple[float, float]]] = {}
    for run in sorted(runs, key=lambda run: run.rate or 0.0):
        throughput, latency = THROUGHPUT.of(run), LATENCY.of(run)
        if run.rate is not None and throughput is not None and latency is not None:
            points.setdefault(run.system, []).append((throughput, latency))
    places = [place for row in points.values() for place in row]
    if not any(len(row) > 1 for row in points.values()):
        return None
    x = axis_of(
        (across for across, _ in places),
        label="output tokens/s",
        write=lambda value: _trimmed(three(value)),
    )
    y = axis_of(
        (up for _, up in places),
        label=LATENCY.label,
        write=_writer(LATENCY),
        log_from=_LOG_FROM,
        steps=4,
    )
    return Plot(
        title="Throughput against latency",
        note="Each dot is one rate. Best is low and far right.",
        text="Median latency at the highest load: " + _last(points, LATENCY),
        x=x,
        y=y,
        lines=lines_of(points, x, y, tones, dots=True),
    )


def gain_over_cv(groups: Sequence[Sequence[Run]], tones: Tones) -> Plot | None:
    """Throughput over that of each group's first system, over the variation of output lengths.

    Needs groups without a rate of at least two variations, and the same first system in all.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    bases = set()
    for runs in groups:
        base = THROUGHPUT.of(runs[0])
        if runs[0].rate is not None or runs[0].length_cv is None or not base:
            continue
        bases.add(runs[0].system)
        for run in runs:
            value = THROUGHPUT.of(run)
            if value is not None:
                points.setdefault(run.system, []).append((100.0 * runs[0].length_cv, value / base))
    length_cvs = {length_cv for row in points.values() for length_cv, _ in row}
    if len(bases) != 1 or len(length_cvs) < 2:
        return None
    for row in points.values():
        row.sort()
    (base_name,) = bases
    x = axis_of(
        length_cvs,
        label="coefficient of variation of output lengths",
        write=lambda value: f"{value:.0f} %",
    )
    gains = [gain for row in points.values() for _, gain in row]
    y = axis_of(gains, label=f"{base_name} is 1", write="{:g}".format)
    best = ", ".join(f"{system} {three(row[-1][1])} times" for system, row in points.items())
    return Plot(
        title=f"Throughput over that of {base_name}",
        note="Coefficient of variation: standard deviation of the output lengths over their mean.",
        text=f"Throughput over that of {base_name} at the widest variation: {best}.",
        x=x,
        y=y,
        lines=lines_of(points, x, y, tones, dots=True),
    )


def _last(points: Mapping[str, Points], figure: Figure) -> str:
    rows = (f"{system} {shown(row[-1][1], figure.unit)}" for system, row in points.items())
    return ", ".join(rows) + "."


def _writer(figure: Figure) -> Write:
    return lambda value: "0" if value == 0 else _trimmed(shown(value, figure.unit))


def _seconds(value: float) -> str:
    return "0" if value == 0 else _trimmed(shown(1000.0 * value, "ms"))


def _trimmed(text: str) -> str:
    """Ticks are round values: 2.00 s is 2 s."""
    number, space, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number + space + unit
