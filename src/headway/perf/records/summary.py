"""All records of one run as figures, under the names that vLLM's benchmark gives them.

Latencies and throughput are those of complete answers. Our own figures beside them count every
request that was *offered*: one that was refused or failed took forever, so that dropping requests
improves none. A figure that cannot be had is left out, and never zero or NaN.

Percentiles interpolate linearly between neighbours, as numpy's default does, over a list of values
or over values with counts: a simulation of a hundred thousand requests has too many inter-token
times to keep.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from headway.perf.records.attainment import SHORTEST_RUN, held_to, on_time_figures, time_of
from headway.perf.records.record import RequestRecord
from headway.types.objectives import Metric, Objective


@dataclass(frozen=True, slots=True)
class Distribution:
    """Sorted values, each with how many values up to and including it there are."""

    values: Sequence[float]
    totals: Sequence[int]

    @property
    def count(self) -> int:
        return self.totals[-1] if self.totals else 0

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return math.fsum(value * n for value, n in self._counted()) / self.count

    @property
    def deviation(self) -> float:
        """Standard deviation of the values themselves, not of a population behind them."""
        mean = self.mean
        squares = math.fsum((value - mean) ** 2 * n for value, n in self._counted())
        return math.sqrt(squares / self.count)

    def percentile(self, p: float) -> float:
        """Of at least one value; `p` is from 0 to 100."""
        if not 0 <= p <= 100:
            raise ValueError(f"percentiles are from 0 to 100, not {p}")
        if not self.count:
            raise ValueError("no values to take a percentile of")
        place = (self.count - 1) * p / 100
        below = math.floor(place)
        low = self.values[bisect_right(self.totals, below)]
        high = self.values[bisect_right(self.totals, min(below + 1, self.count - 1))]
        # Equal neighbours may be infinite, and infinity less itself is no number.
        return low if low == high or place == below else low + (high - low) * (place - below)

    def _counted(self) -> Iterable[tuple[float, int]]:
        before = 0
        for value, total in zip(self.values, self.totals, strict=True):
            yield value, total - before
            before = total


def of_values(values: Iterable[float]) -> Distribution:
    """Each value counts once."""
    ordered = sorted(values)
    return Distribution(ordered, range(1, len(ordered) + 1))


def of_counts(counts: Mapping[int, int] | Mapping[float, int]) -> Distribution:
    """Values and how often each occurs."""
    ordered = sorted((value, n) for value, n in counts.items() if n > 0)
    return Distribution([value for value, _ in ordered], [*accumulate(n for _, n in ordered)])


def percentile(values: Iterable[float], p: float) -> float:
    """The `p`th percentile, 0 to 100; raises `ValueError` where there are no values."""
    return of_values(values).percentile(p)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveResult:
    """One objective: the value that was measured, and whether it was met."""

    objective: Objective
    value: float | None
    """Seconds at the objective's percentile (the largest, if it has none). None if so many requests
    had no whole answer that there is no such time, or if nothing of the kind was measured."""
    met: bool


def objectives_met(
    records: Sequence[RequestRecord],
    objectives: Sequence[Objective],
    *,
    gaps: Mapping[int, int] | None = None,
) -> tuple[ObjectiveResult, ...]:
    """Each objective's time at its percentile, and whether it is met: those of the run, and those
    that requests brought with them, each over the offered requests that are held to it.

    An ITL with a percentile is over all gaps of whole answers instead (`gaps`, in microseconds and
    how many, where they were counted elsewhere, of all requests together); without one it is every
    request's largest gap. An objective that no request is held to is left out.
    """
    return tuple(
        _result(objective, held, gaps)
        for objective, held in _held(records, objectives).items()
        if held or not records
    )


def _held(
    records: Sequence[RequestRecord], objectives: Sequence[Objective]
) -> dict[Objective, list[RequestRecord]]:
    """Every objective, and the requests that are held to it."""
    found: dict[Objective, list[RequestRecord]] = {each: [] for each in objectives}
    for record in records:
        for objective in held_to(record, objectives):
            found.setdefault(objective, []).append(record)
    return found


def gap_distribution(
    records: Iterable[RequestRecord], gaps: Mapping[int, int] | None
) -> Distribution:
    """Inter-token times in seconds: those counted, else those of the records with whole answers."""
    if gaps is not None:
        return of_counts({gap / 1e6: count for gap, count in gaps.items()})
    return of_values(gap for record in records if record.outcome == "ok" for gap in record.itls)


def _result(
    objective: Objective, records: Sequence[RequestRecord], gaps: Mapping[int, int] | None
) -> ObjectiveResult:
    if objective.metric == "itl" and objective.percentile is not None:
        times = gap_distribution(records, gaps)
    else:
        times = of_values(
            time_of(record, objective.metric)
            for record in records
            if not _inapplicable(record, objective.metric)
        )
    if not times.count:
        return ObjectiveResult(objective=objective, value=None, met=False)
    share = 100.0 if objective.percentile is None else objective.percentile
    value = times.percentile(share)
    return ObjectiveResult(
        objective=objective,
        value=value if math.isfinite(value) else None,
        met=value <= objective.seconds,
    )


def _inapplicable(record: RequestRecord, metric: Metric) -> bool:
    """A complete answer of one token has neither TPOT nor ITL."""
    return record.outcome == "ok" and metric in ("tpot", "itl") and record.output_tokens < 2


PERCENTILES = (50.0, 90.0, 95.0, 99.0)


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
    shares are of 1. Attainment and what goes with it need `objectives`, or such that requests
    brought with them.
    """
    completed = [record for record in records if record.outcome == "ok"]
    return {
        **_volume(records, completed, duration),
        **on_time_figures(records, objectives, duration),
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
    return figures | dict(_drafts(completed, written))


def _drafts(completed: Sequence[RequestRecord], written: int) -> Iterator[tuple[str, float]]:
    """What was computed ahead, where anything was. The rate is in percent, as vLLM has it."""
    drafts = sum(record.draft_tokens for record in completed)
    if not drafts:
        return
    accepted = sum(record.accepted_tokens for record in completed)
    yield "spec_decode_draft_tokens", drafts
    yield "spec_decode_accepted_tokens", accepted
    yield "spec_decode_acceptance_rate", 100 * accepted / drafts
    if written > accepted:
        # Every step that gives an answer anything gives a token, and the drafts that were right.
        yield "tokens_per_step", written / (written - accepted)


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
