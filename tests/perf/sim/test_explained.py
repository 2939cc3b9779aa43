"""What `explain` says of a machine is what a simulation of it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.service import with_classes, with_objectives
from headway.perf.workload.synthetic import gamma, synthesize
from headway.perf.workload.workload import Workload
from headway.scheduling.traffic import TrafficEstimate
from headway.steptime.explanation import Situation, explain
from headway.steptime.margins import BoundedModel
from headway.steptime.profiles import Profile
from headway.types.engine import PolicyConfig
from headway.types.objectives import parse_objectives
from tests.scheduling.harness import request_of

REQUESTS = 900
OVERLOAD = 90.0
"""Requests a second: more than is served."""


def paced_profile() -> Profile:
    profile = roofline_profile(
        known_device("h100"),
        known_model("llama-3.1-8b"),
        dtype="bfloat16",
        kv_cache_dtype="bfloat16",
    )
    limits = replace(profile.scheduler.limits, max_num_seqs=512, max_num_batched_tokens=2048)
    scheduler = replace(profile.scheduler, policy=PolicyConfig(name="paced"), limits=limits)
    return replace(profile, scheduler=scheduler)


def mixed(share: float) -> Workload:
    """This share of the requests asks for a token each 10 ms, the others for nothing."""
    workload = synthesize(
        num_requests=REQUESTS,
        prompt=parse_lengths("400"),
        output=parse_lengths("exponential:100:400"),
        arrivals=gamma(OVERLOAD),
        seed=1,
    )
    classes = with_classes(workload, {"interactive": share, "batch": 1 - share}, seed=1)
    return with_objectives(classes, {"interactive": parse_objectives("ttft=1000s,tpot=10ms")})


def told(workload: Workload, profile: Profile) -> float:
    """Requests a second that are said to be served of this traffic."""
    traffic = TrafficEstimate()
    for spec in workload.requests:
        traffic.arrived(request_of(objectives=spec.objectives, arrival=spec.at))
        traffic.ended(prompt=spec.prompt_tokens, cached=0, generated=spec.output, shared=0)
    means = traffic.means(workload.requests[-1].at)
    assert means is not None
    scheduler = profile.scheduler
    situation = Situation(
        times=BoundedModel(profile.step_times()),
        traffic=means,
        kv_tokens=scheduler.num_blocks * scheduler.block_size,
        limits=scheduler.limits,
    )
    return explain(situation).requests_per_second


def served(workload: Workload, profile: Profile) -> float:
    """Requests a second that end while more come than are served, after a while to fill up."""
    setup = Setup(profile=profile, scheduler=profile.scheduler)
    records = simulate(workload, setup, residuals=False).records
    last = workload.requests[-1].at
    ends = [record.sent + (record.latency or 0.0) for record in records]
    return sum(0.3 * last < end < last for end in ends) / (0.7 * last)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_with_few_tight_requests_the_capacity_is_that_of_the_tightest_pace(share: float) -> None:
    """While one of them is in the batch, and mostly one is, the whole batch keeps its pace."""
    profile, workload = paced_profile(), mixed(share)
    assert told(workload, profile) == pytest.approx(served(workload, profile), rel=0.15)
    everybody_loose = told(mixed(1e-9), profile)
    assert everybody_loose > 1.25 * served(workload, profile)
