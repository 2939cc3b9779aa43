"""Simulations as runs of a report, like those that were measured."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from statistics import fmean, pstdev

from headway.measurement.summary import summarize
from headway.report.run import Run
from headway.sim.simulate import Setup, Simulated
from headway.types.objectives import Objective
from headway.workload.job import Workload

MOST_BARS = 5000
"""Requests of which every stay in the batch is kept for a chart."""


def run_of(
    outcome: Simulated,
    *,
    workload: Workload,
    setup: Setup,
    system: str,
    objectives: Seq[Objective] = (),
) -> Run:
    """The simulation as one system on one workload; its bars are the first replica's."""
    first = outcome.replicas[0]
    return Run(
        system=system,
        group=workload.name,
        kind="simulated",
        settings=settings_of(setup),
        spread=spread_of(workload),
        rate=rate_of(workload),
        summary=summarize(
            outcome.records, duration=outcome.duration, objectives=objectives, gaps=outcome.gaps
        ),
        records=outcome.records,
        slots=first.slots or None,
        bars=first.bars,
        idle_share=outcome.idle_share,
        percent_of_limit=outcome.percent_of_limit,
    )


def settings_of(setup: Setup) -> dict[str, str | int | float]:
    """What was set, for people."""
    settings: dict[str, str | int | float] = {
        "policy": setup.policy,
        "max_num_seqs": setup.limits.max_num_seqs,
        "max_num_batched_tokens": setup.limits.max_num_batched_tokens,
        "KV cache tokens": setup.num_blocks * setup.block_size,
        "kv_reservation": setup.kv_reservation,
    }
    if setup.replicas > 1:
        settings |= {"replicas": setup.replicas, "router": setup.router}
    return settings


def spread_of(workload: Workload) -> float | None:
    """Standard deviation of the output lengths over their mean."""
    outputs = [job.output for job in workload.jobs]
    return pstdev(outputs) / fmean(outputs) if outputs else None


def rate_of(workload: Workload) -> float | None:
    """Requests offered a second; None where all come at once."""
    last = workload.jobs[-1].at if workload.jobs else 0.0
    return len(workload.jobs) / last if last > 0 else None
