"""When to start the next engine process after one died, and counters that outlive processes.

A death while requests ran is the journal's to explain (one of them may make the engine die). A
death without any must be the fault of the machine or the model: after a few in a row, the engine
has failed. Counters go on over restarts, and never fall.
"""

from __future__ import annotations

from itertools import zip_longest

from msgspec.structs import replace

from headway.wire import EngineStats

MAX_DEATHS = 5
HEALTHY_SECONDS = 60.0
"""An engine that lived this long, or delivered any token, clears the count of earlier deaths."""
FIRST_WAIT = 0.5

COUNTERS = (
    "step",
    "preemptions",
    "gave_way",
    "drafts",
    "draft_tokens",
    "accepted_tokens",
    "declined",
    "relegated",
    "shed",
    "computed_tokens",
    "prefix_queries",
    "prefix_hits",
    "busy_seconds",
    "ideal_seconds",
)


class RestartPolicy:
    """Counts deaths that no request explains; the wait before a restart doubles with each."""

    def __init__(self) -> None:
        self._deaths = 0

    def died(self, *, lifetime: float, useful: bool, explained: bool) -> float | None:
        """Seconds to wait before the next start; None if there should be none.

        `useful` says that tokens came from the engine that died, `explained` that it had requests.
        """
        if useful or lifetime >= HEALTHY_SECONDS:
            self._deaths = 0
        if explained:
            return 0.0
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            return None
        return 0.0 if self._deaths == 1 else FIRST_WAIT * 2 ** (self._deaths - 2)


class MonotonicStats:
    """The latest statistics, with the counts of earlier engine processes added.

    Every engine process counts from zero; whoever reads the counters must not notice.
    """

    def __init__(self) -> None:
        self.latest = EngineStats()
        self._before: EngineStats | None = None

    def update(self, stats: EngineStats) -> EngineStats:
        """Take in what the present engine process reports; returns the new `latest`.

        What the engine leaves out, as it has told it before, is filled in.
        """
        if stats.pacing is None and self.latest.pacing is not None:
            stats = replace(stats, pacing=self.latest.pacing)
        if self._before is not None:
            before = self._before
            stats = replace(
                stats,
                accepted_per_position=sum_places(
                    stats.accepted_per_position, before.accepted_per_position
                ),
                **{name: getattr(stats, name) + getattr(before, name) for name in COUNTERS},
            )
        self.latest = stats
        return stats

    def engine_ready(self, blocks: int) -> None:
        """A new process has so many KV blocks, all free, though it says so with its first step."""
        self.latest = replace(self.latest, free_blocks=blocks)

    def engine_died(self) -> EngineStats:
        """Nothing runs any more; what was counted stays counted."""
        counted = {name: getattr(self.latest, name) for name in COUNTERS}
        self.latest = self._before = EngineStats(
            accepted_per_position=self.latest.accepted_per_position, **counted
        )
        return self.latest


def sum_places(*counts: tuple[int, ...]) -> tuple[int, ...]:
    """Sums place by place, as many as the longest one has."""
    return tuple(map(sum, zip_longest(*counts, fillvalue=0)))
