"""What a server's /metrics says, and what two such readings say of the time between them.

Counters only grow, so a rate is a difference over the time that passed; quantiles come from the
buckets of histograms in the same way. Of several engines behind one server, sums are taken. A
figure of which nothing is known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """All samples of one reading."""

    at: float
    """Seconds on a monotonic clock."""
    samples: Mapping[str, Sequence[tuple[Labels, float]]]

    def values(self, name: str, **labels: str) -> list[float]:
        """Those of a name whose labels include these."""
        found = self.samples.get(name, ())
        return [value for given, value in found if labels.items() <= given.items()]

    def total(self, name: str, **labels: str) -> float | None:
        """Their sum."""
        values = self.values(name, **labels)
        return sum(values) if values else None

    def worst(self, name: str) -> float | None:
        """The largest of them."""
        return max(self.values(name), default=None)

    def by(self, name: str, label: str) -> Iterator[tuple[str, float]]:
        """Each value of a label, with the sum of its samples."""
        words = dict.fromkeys(given[label] for given, _ in self.samples.get(name, ()))
        for word in words:
            yield word, sum(self.values(name, **{label: word}))


def scrape_of(text: str, at: float) -> Scrape:
    """A reading of Prometheus' text format; raises ValueError where it is none."""
    samples: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    return Scrape(at=at, samples=samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time between two readings of one server."""

    before: Scrape
    after: Scrape

    def grown(self, name: str, **labels: str) -> float | None:
        """By how much a counter grew. One that fell was set anew: its server was started again."""
        after = self.after.total(name, **labels)
        if after is None:
            return None
        before = self.before.total(name, **labels) or 0.0
        return after - before if after >= before else after

    def rate(self, name: str, **labels: str) -> float | None:
        """A counter's growth a second."""
        return _over(self.grown(name, **labels), self.after.at - self.before.at)

    def share(self, part: str, whole: str) -> float | None:
        """One counter's growth over another's; None where that did not grow."""
        return _over(self.grown(part), self.grown(whole))

    def mean(self, histogram: str) -> float | None:
        """Of what was observed in the time."""
        return self.share(f"{histogram}_sum", f"{histogram}_count")

    def quantile(self, histogram: str, q: float) -> float | None:
        """The value below which the share `q` of what was observed in the time lies, about.

        Within a bucket values are taken to be spread evenly; above the last bound, to lie on it.
        """
        bounds = sorted(
            {float(given["le"]) for given, _ in self.after.samples.get(f"{histogram}_bucket", ())}
        )
        counts = [self._below(histogram, bound) for bound in bounds]
        if not counts or counts[-1] <= 0:
            return None
        wanted, low, under = q * counts[-1], 0.0, 0.0
        for bound, count in zip(bounds, counts, strict=True):
            if count >= wanted and count > under:
                inside = (wanted - under) / (count - under)
                return low if bound == inf else low + (bound - low) * inside
            low, under = bound, count
        return low

    def _below(self, histogram: str, bound: float) -> float:
        """How much was observed at or below a bucket's bound."""
        before, after = (
            sum(
                value
                for given, value in scrape.samples.get(f"{histogram}_bucket", ())
                if float(given["le"]) == bound
            )
            for scrape in (self.before, self.after)
        )
        return after - before if after >= before else after


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole or whole < 0 else part / whole
