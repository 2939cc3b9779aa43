"""Figures of several systems over several runs as one table: medians, spread and ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One turn of one system; without figures where it failed."""

    system: str
    figures: Figures
    chosen: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Results:
    systems: list[str]
    runs: list[Run]

    def values(self, system: str, figure: str) -> list[float]:
        """What all runs of a system gave, in their order."""
        return [
            run.figures[figure]
            for run in self.runs
            if run.system == system and figure in run.figures
        ]

    def failures(self, system: str) -> int:
        return sum(run.system == system and bool(run.error) for run in self.runs)


def more_is_better(figure: str) -> bool:
    return figure.endswith(("tokens/s", "%"))


def table(results: Results) -> str:
    """Markdown: a row for each figure, medians with (least-most), and the ratio in our favour."""
    names = list(dict.fromkeys(name for run in results.runs for name in run.figures))
    lines = [
        "| | " + " | ".join(results.systems) + " | best of ours to best peer |",
        "|" + "---|" * (len(results.systems) + 2),
    ]
    for figure in names:
        cells = [_cell(results.values(system, figure)) for system in results.systems]
        lines.append(f"| {figure} | " + " | ".join(cells) + f" | {_ratio(results, figure)} |")
    failed = [f"{name}: {results.failures(name)}" for name in results.systems]
    if any(run.error for run in results.runs):
        lines.append("\nFailed turns: " + ", ".join(failed))
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    median = _short(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({_short(min(values))}-{_short(max(values))}, n={len(values)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(results: Results, figure: str) -> str:
    """How many times better the best of ours is than the best other, by medians."""
    best: dict[bool, float] = {}
    for system in results.systems:
        values = results.values(system, figure)
        if values:
            ours = system.startswith("headway")
            middle = statistics.median(values)
            better = max if more_is_better(figure) else min
            best[ours] = better(best.get(ours, middle), middle)
    if len(best) < 2 or min(best.values()) <= 0:
        return ""
    ratio = best[True] / best[False] if more_is_better(figure) else best[False] / best[True]
    return f"{ratio:.2f}"
