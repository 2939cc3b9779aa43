"""Which systems of a group the measurement tells apart, and which are too close to call.

Systems that ran in several rounds have a range for each figure. Where the ranges of two overlap,
another round could have turned them round, so neither is called the better one.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.perf.report.figures import shown, three
from headway.perf.report.run import Run

THROUGHPUT = "output_throughput"
LATENCY = "p50_e2el_ms"

LEVEL = 1.02
"""Figures that differ by less than this factor say nothing."""


def deciding(leader: Run, other: Run) -> str:
    """The figure that tells two systems apart: throughput, or where requests come at a rate that
    both keep up with, median latency."""
    mine, theirs = leader.summary.get(THROUGHPUT, 0.0), other.summary.get(THROUGHPUT, 0.0)
    return LATENCY if leader.rate is not None and theirs * LEVEL >= mine else THROUGHPUT


def indistinct(leader: Run, other: Run) -> bool:
    """Whether both ran in several rounds, and their ranges of the deciding figure overlap."""
    figure = deciding(leader, other)
    mine, theirs = leader.ranges.get(figure), other.ranges.get(figure)
    if mine is None or theirs is None:
        return False
    return mine[0] <= theirs[1] and theirs[0] <= mine[1]


def too_close(leader: Run, runs: Sequence[Run]) -> str:
    """A sentence that names the systems that may be as good as the leader; empty without any."""
    near = [run for run in runs if run is not leader and indistinct(leader, run)]
    if not near:
        return ""
    figure = deciding(leader, near[0])
    ranges = ", ".join(f"{run.system} {range_text(run, figure)}" for run in (leader, *near))
    return f"Too close to call, as the ranges of their rounds overlap: {ranges}."


def range_text(run: Run, figure: str) -> str:
    """Such as "98.1 to 104 tokens/s"; empty for a run of a single round."""
    found = run.ranges.get(figure)
    if found is None:
        return ""
    if figure == THROUGHPUT:
        return f"{three(found[0])} to {three(found[1])} tokens/s"
    return f"{shown(found[0], 'ms')} to {shown(found[1], 'ms')}"
