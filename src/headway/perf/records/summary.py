"""All records of one run as figures, under the names that vLLM's benchmark gives them.

Latencies and throughput are those of complete answers. Our own figures beside them count every
request that was offered, so that dropping requests improves none. A figure that cannot be had is
left out, and never zero or NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from headway.perf.records.attainment import Distribution, gap_distribution, meets, of_values
from headway.perf.records.record import RequestRecord
from headway.types.objectives import Objective

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
SHORTEST_RUN = 1e-9
"""Seconds: the clocks tick in nanoseconds, and a run that took less has no rate."""


def summarize(
    records: Sequence[RequestRecord],
    *,
    duration: float,
    objectives: Sequence[Objective] = (),
    gaps: Mapping[int, int] | None = None,
    percentiles: Sequence[float] = PERCENTILES,
) -> dict[str, float]:
    """Figures of a run that took `duration` seconds.

    `gaps` are inter-token times in whole microseconds and how many of each there were, for runs
    whose records do not keep them. Names that end in `_ms` are milliseconds, rates are per second,
    shares are of 1. `request_goodput`, `attainment` and `on_time_output_throughput` need
    `objectives`.
    """
    completed = [record for record in records if record.outcome == "ok"]
    return {
        **_volume(records, completed, duration),
        **(_on_time(records, objectives, duration) if objectives else {}),
        **dict(_latencies(completed, gaps, percentiles)),
        **_offered(records),
    }


def _volume(
    records: Sequence[RequestRecord], completed: Sequence[RequestRecord], duration: float
) -> dict[str, float]:
    read = sum(record.prompt_tokens for record in completed)
    written = sum(record.output_tokens for record in completed)
    figures: dict[str, float] = {
        "completed": len(completed),
        "failed": len(records) - len(completed),
        "duration": duration,
        "total_input_tokens": read,
        "total_output_tokens": written,
        "max_concurrent_requests": _peak_concurrency(records),
    }
    if duration >= SHORTEST_RUN:
        figures["request_throughput"] = len(completed) / duration
        figures["output_throughput"] = written / duration
        figures["total_token_throughput"] = (read + written) / duration
    return figures


def _on_time(
    records: Sequence[RequestRecord], objectives: Sequence[Objective], duration: float
) -> dict[str, float]:
    good = [record for record in records if meets(record, objectives)]
    figures: dict[str, float] = {}
    if records:
        figures["attainment"] = len(good) / len(records)
    if duration >= SHORTEST_RUN:
        figures["request_goodput"] = len(good) / duration
        tokens = sum(record.output_tokens for record in good)
        figures["on_time_output_throughput"] = tokens / duration
    return figures


def _latencies(
    completed: Sequence[RequestRecord],
    gaps: Mapping[int, int] | None,
    percentiles: Sequence[float],
) -> Iterator[tuple[str, float]]:
    times = {
        "ttft": _known(record.ttft for record in completed),
        "tpot": _known(record.tpot for record in completed),
        "itl": gap_distribution(completed, gaps),
        "e2el": _known(record.latency for record in completed),
    }
    for metric, distribution in times.items():
        if not distribution.count:
            continue
        yield f"mean_{metric}_ms", distribution.mean * 1000
        yield f"median_{metric}_ms", distribution.percentile(50) * 1000
        yield f"std_{metric}_ms", distribution.deviation * 1000
        for p in percentiles:
            yield f"p{p:g}_{metric}_ms", distribution.percentile(p) * 1000


def _offered(records: Sequence[RequestRecord]) -> dict[str, float]:
    if not records:
        return {}
    delay = of_values(record.sent - record.due for record in records)
    refused = sum(record.outcome == "refused" for record in records)
    return {
        "shed_share": refused / len(records),
        "largest_gap_ms": max(record.largest_gap for record in records) * 1000,
        "client_lag_p99_ms": delay.percentile(99) * 1000,
        "client_lag_max_ms": delay.percentile(100) * 1000,
    }


def _known(values: Iterable[float | None]) -> Distribution:
    return of_values(value for value in values if value is not None)


def _peak_concurrency(records: Sequence[RequestRecord]) -> int:
    """Most requests with an answer that were in flight together."""
    changes = sorted(
        change
        for record in records
        if record.latency is not None
        for change in ((record.sent, 1), (record.sent + record.latency, -1))
    )
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
