"""Whether requests kept their objectives, as the server sees it: figures by class.

Only requests that have objectives count, each once: as attained, or as missed by the first reason
that applies. One that was shed or failed is missed, so that turning requests away improves nothing;
one whose client left is judged by what was late by then. Times are seconds, from the arrival of a
request to what the engine said of it; the way to the client is not in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from headway.types import SERVICE_CLASSES, FinishReason, ServiceClass
from headway.types.objectives import Metric, Objective, bounds_of

MissReason = Literal["shed", "error", "ttft", "tpot", "itl", "deadline"]
RECENT_REQUESTS = 1000
"""Over so many requests of a class the ratio is taken."""
REASONS: Mapping[Metric, MissReason] = {
    "ttft": "ttft",
    "tpot": "tpot",
    "itl": "itl",
    "e2el": "deadline",
}


@dataclass(slots=True, kw_only=True)
class RequestTimes:
    """Times (monotonic seconds) and counts of one continuation."""

    arrival: float
    prompt_tokens: int
    scheduled: float | None = None
    first: float | None = None
    last: float | None = None
    tokens: int = 0
    preemptions: int = 0
    largest_gap: float = 0.0
    """Longest time between two pieces of the answer."""
    shed: bool = False

    def hear(self, tokens: int, now: float) -> None:
        """So many tokens came."""
        if self.last is None:
            self.first = now
        else:
            self.largest_gap = max(self.largest_gap, now - self.last)
        self.last = now
        self.tokens += tokens

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first; None for less than two tokens."""
        if self.first is None or self.last is None or self.tokens < 2:
            return None
        return (self.last - self.first) / (self.tokens - 1)


def miss_of(
    times: RequestTimes, bounds: Mapping[Metric, float], finish: FinishReason, now: float
) -> MissReason | None:
    """Why a request with these bounds, in seconds, missed them; None where it kept all of them."""
    if times.shed:
        return "shed"
    if finish == "error":
        return "error"
    complete = finish != "abort"
    # What has not come by now is at least as late as now.
    first = now if times.first is None else times.first
    last = times.last if complete and times.last is not None else now
    waiting = 0.0 if complete or times.last is None else now - times.last
    measured: dict[Metric, float] = {
        "ttft": first - times.arrival,
        "tpot": times.tpot or 0.0,
        "itl": max(times.largest_gap, waiting),
        "e2el": last - times.arrival,
    }
    late = (metric for metric in REASONS if measured[metric] > bounds.get(metric, measured[metric]))
    missed = next(late, None)
    return None if missed is None else REASONS[missed]


class Attainment:
    """Counts requests that kept their objectives and those that did not."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        names = ("model_name", "class")
        self._model = model_name
        self._target = Gauge(
            "headway:slo_target_seconds",
            "What a single request of the class is held to that brings no objectives of its own.",
            (*names, "metric"),
            registry=registry,
        )
        self._ratio = Gauge(
            "headway:slo_attainment_ratio",
            f"Share of the class's last {RECENT_REQUESTS} requests with objectives that kept all "
            "of them. Requests that were refused at admission are not among them.",
            names,
            registry=registry,
        )
        self._attained = Counter(
            "headway:requests_attained",
            "Requests that kept all of their objectives.",
            names,
            registry=registry,
        )
        self._missed = Counter(
            "headway:requests_missed",
            "Requests with objectives that did not keep all of them, by the first reason of: shed, "
            "error, ttft, tpot, itl, deadline.",
            (*names, "reason"),
            registry=registry,
        )
        self._shed = Counter(
            "headway:requests_shed",
            "Requests that the engine refused for overload before they ran, with or without "
            "objectives.",
            names,
            registry=registry,
        )
        self._recent: dict[ServiceClass, deque[bool]] = {
            each: deque(maxlen=RECENT_REQUESTS) for each in SERVICE_CLASSES
        }
        self._kept = dict.fromkeys(SERVICE_CLASSES, 0)
        """Of the recent ones."""
        self.attained = 0
        """Requests of all classes that kept their objectives ..."""
        self.judged = 0
        """... of so many."""
        for each in SERVICE_CLASSES:
            self._attained.labels(model_name, each)
            self._shed.labels(model_name, each)

    def describe(self, defaults: Mapping[ServiceClass, tuple[Objective, ...]]) -> None:
        """The objectives that each class has by default from now on."""
        self._target.clear()
        for service_class, objectives in defaults.items():
            for metric, seconds in bounds_of(objectives).items():
                self._target.labels(self._model, service_class, metric).set(seconds)

    def ratio(self, service_class: ServiceClass) -> float | None:
        """Share of the class's recent requests that kept their objectives; None without any."""
        recent = self._recent[service_class]
        return self._kept[service_class] / len(recent) if recent else None

    def judge(
        self,
        times: RequestTimes,
        objectives: tuple[Objective, ...],
        service_class: ServiceClass,
        finish: FinishReason,
        now: float,
    ) -> None:
        """Count a request that is over."""
        if times.shed:
            self._shed.labels(self._model, service_class).inc()
        if not objectives:
            return
        missed = miss_of(times, bounds_of(objectives), finish, now)
        if missed is None and finish == "abort":
            return  # It might have kept them.
        if missed is None:
            self._attained.labels(self._model, service_class).inc()
        else:
            self._missed.labels(self._model, service_class, missed).inc()
        self.judged += 1
        self.attained += missed is None
        self._remember(service_class, missed is None)

    def _remember(self, service_class: ServiceClass, kept: bool) -> None:
        recent = self._recent[service_class]
        if len(recent) == recent.maxlen:
            self._kept[service_class] -= recent[0]
        recent.append(kept)
        self._kept[service_class] += kept
        self._ratio.labels(self._model, service_class).set(self.ratio(service_class) or 0.0)
