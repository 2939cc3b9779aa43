"""What a recording says of the measured requests, the warm-up left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headway.errors import EngineError
from headway.perf.bench import in_process as inside
from headway.perf.bench.in_process import part, recorded, run_in_process
from headway.perf.records import RequestRecord
from headway.recording.format import (
    EngineLine,
    Line,
    Recording,
    RequestLine,
    SliceLine,
    StepLine,
    plain,
)
from headway.steptime.shape import ModelSizes
from headway.types import Limits

ENGINE = EngineLine(
    model="m",
    device="cpu",
    dtype="float32",
    kv_cache_dtype="float32",
    backend="reference",
    threads=1,
    policy="static",
    dynamic_wait=0.05,
    prefix_caching=False,
    kv_reservation="on-demand",
    limits=Limits(
        max_num_seqs=2, max_num_batched_tokens=64, max_num_partial_prefills=1, max_model_len=64
    ),
    num_blocks=8,
    block_size=16,
    sizes=ModelSizes(
        name="m",
        token_ops=1.0,
        token_bytes=1.0,
        row_ops=1.0,
        row_bytes=1.0,
        pair_ops=1.0,
        position_bytes=1.0,
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


# Two seats; the second job ends a step before the first.
RECORDING = Recording(
    engine=ENGINE,
    requests=(
        request("warm-1", 1, arrival=100.0, step=1, end=1),
        request("job-2", 3, arrival=110.5, step=2, end=2),
        request("job-1", 2, arrival=110.0, step=2, end=3),
    ),
    steps=(
        step(1, 100.0, SliceLine(1, 0, 4, True)),
        step(2, 111.0, SliceLine(2, 0, 4, True), SliceLine(3, 0, 4, True)),
        step(3, 112.0, SliceLine(2, 4, 1, True)),
    ),
)


def test_requests_and_steps_of_the_warm_up_are_left_out() -> None:
    measured = part(RECORDING, "job-")
    assert [line.id for line in measured.requests] == ["job-2", "job-1"]
    assert [line.step for line in measured.steps] == [2, 3]
    assert measured.engine is ENGINE
    assert part(RECORDING, "nobody").steps == ()


def test_bars_are_on_the_clock_of_the_records() -> None:
    # The first request left a quarter of a second after the start and arrived at once.
    records = [
        RequestRecord(id="job-1", due=0.25, sent=0.25, prompt_tokens=4),
        RequestRecord(id="job-2", due=0.75, sent=0.75, prompt_tokens=4),
    ]
    seen = run_in_process(part(RECORDING, "job-"), records)
    assert seen.slots == 2
    bars = {bar.request: bar for bar in seen.bars}
    # The origin is 110.0 - 0.25.
    assert (bars["job-1"].begin, bars["job-1"].end) == pytest.approx((1.25, 3.25))
    assert (bars["job-2"].begin, bars["job-2"].end) == pytest.approx((1.25, 2.25))
    assert seen.idle_share == pytest.approx(0.25)
    assert seen.percent_of_limit is None, "nobody measured this machine"


def write(path: Path, recording: Recording, *, steps: int) -> None:
    lines: list[Line] = [recording.engine, *recording.steps[:steps], *recording.requests]
    path.write_bytes(b"\n".join(msgspec.json.encode(plain(line)) for line in lines) + b"\n")


def test_the_end_of_a_recording_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, RECORDING, steps=2)

    async def late() -> Recording:
        waiting = asyncio.create_task(recorded(path, "job-", 2))
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
    monkeypatch.setattr(inside, "PATIENCE", 0.05)
    with pytest.raises(EngineError, match="2 of 3"):
        asyncio.run(recorded(path, "job-", 3))
