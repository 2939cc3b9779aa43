"""The figures of a run that people read: their names, their order, how they are written.

One list for the terminal and the page, so that both say the same. A figure that a run does not have
is left out, never shown as zero. In the terminal a report is a table for each group, systems down,
figures across, with ratios to the group's first system beside throughput and median latency: plain
text without escapes, which can be piped and pasted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from headway.perf.report.run import Report, Run
from headway.types import SERVICE_CLASSES

Unit = Literal["tokens/s", "requests/s", "ms", "share", "percent", "price", "count", "number", "s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One column of a table."""

    label: str
    unit: Unit
    of: Callable[[Run], float | None]
    brief: bool = True
    """Whether it belongs in a narrow table too."""
    more_is_better: bool = False
    means: str = ""
    """A sentence for people who do not know the word."""

    def written(self, run: Run) -> str:
        """The run's value as `shown` writes it, a price with its currency."""
        value = self.of(run)
        text = shown(value, self.unit)
        return f"{text} {run.currency}" if self.unit == "price" and value is not None else text


def _summary(*keys: str) -> Callable[[Run], float | None]:
    """The first of these that the summary has."""

    def find(run: Run) -> float | None:
        return next((run.summary[key] for key in keys if key in run.summary), None)

    return find


def _between(*keys: str) -> Callable[[Run], float | None]:
    """As `_summary`, but 0 is no time between tokens: the answers came in one piece."""
    find = _summary(*keys)
    return lambda run: find(run) or None


THROUGHPUT = Figure(
    label="output",
    unit="tokens/s",
    of=_summary("output_throughput"),
    more_is_better=True,
    means="generated tokens a second, over the whole run",
)
LATENCY = Figure(
    label="latency p50",
    unit="ms",
    of=_summary("p50_e2el_ms", "median_e2el_ms"),
    means="from sending a request to its last token",
)
TTFT = Figure(
    label="TTFT p50",
    unit="ms",
    of=_summary("p50_ttft_ms", "median_ttft_ms"),
    means="time to the first token",
)
TTFT_P99 = Figure(label="TTFT p99", unit="ms", of=_summary("p99_ttft_ms"))
ITL = Figure(
    label="ITL p50",
    unit="ms",
    of=_between("p50_itl_ms", "median_itl_ms"),
    means="time between two tokens of one answer",
)
ITL_P99 = Figure(label="ITL p99", unit="ms", of=_between("p99_itl_ms"))
IDLE = Figure(
    label="idle slots",
    unit="share",
    of=lambda run: run.idle_share,
    means="of all slots over the run's time, the share in which no request ran",
)
LIMIT = Figure(
    label="of limit",
    unit="percent",
    of=lambda run: run.percent_of_limit,
    more_is_better=True,
    means="time that the machine's limits allow at best, over the time that was taken",
)
COST = Figure(
    label="cost per M",
    unit="price",
    of=lambda run: run.cost_per_million,
    means="price of a million generated tokens, at the price per hour",
)

FIGURES: tuple[Figure, ...] = (
    THROUGHPUT,
    LATENCY,
    Figure(label="latency p99", unit="ms", of=_summary("p99_e2el_ms")),
    TTFT,
    TTFT_P99,
    ITL,
    ITL_P99,
    Figure(
        label="attained",
        unit="share",
        of=_summary("attainment"),
        more_is_better=True,
        means="share of all offered requests that met every objective",
    ),
    *(
        Figure(
            label=f"{name} attained",
            unit="share",
            of=_summary(f"attainment_{name}"),
            brief=False,
            more_is_better=True,
            means=f"the same of {name} requests alone",
        )
        for name in SERVICE_CLASSES
    ),
    Figure(
        label="late",
        unit="share",
        of=_summary("late_share"),
        brief=False,
        means="share of all offered requests that were answered, but not on time",
    ),
    Figure(label="refused", unit="share", of=_summary("shed_share"), brief=False),
    IDLE,
    LIMIT,
    COST,
    Figure(
        label="tokens a step",
        unit="number",
        of=_summary("tokens_per_step"),
        more_is_better=True,
        means="mean tokens that a step gave an answer, with the drafts that were right",
    ),
    Figure(
        label="drafts right",
        unit="percent",
        of=_summary("spec_decode_acceptance_rate"),
        brief=False,
        more_is_better=True,
        means="of the tokens that were computed ahead, those that sampling confirmed",
    ),
    Figure(
        label="total",
        unit="tokens/s",
        of=_summary("total_token_throughput"),
        brief=False,
        more_is_better=True,
        means="prompt and generated tokens a second",
    ),
    Figure(
        label="requests",
        unit="requests/s",
        of=_summary("request_throughput"),
        brief=False,
        more_is_better=True,
    ),
    Figure(label="TPOT p50", unit="ms", of=_between("p50_tpot_ms", "median_tpot_ms"), brief=False),
    Figure(
        label="largest gap",
        unit="ms",
        of=_summary("largest_gap_ms"),
        brief=False,
        means="longest time that a client waited for the next piece of an answer",
    ),
    Figure(label="failed", unit="count", of=_summary("failed"), brief=False),
    Figure(label="time", unit="s", of=_summary("duration"), brief=False),
)


def _time(milliseconds: float) -> str:
    if milliseconds >= 999.5:
        return f"{three(milliseconds / 1000.0)} s"
    return f"{three(milliseconds)} ms"


def _percent(value: float) -> str:
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


_WRITTEN: Mapping[Unit, Callable[[float], str]] = MappingProxyType(
    {
        "ms": _time,
        "s": lambda value: _time(1000.0 * value),
        "share": lambda value: _percent(100.0 * value),
        "percent": _percent,
        "count": lambda value: f"{value:,.0f}",
    }
)


def present(runs: Iterable[Run], *, brief: bool) -> tuple[Figure, ...]:
    """The figures that at least one of the runs has, zeros that mean nothing left out."""
    runs = tuple(runs)
    hidden_at_zero = ("refused", "failed")
    return tuple(
        figure
        for figure in FIGURES
        if (figure.brief or not brief)
        and any(figure.of(run) is not None for run in runs)
        and (figure.label not in hidden_at_zero or any(figure.of(run) for run in runs))
    )


def shown(value: float | None, unit: Unit) -> str:
    """As people read it: three digits that count, and a unit where it is not in the heading."""
    if value is None:
        return "-"
    write = _WRITTEN.get(unit)
    return three(value) if write is None else write(value)


def three(value: float) -> str:
    """Three digits that count, thousands parted: 0.0123, 1.23, 12.3, 123, 12,345."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    return f"{value:#.3g}"


def ratio(value: float | None, base: float | None) -> str:
    """How many times the base; empty where there is nothing to compare."""
    if value is None or not base:
        return ""
    times = value / base
    digits = 0 if times >= 99.95 else 1 if times >= 9.995 else 2
    return f"{times:,.{digits}f}×"  # noqa: RUF001 - a multiplication sign


def error(value: float | None, base: float | None) -> str:
    """How far a prediction is from what was measured, such as "51 % too low"."""
    if value is None or not base:
        return ""
    off = 100.0 * (value / base - 1.0)
    return f"{_percent(abs(off))} too {'high' if off > 0 else 'low'}" if round(off, 1) else "right"


def groups(report: Report) -> dict[str, tuple[Run, ...]]:
    """The runs of each group, in the report's order."""
    found: dict[str, list[Run]] = {}
    for run in report.runs:
        found.setdefault(run.group, []).append(run)
    return {name: tuple(runs) for name, runs in found.items()}


def heading(name: str, runs: Iterable[Run]) -> str:
    """The group's name, and what is known of its load."""
    parts = [name]
    for run in runs:
        if run.length_cv is not None:
            varied = f"lengths vary by {100.0 * run.length_cv:.0f} %"
            parts.append(varied if run.length_cv >= 0.005 else "equal lengths")
        if run.rate is not None and f"{run.rate:g} requests/s" not in name:
            parts.append(f"{run.rate:.3g} requests/s")
        break
    return " · ".join(parts)


Compare = Callable[[float | None, float | None], str]
"""A figure beside the one it is compared with, in words."""

_GAP = "  "
_COMPARED = (THROUGHPUT, LATENCY)


def tables(report: Report) -> str:
    """All groups' tables, with the title before and the notes after; ends with a line break."""
    parts = [report.title]
    compare = error if report.prediction else ratio
    for name, runs in groups(report).items():
        parts.append(f"{heading(name, runs)}\n{table(runs, compare=compare)}")
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def table(runs: Sequence[Run], *, brief: bool = True, compare: Compare = ratio) -> str:
    """One group's table; `brief` leaves out what a terminal has no room for.

    `compare` writes what a figure is beside that of the group's first system.
    """
    columns = present(runs, brief=brief)
    rows = list(_headings(columns, alone=len(runs) == 1))
    rows += [_row(run, runs, columns, compare) for run in runs]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "-" * max(map(len, lines))
    return "\n".join([*lines[:2], rule, *lines[2:]])


def _headings(columns: Sequence[Figure], *, alone: bool) -> tuple[list[str], list[str]]:
    """Two lines, so that figures stand close together."""
    above, below = [""], ["system"]
    for figure in columns:
        first, _, second = figure.label.partition(" ")
        above.append(first)
        below.append(figure.unit if figure.unit in ("tokens/s", "requests/s") else second)
        if figure in _COMPARED and not alone:
            above.append("")
            below.append("")
    return above, below


def _row(run: Run, runs: Sequence[Run], columns: Sequence[Figure], compare: Compare) -> list[str]:
    cells = [run.system]
    for figure in columns:
        value = figure.of(run)
        cells.append(figure.written(run))
        if figure in _COMPARED and len(runs) > 1:
            cells.append("" if run is runs[0] else compare(value, figure.of(runs[0])))
    return cells


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return _GAP.join([first, *rest]).rstrip()
