"""Recordings made up by Hypothesis, and one that can be checked by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from headway.recording.format import (
    EngineLine,
    Line,
    Recording,
    RequestLine,
    SliceLine,
    StepLine,
    encode_line,
)
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import Limits
from headway.types.engine import Hardware, PolicyConfig, SchedulerConfig

SIZES = ModelSizes(
    name="tiny",
    flops_per_token=2e6,
    layer_bytes=1e6,
    lm_head_flops=4e5,
    lm_head_bytes=2e5,
    attention_flops_per_pair=256.0,
    kv_bytes_per_position=128.0,
    full_layers=4,
)
MACHINE = PeakRates(device="a chip", flops_per_second=1e12, bandwidth=3e10, dtype="int8", threads=2)
ENGINE = EngineLine(
    model="tiny",
    hardware=Hardware(
        device="cpu",
        dtype="int8",
        kv_cache_dtype="bfloat16",
        backend="native (avx2)",
        threads=2,
        isa="avx2",
    ),
    scheduler=SchedulerConfig(
        policy=PolicyConfig(name="dynamic", options={"wait": 0.5}),
        limits=Limits(
            max_num_seqs=8, max_num_batched_tokens=64, max_num_partial_prefills=1, max_model_len=256
        ),
        num_blocks=64,
        block_size=16,
    ),
    sizes=SIZES,
)
REQUEST = RequestLine(
    id="a",
    seq=1,
    arrival=1.5,
    step=1,
    end_step=2,
    prompt_tokens=3,
    resumed=0,
    output_tokens=2,
    max_tokens=2,
    stops=False,
    finish="length",
)
STEPS = (
    StepLine(step=1, at=2.0, cycle=0.5, run=0.4, slices=(SliceLine(1, 0, 3, 1),), waiting=1),
    StepLine(step=2, at=2.5, cycle=0.25, run=0.2, slices=(SliceLine(1, 3, 1, 1),)),
)
RECORDING = Recording(engine=ENGINE, requests=(REQUEST,), steps=STEPS)

_counts = st.integers(0, 10**6)
_times = st.floats(0, 1e9, allow_nan=False)
_slices = st.builds(SliceLine, _counts, _counts, _counts, st.sampled_from([0, 1, 1, 4]))


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Any recording whose lines are in the order in which an engine writes them."""
    several = [tuple(draw(st.lists(_slices, max_size=4))) for _ in range(draw(st.integers(0, 4)))]
    steps = tuple(
        StepLine(
            step=number,
            at=draw(_times),
            cycle=draw(_times),
            run=draw(_times),
            slices=slices,
            given=tuple(draw(st.integers(1, 4)) for part in slices if part.outputs > 1),
            ended=tuple(draw(st.lists(_counts, max_size=3))),
            idle_slots=draw(_counts),
            waiting=draw(_counts),
        )
        for number, slices in enumerate(several, 1)
    )
    ends = sorted(draw(st.lists(st.integers(0, 5), max_size=4)))
    requests = tuple(
        replace(
            REQUEST,
            id=draw(st.text(max_size=8)),
            seq=seq,
            end_step=end,
            finish=draw(st.sampled_from(("stop", "length", "abort", "error"))),
            hashes=tuple(draw(st.lists(st.sampled_from(("0" * 16, "f" * 16)), max_size=3))),
        )
        for seq, end in enumerate(ends, 1)
    )
    machine = draw(st.sampled_from((None, MACHINE)))
    return Recording(engine=replace(ENGINE, machine=machine), requests=requests, steps=steps)


def lines_of(recording: Recording) -> Iterator[Line]:
    """The recording's lines as an engine writes them: a request's before that of its last step."""
    yield recording.engine
    requests = list(reversed(recording.requests))
    for step in recording.steps:
        while requests and requests[-1].end_step <= step.step:
            yield requests.pop()
        yield step
    yield from reversed(requests)


def write_recordings(path: Path, recordings: Iterable[Recording]) -> None:
    """Write a file that `read_recordings` reads back."""
    with path.open("wb") as file:
        for recording in recordings:
            file.writelines(map(encode_line, lines_of(recording)))
