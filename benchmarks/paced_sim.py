"""Fixed settings and `paced` in the simulator, on the same loads, over all offered requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from random import Random
from typing import Any, get_args

from headway.config import PolicyOption
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.synthetic import at_rate
from headway.perf.workload.workload import Workload, WorkloadRequest
from headway.scheduling.policy import PARAMETERS, POLICIES
from headway.steptime.model import StepTimeModel
from headway.steptime.profiles import Profile
from headway.types.engine import PolicyConfig
from paced_loads import Load
from paced_oracle import cost_of

PACED = "paced"
FIXED_POLICY = "continuous"
UNPINNED = (1024, 16384)
"""Most sequences and tokens of a step where nobody says how many."""
DEFAULTS = {
    "vLLM's defaults": (256, 2048),
    "vLLM's defaults on a large GPU": (1024, 8192),
    "SGLang's chunk": (512, 8192),
}
LARGE = [
    *((cap, budget) for cap in (32, 64, 128, 256) for budget in (512, 1024, 2048, 4096, 8192)),
    *((cap, 256) for cap in (64, 128, 256)),
]
SMALL = [(cap, budget) for cap in (16, 32, 64, 128) for budget in (64, 128, 256, 512, 1024)]
KEPT = (
    "attainment",
    "shed_share",
    "late_share",
    "request_goodput",
    "on_time_output_throughput",
    "output_throughput",
    "largest_gap_ms",
    "p50_ttft_ms",
    "p99_ttft_ms",
    "p50_tpot_ms",
    "p99_tpot_ms",
    "p99_itl_ms",
    "duration",
)
Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class System:
    """A policy, and its settings."""

    name: str
    policy: str = FIXED_POLICY
    max_num_seqs: int
    max_num_batched_tokens: int
    options: Mapping[str, PolicyOption] = field(default_factory=dict)

    def on(self, profile: Profile) -> Setup:
        limits = replace(
            profile.scheduler.limits,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
        )
        policy = PolicyConfig(name=self.policy, options=self.options)
        scheduler = replace(profile.scheduler, policy=policy, limits=limits)
        return Setup(profile=profile, scheduler=scheduler)


def fixed_systems(grid: Iterable[tuple[int, int]]) -> list[System]:
    """`continuous` at every point of the grid and at the defaults of other engines."""
    named = {point: f"{point[0]} x {point[1]}" for point in grid}
    named |= {point: f"{point[0]} x {point[1]} ({whose})" for whose, point in DEFAULTS.items()}
    return [
        System(name=name, max_num_seqs=cap, max_num_batched_tokens=budget)
        for (cap, budget), name in named.items()
    ]


def settings_of(texts: Sequence[str], grid: Iterable[tuple[int, int]]) -> list[System]:
    """The fixed systems that are written as CAPxBUDGET; all of the grid where none are.

    Raises ValueError for what is written in another way.
    """
    if not texts:
        return fixed_systems(grid)
    points = []
    for text in texts:
        cap, _, budget = text.partition("x")
        if not cap.isdigit() or not budget.isdigit():
            raise ValueError(f"{text!r} is not CAPxBUDGET, such as 64x512")
        points.append((int(cap), int(budget)))
    return [
        system
        for system in fixed_systems(points)
        if (system.max_num_seqs, system.max_num_batched_tokens) in points
    ]


def paced_system(**options: PolicyOption) -> System | None:
    """`paced` with nothing pinned; None where this Headway has no such policy."""
    if PACED not in POLICIES:
        return None
    cap, budget = UNPINNED
    name = PACED + "".join(f", {key} {value}" for key, value in options.items())
    return System(
        name=name, policy=PACED, max_num_seqs=cap, max_num_batched_tokens=budget, options=options
    )


def ablations() -> list[System]:
    """`paced` with each parameter, one at a time, off, at its ends, or with its other choices."""
    found = []
    for parameter in PARAMETERS.values():
        if parameter.policy != PACED:
            continue
        name, default = parameter.field.name, parameter.field.default
        bounds = [parameter.field.metadata.get(end) for end in ("least", "most")]
        choices = [*get_args(parameter.kind)] or bounds
        values = [not default] if isinstance(default, bool) else choices
        found += [
            paced_system(**{name: value})
            for value in values
            if value is not None and value != default
        ]
    return [system for system in found if system is not None]


Refusal = Callable[[Workload], set[int]]
"""Which of the requests, by their place, are turned away before they are seen."""


def at_random(share: float, seed: int = 0) -> Refusal:
    """Every request with the same chance."""

    def chosen(workload: Workload) -> set[int]:
        count = len(workload.requests)
        return set(Random(seed).sample(range(count), round(share * count)))

    return chosen


def costliest(share: float, model: StepTimeModel) -> Refusal:
    """Those that take most of the machine, by one who knows how long answers will be."""

    def chosen(workload: Workload) -> set[int]:
        costs = [cost_of(request, model) for request in workload.requests]
        order = sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
        return set(order[: round(share * len(costs))])

    return chosen


@dataclass(frozen=True, kw_only=True)
class Job:
    """One simulation, small enough to be sent to another process."""

    load: Load
    system: System
    profile: Profile
    refused: frozenset[int] = frozenset()
    label: str = ""


def job_of(
    load: Load, system: System, profile: Profile, refusal: Refusal | None = None, label: str = ""
) -> Job:
    refused = frozenset(refusal(load.workload)) if refusal is not None else frozenset[int]()
    name = f"{system.name}, {label}" if label else system.name
    return Job(load=load, system=system, profile=profile, refused=refused, label=name)


def run(job: Job) -> Figures:
    """Figures of the load's requests, those that were turned away included."""
    requests = job.load.workload.requests
    served = tuple(each for place, each in enumerate(requests) if place not in job.refused)
    outcome = simulate(
        replace(job.load.workload, requests=served), job.system.on(job.profile), residuals=True
    )
    refused = tuple(_refused(requests[place]) for place in sorted(job.refused))
    summary = summarize(outcome.records + refused, duration=outcome.duration, gaps=outcome.gaps)
    figures = kept(summary, outcome.records + refused)
    figures["preemptions"] = sum(replica.preemptions for replica in outcome.replicas)
    return figures


def kept(summary: Mapping[str, float], records: Sequence[RequestRecord]) -> Figures:
    """The figures that are compared, those of classes and tenants among them."""
    figures = {
        name: value
        for name, value in summary.items()
        if name in KEPT or name.startswith(("attainment_", "shed_share_"))
    }
    answered = sum(record.outcome == "ok" for record in records)
    if answered and "attainment" in summary:
        figures["on_time_of_answered"] = summary["attainment"] * len(records) / answered
    return figures


def _refused(request: WorkloadRequest) -> RequestRecord:
    return RequestRecord(
        id="refused",
        due=request.at,
        sent=request.at,
        prompt_tokens=request.prompt_tokens,
        outcome="refused",
        tenant=request.tenant,
        service_class=request.service_class,
        objectives=request.objectives,
    )


def run_all(
    jobs: Sequence[Job], processes: int, told: Callable[[Job, Figures], None]
) -> list[Figures]:
    """Every job's figures, in their order; `told` hears of each as soon as it is done."""
    found = []
    if processes == 1:
        results: Iterable[Figures] = map(run, jobs)
        for job, figures in zip(jobs, results, strict=True):
            told(job, figures)
            found.append(figures)
        return found
    with get_context("spawn").Pool(processes) as pool:
        for job, figures in zip(jobs, pool.imap(run, jobs), strict=True):
            told(job, figures)
            found.append(figures)
    return found


FINEST = 1.02
"""Rates are told apart down to this factor."""
STEADY_SHARE = 0.99


def held(
    system: System, profile: Profile, load: Load, low: float, high: float
) -> tuple[float, list[tuple[float, float]]]:
    """The most times the load's rate at which 99 % attain, and each rate that was tried.

    0 where not even `low` is held. `high` is taken not to be.
    """
    tried: list[tuple[float, float]] = []

    def attains(rate: float) -> bool:
        scaled = replace(load, workload=at_rate(load.workload, rate))
        attained = run(job_of(scaled, system, profile))["attainment"]
        tried.append((rate, attained))
        return attained >= STEADY_SHARE

    if not attains(low):
        return 0.0, tried
    while high / low > FINEST:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if attains(middle) else (low, middle)
    return low, tried


def best(rows: Iterable[Mapping[str, Any]], count: int = 1) -> list[str]:
    """The names of the systems with the highest attainment, and then goodput, over all rows.

    Of those that did the very same, because their limits were never met, only the first.
    """
    totals: dict[str, tuple[float, float]] = {}
    for row in rows:
        attained, good = totals.get(row["system"], (0.0, 0.0))
        totals[row["system"]] = (attained + row["attainment"], good + row["request_goodput"])
    distinct = {total: name for name, total in reversed(totals.items())}
    return [distinct[total] for total in sorted(distinct, reverse=True)[:count]]


def capacity(profile: Profile, systems: Iterable[System], workload: Workload) -> float:
    """The most requests a second that any of the systems serves where all come at once."""
    burst = at_rate(workload, math.inf)
    return max(
        len(burst.requests) / simulate(burst, system.on(profile)).duration for system in systems
    )
