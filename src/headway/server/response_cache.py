"""What HTTP says of the response cache: how to go without it, how it answered, and its metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers

from headway.client.response_cache import CachingEngine

CACHE_HEADER = b"x-headway-cache"
"""Of an answer: hit, joined or miss; not there where no cache was asked."""
_ANEW = frozenset(("no-cache", "no-store"))


def asks_anew(headers: Headers) -> bool:
    """Whether a client wants its answer computed and not kept: `Cache-Control`, as HTTP has it."""
    given = ",".join(headers.getlist("cache-control"))
    return not _ANEW.isdisjoint(each.strip().lower() for each in given.split(","))


class ResponseCacheMetrics(Collector):
    """The cache's counts as Prometheus metrics, made when they are asked for."""

    def __init__(self, cache: CachingEngine, model_name: str) -> None:
        self._cache = cache
        self._model = model_name

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """See `Collector`."""
        counts, store, remote = self._cache.counts, self._cache.store, self._cache.remote
        counters = {
            "queries": ("Continuations that were looked up.", counts.queries),
            "hits": ("Those answered from memory, at least their beginning.", counts.hits),
            "joined": ("Those that joined the computation of an equal one.", counts.joined),
            "tokens": ("Generated tokens that were served and not computed.", counts.tokens),
            "evictions": ("Answers that went for want of room.", store.evictions),
        }
        gauges = {
            "entries": ("Answers that are kept.", len(store)),
            "bytes": ("Memory that they take.", store.bytes),
        }
        if remote is not None:
            counters["remote_hits"] = ("Answers that came from Redis.", remote.hits)
            counters["remote_failures"] = ("Exchanges with Redis that failed.", remote.failures)
            gauges["remote_up"] = ("1 while Redis is asked, 0 while it is not well.", remote.up)
        for name, (text, value) in counters.items():
            counter = CounterMetricFamily(_named(name), text, labels=("model_name",))
            counter.add_metric((self._model,), value)
            yield counter
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(_named(name), text, labels=("model_name",))
            gauge.add_metric((self._model,), value)
            yield gauge


def _named(name: str) -> str:
    return f"headway:response_cache_{name}"
