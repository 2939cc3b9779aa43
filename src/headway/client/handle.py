"""Engine counters that never fall, although every engine process counts from zero."""

from __future__ import annotations

from msgspec.structs import replace

from headway.wire import EngineStats

COUNTERS = (
    "step",
    "preemptions",
    "computed_tokens",
    "prefix_queries",
    "prefix_hits",
    "busy_seconds",
    "ideal_seconds",
)


class MonotonicStats:
    """The latest statistics, with what earlier engine processes had counted added."""

    def __init__(self) -> None:
        self.latest = EngineStats()
        self._before: EngineStats | None = None

    def read(self, stats: EngineStats) -> EngineStats:
        if self._before is not None:
            before = self._before
            stats = replace(
                stats, **{name: getattr(stats, name) + getattr(before, name) for name in COUNTERS}
            )
        self.latest = stats
        return stats

    def engine_died(self) -> EngineStats:
        """Nothing runs any more; what was counted stays counted."""
        counted = {name: getattr(self.latest, name) for name in COUNTERS}
        self.latest = self._before = EngineStats(**counted)
        return self.latest
