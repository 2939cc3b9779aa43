"""Who sat in which slot of the batch, and how much of the batch nobody used.

A recording tells step by step who computed. Here that becomes one bar for every stay on board, in
the lowest slot that was free, so that a person sees the holes that a policy leaves. Knows nothing
of policies: whoever has left has left, and the hole stays until somebody boards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from headway.perf.report.run import Bar
from headway.recording.format import Recording, StepLine
from headway.steptime.features import roofline_seconds
from headway.steptime.shape import StepShape, shape_of
from headway.types import Slice

# A stay ends where the next step begins; written times are rounded.
_ROUNDING = 5e-6


@dataclass(slots=True)
class _Stay:
    seq: int
    begin: float
    end: float
    computed: int
    """Tokens whose keys and values are stored."""
    first: float | None = None
    """When its first token was there."""


def bars_of(recording: Recording, origin: float | None = None) -> tuple[int, tuple[Bar, ...]]:
    """Slots of the batch, and a bar for each stay in one of them, by begin.

    Times count from `origin` (seconds on the recording's clock; None: the first step). A stay
    lasts from a sequence's first slice to the end of its last one; one that was preempted has a
    bar for each time that it was on board. There are as many slots as were ever taken at once,
    those included that the policy held empty for a batch that had departed.
    """
    steps = recording.steps
    if origin is None:
        origin = steps[0].at if steps else 0.0
    names = {request.seq: request.id for request in recording.requests}
    stays = _stays(steps)
    bars = []
    slots = max((len(step.slices) + step.idle_slots for step in steps), default=0)
    for slot, stay in _seated(stays):
        slots = max(slots, slot + 1)
        first = stay.end if stay.first is None else stay.first
        name = names.get(stay.seq, str(stay.seq))
        bars.append(Bar(slot, stay.begin - origin, first - origin, stay.end - origin, name))
    return slots, tuple(bars)


def _stays(steps: Iterable[StepLine]) -> list[_Stay]:
    """All stays on board, by begin."""
    aboard: dict[int, _Stay] = {}
    stays: list[_Stay] = []
    for step in steps:
        for seq in step.ended:
            aboard.pop(seq, None)
        done = step.at + step.cycle
        for part in step.slices:
            stay = aboard.get(part.seq)
            # Starting over at an earlier position is a return after a preemption.
            if stay is None or part.start < stay.computed:
                stay = _Stay(part.seq, step.at, done, 0)
                aboard[part.seq] = stay
                stays.append(stay)
            stay.end = done
            stay.computed = part.start + part.tokens
            if part.sample and stay.first is None:
                stay.first = done
    return stays


def _seated(stays: Iterable[_Stay]) -> Iterable[tuple[int, _Stay]]:
    """Each stay with the lowest slot that was free when it began."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    slots = 0
    for stay in stays:
        while busy and busy[0][0] <= stay.begin + _ROUNDING:
            heappush(free, heappop(busy)[1])
        if not free:
            free.append(slots)
            slots += 1
            heapify(free)
        slot = heappop(free)
        heappush(busy, (stay.end, slot))
        yield slot, stay


def idle_share(recording: Recording, slots: int) -> float | None:
    """Of so many slots over the recording's time, the share in which no request sat (0 to 1).

    The time runs from the first step to the end of the last one. None without any step.
    """
    return idle_share_of(bars_of(recording)[1], slots)


def idle_share_of(bars: Iterable[Bar], slots: int) -> float | None:
    """The same from bars: their time runs from the first one's begin to the last one's end."""
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

    None where the machine's limits are not known, or nothing was computed.
    """
    machine, sizes = recording.engine.machine, recording.engine.sizes
    taken = sum(step.cycle for step in recording.steps)
    if machine is None or taken <= 0:
        return None
    shapes = (_shape(step, sizes.window) for step in recording.steps)
    return 100.0 * sum(roofline_seconds(shape, sizes, machine) for shape in shapes) / taken


def _shape(step: StepLine, window: int | None) -> StepShape:
    slices = (
        Slice(
            seq=part.seq, start=part.start, tokens=range(part.tokens), blocks=(), sample=part.sample
        )
        for part in step.slices
    )
    return shape_of(slices, window)
