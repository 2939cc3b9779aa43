"""The slot chart: the bars of all systems of a group, time across, slots down, idle slots empty.

All systems of a group share one time axis, so that area is slot time everywhere. A system that
takes much longer than the fastest is cut at the axis' end, and says how long it went on. Long runs
are drawn by every so-many-th slot and in cells of time, so that a page stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from headway.perf.report.figures import THROUGHPUT, shown, three
from headway.perf.report.follow import chart_facts
from headway.perf.report.plot import Axis, linear
from headway.perf.report.run import Bar, Run
from headway.perf.report.why import why

WIDTH = 2000
"""Units of a drawing across; a row is `ROW` units high."""
ROW = 10
_MOST_ROWS = 48
_GAP = 3.0
"""Units between a bar and the next."""
_LONGEST = 4.0
"""Of the fastest system's time, what the axis shows at most."""

_FULL = 0.87
"""Of the axis, what the longest run takes: its time is written in the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One system's slots."""

    system: str
    tone: int
    slots: int
    rows: int
    """Slots that are drawn: all, or evenly picked ones."""
    height: int
    """Pixels."""
    units: int
    """Units of the drawing across, of `WIDTH` for the whole axis."""
    share: float
    """Of the axis, how far the run goes."""
    prefill: str
    """SVG path of the times before first tokens."""
    decode: str
    """SVG path of the times after them."""
    time: str
    figures: str
    """What is written above it."""
    goes_on: bool
    """Whether it is cut at the axis' end."""
    merged: bool
    """Whether bars were merged into cells of time."""
    text: str
    why: str
    """Why its slots were idle, or its requests waited; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotChart:
    """One group's systems, over one time axis."""

    title: str
    axis: Axis
    lanes: tuple[Lane, ...]
    seen_by_clients: bool
    """Whether rows are requests in flight, of systems whose slots nobody can see."""
    partly_seen: bool
    """Whether that is so of some lanes, and others have slots."""
    facts: Mapping[str, Any]
    """For the page's script; see `headway.perf.report.follow`."""

    @property
    def answers(self) -> bool:
        """Whether there is any bar that can be asked about."""
        return any(lane["bars"] for lane in self.facts["lanes"])


def slot_chart(
    title: str, runs: Sequence[Run], tones: Mapping[str, int], *, most_bars: int
) -> SlotChart | None:
    """The systems of a group that have bars, at most `most_bars` drawn each; None without any."""
    drawn = [run for run in runs if run.bars]
    ends = [max(bar.end for bar in run.bars) for run in drawn]
    if not drawn or min(ends) <= 0:
        return None
    until = min(max(ends) / _FULL, _LONGEST * min(ends))
    axis = linear(until, label="seconds", write=lambda value: f"{value:g}", steps=6, exact=True)
    slots = max(_slots(run) for run in drawn)
    row_height = max(4, min(14, 150 // slots))
    lanes = tuple(
        _lane(run, end, until, tones[run.system], (row_height, most_bars))
        for run, end in zip(drawn, ends, strict=True)
    )
    return SlotChart(
        title=title,
        axis=axis,
        lanes=lanes,
        seen_by_clients=all(run.slots is None for run in drawn),
        partly_seen=len({run.slots is None for run in drawn}) > 1,
        facts=chart_facts(
            drawn, until, {run.system: _every(_slots(run)) for run in drawn}, most_bars=most_bars
        ),
    )


def _slots(run: Run) -> int:
    return max(run.slots or 1, 1 + max(bar.slot for bar in run.bars))


def _every(slots: int) -> int:
    """Every so-many-th slot is drawn."""
    return -(-slots // _MOST_ROWS)


def _lane(run: Run, end: float, until: float, tone: int, sizes: tuple[int, int]) -> Lane:
    row_height, most_bars = sizes
    slots, span = _slots(run), min(end, until)
    every = _every(slots)
    rows = len(range(0, slots, every))
    bars = [
        bar._replace(slot=bar.slot // every, first=min(bar.first, span), end=min(bar.end, span))
        for bar in run.bars
        if bar.slot % every == 0 and bar.begin < span
    ]
    cells = len(bars) > most_bars
    if cells:
        bars = _in_cells(bars, span, max(1, 2 * most_bars // rows))
    scale = WIDTH / until
    figures = ", ".join(_figures(run, slots))
    return Lane(
        system=run.system,
        tone=tone,
        slots=slots,
        rows=rows,
        height=max(12, rows * row_height),
        units=max(1, round(span * scale)),
        share=span / until,
        prefill=_path([(bar.slot, bar.begin * scale, bar.first * scale, 0.0) for bar in bars]),
        decode=_path([(bar.slot, bar.first * scale, bar.end * scale, _GAP) for bar in bars]),
        time=shown(end, "s"),
        figures=figures,
        goes_on=end > until,
        merged=cells,
        text=f"{run.system}: {figures}, {len(run.bars)} bars in {shown(end, 's')}.",
        why=why(run),
    )


def _figures(run: Run, slots: int) -> Iterable[str]:
    """How many slots are shown, and what is true of the run: of all its replicas together."""
    replicas = run.settings.get("replicas", 1)
    several, whole = (
        ("", "")
        if replicas == 1 or run.slots is None
        else (f" of the first of {replicas} replicas", "all: ")
    )
    if run.slots is None:
        yield f"at most {slots} in flight"
    else:
        yield f"{slots} slot{'s' if slots > 1 else ''}{several}"
    if run.idle_share is not None:
        yield f"{whole}{shown(run.idle_share, 'share')} idle"
        whole = ""
    throughput = THROUGHPUT.of(run)
    if throughput is not None:
        yield f"{whole}{three(throughput)} tokens/s"


def _in_cells(bars: Iterable[Bar], span: float, cells: int) -> list[Bar]:
    """Bars of whole cells of time, so many in a slot: those at least half of which was taken.

    Neighbours are one bar, so there are at most half as many bars as cells.
    """
    width = span / cells
    taken: dict[int, list[float]] = {}
    for bar in bars:
        row = taken.setdefault(bar.slot, [0.0] * cells)
        first, last = int(bar.begin / width), min(int(bar.end / width), cells - 1)
        for cell in range(first, last + 1):
            inside = min(bar.end, (cell + 1) * width) - max(bar.begin, cell * width)
            row[cell] += max(0.0, inside)
    merged = []
    for slot, row in sorted(taken.items()):
        halves = enumerate(time >= width / 2 for time in row)
        for full, run in groupby(halves, lambda half: half[1]):
            if full:
                places = [cell for cell, _ in run]
                begin, end = places[0] * width, (places[-1] + 1) * width
                merged.append(Bar(slot, begin, begin, end, ""))
    return merged


def _path(bars: Iterable[tuple[int, float, float, float]]) -> str:
    """Rectangles (row, from, to, gap after it) in units; those too narrow to see are left out."""
    parts = []
    for row, begin, end, gap in bars:
        left = round(begin)
        width = round(end - min(gap, 0.2 * (end - begin))) - left
        if width > 0:
            parts.append(f"M{left} {row * ROW + 1}h{width}v{ROW - 2}h-{width}z")
    return "".join(parts)
