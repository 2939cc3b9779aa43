"""Recordings written by hand, for the tests of what is read from them."""

from __future__ import annotations

from collections.abc import Sequence

from headway.recording.format import EngineLine, Recording, RequestLine, SliceLine, StepLine
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import Limits
from headway.types.engine import Hardware, SchedulerConfig

SIZES = ModelSizes(
    name="tiny",
    flops_per_token=2e6,
    layer_bytes=1e6,
    lm_head_flops=1e5,
    lm_head_bytes=1e5,
    attention_flops_per_pair=256,
    kv_bytes_per_position=128,
    full_layers=2,
)
MACHINE = PeakRates(device="by hand", flops_per_second=1e11, bandwidth=1e9)


def recording(
    steps: Sequence[StepLine], *, names: Sequence[str] = (), machine: PeakRates | None = MACHINE
) -> Recording:
    """Requests are named in the order in which they were added."""
    engine = EngineLine(
        model="tiny",
        hardware=Hardware(device="cpu", dtype="float32", kv_cache_dtype="float32"),
        scheduler=SchedulerConfig(
            limits=Limits(
                max_num_seqs=8,
                max_num_batched_tokens=64,
                max_num_partial_prefills=1,
                max_model_len=128,
            ),
            num_blocks=16,
            block_size=8,
            prefix_caching=False,
        ),
        sizes=SIZES,
        machine=machine,
    )
    requests = tuple(
        RequestLine(
            id=name,
            seq=number,
            arrival=0.0,
            step=1,
            end_step=len(steps),
            prompt_tokens=4,
            resumed=0,
            output_tokens=1,
            max_tokens=8,
            stops=False,
            finish="length",
        )
        for number, name in enumerate(names, start=1)
    )
    return Recording(engine=engine, requests=requests, steps=tuple(steps))


def step(
    number: int,
    slices: Sequence[SliceLine],
    *,
    ended: Sequence[int] = (),
    idle_slots: int = 0,
    at: float | None = None,
) -> StepLine:
    """A step of one second; the first one begins at 10."""
    return StepLine(
        step=number,
        at=9.0 + number if at is None else at,
        cycle=1.0,
        run=0.9,
        slices=tuple(slices),
        ended=tuple(ended),
        idle_slots=idle_slots,
    )


def prefill(seq: int, tokens: int = 4, start: int = 0, *, outputs: int = 1) -> SliceLine:
    return SliceLine(seq, start, tokens, outputs)


def decode(seq: int, start: int) -> SliceLine:
    return SliceLine(seq, start, 1, 1)
