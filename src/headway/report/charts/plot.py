"""Lines and points over two axes.

Coordinates are whole numbers on a square of 1,000, y downwards, which the page stretches to the
room that there is: text stands beside the drawing and keeps its size, on a telephone too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headway.report.charts.axis import Axis

SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
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
    lines: tuple[Line, ...]


Points = Sequence[tuple[float, float]]


def lines_of(
    points: Mapping[str, Points], x: Axis, y: Axis, tones: Mapping[str, int], *, dots: bool
) -> tuple[Line, ...]:
    """A line for each system through its points, in their order. Tone 0 lies on top."""
    made = [
        Line(
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
