"""What a page shows of passes of prompts: tokens in a pass against percent of the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from headway.perf.report.figures import shown
from headway.perf.report.plot import LEADER, OWN, Plot, axis_of, linear, lines_of
from headway.steptime.passes import PassCurve

MOST_LINES = 1 + len(OWN)
"""Curves that are drawn: as many as can be told apart."""
_EVERY = 8
"""Every so-many-th point of a curve is a row of the table, and the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassChart:
    """The curves as a drawing and as a table."""

    plot: Plot
    tones: Mapping[str, int]
    """By the name of the curve."""
    said: tuple[str, ...]
    """Each curve in a sentence."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def pass_chart(curves: Sequence[PassCurve]) -> PassChart | None:
    """The first `MOST_LINES` of these curves; None without any."""
    drawn = {curve.name: curve for curve in curves[:MOST_LINES]}
    if not drawn:
        return None
    tones = dict(zip(drawn, (LEADER, *OWN), strict=False))
    x = axis_of(
        (tokens for curve in drawn.values() for tokens in curve.tokens),
        label="prompt tokens in a pass",
        write="{:,.0f}".format,
        log_from=2.0,
    )
    y = linear(100.0, label="percent of the arithmetic limit", write="{:.0f} %".format, steps=4)
    points = {
        name: tuple(zip(map(float, curve.tokens), curve.percent, strict=True))
        for name, curve in drawn.items()
    }
    said = tuple(curve.text for curve in drawn.values())
    return PassChart(
        plot=Plot(
            title="Tokens in a pass against percent of limit",
            note="Further up is better.",
            text="Percent of the arithmetic limit over prompt tokens in a pass. " + " ".join(said),
            x=x,
            y=y,
            lines=lines_of(points, x, y, tones, dots=False),
        ),
        tones=tones,
        said=said,
        columns=("tokens in a pass", *drawn),
        rows=tuple(_rows(drawn)),
    )


def _rows(curves: Mapping[str, PassCurve]) -> Iterator[tuple[str, ...]]:
    first = next(iter(curves.values()))
    places = {*range(0, len(first.tokens), _EVERY), len(first.tokens) - 1}
    for tokens in (first.tokens[place] for place in sorted(places)):
        found = (
            dict(zip(curve.tokens, curve.percent, strict=True)).get(tokens)
            for curve in curves.values()
        )
        yield f"{tokens:,}", *(shown(percent, "percent") for percent in found)
