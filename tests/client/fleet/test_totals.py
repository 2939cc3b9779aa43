"""Statistics and limits of several engines as those of one."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from headway.client.fleet.totals import FleetTotals, total_info
from headway.client.restarts import COUNTERS
from headway.wire import EngineStats, PacingStats
from tests.client.fleet.scripted import INFO


def test_counts_are_added_and_a_step_is_the_last_ones() -> None:
    totals = FleetTotals()
    one = EngineStats(step=3, running=2, step_tokens=5, step_seconds=0.5, free_blocks=7)
    other = EngineStats(step=4, running=1, waiting=6, step_tokens=9, accepted_per_position=(2, 1))
    totals.update([one, other], other)
    stats = totals.stats
    assert (stats.step, stats.running, stats.waiting, stats.free_blocks) == (7, 3, 6, 7)
    assert (stats.step_tokens, stats.step_seconds) == (9, 0.0)
    assert stats.accepted_per_position == (2, 1)
    totals.update([one, other], one)
    assert (totals.stats.step_tokens, totals.stats.step_seconds) == (5, 0.5)


def test_what_was_counted_by_one_that_is_gone_stays_counted() -> None:
    totals = FleetTotals()
    engines = [
        structs.replace(
            EngineStats(accepted_per_position=(number,), running=9),
            **dict.fromkeys(COUNTERS, number),
        )
        for number in (1, 2, 4)
    ]
    totals.update(engines, engines[0])
    for at, number in enumerate((1, 2)):
        totals.leave(engines[at], restarts=number)
        totals.update(engines[at + 1 :])
    assert {getattr(totals.stats, name) for name in COUNTERS} == {7}
    assert totals.stats.accepted_per_position == (7,)
    assert (totals.stats.running, totals.gone_restarts) == (9, 3)


def test_pacing_is_what_was_told_last() -> None:
    totals = FleetTotals()
    early, late = PacingStats(at=1.0), PacingStats(at=2.0)
    totals.update([EngineStats(pacing=late), EngineStats(pacing=early), EngineStats()])
    assert totals.stats.pacing is late
    totals.update([EngineStats()])
    assert totals.stats.pacing is None


def test_limits_are_those_of_all_and_the_longest_request_is_one_that_all_take() -> None:
    scheduler = INFO.scheduler
    shorter = replace(scheduler, limits=replace(scheduler.limits, max_model_len=500))
    info = total_info([INFO, structs.replace(INFO, scheduler=shorter)])
    limits = info.scheduler.limits
    assert (info.scheduler.num_blocks, info.kv_bytes, info.weight_bytes) == (200, 1600, 50)
    assert (limits.max_num_seqs, limits.max_model_len) == (6, 500)
    assert limits.max_num_batched_tokens == 64
