"""What a recording says of the measured requests, the warm-up left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.errors import EngineError
from headway.perf.bench import systems
from headway.perf.bench.systems import select_requests, wait_for_recording, with_recording
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Run
from headway.recording.format import (
    EngineLine,
    Line,
    Recording,
    RequestLine,
    SliceLine,
    StepLine,
    encode_line,
)
from headway.steptime.shape import ModelSizes
from headway.types import Limits
from headway.types.engine import Hardware, PolicyConfig, SchedulerConfig

ENGINE = EngineLine(
    model="m",
    hardware=Hardware(device="cpu", dtype="float32", kv_cache_dtype="float32"),
    scheduler=SchedulerConfig(
        policy=PolicyConfig(name="static"),
        limits=Limits(
            max_num_seqs=2, max_num_batched_tokens=64, max_num_partial_prefills=1, max_model_len=64
        ),
        num_blocks=8,
        block_size=16,
        prefix_caching=False,
    ),
    sizes=ModelSizes(
        name="m",
        flops_per_token=1.0,
        layer_bytes=1.0,
        lm_head_flops=1.0,
        lm_head_bytes=1.0,
        attention_flops_per_pair=1.0,
        kv_bytes_per_position=1.0,
        full_layers=1,
    ),
)


def request(name: str, seq: int, *, arrival: float, step: int, end: int) -> RequestLine:
    return RequestLine(
        id=name,
        seq=seq,
        arrival=arrival,
        step=step,
        end_step=end,
        prompt_tokens=4,
        resumed=0,
        output_tokens=2,
        max_tokens=2,
        stops=False,
        finish="length",
    )


def step(number: int, at: float, *slices: SliceLine) -> StepLine:
    return StepLine(step=number, at=at, cycle=1.0, run=0.9, slices=slices)


# Two slots; the second request ends a step before the first.
RECORDING = Recording(
    engine=ENGINE,
    requests=(
        request("warm-1", 1, arrival=100.0, step=1, end=1),
        request("request-2", 3, arrival=110.5, step=2, end=2),
        request("request-1", 2, arrival=110.0, step=2, end=3),
    ),
    steps=(
        step(1, 100.0, SliceLine(1, 0, 4, 1)),
        step(2, 111.0, SliceLine(2, 0, 4, 1), SliceLine(3, 0, 4, 1)),
        step(3, 112.0, SliceLine(2, 4, 1, 1)),
    ),
)


def test_requests_and_steps_of_the_warm_up_are_left_out() -> None:
    measured = select_requests(RECORDING, "request-")
    assert [line.id for line in measured.requests] == ["request-2", "request-1"]
    assert [line.step for line in measured.steps] == [2, 3]
    assert measured.engine is ENGINE
    assert select_requests(RECORDING, "nobody").steps == ()


def test_bars_are_on_the_clock_of_the_records() -> None:
    # The first request left a quarter of a second after the start and arrived at once.
    records = [
        RequestRecord(id="request-1", due=0.25, sent=0.25, prompt_tokens=4),
        RequestRecord(id="request-2", due=0.75, sent=0.75, prompt_tokens=4),
    ]
    run = Run(system="static", group="burst", records=tuple(records))
    seen = with_recording(run, select_requests(RECORDING, "request-"))
    assert seen.slots == 2
    bars = {bar.request: bar for bar in seen.bars}
    # The origin is 110.0 - 0.25.
    assert (bars["request-1"].begin, bars["request-1"].end) == pytest.approx((1.25, 3.25))
    assert (bars["request-2"].begin, bars["request-2"].end) == pytest.approx((1.25, 2.25))
    assert seen.idle_share == pytest.approx(0.25)
    assert seen.percent_of_limit is None, "nobody measured this machine"


def write(path: Path, recording: Recording, *, steps: int) -> None:
    lines: list[Line] = [recording.engine, *recording.steps[:steps], *recording.requests]
    path.write_bytes(b"".join(map(encode_line, lines)))


def test_the_end_of_a_recording_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, RECORDING, steps=2)

    async def late() -> Recording:
        waiting = asyncio.create_task(wait_for_recording(path, "request-", 2))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        write(path, RECORDING, steps=3)
        return await waiting

    assert [line.step for line in asyncio.run(late()).steps] == [2, 3]


def test_a_recording_that_stays_short_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, RECORDING, steps=3)
    monkeypatch.setattr(systems, "RECORDING_TIMEOUT", 0.05)
    with pytest.raises(EngineError, match="2 of 3"):
        asyncio.run(wait_for_recording(path, "request-", 3))
