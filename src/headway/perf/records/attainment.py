"""Which requests met their objectives, of all that were offered, of each class and each tenant.

A request is held to its own objectives; one that brought none, to those of the run, unless it is a
batch request, of which nothing is asked but a whole answer. Refused and failed requests met none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from headway.perf.records.record import RequestRecord
from headway.types import ServiceClass
from headway.types.objectives import Metric, Objective, bounds_of

SHORTEST_RUN = 1e-9
"""Seconds: the clocks tick in nanoseconds, and a run that took less has no rate."""


class Asked(Protocol):
    """A request before it is sent, or its record."""

    @property
    def objectives(self) -> tuple[Objective, ...]: ...
    @property
    def service_class(self) -> ServiceClass: ...


def held_to(request: Asked, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """What is asked of a request in a run with these objectives."""
    if request.objectives:
        return request.objectives
    return () if request.service_class == "batch" else tuple(objectives)


def meets(record: RequestRecord, objectives: Sequence[Objective]) -> bool:
    """Whether a whole answer came, and within the time of every objective that it is held to.

    Of several objectives for one metric the longest time counts (`bounds_of`). An answer of one
    token has neither a TPOT nor an ITL to miss; an ITL is met by an answer whose largest gap meets
    it.
    """
    return record.outcome == "ok" and all(
        time_of(record, metric) <= seconds
        for metric, seconds in bounds_of(held_to(record, objectives)).items()
    )


def time_of(record: RequestRecord, metric: Metric) -> float:
    """A request's seconds for a metric: infinite without a whole answer, 0 where none applies."""
    if record.outcome != "ok" or record.ttft is None or record.latency is None:
        return math.inf
    if metric == "tpot":
        return record.tpot or 0.0
    if metric == "itl":
        return record.largest_gap
    return record.ttft if metric == "ttft" else record.latency


def on_time_figures(
    records: Sequence[RequestRecord], objectives: Sequence[Objective], duration: float
) -> dict[str, float]:
    """Attainment, the share of late answers, and what was served on time a second.

    Where there are several classes, or tenants, also what each of them attained and how much of it
    was refused. Empty where nothing was asked of any request.
    """
    if not objectives and not any(record.objectives for record in records):
        return {}
    good = [record for record in records if meets(record, objectives)]
    figures: dict[str, float] = {}
    if records:
        whole = sum(record.outcome == "ok" for record in records)
        figures["attainment"] = len(good) / len(records)
        figures["late_share"] = (whole - len(good)) / len(records)
        figures.update(_parts(records, objectives))
    if duration >= SHORTEST_RUN:
        figures["request_goodput"] = len(good) / duration
        tokens = sum(record.output_tokens for record in good)
        figures["on_time_output_throughput"] = tokens / duration
    return figures


def _parts(
    records: Sequence[RequestRecord], objectives: Sequence[Objective]
) -> Iterator[tuple[str, float]]:
    for kind, name_of in _KINDS:
        parts: dict[str, list[RequestRecord]] = {}
        for record in records:
            parts.setdefault(name_of(record), []).append(record)
        for name, part in sorted(parts.items()) if len(parts) > 1 else ():
            good = sum(meets(record, objectives) for record in part)
            refused = sum(record.outcome == "refused" for record in part)
            yield f"attainment_{kind}{name}", good / len(part)
            yield f"shed_share_{kind}{name}", refused / len(part)


_KINDS: tuple[tuple[str, Callable[[RequestRecord], str]], ...] = (
    ("", lambda record: record.service_class),
    ("tenant_", lambda record: record.tenant),
)
"""What figures of a part are called, and which part a record belongs to."""
