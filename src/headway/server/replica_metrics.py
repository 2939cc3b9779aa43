"""Prometheus metrics of each engine of several, by a label `replica`, made when they are asked for.

Their names are others than those of the sums, so that a query over a sum counts nothing twice. A
replica that was drained has no series any more; what it counted stays in the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headway.client import EngineHandle, ReplicaState, ReplicaStatus
from headway.server.replicas import kv_usage

Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)

_LABELS = ("model_name", "replica")
_GAUGES: dict[str, tuple[str, Callable[[ReplicaStatus], float]]] = {
    "live_requests": (
        "Requests that the replica was given and that have not ended.",
        lambda status: status.live,
    ),
    "requests_running": (
        "Sequences in the replica's running batch.",
        lambda status: status.stats.running,
    ),
    "requests_waiting": (
        "Requests that wait for a place in it.",
        lambda status: status.stats.waiting,
    ),
    "kv_cache_usage": ("Share of its KV blocks in use, from 0 to 1.", kv_usage),
    "cores": (
        "Cores that it is pinned to; 0 where it may use any.",
        lambda status: len(status.cpus),
    ),
}
_COUNTERS: dict[str, tuple[str, Callable[[ReplicaStatus], float]]] = {
    "requests": (
        "Requests that the replica was given by the router, or took over from another replica.",
        lambda status: status.given,
    ),
    "handed_over_requests": (
        "Requests whose prompt the replica computed, and that another one went on with.",
        lambda status: status.handed_over,
    ),
    "steps": ("Steps of the replica.", lambda status: status.stats.step),
    "computed_tokens": (
        "New tokens that it computed, of prompts and answers.",
        lambda status: status.stats.computed_tokens,
    ),
    "busy_seconds": (
        "Time that it spent on steps.",
        lambda status: status.stats.busy_seconds,
    ),
    "restarts": (
        "Starts of a new process after one was lost.",
        lambda status: status.restarts,
    ),
}


class ReplicaMetrics(Collector):
    """A collector for the registry of a server with several engines."""

    def __init__(self, client: EngineHandle, model_name: str) -> None:
        self._client = client
        self._model = model_name

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names alone, so that registering computes nothing."""
        for name in ("state", *_GAUGES, *_COUNTERS):
            yield GaugeMetricFamily(_named(name), "")

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """See `Collector`."""
        statuses = self._client.replicas
        text = "1 for what the replica is: starting, ready, restarting, draining or failed; else 0."
        states = GaugeMetricFamily(_named("state"), text, labels=(*_LABELS, "state"))
        for status in statuses:
            for state in get_args(ReplicaState):
                labels = (self._model, str(status.id), state)
                states.add_metric(labels, float(status.state == state))
        yield states
        for name, (text, value) in _GAUGES.items():
            yield self._filled(GaugeMetricFamily(_named(name), text, labels=_LABELS), value)
        for name, (text, value) in _COUNTERS.items():
            yield self._filled(CounterMetricFamily(_named(name), text, labels=_LABELS), value)

    def _filled(self, family: Family, value: Callable[[ReplicaStatus], float]) -> Family:
        for status in self._client.replicas:
            family.add_metric((self._model, str(status.id)), value(status))
        return family


def _named(name: str) -> str:
    return f"headway:replica_{name}"
