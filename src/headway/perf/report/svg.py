"""A report's slot chart as a drawing of its own: an SVG file for documents and slides.

It has its own text, colours for light and dark, and a description for those who cannot see it; it
needs no fonts, no scripts and no network. The same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from pathlib import Path

from headway.codec import write_bytes
from headway.errors import InvalidRequest
from headway.perf.report.figures import groups
from headway.perf.report.headline import headline
from headway.perf.report.plot import Axis, tones
from headway.perf.report.run import Report
from headway.perf.report.slot_chart import ROW, WIDTH, Lane, SlotChart, slot_chart

_MOST_BARS = 300
"""In a lane: more cannot be told apart at this size, and a document is to stay small."""
_ACROSS, _SIDE = 720, 12
_SPAN = _ACROSS - 2 * _SIDE
"""Of the time axis, in the drawing's units, which are about a pixel."""
_HEAD, _SAID, _FOOT = 58, 22, 30
"""Heights: above all lanes, of the text above a lane, below all lanes."""
_BETWEEN = 12
_TONES = (
    ("#0a5fd0", "#5b9dff"),
    ("#d2500f", "#ff8f5e"),
    ("#00845c", "#36c796"),
    ("#b5468e", "#e68cc6"),
    ("#a87400", "#e0b03c"),
    ("#2a8fbd", "#7fcdf2"),
    ("#747c89", "#a3abb8"),
    ("#8a5a3c", "#cf9d7b"),
    ("#4b5563", "#7d8695"),
)
"""On light and on dark ground, as in `page.css`."""


def write_slots(path: str | Path, report: Report) -> None:
    """Write the chart of the leading group's slots, or replace it.

    Raises `InvalidRequest` where no run has bars, or the file cannot be written.
    """
    drawn = slots_svg(report)
    if drawn is None:
        raise InvalidRequest(
            "--svg needs requests that can be drawn: this run kept no bars of them", field="--svg"
        )
    write_bytes(path, drawn.encode())


def slots_svg(report: Report) -> str | None:
    """The SVG of the group that the report leads with; None where no run has bars."""
    lead, by_group = headline(report), groups(report)
    name = lead.group if lead else next(iter(by_group), None)
    if name is None:
        return None
    colour = tones(report, lead.leader if lead else None)
    chart = slot_chart(report.title, by_group[name], colour, most_bars=_MOST_BARS)
    return None if chart is None else _drawing(chart)


def _drawing(chart: SlotChart) -> str:
    """The whole file: what it shows in words, ground, legend, lanes and the time below them."""
    starts = [*accumulate((_SAID + lane.height + _BETWEEN for lane in chart.lanes), initial=_HEAD)]
    bottom = starts[-1]
    title, said = escape(chart.title), escape(" ".join(lane.text for lane in chart.lanes))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_ACROSS} {bottom + _FOOT}" '
            'role="img" aria-labelledby="title text">',
            f'<title id="title">{title}</title>',
            f'<desc id="text">{said}</desc>',
            f"<style>{_style(sorted({lane.tone for lane in chart.lanes}))}</style>",
            '<pattern id="idle" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="hole" width="6" height="6"/>'
            '<rect class="hatch" width="1.5" height="6"/></pattern>',
            f'<rect class="ground" width="{_ACROSS}" height="{bottom + _FOOT}" rx="8"/>',
            f'<text class="bold" x="{_SIDE}" y="22">{title}</text>',
            *_legend(chart.lanes[0].tone),
            *(
                part
                for lane, down in zip(chart.lanes, starts, strict=False)
                for part in _lane(lane, down)
            ),
            *_clock(chart.axis, bottom),
            "</svg>\n",
        ]
    )


def _style(used: Sequence[int]) -> str:
    light, dark = (_colours(used, shade, deep) for shade, deep in ((0, "#000"), (1, "#101216")))
    return (
        "text{font:13px system-ui,sans-serif;fill:#16181d}.bold{font-weight:600}"
        ".soft{fill:#5a6170}.ground{fill:#fff}.hole{fill:#f1f2f5}.hatch{fill:#d3d7df}"
        f".rule{{stroke:#dfe2e8}}\n{light}\n@media(prefers-color-scheme:dark){{"
        "text{fill:#eceef2}.soft{fill:#a2a9b6}.ground{fill:#101216}.hole{fill:#1b1f26}"
        f".hatch{{fill:#3a404b}}.rule{{stroke:#2d323b}}\n{dark}}}"
    )


def _colours(used: Sequence[int], shade: int, deep: str) -> str:
    """Of decodes, and deeper of prefills."""
    return "".join(
        f".d{tone}{{fill:{_TONES[tone][shade]}}}"
        f".p{tone}{{fill:color-mix(in srgb,{_TONES[tone][shade]} 64%,{deep})}}"
        for tone in used
    )


def _legend(tone: int) -> Sequence[str]:
    kinds = ((f'class="p{tone}"', "prefill"), (f'class="d{tone}"', "decode"))
    parts, left = [], _SIDE
    for fill, name in (*kinds, ('fill="url(#idle)"', "idle slot")):
        parts.append(f'<rect {fill} x="{left}" y="34" width="14" height="10" rx="2"/>')
        parts.append(f'<text class="soft" x="{left + 20}" y="43">{name}</text>')
        left += 44 + 7 * len(name)
    return parts


def _lane(lane: Lane, down: int) -> Sequence[str]:
    """A system's name and figures, and below them its slots over time."""
    top, long = down + _SAID, _SPAN * lane.share
    scale = f"scale({_SPAN / WIDTH:g} {lane.height / (lane.rows * ROW):g})"
    end = f"{lane.time}, and on" if lane.goes_on else lane.time
    figures = lane.figures
    if lane.rows < lane.slots:
        figures += f", {lane.rows} slots drawn"
    return [
        f'<text x="{_SIDE}" y="{down + 15}"><tspan class="bold">{escape(lane.system)}</tspan>'
        f'<tspan class="soft" dx="10">{escape(figures)}</tspan></text>',
        f'<text class="soft" x="{_ACROSS - _SIDE}" y="{down + 15}" text-anchor="end">{end}</text>',
        f'<rect fill="url(#idle)" x="{_SIDE}" y="{top}" width="{long:.1f}" '
        f'height="{lane.height}"/>',
        f'<g transform="translate({_SIDE} {top}) {scale}">'
        f'<path class="d{lane.tone}" d="{lane.decode}"/>'
        f'<path class="p{lane.tone}" d="{lane.prefill}"/></g>',
    ]


def _clock(axis: Axis, down: int) -> Sequence[str]:
    """The line of time, with its values."""
    parts = [f'<path class="rule" d="M{_SIDE} {down - 4}h{_SPAN}"/>']
    last = len(axis.ticks) - 1
    for place, tick in enumerate(axis.ticks):
        left = _SIDE + _SPAN * tick.place
        anchor = "start" if place == 0 else "middle" if tick.place < 0.97 else "end"
        unit = " s" if place == last else ""
        parts.append(
            f'<text class="soft" x="{left:.1f}" y="{down + 14}" text-anchor="{anchor}">'
            f"{tick.label}{unit}</text>"
        )
    return parts
