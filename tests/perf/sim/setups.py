"""Small machines for simulations whose numbers can be checked by hand, and random workloads."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

from headway.config import PolicyName
from headway.perf.sim.simulate import Setup
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.steptime.model import Residuals
from headway.steptime.profiles import Profile
from headway.steptime.shape import Features, ModelSizes, PeakRates
from headway.types import Limits
from headway.types.engine import Hardware, PolicyConfig, SchedulerConfig

SECOND = replace(Features(*[0.0] * 10), fixed=1000.0)
"""Every step takes a second."""
UNEVEN = replace(
    Features(*[0.0] * 10), fixed=512.0, compute=1.0, decode_cache=1.0, prefill_attention=1.0
)
"""Steps take longer with tokens and contexts, in powers of two, so that sums are exact."""


def sizes_of(window: int | None = None) -> ModelSizes:
    return ModelSizes(
        name="toy",
        flops_per_token=1.0,
        layer_bytes=0.0,
        lm_head_flops=0.0,
        lm_head_bytes=0.0,
        attention_flops_per_pair=1.0,
        kv_bytes_per_position=1.0,
        full_layers=2,
        window_layers=1 if window else 0,
        window=window,
    )


def profile_of(
    coefficients: Features = SECOND,
    *,
    residuals: Residuals | None = None,
    window: int | None = None,
) -> Profile:
    return Profile(
        model="toy",
        hardware=Hardware(device="abacus", dtype="float32", kv_cache_dtype="float32", threads=1),
        scheduler=scheduler_config(),
        sizes=sizes_of(window),
        machine=PeakRates(device="abacus", flops_per_second=256.0, bandwidth=1024.0),
        coefficients=coefficients,
        residuals=residuals or Residuals(),
        fit=None,
    )


def scheduler_config(policy: PolicyName = "continuous", **changes: Any) -> SchedulerConfig:
    config = SchedulerConfig(
        policy=PolicyConfig(name=policy), limits=limits_of(), num_blocks=64, block_size=4
    )
    return replace(config, **changes)


def limits_of(*, seqs: int = 8, tokens: int = 64, partial: int = 1) -> Limits:
    return Limits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_num_partial_prefills=partial,
        max_model_len=256,
    )


def setup_of(policy: PolicyName = "continuous", **changes: Any) -> Setup:
    """Of the changes some are the scheduler's, others the fleet's."""
    fleet = {name: changes.pop(name) for name in _FLEET & changes.keys()}
    setup = Setup(profile=profile_of(), scheduler=scheduler_config(policy, **changes))
    return replace(setup, **fleet)


_FLEET = {field.name for field in fields(Setup)}


def request_of(
    prompt: int = 3, output: int = 4, *, cap: int | None = None, at: float = 0.0, seed: int = 0
) -> WorkloadRequest:
    return WorkloadRequest(
        segments=(Segment(seed, prompt),), output=output, cap=cap or output, at=at
    )


def workload_of(*requests: WorkloadRequest) -> Workload:
    return Workload(name="by hand", requests=requests)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """A few requests with shared beginnings; many end before their cap."""
    requests = []
    for index in range(draw(st.integers(1, 12))):
        shared = draw(st.sampled_from([(), (Segment(1, 8),), (Segment(1, 8), Segment(2, 5))]))
        own = Segment(100 + draw(st.integers(0, 3)) + 10 * index, draw(st.integers(1, 12)))
        output = draw(st.integers(1, 24))
        requests.append(
            WorkloadRequest(
                segments=(*shared, own),
                output=output,
                cap=output + draw(st.sampled_from([0, 0, 1, 9])),
                at=draw(st.integers(0, 60)) / 4,
            )
        )
    return Workload(name="random", requests=tuple(sorted(requests, key=lambda request: request.at)))
