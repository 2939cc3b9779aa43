"""What a page's script must know of a slot chart, so that a bar can be asked about and followed.

Times are whole ticks, lists are flat, and a request is its place in the chart's list of names, so
that a page stays small. A request has the same name in all systems of a group, which got the same
requests: so it can be found again in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.perf.report.run import Run
from headway.perf.report.why import request_name

TICKS = 10_000
"""In a second."""
NOTHING = -1
"""Stands for what is not known."""


def chart_facts(
    runs: Sequence[Run], until: float, every: Mapping[str, int], *, most_bars: int
) -> dict[str, Any]:
    """The facts of a chart from 0 to `until` seconds; `every` so-many-th slot is drawn of a system.

    A lane is drawn up to its `span`. It has `bars`, five numbers for each (slot, begin, first
    token, end, request), and `facts`, four for each request (sent, prompt tokens, tokens of the
    answer, cached tokens). A run of more than `most_bars` bars has neither: its requests cannot be
    told apart. `slots` is 0 where nobody sees them.
    """
    followed = [run if len(run.bars) <= most_bars else None for run in runs]
    places: dict[str, int] = {}
    for run in filter(None, followed):
        for record in run.records:
            places.setdefault(record.id, len(places))
        for bar in run.bars:
            places.setdefault(bar.request, len(places))
    return {
        "ticks": TICKS,
        "until": _ticks(until),
        "requests": [request_name(name) for name in places],
        "lanes": [
            {
                "system": run.system,
                "slots": run.slots or 0,
                "every": every[run.system],
                "span": _ticks(min(until, max(bar.end for bar in run.bars))),
                **(_facts(run, places) if kept is not None else {"bars": [], "facts": []}),
            }
            for run, kept in zip(runs, followed, strict=True)
        ],
    }


def _facts(run: Run, places: Mapping[str, int]) -> dict[str, list[int]]:
    bars: list[int] = []
    for bar in run.bars:
        times = (_ticks(bar.begin), _ticks(bar.first), _ticks(bar.end))
        bars += (bar.slot, *times, places[bar.request])
    facts = [NOTHING] * (4 * len(places))
    for record in run.records:
        at = 4 * places[record.id]
        told = (record.prompt_tokens, record.output_tokens, record.cached_tokens)
        facts[at : at + 4] = (_ticks(record.sent), *told)
    return {"bars": bars, "facts": facts}


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)
