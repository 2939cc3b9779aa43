"""What an operator reads in the log beside requests: warnings at the start, figures now and then.

The figures are those of `/metrics`, in one line every `log_stats_interval` seconds, and none while
nothing happens. They cost nothing in between: the line is made from counters that are kept anyway.
"""

from __future__ import annotations

import asyncio

from headway import machine
from headway.background import watched
from headway.client import EngineHandle
from headway.clock import Clock, MonotonicClock
from headway.config import EngineConfig, ServerConfig
from headway.logs import Event, line
from headway.server.logs import log
from headway.server.metrics import Metrics
from headway.wire import EngineStats


def warn_of_threads(config: EngineConfig, *, replicas: int = 1) -> None:
    """Say so where compute threads, of one engine or of all, would wait for each other's cores."""
    cores, threads = machine.cores(), replicas * (config.threads or 1)
    if threads > cores and (config.threads is not None or replicas > 1):
        advice = "more compute threads than usable cores make every step slower"
        log.warning(line("too_many_threads", threads=threads, cores=cores, advice=advice))


class Statistics:
    """Figures of the time since the last line."""

    def __init__(
        self, metrics: Metrics, client: EngineHandle, *, clock: Clock | None = None
    ) -> None:
        self._metrics = metrics
        self._client = client
        self._clock = clock or MonotonicClock()
        self._before = self._read()
        self._judged = metrics.attainment.attained, metrics.attainment.judged

    def line(self) -> Event | None:
        """The next line; None where nothing runs or waits and nothing was computed."""
        before, self._before = self._before, self._read()
        now, prompt, generated, stats = self._before
        was, old_prompt, old_generated, old = before
        attained, judged = self._attained_since()
        busy = stats.running or stats.waiting or stats.step != old.step
        if not busy or now <= was:
            return None
        blocks = self._client.info.scheduler.num_blocks
        queries = stats.prefix_queries - old.prefix_queries
        hits = stats.prefix_hits - old.prefix_hits
        drafts = stats.draft_tokens - old.draft_tokens
        accepted = stats.accepted_tokens - old.accepted_tokens
        return line(
            "stats",
            running=stats.running,
            waiting=stats.waiting,
            prompt_tokens_per_second=round((prompt - old_prompt) / (now - was), 1),
            generated_tokens_per_second=round((generated - old_generated) / (now - was), 1),
            kv_cache_percent=round(100 * (1 - stats.free_blocks / blocks), 1) if blocks else None,
            prefix_hit_percent=round(100 * hits / queries, 1) if queries > 0 else None,
            preemptions=stats.preemptions - old.preemptions,
            draft_tokens_per_second=round(drafts / (now - was), 1) if drafts > 0 else None,
            accepted_draft_percent=round(100 * accepted / drafts, 1) if drafts > 0 else None,
            attainment=round(attained / judged, 3) if judged else None,
        )

    def _attained_since(self) -> tuple[int, int]:
        """Since the last call: requests that kept their objectives, of those that had any."""
        before = self._judged
        self._judged = self._metrics.attainment.attained, self._metrics.attainment.judged
        return self._judged[0] - before[0], self._judged[1] - before[1]

    def _read(self) -> tuple[float, float, float, EngineStats]:
        prompt, generated = self._metrics.tokens()
        return self._clock.now(), prompt, generated, self._client.stats


def log_statistics(
    metrics: Metrics, client: EngineHandle, config: ServerConfig
) -> asyncio.Task[None] | None:
    """Log them from now on until the task is cancelled; None where that is turned off."""
    if config.log_stats_interval == 0:
        return None
    statistics = Statistics(metrics, client)
    return watched(
        _log_often(statistics, config.log_stats_interval),
        name="headway-statistics",
        on_failure=lambda _: None,  # The figures are in `/metrics` as well.
    )


async def _log_often(statistics: Statistics, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            found = statistics.line()
        except Exception:  # figures are not worth the task: the next line may do
            log.exception(line("error", task="statistics"))
            continue
        if found is not None:
            log.info(found)
