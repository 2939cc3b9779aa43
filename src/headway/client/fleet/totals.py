"""Numbers of several engines as those of one: what is read by who knows one engine only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from headway.client.restarts import COUNTERS, sum_places
from headway.wire import EngineInfo, EngineStats

_LEVELS = ("running", "waiting", "deferred", "free_blocks", "cached_blocks", "idle_slots")
"""What is so at present, and ends with the engine; counters stay."""


class FleetTotals:
    """What the engines of a fleet have done together, those that are gone included."""

    def __init__(self) -> None:
        self.stats = EngineStats()
        """Sums; counters never fall."""
        self.gone_restarts = 0
        """Of those that are gone."""
        self._gone = EngineStats()
        self._latest = EngineStats()

    def update(self, engines: Sequence[EngineStats], latest: EngineStats | None = None) -> None:
        """Sum up anew; `latest` is of the engine that has just told something."""
        self._latest = latest or self._latest
        self.stats = total_stats(engines, self._gone, self._latest)

    def leave(self, stats: EngineStats, restarts: int) -> None:
        """An engine is gone for good; what it counted stays counted."""
        self._gone = counted(self._gone, stats)
        self.gone_restarts += restarts


def total_stats(
    engines: Sequence[EngineStats], gone: EngineStats, latest: EngineStats
) -> EngineStats:
    """Sums over the engines. `gone` is what was counted by those that are no more.

    Size and duration of a step are those of `latest`, which has told its stats last; pacing is what
    was told last by any.
    """
    sums = {name: sum(getattr(each, name) for each in engines) for name in (*COUNTERS, *_LEVELS)}
    for name in COUNTERS:
        sums[name] += getattr(gone, name)
    places = [each.accepted_per_position for each in (*engines, gone)]
    told = [each.pacing for each in engines if each.pacing is not None]
    return EngineStats(
        step_seconds=latest.step_seconds,
        step_tokens=latest.step_tokens,
        accepted_per_position=sum_places(*places),
        pacing=max(told, key=lambda pacing: pacing.at, default=None),
        **sums,
    )


def counted(*engines: EngineStats) -> EngineStats:
    """What stays of these when they are no more."""
    sums = {name: sum(getattr(each, name) for each in engines) for name in COUNTERS}
    places = sum_places(*(each.accepted_per_position for each in engines))
    return EngineStats(accepted_per_position=places, **sums)


def total_info(engines: Sequence[EngineInfo]) -> EngineInfo:
    """The first one's, with the slots and the KV cache of all, and the least longest sequence.

    Weights are counted once: engines map the same file.
    """
    first = engines[0]
    limits = [each.scheduler.limits for each in engines]
    scheduler = replace(
        first.scheduler,
        num_blocks=sum(each.scheduler.num_blocks for each in engines),
        limits=replace(
            first.scheduler.limits,
            max_num_seqs=sum(each.max_num_seqs for each in limits),
            max_model_len=min(each.max_model_len for each in limits),
        ),
    )
    return structs.replace(
        first, scheduler=scheduler, kv_bytes=sum(each.kv_bytes for each in engines)
    )
