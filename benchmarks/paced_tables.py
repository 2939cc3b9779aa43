"""What the comparison of `paced` with fixed settings prints: a table for each load."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from paced_loads import Load
from paced_sim import Figures, System
from rounds import table

COLUMNS = (
    ("attained", "attainment", 100),
    ("late", "late_share", 100),
    ("shed", "shed_share", 100),
    ("of answered", "on_time_of_answered", 100),
    ("good req/s", "request_goodput", 1),
    ("on time tok/s", "on_time_output_throughput", 1),
    ("TTFT p50 s", "p50_ttft_ms", 1e-3),
    ("TTFT p99 s", "p99_ttft_ms", 1e-3),
    ("TPOT p50 ms", "p50_tpot_ms", 1),
    ("TPOT p99 ms", "p99_tpot_ms", 1),
    ("gap ms", "largest_gap_ms", 1),
)
Rows = Sequence[Mapping[str, Any]]


def shown(rows: Rows) -> str:
    """A table for each load, the best first. Shares are percent."""
    lines = []
    width = max(len(row["system"]) for row in rows)
    for load in dict.fromkeys(row["load"] for row in rows):
        heads = "  ".join(f"{head:>13}" for head, _, _ in COLUMNS)
        lines += ["", load, f"{'':<{width}}  {heads}"]
        of_load = [row for row in rows if row["load"] == load]
        for row in sorted(of_load, key=lambda each: -each["attainment"]):
            cells = "  ".join(
                f"{row[name] * scale:>13.2f}" if name in row else f"{'-':>13}"
                for _, name, scale in COLUMNS
            )
            lines.append(f"{row['system']:<{width}}  {cells}")
    return "\n".join(lines)


def spread(rows: Rows) -> str:
    """The same in Markdown of rows that were measured several times: medians (least-most)."""
    lines = []
    for load in dict.fromkeys(row["load"] for row in rows):
        of_load = {row["system"]: row["runs"] for row in rows if row["load"] == load}
        ran = {name: [_columns(run) for run in runs] for name, runs in of_load.items()}
        lines += ["", load, table(ran)]
    return "\n".join(lines)


def _columns(figures: Mapping[str, float]) -> dict[str, float]:
    return {head: figures[name] * scale for head, name, scale in COLUMNS if name in figures}


def progress(load: Load, system: System, figures: Figures) -> None:
    """A line as soon as a run is done, with its seconds."""
    cells = ", ".join(f"{head} {value:.4g}" for head, value in _columns(figures).items())
    print(f"{load.name} | {system.name}: {cells}, {figures['duration']:.0f} s", file=sys.stderr)
