"""Line plots as plain data: each system's colour, axes with round values, and SVG paths.

Colours are numbers here, tones; the page has the colours themselves, light and dark. A system has
the same tone everywhere, and a policy the same in every report and on the server's page. Greys and
browns are external systems, so that even in a small drawing the eye finds the two ends of a
comparison. Lines differ in their dashes too.

Places on an axis are shares of its length, 0 to 1. Coordinates of paths are whole numbers on a
square of 1,000, y downwards, which the page stretches: text stands beside the drawing and keeps its
size, on a telephone too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headway.perf.report.run import Report

OWN = (1, 2, 3, 4, 5)
EXTERNAL = (6, 7, 8)
LEADER = 0


POLICY_TONES: Mapping[str, int] = {
    "paced": 0,
    "continuous": 1,
    "dynamic": 2,
    "static": 3,
    "sequential": 4,
}
"""A policy's tone; `static/style.css` of the server's page has the same colours."""


def tones(report: Report, leader: str | None) -> Mapping[str, int]:
    """A tone for each system, in the report's order; repeated where there are too many.

    A leader that is no policy has the tone 0, unless a policy has it.
    """
    names = {run.system for run in report.runs}
    found = {name: tone for name, tone in POLICY_TONES.items() if name in names}
    if leader is not None and LEADER not in found.values():
        found.setdefault(leader, LEADER)
    free = tuple(tone for tone in OWN if tone not in found.values()) or OWN
    used = {"own": 0, "external": 0}
    for run in report.runs:
        if run.system not in found:
            family, these = ("external", EXTERNAL) if run.kind == "external" else ("own", free)
            found[run.system] = these[used[family] % len(these)]
            used[family] += 1
    return {run.system: found[run.system] for run in report.runs}


_MOST_POWERS = 6

Write = Callable[[float], str]


class Tick(NamedTuple):
    """A value that is written: where, and how."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From `low` to `high`; a logarithmic one has `low` above 0."""

    low: float
    high: float
    log: bool
    label: str
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values outside are put at the nearer end."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))


def axis_of(
    values: Iterable[float], *, label: str, write: Write, log_from: float = math.inf, steps: int = 5
) -> Axis:
    """An axis that shows all values: from 0, or by powers where they span `log_from` times.

    Values that are not above 0 keep an axis linear. Without any values it runs from 0 to 1.
    """
    found = [value for value in values if math.isfinite(value)]
    low, high = min(found, default=0.0), max(found, default=1.0)
    if low > 0 and high / low >= log_from:
        return _powers(low, high, label, write)
    return linear(high if high > 0 else 1.0, label=label, write=write, steps=steps)


def linear(high: float, *, label: str, write: Write, steps: int = 5, exact: bool = False) -> Axis:
    """From 0 to a round value at or above `high` (which is above 0), or to `high` itself."""
    step = _round_step(high / steps)
    count = math.floor(high / step + 1e-9) if exact else math.ceil(high / step - 1e-9)
    top = high if exact else step * count
    ticks = tuple(Tick(step * mark / top, write(step * mark)) for mark in range(count + 1))
    return Axis(low=0.0, high=top, log=False, label=label, ticks=ticks)


def _round_step(step: float) -> float:
    """The first of 1, 2, 2.5, 5, 10 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= step * (1 - 1e-9))


def _powers(low: float, high: float, label: str, write: Write) -> Axis:
    """Between values of 1, 2 and 5 times powers of ten, as many of them written as fit."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    values = [mark * 10.0**exponent for exponent in exponents for mark in (1, 2, 5)]
    below = max(value for value in values if value <= low * (1 + 1e-9))
    above = min(value for value in values if value >= high * (1 - 1e-9))
    span = math.log(above / below)
    kept = [value for value in values if below <= value <= above]
    if len(kept) > _MOST_POWERS:
        kept = [value for value in kept if value in values[::3]]
    kept = kept[:: -(-len(kept) // _MOST_POWERS)]
    ticks = tuple(Tick(math.log(value / below) / span, write(value)) for value in kept)
    return Axis(low=below, high=above, log=True, label=label, ticks=ticks)


SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotLine:
    """One system's line."""

    system: str
    tone: int
    path: str
    dots: tuple[tuple[float, float], ...]
    """Points that were measured, as shares of width and height (y downwards)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One drawing and what is said about it."""

    title: str
    note: str
    """How to read it, in a sentence."""
    text: str
    """What it shows, for those who cannot see it."""
    x: Axis
    y: Axis
    lines: tuple[PlotLine, ...]


Points = Sequence[tuple[float, float]]


def lines_of(
    points: Mapping[str, Points], x: Axis, y: Axis, tones: Mapping[str, int], *, dots: bool
) -> tuple[PlotLine, ...]:
    """A line for each system through its points, in their order. Tone 0 lies on top."""
    made = [
        PlotLine(
            system=system,
            tone=tones[system],
            path=path_of((x.place(across), y.place(up)) for across, up in row),
            dots=tuple((x.place(across), 1.0 - y.place(up)) for across, up in row) if dots else (),
        )
        for system, row in points.items()
        if row
    ]
    return tuple(sorted(made, key=lambda line: line.tone == 0))


def path_of(places: Iterable[tuple[float, float]]) -> str:
    """The SVG path through places (shares, y upwards); points on the same spot are drawn once."""
    spots: list[tuple[int, int]] = []
    for across, up in places:
        spot = (round(SIZE * across), round(SIZE * (1.0 - up)))
        if not spots or spots[-1] != spot:
            spots.append(spot)
    if not spots:
        return ""
    return "M" + "L".join(f"{across} {down}" for across, down in spots)
