"""A report as one self-contained page: no network, readable on paper and a telephone.

Chooses what is shown and in which order; the drawings come from `curves`, `search`, `pass_chart`
and `slot_chart`, the markup and the colours from `page.html` and `page.css`, which escape what they
are given. The one script, `facts.js` and `charts.js`, lets bars be followed; the page's policy
allows it by its digest and nothing else, and without it everything is there to read.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from headway.codec import write_bytes
from headway.perf.report.curves import (
    BarList,
    bar_list,
    frontier,
    gain_over_cv,
    latency_cdf,
    over_load,
)
from headway.perf.report.figures import (
    COST,
    FIGURES,
    IDLE,
    ITL,
    ITL_P99,
    LIMIT,
    THROUGHPUT,
    TTFT,
    TTFT_P99,
    Compare,
    error,
    groups,
    heading,
    present,
    ratio,
)
from headway.perf.report.headline import Headline, headline
from headway.perf.report.pass_chart import pass_chart
from headway.perf.report.plot import SIZE, Plot, tones
from headway.perf.report.run import Report, Run
from headway.perf.report.search import trial_plots, trial_table
from headway.perf.report.slot_chart import ROW, SlotChart, slot_chart

Shown = TypeVar("Shown")

# A bar is about 100 bytes of paths and facts, and a page is to stay well below 2 MB.
_MOST_BARS = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[tuple[str, str], ...]], ...]
    """System, tone, and each cell's value with its ratio to the first row's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plots:
    title: str
    note: str
    plots: tuple[Plot, ...]

    @property
    def systems(self) -> set[str]:
        """Those that have a line in any of the plots."""
        return {line.system for plot in self.plots for line in plot.lines}


def write_page(path: str | Path, report: Report) -> None:
    """Writes the page, or replaces it. Raises `InvalidRequest` where it cannot be written."""
    write_bytes(path, render(report).encode())


def render(report: Report) -> str:
    """The page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template("page.html").render(_contents(report)) + "\n"


def _contents(report: Report) -> Mapping[str, object]:
    """All that the template names."""
    lead = headline(report)
    colour = tones(report, (lead.leader or None) if lead else None)
    compare = error if report.prediction else ratio
    by_group = groups(report)
    first = by_group[lead.group] if lead else ()
    slots = _slot_charts(by_group, lead, colour)
    script = _script() if any(chart.answers for chart in slots) else ""
    return {
        "report": report,
        "lead": lead,
        "alone": len(first) == 1,
        "lead_heading": heading(lead.group, first) if lead else "",
        "tones": colour,
        "size": SIZE,
        "row": ROW,
        "slots": slots[:1],
        "more_slots": slots[1:],
        "script": script,
        "policy": _policy(script),
        "tone": colour.get(lead.leader or lead.base, 0) if lead else 0,
        "trials": trial_table(report.trials),
        "passes": pass_chart(report.passes),
        "throughput": _throughput(by_group, colour, compare),
        "efforts": _some(
            [
                bar_list("Output tokens a second", THROUGHPUT, first, colour, compare=compare),
                bar_list("Idle slots", IDLE, first, colour, full=1.0),
                bar_list("Percent of the machine's limit", LIMIT, first, colour, full=100.0),
                bar_list("Cost of a million output tokens", COST, first, colour),
            ]
        ),
        "plots": _searched(report, colour) + _plots(by_group, report.runs, colour),
        "tables": [
            _table(heading(name, runs), runs, colour, compare) for name, runs in by_group.items()
        ],
        "settings": _settings(report.runs),
        "meanings": [figure for figure in FIGURES if figure.means],
    }


def _script() -> str:
    """All of it, in a scope of its own."""
    folder = Path(__file__).parent
    parts = [(folder / name).read_text(encoding="utf-8") for name in ("facts.js", "charts.js")]
    return "(() => {\n" + "\n".join(parts) + "})();"


def _policy(script: str) -> str:
    """The page's Content-Security-Policy: its own style, and that script alone."""
    digest = b64encode(sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; " if script else ""
    return (
        f"default-src 'none'; {allowed}style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'"
    )


def _searched(report: Report, colour: Mapping[str, int]) -> list[_Plots]:
    """What a search attained, if the report is of one."""
    tone = colour[report.runs[0].system] if report.runs else 0
    plots = trial_plots(report, tone)
    note = (
        "Share of the requests that met all objectives; each dot is the best that was tried there, "
        "or at that cost or less."
    )
    return [_Plots(title="What was tried", note=note, plots=plots)] if plots else []


def _slot_charts(
    by_group: Mapping[str, Sequence[Run]], lead: Headline | None, colour: Mapping[str, int]
) -> list[SlotChart]:
    """The leading group's chart first."""
    names = sorted(by_group, key=lambda name: lead is None or name != lead.group)
    lanes = sum(1 for runs in by_group.values() for run in runs if run.bars)
    most = max(300, _MOST_BARS // max(1, lanes))
    charts = (
        slot_chart(heading(name, by_group[name]), by_group[name], colour, most_bars=most)
        for name in names
    )
    return _some(charts)


def _throughput(
    by_group: Mapping[str, Sequence[Run]], colour: Mapping[str, int], compare: Compare
) -> Sequence[BarList]:
    return _some(
        bar_list(heading(name, runs), THROUGHPUT, runs, colour, compare=compare)
        for name, runs in by_group.items()
        if runs[0].rate is None
    )


def _plots(
    by_group: Mapping[str, Sequence[Run]], runs: Sequence[Run], colour: Mapping[str, int]
) -> list[_Plots]:
    """The sections of plots that have any."""
    cdfs = [latency_cdf(heading(name, row), row, colour) for name, row in by_group.items()]
    loads = [over_load(figure, runs, colour) for figure in (TTFT, TTFT_P99, ITL, ITL_P99)]
    sections = (
        (
            "What the variation of lengths does",
            "",
            [gain_over_cv(list(by_group.values()), colour)],
        ),
        (
            "How long an answer takes",
            "Share of requests that had their whole answer after so long. Further left is faster.",
            cdfs,
        ),
        (
            "Under load",
            "Time to the first token (TTFT) and between tokens (ITL) as more requests arrive.",
            loads,
        ),
        (
            "Throughput against latency",
            "Each dot is one rate of arrivals. The best place is low and far to the right.",
            [frontier(runs, colour)],
        ),
    )
    return [
        _Plots(title=title, note=note, plots=tuple(_some(plots)))
        for title, note, plots in sections
        if _some(plots)
    ]


def _table(title: str, runs: Sequence[Run], colour: Mapping[str, int], compare: Compare) -> _Table:
    columns = present(runs, brief=False)
    rows = []
    for place, run in enumerate(runs):
        cells = []
        for figure in columns:
            value = figure.of(run)
            compared = figure.label in ("output", "latency p50") and place
            base = figure.of(runs[0]) if compared else None
            cells.append((figure.written(run), compare(value, base)))
        rows.append((run.system, colour[run.system], tuple(cells)))
    labels = tuple(
        figure.label + (f" {figure.unit}" if figure.unit.endswith("/s") else "")
        for figure in columns
    )
    return _Table(title=title, columns=labels, rows=tuple(rows))


def _settings(runs: Iterable[Run]) -> Mapping[str, str]:
    """Each system's settings, as they were in its first run."""
    found: dict[str, str] = {}
    for run in runs:
        text = ", ".join(f"{name} {value}" for name, value in run.settings.items())
        if text:
            found.setdefault(run.system, text)
    return found


def _some(items: Iterable[Shown | None]) -> list[Shown]:
    return [item for item in items if item is not None]
