"""Bars: which request ran in which slot of the batch when, and what follows from them.

A recording says step by step which sequences computed. Here that becomes a bar for each time that a
sequence ran without a break, in the lowest slot that was free: a slot is idle from the end of one
sequence to the start of the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar
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


def bars_of_records(records: Iterable[RequestRecord]) -> tuple[Bar, ...]:
    """A bar for each request with an answer, from sending to its last token, as its client saw it.

    Rows are requests in flight, not slots of a batch: those that wait have one as well.
    """
    named = [
        (record.id, _Span(0, sent, sent + record.latency, 0, sent + record.ttft))
        for record in records
        if record.latency is not None and record.ttft is not None
        for sent in (record.sent,)
    ]
    named.sort(key=lambda each: each[1].begin)
    rows = _with_slots(span for _, span in named)
    return tuple(
        Bar(row, span.begin, span.first or span.end, span.end, name)
        for (name, _), (row, span) in zip(named, rows, strict=True)
    )


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
