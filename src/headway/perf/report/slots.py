"""The slot chart: which request ran in which slot of the batch when, and which slots were idle.

A recording says step by step which sequences computed. Here that becomes a bar for each time that a
sequence ran without a break, in the lowest slot that was free: a slot is idle from the end of one
sequence to the start of the next. The chart has time across, slots down and idle slots empty.

All systems of a group share one time axis, so that area is slot time everywhere. A system that
takes much longer than the fastest is cut at the axis' end, and says how long it went on. Long runs
are drawn by every so-many-th slot and in cells of time, so that a page stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import groupby

from headway.perf.report.figures import THROUGHPUT, shown, three
from headway.perf.report.plot import Axis, linear
from headway.perf.report.run import Bar, Run
from headway.recording.format import Recording, StepLine
from headway.steptime.shape import roofline_seconds

# A span ends where the next step begins; written times are rounded.
_ROUNDING = 5e-6


@dataclass(slots=True)
class _Span:
    seq: int
    begin: float
    end: float
    computed: int
    """Tokens whose keys and values are stored."""
    first: float | None = None
    """When its first token was there."""


def bars_of(recording: Recording, origin: float | None = None) -> tuple[int, tuple[Bar, ...]]:
    """Slots of the batch, and a bar for each span of a sequence in one of them, by begin.

    Times count from `origin` (seconds on the recording's clock; None: the first step). A span
    lasts from a sequence's first slice to the end of its last one; one that was preempted has a
    bar for each time that it ran. There are as many slots as were ever taken at once, those
    included that the policy held empty for a batch that had started.
    """
    steps = recording.steps
    if origin is None:
        origin = steps[0].at if steps else 0.0
    names = {request.seq: request.id for request in recording.requests}
    spans = _spans(steps)
    bars = []
    slots = max((len(step.slices) + step.idle_slots for step in steps), default=0)
    for slot, span in _with_slots(spans):
        slots = max(slots, slot + 1)
        first = span.end if span.first is None else span.first
        name = names.get(span.seq, str(span.seq))
        bars.append(Bar(slot, span.begin - origin, first - origin, span.end - origin, name))
    return slots, tuple(bars)


def _spans(steps: Iterable[StepLine]) -> list[_Span]:
    """All spans, by begin."""
    open_spans: dict[int, _Span] = {}
    spans: list[_Span] = []
    for step in steps:
        for seq in step.ended:
            open_spans.pop(seq, None)
        done = step.at + step.cycle
        for part in step.slices:
            span = open_spans.get(part.seq)
            # Starting over at an earlier position is a return after a preemption.
            if span is None or part.start < span.computed:
                span = _Span(part.seq, step.at, done, 0)
                open_spans[part.seq] = span
                spans.append(span)
            span.end = done
            span.computed = part.start + part.tokens
            if part.outputs and span.first is None:
                span.first = done
    return spans


def _with_slots(spans: Iterable[_Span]) -> Iterable[tuple[int, _Span]]:
    """Each span with the lowest slot that was free when it began."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    slots = 0
    for span in spans:
        while busy and busy[0][0] <= span.begin + _ROUNDING:
            heappush(free, heappop(busy)[1])
        if not free:
            free.append(slots)
            slots += 1
            heapify(free)
        slot = heappop(free)
        heappush(busy, (span.end, slot))
        yield slot, span


def idle_share(bars: Iterable[Bar], slots: int) -> float | None:
    """Of so many slots over the bars' time, the share in which no request ran (0 to 1).

    The time runs from the first bar's begin to the last one's end. None without any.
    """
    bars = tuple(bars)
    if not bars or slots < 1:
        return None
    begin, end = min(bar.begin for bar in bars), max(bar.end for bar in bars)
    if end <= begin:
        return None
    taken = sum(bar.end - bar.begin for bar in bars)
    return max(0.0, 1.0 - taken / (slots * (end - begin)))


def percent_of_limit(recording: Recording) -> float | None:
    """Time that the machine's limits allow at best over the time that the steps took, in percent.

    At most 100: a step that took less than the limits allow counts as one that reached them. None
    where the machine's limits are not known, or nothing was computed.
    """
    machine, sizes = recording.engine.machine, recording.engine.sizes
    taken = sum(step.cycle for step in recording.steps)
    if machine is None or taken <= 0:
        return None
    least = sum(
        min(step.cycle, roofline_seconds(step.shape(sizes.window), sizes, machine))
        for step in recording.steps
    )
    return min(100.0, 100.0 * least / taken)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotChart:
    """One group's systems, over one time axis."""

    title: str
    axis: Axis
    lanes: tuple[Lane, ...]


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
    return SlotChart(title=title, axis=axis, lanes=lanes)


def _slots(run: Run) -> int:
    return max(run.slots or 1, 1 + max(bar.slot for bar in run.bars))


def _lane(run: Run, end: float, until: float, tone: int, sizes: tuple[int, int]) -> Lane:
    row_height, most_bars = sizes
    slots, span = _slots(run), min(end, until)
    every = -(-slots // _MOST_ROWS)
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
    )


def _figures(run: Run, slots: int) -> Iterable[str]:
    yield f"{slots} slot" + ("s" if slots > 1 else "")
    if run.idle_share is not None:
        yield f"{shown(run.idle_share, 'share')} idle"
    throughput = THROUGHPUT.of(run)
    if throughput is not None:
        yield f"{three(throughput)} tokens/s"


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
