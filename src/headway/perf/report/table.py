"""A report in the terminal: a table for each group, systems down, figures across.

Ratios stand beside throughput and median latency, to the first system of the group. Plain text,
no escapes, so that it can be piped and pasted.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.perf.report.figures import (
    LATENCY,
    THROUGHPUT,
    Figure,
    groups,
    heading,
    present,
    ratio,
    shown,
)
from headway.perf.report.run import Report, Run

_GAP = "  "
_COMPARED = (THROUGHPUT, LATENCY)


def tables(report: Report) -> str:
    """All groups' tables, with the title before and the notes after; ends with a line break."""
    parts = [report.title]
    for name, runs in groups(report).items():
        parts.append(f"{heading(name, runs)}\n{table(runs)}")
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def table(runs: Sequence[Run], *, brief: bool = True) -> str:
    """One group's table; `brief` leaves out what a terminal has no room for."""
    columns = present(runs, brief=brief)
    rows = list(_headings(columns, alone=len(runs) == 1))
    rows += [_row(run, runs, columns) for run in runs]
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


def _row(run: Run, runs: Sequence[Run], columns: Sequence[Figure]) -> list[str]:
    cells = [run.system]
    for figure in columns:
        value = figure.of(run)
        cells.append(shown(value, figure.unit))
        if figure in _COMPARED and len(runs) > 1:
            cells.append(ratio(value, figure.of(runs[0])))
    return cells


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return _GAP.join([first, *rest]).rstrip()
