"""Small machines for simulations whose numbers can be checked by hand, and random workloads."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from headway.config import PolicyName
from headway.perf.sim.simulate import Setup
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.steptime.features import Features
from headway.steptime.model import Residuals
from headway.steptime.profiles import Profile
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import Limits

SECOND = Features(*[0.0] * 10)._replace(fixed=1000.0)
"""Every step takes a second."""
UNEVEN = Features(*[0.0] * 10)._replace(
    fixed=512.0, arithmetic=1.0, decode_cache=1.0, prefill_attention=1.0
)
"""Steps take longer with tokens and contexts, in powers of two, so that sums are exact."""


def sizes_of(window: int | None = None) -> ModelSizes:
    return ModelSizes(
        name="toy",
        token_ops=1.0,
        token_bytes=0.0,
        row_ops=0.0,
        row_bytes=0.0,
        pair_ops=1.0,
        position_bytes=1.0,
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
        dtype="float32",
        kv_cache_dtype="float32",
        device="abacus",
        threads=1,
        sizes=sizes_of(window),
        machine=PeakRates(device="abacus", arithmetic=256.0, bandwidth=1024.0),
        coefficients=coefficients,
        residuals=residuals or Residuals(),
        fit=None,
        limits=limits_of(),
        block_size=4,
        num_blocks=64,
    )


def limits_of(*, seqs: int = 8, tokens: int = 64, partial: int = 1) -> Limits:
    return Limits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_num_partial_prefills=partial,
        max_model_len=256,
    )


def setup_of(policy: PolicyName = "continuous", **changes: object) -> Setup:
    setup = Setup(
        profile=profile_of(), limits=limits_of(), num_blocks=64, block_size=4, policy=policy
    )
    return replace(setup, **changes)  # type: ignore[arg-type]


def job_of(
    prompt: int = 3, output: int = 4, *, cap: int | None = None, at: float = 0.0, seed: int = 0
) -> WorkloadRequest:
    return WorkloadRequest(
        segments=(Segment(seed, prompt),), output=output, cap=cap or output, at=at
    )


def workload_of(*jobs: WorkloadRequest) -> Workload:
    return Workload(name="by hand", jobs=jobs)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """A few requests with shared beginnings; many end before their cap."""
    jobs = []
    for index in range(draw(st.integers(1, 12))):
        shared = draw(st.sampled_from([(), (Segment(1, 8),), (Segment(1, 8), Segment(2, 5))]))
        own = Segment(100 + draw(st.integers(0, 3)) + 10 * index, draw(st.integers(1, 12)))
        output = draw(st.integers(1, 24))
        jobs.append(
            WorkloadRequest(
                segments=(*shared, own),
                output=output,
                cap=output + draw(st.sampled_from([0, 0, 1, 9])),
                at=draw(st.integers(0, 60)) / 4,
            )
        )
    return Workload(name="random", jobs=tuple(sorted(jobs, key=lambda job: job.at)))
