"""One figure of several systems as horizontal bars, with their values written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headway.report.figures import Figure, ratio, shown
from headway.report.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One system's bar."""

    system: str
    tone: int
    share: float
    """Length of the bar, 0 to 1."""
    value: str
    times: str
    """Over the first row's; empty where it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarList:
    """Bars from 0 to the largest value."""

    title: str
    note: str
    rows: tuple[Row, ...]


def bar_list(
    title: str,
    figure: Figure,
    runs: Sequence[Run],
    tones: Mapping[str, int],
    *,
    compare: bool = False,
    full: float | None = None,
) -> BarList | None:
    """The systems that have the figure; None without any. `full` is the value of a whole bar."""
    values = [(run, figure.of(run)) for run in runs]
    found = [(run, value) for run, value in values if value is not None]
    if not found:
        return None
    top = full or max(value for _, value in found) or 1.0
    base = found[0][1] if compare else None
    rows = tuple(
        Row(
            system=run.system,
            tone=tones[run.system],
            share=min(1.0, max(0.0, value / top)),
            value=shown(value, figure.unit),
            times=ratio(value, base) if place else "",
        )
        for place, (run, value) in enumerate(found)
    )
    return BarList(title=title, note=figure.means, rows=rows)
