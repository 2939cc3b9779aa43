"""Small drawings for the documents, from the records of `paced.py`: SVG files with their own text.

    python benchmarks/plots.py rate h100.json --out docs/images/rate.svg
    python benchmarks/plots.py loads real.json --out docs/images/loads.svg

`rate`: attainment over the rate, of `paced`, of whichever fixed setting is best at each rate, and
of vLLM's defaults. `loads`: attainment by load on the real engine, a mark for each run. The same
record gives the same bytes. Colours follow the reader's choice of light or dark where the viewer
tells it; each drawing has a ground of its own, so it can be read where it does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from headway.perf.report.plot import Axis, axis_of, linear
from paced_sim import DEFAULTS, PACED

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 60, 24, 60, 48
PLOT_HEIGHT, ROW = 240, 22
STYLE = """
text{font:13px system-ui,sans-serif;fill:#16181d}.soft{fill:#5a6170}.ground{fill:#fff}
path{fill:none;stroke-width:2.5}circle{opacity:.8}
.rule{stroke:#dfe2e8;stroke-width:1}
.s0{stroke:#0a5fd0}.s1{stroke:#d2500f;stroke-dasharray:7 4}.s2{stroke:#747c89;stroke-dasharray:2 4}
.s3{stroke:#00845c}.s4{stroke:#b5468e}.s5{stroke:#a87400}
.f0{fill:#0a5fd0}.f1{fill:#d2500f}.f2{fill:#747c89}
.f3{fill:#00845c}.f4{fill:#b5468e}.f5{fill:#a87400}
@media(prefers-color-scheme:dark){
text{fill:#eceef2}.soft{fill:#a2a9b6}.ground{fill:#101216}.rule{stroke:#2d323b}
.s0{stroke:#5b9dff}.s1{stroke:#ff8f5e}.s2{stroke:#a3abb8}
.s3{stroke:#36c796}.s4{stroke:#e68cc6}.s5{stroke:#e0b03c}
.f0{fill:#5b9dff}.f1{fill:#ff8f5e}.f2{fill:#a3abb8}
.f3{fill:#36c796}.f4{fill:#e68cc6}.f5{fill:#e0b03c}}
""".strip()
TONES = 6
VLLM = next(iter(DEFAULTS))
Row = Mapping[str, Any]
Points = Sequence[tuple[float, float]]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def over_rate(rows: Sequence[Row], trace: str) -> dict[str, Points]:
    """By system, points of rate and attainment; the best fixed setting may be another at each rate.

    Raises ValueError where the record has fewer than two rates of the trace.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    loads = dict.fromkeys(row["load"] for row in rows if row["family"] == trace)
    if len(loads) < 2:
        raise ValueError(f"the record has {len(loads)} rates of {trace!r}, and a line needs two")
    for load in loads:
        rate = float(load.rpartition(" x ")[2])
        of_load = [row for row in rows if row["load"] == load and not row["refused"]]
        fixed = [row for row in of_load if row["policy"] != PACED]
        best = max(row["attainment"] for row in fixed)
        by_name = {row["system"]: row["attainment"] for row in of_load}
        for name, value in (
            (PACED, by_name.get(PACED)),
            ("the best fixed setting at each rate", best),
            (VLLM, next((y for name, y in by_name.items() if f"({VLLM})" in name), None)),
        ):
            if value is not None:
                found.setdefault(name, []).append((rate, value))
    return {name: sorted(points) for name, points in found.items()}


def rate_plot(rows: Sequence[Row], trace: str, title: str) -> str:
    """The SVG of attainment over rate."""
    points = over_rate(rows, trace)
    rates = sorted({rate for row in points.values() for rate, _ in row})
    low, high = rates[0], rates[-1]
    y = linear(1.0, label="attained", write=percent, steps=4)
    bottom = TOP + PLOT_HEIGHT
    span = WIDTH - LEFT - RIGHT

    def across(rate: float) -> float:
        return LEFT + span * (rate - low) / (high - low)

    parts = _rules(y, bottom)
    parts += [
        f'<text class="soft" x="{across(rate):.0f}" y="{bottom + 18}" text-anchor="middle">'
        f"{rate:g}</text>"
        for rate in _far_enough(rates, across)
    ]
    under = f"times the rate of the trace ({escape(trace)})"
    parts.append(
        f'<text class="soft" x="{LEFT + span / 2:.0f}" y="{bottom + 38}" text-anchor="middle">'
        f"{under}</text>"
    )
    for tone, row in enumerate(points.values()):
        spots = [(across(rate), bottom - PLOT_HEIGHT * y.place(share)) for rate, share in row]
        path = "L".join(f"{left:.1f} {down:.1f}" for left, down in spots)
        parts.append(f'<path class="s{tone}" d="M{path}"/>')
        parts += [_dot(left, down, tone, 3.5) for left, down in spots]
    text = " ".join(
        f"{name}: " + ", ".join(f"{percent(share)} at {rate:g}" for rate, share in row) + "."
        for name, row in points.items()
    )
    return _drawing(title, f"Attainment at {under}. {text}", [*points], parts, bottom + BOTTOM)


def _far_enough(rates: Sequence[float], across: Any) -> list[float]:
    """Those that can be written beside each other."""
    kept: list[float] = []
    for rate in rates:
        if not kept or across(rate) - across(kept[-1]) >= 36:
            kept.append(rate)
    return kept


def loads_plot(rows: Sequence[Row], title: str) -> str:
    """The SVG of attainment by load: a row for each system, a mark a run, a stroke at the median.

    Raises ValueError where no row tells its runs.
    """
    measured = [row for row in rows if row.get("runs")]
    if not measured:
        raise ValueError("the record has no runs; those of `paced.py real` do")
    systems = [*dict.fromkeys(row["system"] for row in measured)]
    systems.sort(key=lambda name: not name.startswith(PACED))
    loads = [*dict.fromkeys(row["load"] for row in measured)]
    left = LEFT + 90
    span = WIDTH - left - RIGHT
    parts: list[str] = []
    said = []
    down = float(TOP)
    for load in loads:
        of_load = {row["system"]: row for row in measured if row["load"] == load}
        middle = down + ROW * len(of_load) / 2
        parts.append(f'<text x="12" y="{middle + 4:.0f}">{escape(load)}</text>')
        for name in (each for each in systems if each in of_load):
            shares = [run["attainment"] for run in of_load[name]["runs"]]
            tone, centre = systems.index(name) % TONES, down + ROW / 2
            parts += [_dot(left + span * share, centre, tone, 4) for share in sorted(shares)]
            median = statistics.median(shares)
            at = left + span * median
            parts.append(f'<path class="s{tone}" d="M{at:.1f} {centre - 8:.1f}v16"/>')
            spread = f"{percent(min(shares))} to {percent(max(shares))}"
            said.append(f"{load}, {name}: {percent(median)} ({spread}).")
            down += ROW
        down += ROW / 2
    grid = [
        f'<path class="rule" d="M{left + span * tick.place:.0f} {TOP - 4}V{down:.0f}"/>'
        f'<text class="soft" x="{left + span * tick.place:.0f}" y="{down + 16:.0f}" '
        f'text-anchor="middle">{tick.label}</text>'
        for tick in axis_of([1.0], label="attained", write=percent, steps=4).ticks
    ]
    return _drawing(title, " ".join(said), systems, grid + parts, round(down) + 28)


def _rules(y: Axis, bottom: int) -> list[str]:
    """A line and its value for each tick of the vertical axis."""
    parts = []
    for tick in y.ticks:
        down = bottom - PLOT_HEIGHT * tick.place
        parts.append(f'<path class="rule" d="M{LEFT} {down:.0f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="soft" x="{LEFT - 8}" y="{down + 4:.0f}" text-anchor="end">'
            f"{tick.label}</text>"
        )
    return parts


def _dot(left: float, down: float, tone: int, radius: float) -> str:
    return f'<circle class="f{tone % TONES}" cx="{left:.1f}" cy="{down:.1f}" r="{radius:g}"/>'


def _drawing(
    title: str, text: str, systems: Sequence[str], parts: Sequence[str], height: int
) -> str:
    """The whole file: what it shows in words, ground, heading, legend, and the parts."""
    legend: list[str] = []
    left = down = 0
    for tone, name in enumerate(systems):
        wide = 48 + round(7.2 * len(name))
        if left and left + wide > WIDTH - 12:
            left, down = 0, down + 20
        legend.append(
            f'<path class="s{tone % TONES}" d="M{left + 12} {down + 38}h24"/>'
            f'<text x="{left + 42}" y="{down + 42}">{escape(name)}</text>'
        )
        left += wide
    height += down
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-labelledby="title text">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="text">{escape(text)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
            f'<text x="12" y="22" font-weight="600">{escape(title)}</text>',
            *legend,
            f'<g transform="translate(0 {down})">',
            *parts,
            "</g>",
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Drawings for the documents.")
    parser.add_argument("what", choices=("rate", "loads"))
    parser.add_argument("records", type=Path, nargs="+", help="of paced.py; rows are put together")
    parser.add_argument("--trace", default="azure conversation", help="of rate")
    parser.add_argument("--title", help="instead of one that says what is drawn")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [row for path in given.records for row in json.loads(path.read_text())["rows"]]
    try:
        if given.what == "rate":
            title = given.title or "Requests that kept their objectives, of all that were offered"
            drawn = rate_plot(rows, given.trace, title)
        else:
            title = given.title or "Requests that kept their objectives, a mark for each run"
            drawn = loads_plot(rows, title)
    except ValueError as error:
        parser.error(str(error))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(drawn)


if __name__ == "__main__":
    main()
