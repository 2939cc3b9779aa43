"""A small model on a round machine, whose features can be worked out in one's head."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from headway.steptime.fit import Fit
from headway.steptime.model import Residuals, StepTimeModel
from headway.steptime.profiles import Profile
from headway.steptime.shape import Features, ModelSizes, PeakRates, StepShape, shape_of
from headway.types import Limits, Slice
from headway.types.engine import Hardware, SchedulerConfig

SIZES = ModelSizes(
    name="round",
    flops_per_token=2e9,
    layer_bytes=4e9,
    lm_head_flops=1e9,
    lm_head_bytes=5e8,
    attention_flops_per_pair=1e6,
    kv_bytes_per_position=1e5,
    full_layers=10,
)
"""On MACHINE: 2 ms a token, 40 ms to read the weights, 1 ms a row, 5 ms to read the head."""
MACHINE = PeakRates(device="round", flops_per_second=1e12, bandwidth=1e11)
WINDOWED = replace(SIZES, full_layers=4, window_layers=6, window=16)
TRUTH = Features(
    fixed=3.0,
    sequences=12.0,
    compute=1.4,
    memory=1.1,
    memory_half_rate=0.2,
    decode_cache=1.6,
    prefill_attention=2.5,
    prefill_cache=1.2,
    lm_head=1.3,
    mixed=0.4,
)
LIMITS = Limits(
    max_num_seqs=8, max_num_batched_tokens=64, max_num_partial_prefills=1, max_model_len=256
)


def part(start: int, count: int, *, outputs: int = 1) -> Slice:
    return Slice(seq=1, start=start, tokens=range(count), blocks=(), outputs=outputs)


def decodes(*contexts: int, window: int | None = None) -> StepShape:
    """A step of decodes that attend to so many positions each."""
    return shape_of([part(context - 1, 1) for context in contexts], window)


@st.composite
def slices(draw: st.DrawFn) -> list[Slice]:
    """Of any step that computes something."""
    some = st.tuples(st.integers(0, 300), st.one_of(st.just(1), st.integers(1, 80)), st.booleans())
    chosen = draw(st.lists(some, min_size=1, max_size=12))
    return [part(start, count, outputs=int(ends)) for start, count, ends in chosen]


def profile() -> Profile:
    return Profile(
        model="Round 1B",
        hardware=Hardware(
            device="cpu",
            dtype="int8",
            kv_cache_dtype="bfloat16",
            backend="native (avx2)",
            threads=2,
            isa="avx2",
        ),
        scheduler=SchedulerConfig(limits=LIMITS, num_blocks=64, block_size=16),
        sizes=SIZES,
        machine=MACHINE,
        coefficients=TRUTH,
        residuals=Residuals(decode=(0.9, 1.0, 1.3), mixed=(1.0, 1.1)),
        fit=Fit(steps=100, mean=0.05, p95=0.1, stalls=2),
    )


def model(sizes: ModelSizes = SIZES, coefficients: Features = TRUTH) -> StepTimeModel:
    return StepTimeModel(sizes, MACHINE, coefficients)
