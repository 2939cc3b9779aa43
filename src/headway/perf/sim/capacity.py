"""Capacity planning: the batch, the number of replicas or the rate at which objectives still hold.

Every candidate is a whole simulation, so what is found has queueing, bursts and preemptions in it.
More replicas, or fewer requests a second, are taken never to make things worse: the search doubles
and halves, and reports what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from headway.errors import InvalidRequest
from headway.perf.records.summary import ObjectiveResult, objectives_met, summarize
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.synthetic import at_rate
from headway.perf.workload.workload import Workload
from headway.types.objectives import Objective

WIDTHS = (16, 32, 64, 128, 256, 512)
"""Candidates for `max_num_seqs`."""
BUDGETS = (512, 2048, 8192)
"""Candidates for `max_num_batched_tokens`."""
MOST_REPLICAS = 1024
FINEST = 1.05
"""Rates are told apart down to this factor."""
HOPELESS = 0.5
"""Where less than this part of the requests that must attain do, other batches are not tried."""
_FARTHEST = 2.0**16


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityCandidate:
    """One setup and its result."""

    setup: Setup
    rate_scale: float
    """How many times as fast as the workload's own times the requests came."""
    summary: dict[str, float]
    objectives: tuple[ObjectiveResult, ...]
    slots: int
    """The most slots of a batch that were ever taken."""

    @property
    def attains(self) -> bool:
        """No request was refused, and every objective was met."""
        return not self.summary["failed"] and all(met.met for met in self.objectives)

    @property
    def attainment(self) -> float:
        """Share of the offered requests that met all objectives."""
        return self.summary.get("attainment", 0.0)

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Of equal machines the larger is better: attains, attainment, lower median latency."""
        return (self.attains, self.attainment, -self.summary.get("median_e2el_ms", 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found, and everything that it tried, in that order."""

    best: CapacityCandidate | None
    """None where nothing attains."""
    tried: tuple[CapacityCandidate, ...]


class CapacitySearch:
    """Simulates candidates of one workload; each only once."""

    def __init__(
        self,
        workload: Workload,
        objectives: Seq[Objective],
        *,
        seed: int = 0,
        residuals: bool = True,
        on_candidate: Callable[[CapacityCandidate], None] = lambda _: None,
    ) -> None:
        """`on_candidate` is called with every candidate as soon as it was simulated.

        Raises `InvalidRequest` for a search without objectives, or without requests.
        """
        if not objectives:
            raise InvalidRequest(
                "what is to hold must be said: give objectives, such as "
                "--slo ttft_p99=1s,tpot_p99=50ms",
                field="--slo",
            )
        if not workload.requests:
            raise InvalidRequest("the workload has no requests", field="--num-prompts")
        self._workload = workload
        self._objectives = tuple(objectives)
        self._seed = seed
        self._residuals = residuals
        self._on_candidate = on_candidate
        self._known: dict[tuple[int, int, int, float], CapacityCandidate] = {}

    def batch(
        self, setup: Setup, widths: Seq[int] = WIDTHS, budgets: Seq[int] = BUDGETS
    ) -> SearchResult:
        """The best width and token budget for this fleet."""
        best = max(self._batches(setup, widths, budgets), key=lambda candidate: candidate.rank)
        return SearchResult(best=best if best.attains else None, tried=self._tried())

    def replicas(
        self, setup: Setup, widths: Seq[int] = WIDTHS, budgets: Seq[int] = BUDGETS
    ) -> SearchResult:
        """The smallest fleet in which some batch attains, with its best batch."""

        def attains(count: int) -> bool:
            """The given batch is tried first: where it attains, no other need be."""
            fleet = replace(setup, replicas=count)
            given = self.candidate(fleet)
            if given.attains or self._hopeless(given, max(widths), min(budgets)):
                return given.attains
            return any(one.attains for one in self._batches(fleet, widths, budgets))

        below, enough = 0, 1
        while not attains(enough):
            below, enough = enough, 2 * enough
            if enough > min(MOST_REPLICAS, 2 * len(self._workload.requests)):
                return SearchResult(best=None, tried=self._tried())
        while enough - below > 1:
            middle = (below + enough) // 2
            below, enough = (below, middle) if attains(middle) else (middle, enough)
        fleet = replace(setup, replicas=enough)
        return SearchResult(best=self.batch(fleet, widths, budgets).best, tried=self._tried())

    def rate(self, setup: Setup) -> SearchResult:
        """The highest rate, as a multiple of the workload's own, at which this setup attains."""
        if not any(request.at > 0 for request in self._workload.requests):
            raise InvalidRequest(
                "all requests come at once, so there is no rate to find: give --request-rate",
                field="--request-rate",
            )
        low, high = 1.0, 1.0
        if self.candidate(setup).attains:
            while self.candidate(setup, high := 2 * high).attains:
                low = high
                if high > _FARTHEST:
                    break
        else:
            while not self.candidate(setup, low := low / 2).attains:
                high = low
                if low < 1 / _FARTHEST:
                    return SearchResult(best=None, tried=self._tried())
        while high / low > FINEST:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.candidate(setup, middle).attains else (low, middle)
        return SearchResult(best=self.candidate(setup, low), tried=self._tried())

    def candidate(self, setup: Setup, rate_scale: float = 1.0) -> CapacityCandidate:
        """The result of the workload in this setup."""
        limits = setup.scheduler.limits
        key = (setup.replicas, limits.max_num_seqs, limits.max_num_batched_tokens, rate_scale)
        if key not in self._known:
            outcome = simulate(
                at_rate(self._workload, rate_scale),
                setup,
                seed=self._seed,
                residuals=self._residuals,
                objectives=self._objectives,
            )
            self._known[key] = CapacityCandidate(
                setup=setup,
                rate_scale=rate_scale,
                summary=summarize(
                    outcome.records,
                    duration=outcome.duration,
                    objectives=self._objectives,
                    gaps=outcome.gaps,
                ),
                objectives=objectives_met(outcome.records, self._objectives, gaps=outcome.gaps),
                slots=max(replica.slots for replica in outcome.replicas),
            )
            self._on_candidate(self._known[key])
        return self._known[key]

    def _batches(
        self, setup: Setup, widths: Seq[int], budgets: Seq[int]
    ) -> Iterator[CapacityCandidate]:
        """The setup itself, then all others of the grid that can differ."""
        yield self.candidate(setup)
        for budget in budgets:
            for width in sorted(widths):
                candidate = self.candidate(_batch(setup, width, budget))
                yield candidate
                if candidate.slots < width and setup.scheduler.policy.name != "dynamic":
                    break  # its batch was never full, so a wider one is the same

    def _hopeless(self, given: CapacityCandidate, width: int, budget: int) -> bool:
        """Whether a fleet is so far from attaining, with the given batch and with the widest in the
        smallest steps, that no other batch is tried."""
        share = min(100.0 if one.percentile is None else one.percentile for one in self._objectives)
        enough = HOPELESS * share / 100
        other = self.candidate(_batch(given.setup, width, budget))
        return max(given.attainment, other.attainment) < enough

    def _tried(self) -> tuple[CapacityCandidate, ...]:
        return tuple(self._known.values())


def _batch(setup: Setup, width: int, budget: int) -> Setup:
    scheduler = setup.scheduler
    limits = replace(scheduler.limits, max_num_seqs=width, max_num_batched_tokens=budget)
    return replace(setup, scheduler=replace(scheduler, limits=limits))
