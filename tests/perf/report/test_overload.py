"""A queue that only grew is told from one that is long, short, or just begins."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from headway.perf.records.record import RequestRecord
from headway.perf.report.overload import overload_warning, overloads
from headway.perf.report.run import Run


def _served(count: int, *, every: float, takes: float, servers: int = 4) -> list[RequestRecord]:
    """First come, first served by so many servers; each answer takes equally long."""
    free = [0.0] * servers
    records = []
    for number in range(count):
        sent = number * every
        begin = max(sent, min(free))
        free[free.index(min(free))] = end = begin + takes
        records.append(
            RequestRecord(
                id=str(number),
                due=sent,
                sent=sent,
                prompt_tokens=1,
                ttft=begin + 0.1 - sent,
                latency=end - sent,
            )
        )
    return records


def test_a_queue_that_only_grows_is_said() -> None:
    # Four at once, a second each: 4 requests a second are served, 8 come.
    warning = overload_warning(_served(200, every=0.125, takes=1.0))
    assert warning is not None
    assert warning.startswith("overloaded: the queue only grew, from 3")
    assert "ask for fewer requests a second" in warning


@pytest.mark.parametrize(
    ("every", "count"),
    [
        (0.26, 200),  # just below what can be served
        (0.125, 39),  # too few to say anything
        (0.0, 200),  # all at once: a burst is no rate
    ],
)
def test_what_is_no_overload(every: float, count: int) -> None:
    assert overload_warning(_served(count, every=every, takes=1.0)) is None


def test_the_start_of_a_run_of_long_answers_is_no_overload() -> None:
    # 200 come in 20 s, each takes 15 s whatever the load: what is in flight grows for 15 s.
    assert overload_warning(_served(200, every=0.1, takes=15.0, servers=1000)) is None


def test_answers_that_get_slower_by_half_are_no_overload() -> None:
    # From 20 in flight to 30: ever more, but what comes is answered.
    records = [
        RequestRecord(id=str(n), due=n / 10, sent=n / 10, prompt_tokens=1, latency=2 + n / 200)
        for n in range(200)
    ]
    assert overload_warning(records) is None


def test_a_burst_in_the_middle_that_is_served_is_no_overload() -> None:
    records = _served(200, every=0.3, takes=1.0)
    slow = [replace(r, latency=8.0) if 80 <= n < 110 else r for n, r in enumerate(records)]
    assert overload_warning(slow) is None


def test_refused_requests_do_not_wait() -> None:
    records = _served(200, every=0.125, takes=1.0)
    shed = [
        replace(r, latency=None, outcome="refused") if n % 2 else r for n, r in enumerate(records)
    ]
    served = [replace(r, latency=1.0) if r.latency is not None else r for r in shed]
    assert overload_warning(served) is None


def test_of_several_runs_each_is_named() -> None:
    bad = Run(system="a", group="g", records=tuple(_served(200, every=0.125, takes=1.0)))
    assert overloads([bad, Run(system="b", group="g")])[0].startswith("g, a: overloaded")
    assert len(overloads([bad, Run(system="b", group="g")])) == 1


def _random(seed: int, rate: float) -> list[RequestRecord]:
    """200 requests at random times, of which 4 a second can be served."""
    random = Random(seed)
    now, free, records = 0.0, [0.0] * 4, []
    for number in range(200):
        now += random.expovariate(rate)
        begin = max(now, min(free))
        free[free.index(min(free))] = end = begin + 1.0
        records.append(
            RequestRecord(id=str(number), due=now, sent=now, prompt_tokens=1, latency=end - now)
        )
    return records


@pytest.mark.parametrize(("rate", "low", "high"), [(3.0, 0, 0), (4.0, 0, 30), (8.0, 95, 100)])
def test_arrivals_at_random_times_are_told_apart(rate: float, low: int, high: int) -> None:
    """Three quarters of what can be served never, twice as much nearly always."""
    called = sum(overload_warning(_random(seed, rate)) is not None for seed in range(100))
    assert low <= called <= high
