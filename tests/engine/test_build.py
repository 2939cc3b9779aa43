"""A real engine, built from settings: it records itself, and knows the machine's limits."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway import machine
from headway.checkpoint import Storage, prepare
from headway.config import EngineConfig
from headway.engine.build import build_engine, draft_proposers, ideal_of
from headway.engine.grammars import ForcedTokens, GrammarGate
from headway.engine.loop import Engine
from headway.errors import InvalidRequest
from headway.grammar import GrammarCompiler
from headway.native import available
from headway.recording.format import read_recordings
from headway.runner import peak_rates
from headway.scheduling.speculation.prompt_lookup import PromptLookup
from headway.steptime.limits import STEPS
from headway.steptime.shape import PeakRates, StepShape, roofline_seconds, shape_of
from headway.types import Slice, StepPlan, Vocabulary
from headway.types.speculation import SpeculativeConfig
from headway.wire import EngineInfo, Start
from tests.models.families import write_tiny
from tests.scheduling.harness import request_of


def measured(*, device: str, dtype: str, threads: int, isa: str | None) -> PeakRates:
    """Peak rates of a machine so fast that no step of the real one comes near them."""
    return PeakRates(
        device=machine.processor(),
        flops_per_second=1e16,
        bandwidth=1e15,
        dtype=dtype,
        threads=threads,
    )


@pytest.fixture(name="prepared")
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(peak_rates, "measure_peak_rates", measured)
    write_tiny("llama", tmp_path / "model")
    storage: Storage = "native-float32" if available() else "float32"
    return prepare(str(tmp_path / "model"), dtype=storage, progress=False).folder


def build(
    prepared: Path, record: Path | None, *, restart: bool = False
) -> tuple[Engine, EngineInfo]:
    config = EngineConfig(
        model="tiny",
        max_model_len=64,
        threads=1,
        kv_cache_memory=2**20,
        device="cpu",
        record=None if record is None else str(record),
    )
    return build_engine(Start(config=config, prepared=str(prepared), restart=restart))


def test_an_engine_records_what_it_computed(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    engine, info = build(prepared, path)
    engine.add(request_of("a", prompt=tuple(range(40)), max_tokens=5))
    for _ in range(5):  # a prompt, then four tokens more
        engine.step()
    assert not engine.has_work
    (found,) = read_recordings(path)
    assert found.engine.model == "tiny"
    assert found.engine.sizes == info.sizes
    assert found.engine.machine == info.machine
    assert found.engine.scheduler == info.scheduler
    assert [line.id for line in found.requests] == ["a"]
    assert len(found.requests[0].hashes) == 45 // info.scheduler.block_size
    assert len(found.steps) == 5
    stats = engine.stats()
    assert stats.busy_seconds == pytest.approx(sum(step.cycle for step in found.steps), abs=1e-5)
    assert info.sizes is not None
    assert info.machine is not None
    shapes = [StepShape(tokens=40, sequences=1, rows=1, prefill_pairs=820, prefill_context=40)]
    shapes += [
        StepShape(tokens=1, sequences=1, rows=1, decodes=1, decode_context=n) for n in range(41, 45)
    ]
    least = sum(roofline_seconds(shape, info.sizes, info.machine) for shape in shapes)
    assert stats.ideal_seconds == pytest.approx(least)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned")
@pytest.mark.skipif(not available(), reason="no native library")
def test_grammars_keep_to_no_processor_where_steps_are_bound_to_one(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, given = os.sched_getaffinity(0), []

    class Noted(GrammarGate):
        def __init__(self, compiler: GrammarCompiler, *, cpus: Collection[int] = ()) -> None:
            super().__init__(compiler, cpus=cpus)
            given.append((cpus, os.sched_getaffinity(0)))

    monkeypatch.setattr("headway.engine.build.GrammarGate", Noted)
    config = EngineConfig(
        model="tiny", max_model_len=64, threads=1, kv_cache_memory=2**20, pin_threads=True
    )
    with ThreadPoolExecutor(1) as threads:  # one that may be bound
        threads.submit(build_engine, Start(config=config, prepared=str(prepared))).result()
    assert given == [(allowed, {min(allowed)})]


def test_drafts_come_from_grammars_and_then_from_the_text(prepared: Path) -> None:
    _, info = build(prepared, None)
    grammars = GrammarCompiler(lambda: Vocabulary(tokens=(), special_ids=(), eos_token_ids=()))
    assert info.scheduler.speculation == SpeculativeConfig(method="ngram")
    found = draft_proposers(info.scheduler, grammars)
    assert [type(each) for each in found] == [ForcedTokens, PromptLookup]
    assert [type(each) for each in draft_proposers(info.scheduler, None)] == [PromptLookup]
    assert draft_proposers(replace(info.scheduler, speculation=None), grammars) == []


def test_an_engine_computes_drafts_that_pay(prepared: Path) -> None:
    """A tiny model soon repeats itself: then there are drafts, and they are right."""
    engine, _ = build(prepared, None)
    engine.add(request_of("a", prompt=tuple(range(3, 9)) * 3, max_tokens=40))
    while engine.has_work:
        engine.step()
    stats = engine.stats()
    assert stats.drafts + stats.declined > 0


def test_without_a_file_nothing_is_written(prepared: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    engine, _ = build(prepared, None)
    engine.add(request_of("a", max_tokens=1))
    engine.step()
    assert set(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written_stops_the_start(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot record to"):
        build(prepared, tmp_path / "absent" / "steps.jsonl")
    with pytest.raises(InvalidRequest, match="record must name a file"):
        EngineConfig(record="")


def test_the_least_time_of_a_plan_is_the_rooflines(prepared: Path) -> None:
    _, info = build(prepared, None)
    plan = StepPlan(step=1, slices=[Slice(seq=1, start=0, tokens=range(9), blocks=(0,), outputs=1)])
    ideal = ideal_of(info)
    assert ideal is not None
    assert info.sizes is not None
    assert info.machine is not None
    shape = shape_of(plan.slices)
    assert ideal(plan.slices) == roofline_seconds(shape, info.sizes, info.machine) > 0


def test_rates_that_steps_exceed_are_raised_kept_and_measured_again(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A first measurement that something disturbed: one byte a second."""
    caplog.set_level(logging.INFO)
    asked: list[str] = []

    def disturbed(*, dtype: str, threads: int, **more: Any) -> PeakRates:
        asked.append(dtype)
        rates = measured(dtype=dtype, threads=threads, **more)
        return replace(rates, bandwidth=1.0)

    monkeypatch.setattr(peak_rates, "measure_peak_rates", disturbed)
    engine, info = build(prepared, None)
    assert info.machine is not None
    assert info.machine.bandwidth == 1.0
    for number in range(2 * STEPS):
        engine.add(request_of(str(number), max_tokens=1))
        engine.step()
    stats = engine.stats()
    assert 0.0 < stats.ideal_seconds <= stats.busy_seconds
    key: dict[str, Any] = {"dtype": info.hardware.dtype, "threads": 1, "isa": info.hardware.isa}

    def kept() -> PeakRates:
        found = peak_rates.kept_peak_rates(machine.processor(), **key)
        assert found is not None
        return found

    deadline = time.monotonic() + 60
    while (raised := kept()).bandwidth == 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert raised.bandwidth > 1000.0
    assert raised.flops_per_second == info.machine.flops_per_second
    assert "event=peak_rates_exceeded" in caplog.text
    # The next start measures again, which gives no more, and the one after it does not.
    for starts in (2, 2):
        _, info = build(prepared, None)
        assert info.machine is not None
        assert info.machine.bandwidth >= raised.bandwidth
        assert len(asked) == starts


def test_without_limits_there_is_no_least_time(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.engine.build.peak_rates_here", lambda **_: None)
    engine, info = build(prepared, None)
    assert ideal_of(info) is None
    engine.add(request_of("a", max_tokens=1))
    engine.step()
    assert engine.stats().ideal_seconds == 0.0
    assert engine.stats().busy_seconds > 0.0


def test_an_engine_that_starts_again_does_without_a_recording_that_it_cannot_write(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = tmp_path / "gone" / "steps.jsonl"
    with pytest.raises(InvalidRequest, match="cannot record to"):
        build(prepared, gone)
    engine, _ = build(prepared, gone, restart=True)
    assert f"recording to {gone} has stopped" in caplog.text
    engine.add(request_of("a", prompt=(1, 2, 3), max_tokens=2))
    while engine.has_work:
        engine.step()
    assert engine.stats().step >= 2
