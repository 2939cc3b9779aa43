"""What nobody can beat, and what one who knew all lengths ahead could have: bounds on attainment.

The bound sets work against time. A request's least work is what the step-time model gives for its
tokens alone, with the weights' memory time hidden and the fixed time of steps left out. On time it
must be done between its arrival and its last token's deadline, so the requests that lie within a
stretch of time as a whole cannot take more than that stretch, less the fixed time of its steps,
which take the TPOT that is asked at most. In each of many stretches that do not overlap the
costliest requests are dropped until the others fit: no schedule that keeps such steps drops fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headway.perf.workload.workload import Workload, WorkloadRequest
from headway.steptime.model import StepTimeModel
from headway.steptime.shape import FIXED, StepShape, features
from headway.types.objectives import Pace, pace_of

WINDOWS = (math.inf, 240.0, 120.0, 60.0, 40.0, 30.0, 20.0, 15.0)
"""Seconds of the stretches that are tried; the tightest bound counts."""
PHASES = 4
"""How many times each cutting into stretches is shifted."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request as work to be done within a time. Seconds."""

    arrival: float
    deadline: float
    """Latest end of an answer that is on time."""
    cost: float


def life_of(request: WorkloadRequest) -> StepShape:
    """All steps of a request that is alone, added up."""
    prompt, decodes = request.prompt_tokens, request.output - 1
    return StepShape(
        tokens=prompt + decodes,
        sequences=request.output,
        rows=request.output,
        decodes=decodes,
        decode_context=decodes * prompt + decodes * (decodes + 1) // 2,
        prefill_pairs=prompt * (prompt + 1) // 2,
        prefill_context=prompt,
    )


def cost_of(request: WorkloadRequest, model: StepTimeModel) -> float:
    """Least seconds of a machine that a request takes, whatever is computed beside it."""
    c, part = model.coefficients, features(life_of(request), model.sizes, model.machine)
    return (
        c.sequences * part.sequences
        + c.compute * part.compute
        + c.lm_head * part.lm_head
        + c.decode_cache * part.decode_cache
        + c.prefill_attention * part.prefill_attention
        + c.prefill_cache * part.prefill_cache
    )


def jobs_of(workload: Workload, model: StepTimeModel) -> list[Job]:
    return [
        Job(
            arrival=request.at,
            deadline=request.at + _longest(pace_of(request.objectives), request.output),
            cost=cost_of(request, model),
        )
        for request in workload.requests
    ]


def _longest(pace: Pace, output: int) -> float:
    return min(pace.e2el, pace.ttft + (pace.tpot * (output - 1) if output > 1 else 0.0))


def bound(workload: Workload, model: StepTimeModel) -> dict[str, float]:
    """The most that can be attained, and the load in work over time."""
    jobs = jobs_of(workload, model)
    step = min(pace_of(request.objectives).tpot for request in workload.requests)
    fixed = model.coefficients.fixed * FIXED / step
    span = max(job.deadline for job in jobs) - min(job.arrival for job in jobs)
    least = max(
        sum(_dropped(part, width * (1 - fixed)) for part, width in _parts(jobs, window, phase))
        for window in WINDOWS
        for phase in range(PHASES)
    )
    return {
        "attainment at most": 1 - least / len(jobs),
        "work over time": sum(job.cost for job in jobs) / span + fixed,
        "costliest over median": max(job.cost for job in jobs)
        / sorted(job.cost for job in jobs)[len(jobs) // 2],
    }


def _parts(jobs: Sequence[Job], window: float, phase: int) -> Iterator[tuple[list[Job], float]]:
    """Stretches of time: the jobs that lie within each, and its seconds."""
    begin, end = min(job.arrival for job in jobs), max(job.deadline for job in jobs)
    if math.isinf(window) or window > end - begin or math.isinf(end):
        yield list(jobs), end - begin
        return
    begin -= window * phase / PHASES
    parts: dict[int, list[Job]] = {}
    for job in jobs:
        place = int((job.arrival - begin) // window)
        if job.deadline <= begin + (place + 1) * window:
            parts.setdefault(place, []).append(job)
    for part in parts.values():
        yield part, window


def _dropped(jobs: Sequence[Job], seconds: float) -> int:
    """The fewest jobs to leave out for the others to take no more than these seconds."""
    left, count = sum(job.cost for job in jobs) - seconds, 0
    for job in sorted(jobs, key=lambda each: -each.cost):
        if left <= 0:
            break
        left -= job.cost
        count += 1
    return count
