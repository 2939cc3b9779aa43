"""When an engine counts as hung, in ticks; no time passes here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replaced

from headway.client.watchdog import (
    LEAST_STEP_TIMEOUT,
    SILENCE_SECONDS,
    SLOWER,
    START_SECONDS,
    START_SILENCE_SECONDS,
    TICK,
    UNKNOWN_STEP_TIMEOUT,
    EngineWatch,
    longest_step,
)
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import Limits
from headway.types.engine import Hardware, SchedulerConfig
from headway.wire import EngineInfo, Heartbeat


def watch(step_timeout: float = 40.0) -> EngineWatch:
    found = EngineWatch()
    found.ready(step_timeout)
    return found


def ticks_until_hung(found: EngineWatch, most: int = 100_000) -> tuple[int, str]:
    for count in range(1, most):
        reason = found.tick()
        if reason is not None:
            return count, reason
    raise AssertionError("it never counted as hung")


def test_silence_is_bounded_and_a_sign_of_life_starts_it_anew() -> None:
    found = watch()
    for _ in range(1000):
        assert found.tick() is None
        found.heard()
    count, reason = ticks_until_hung(found)
    assert count * TICK == SILENCE_SECONDS + TICK
    assert "silent" in reason


def test_an_engine_that_starts_may_be_silent_for_longer_but_must_be_ready_one_day() -> None:
    count, reason = ticks_until_hung(EngineWatch())
    assert count * TICK == START_SILENCE_SECONDS + TICK
    assert "silent" in reason
    found = EngineWatch()
    for count in range(1, 1_000_000):
        found.heard()
        if (late := found.tick()) is not None:
            assert count * TICK == START_SECONDS + TICK
            assert "not ready" in late
            return
    raise AssertionError("it may start for ever")


def beat(found: EngineWatch, step: int, seconds: float | None) -> str | None:
    """One second with a heartbeat at its end."""
    reasons = [found.tick() for _ in range(round(1 / TICK))]
    found.heard()
    found.on_heartbeat(Heartbeat(step=step, seconds=seconds))
    return next((reason for reason in reasons if reason), None)


def test_a_step_that_does_not_end_is_told_from_steps_that_do() -> None:
    found = watch(step_timeout=40.0)
    for second in range(1000):
        assert beat(found, step=second, seconds=0.9) is None
        assert beat(found, step=second, seconds=None) is None
    for second in range(41):
        assert beat(found, step=5000, seconds=float(second)) is None
    # It is the 41st second now; heartbeats alone do not make up for that.
    for second in range(41, 60):
        reason = beat(found, step=5000, seconds=float(second))
        if reason is not None:
            assert "step 5000" in reason
            return
    raise AssertionError("the step may last for ever")


def test_a_machine_that_stood_still_takes_that_for_no_step() -> None:
    found = watch(step_timeout=40.0)
    assert beat(found, step=1, seconds=0.5) is None
    # The engine's clock went on while both processes were stopped for an hour.
    for second in range(20):
        assert beat(found, step=1, seconds=3600.5 + second) is None
    assert beat(found, step=2, seconds=0.1) is None


INFO = EngineInfo(
    hardware=Hardware(
        device="cpu", dtype="int8", kv_cache_dtype="int8", backend="native", threads=2
    ),
    scheduler=SchedulerConfig(
        limits=Limits(
            max_num_seqs=64,
            max_num_batched_tokens=512,
            max_num_partial_prefills=1,
            max_model_len=8192,
        ),
        num_blocks=10_000,
        block_size=32,
    ),
    kv_bytes=0,
    weight_bytes=10**8,
    sizes=ModelSizes(
        name="m",
        flops_per_token=2e8,
        layer_bytes=1e8,
        lm_head_flops=6e7,
        lm_head_bytes=3e7,
        attention_flops_per_pair=2304,
        kv_bytes_per_position=400,
        full_layers=30,
    ),
    machine=PeakRates(device="m", flops_per_second=2e11, bandwidth=2e10),
)


def test_the_bound_on_a_step_follows_the_model_and_the_machine() -> None:
    small = longest_step(INFO)
    assert small >= LEAST_STEP_TIMEOUT
    assert INFO.sizes is not None
    assert INFO.machine is not None
    slow = replace(INFO.machine, flops_per_second=2e9)
    # Half a million million operations on the weights alone, and the attention beside them.
    least = SLOWER * 512 * INFO.sizes.flops_per_token / slow.flops_per_second
    assert longest_step(replaced(INFO, machine=slow)) > least > LEAST_STEP_TIMEOUT
    assert longest_step(replaced(INFO, weight_bytes=10**11)) > 1000


@pytest.mark.parametrize("missing", ["sizes", "machine"])
def test_where_the_machine_is_not_known_the_bound_is_wide(missing: str) -> None:
    assert longest_step(replaced(INFO, **{missing: None})) == UNKNOWN_STEP_TIMEOUT
