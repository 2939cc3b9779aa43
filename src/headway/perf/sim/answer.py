"""What a search or a replay found, as the sentence that answers what was asked."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Literal

from headway.perf.records.summary import ObjectiveResult
from headway.perf.report.figures import LATENCY, error, shown, three
from headway.perf.report.price import CURRENCY, HourlyPrice
from headway.perf.report.run import Run
from headway.perf.report.trial import Trial
from headway.perf.sim.capacity import CapacityCandidate, SearchResult
from headway.perf.sim.replay import Replayed

Wanted = Literal["replicas", "batch", "rate"]


def found_text(found: SearchResult, wanted: Wanted, rate: float | None) -> str:
    """Such as "4 replicas hold ttft_p99=1s (240 ms), 3 do not (1.49 s)".

    `rate` is the workload's own, in requests a second. Names what was found, how far it is from the
    objectives, and by how much the next smaller fleet, or the next higher rate, misses them.
    """
    best = found.best
    if best is None:
        nearest = max(found.tried, key=lambda candidate: candidate.rank)
        text = f"{_named(nearest, wanted, rate)}: {_missed(nearest)}"
        return f"Nothing that was tried holds the objectives; nearest is {text}"
    one = wanted == "batch" or (wanted == "replicas" and best.setup.replicas == 1)
    text = f"{_named(best, wanted, rate)} {'holds' if one else 'hold'} {_held(best.objectives)}"
    if wanted == "batch":
        return text + _of_batches(found)
    beyond = _beyond(found, best, wanted)
    if beyond is None:
        return text
    short = _short(beyond, wanted, rate)
    return f"{text}, {short} {'does' if short == '1' else 'do'} not ({_missed(beyond)})"


def _named(candidate: CapacityCandidate, wanted: Wanted, rate: float | None) -> str:
    limits = candidate.setup.scheduler.limits
    if wanted == "replicas":
        count = candidate.setup.replicas
        return f"{count} replica{'' if count == 1 else 's'}"
    if wanted == "rate":
        return f"{_short(candidate, wanted, rate)} requests/s"
    return (
        f"max_num_seqs {limits.max_num_seqs} with max_num_batched_tokens "
        f"{limits.max_num_batched_tokens}"
    )


def _short(candidate: CapacityCandidate, wanted: Wanted, rate: float | None) -> str:
    if wanted == "replicas":
        return str(candidate.setup.replicas)
    return three((rate or 0.0) * candidate.rate_scale)


def _beyond(
    found: SearchResult, best: CapacityCandidate, wanted: Wanted
) -> CapacityCandidate | None:
    """The best of the next smaller fleet that was tried, or the next higher rate."""
    if wanted == "replicas":
        less = [one for one in found.tried if one.setup.replicas == best.setup.replicas - 1]
        return max(less, key=lambda candidate: candidate.rank, default=None)
    more = [one for one in found.tried if one.rate_scale > best.rate_scale]
    return min(more, key=lambda candidate: candidate.rate_scale, default=None)


def _held(objectives: Seq[ObjectiveResult]) -> str:
    return " and ".join(f"{met.objective} ({shown(met.value, 's')})" for met in objectives)


def _missed(candidate: CapacityCandidate) -> str:
    """The objectives that it misses, by name where there are several."""
    missed = [met for met in candidate.objectives if not met.met]
    alone = len(candidate.objectives) == 1
    parts = []
    for met in missed:
        value = "no time at all" if met.value is None else shown(met.value, "s")
        parts.append(value if alone else f"{met.objective}: {value}")
    failed = candidate.summary["failed"]
    if failed:
        parts.append(f"{failed:,.0f} requests without a whole answer")
    return ", ".join(parts)


def _of_batches(found: SearchResult) -> str:
    holding = sum(candidate.attains for candidate in found.tried)
    return f", the best of {len(found.tried)} batches, of which {holding} hold"


def trials_of(
    found: SearchResult, rate: float | None, price: HourlyPrice | None
) -> tuple[Trial, ...]:
    """All that was tried, for a report; `price` is of one machine."""
    return tuple(_trial(candidate, rate, price) for candidate in found.tried)


def _trial(candidate: CapacityCandidate, rate: float | None, price: HourlyPrice | None) -> Trial:
    setup, limits = candidate.setup, candidate.setup.scheduler.limits
    throughput = candidate.summary.get("output_throughput", 0.0)
    cost = None
    if price is not None and throughput > 0:
        cost = setup.replicas * price.per_million(throughput)
    return Trial(
        replicas=setup.replicas,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        rate=None if rate is None else rate * candidate.rate_scale,
        attainment=candidate.attainment,
        attains=candidate.attains,
        measured={str(met.objective): met.value for met in candidate.objectives},
        cost_per_million=cost,
        currency=CURRENCY if price is None else price.currency,
    )


def replayed_text(replays: Seq[Replayed], pairs: Seq[tuple[Run, Run]]) -> str:
    """Such as "286 of 286 steps planned alike; latency p50 predicted 51 % too low".

    `pairs` are what was measured of each engine and what was predicted; of several, the largest
    error is named.
    """
    alike, recorded = (
        sum(each.steps for each in replays),
        sum(each.recorded for each in replays),
    )
    text = f"{alike:,} of {recorded:,} steps planned alike"
    values = [(LATENCY.of(predicted), LATENCY.of(known)) for known, predicted in pairs]
    errors = [(value, base) for value, base in values if value is not None and base]
    if not errors:
        return text
    worst = max(errors, key=lambda pair: abs(pair[0] / pair[1] - 1.0))
    most = "at worst " if len(errors) > 1 else ""
    return f"{text}; {LATENCY.label} predicted {most}{error(*worst)}"
