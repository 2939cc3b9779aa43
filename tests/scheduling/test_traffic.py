"""Traffic as it is learned: means by hand, and what a scheduler tells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.traffic import WINDOW, TrafficEstimate
from headway.types.objectives import NO_PACE, Pace, parse_objectives
from headway.types.traffic import RATE_SECONDS, Traffic
from tests.scheduling.harness import limits_of, make_harness, request_of


def arrive(estimate: TrafficEstimate, *times: float) -> None:
    for at in times:
        estimate.arrived(request_of(arrival=at))


def test_means_by_hand() -> None:
    estimate = TrafficEstimate()
    assert estimate.means(0.0) is None
    estimate.arrived(request_of(prompt=tuple(range(100)), arrival=5.0))
    estimate.ended(prompt=100, cached=60, generated=10, shared=0)
    estimate.ended(prompt=40, cached=0, generated=30, shared=20)
    context = (10 * (100 + 5) + 30 * (40 + 15)) / 40
    found = estimate.means(5.0)
    assert found is not None
    assert (found.prompt, found.cached, found.output) == (40, 30, 20)
    assert found.context == context
    assert found.held == context - 30 * 20 / 40
    assert (found.longest, found.pace) == (100, NO_PACE)


def test_old_requests_are_forgotten() -> None:
    estimate = TrafficEstimate()
    for length in [1000] * WINDOW + [10] * WINDOW:
        estimate.arrived(request_of(objectives=parse_objectives(f"tpot={length}ms")))
        estimate.ended(prompt=length, cached=0, generated=length, shared=0)
    found = estimate.means(0.0)
    assert found is not None
    assert (found.prompt, found.output, found.pace.tpot) == (10, 10, 0.01)
    assert len(estimate._asked) == 1


def test_a_steady_rate_is_found() -> None:
    estimate = TrafficEstimate()
    arrive(estimate, *(n / 4 for n in range(2400)))
    assert estimate.rate(600.0) == pytest.approx(4, rel=0.01)
    # Nothing comes for a while: it falls as the sums of the past do.
    assert estimate.rate(660.0) == pytest.approx(4 / math.e, rel=0.01)


def test_a_rate_is_found_at_once() -> None:
    estimate = TrafficEstimate()
    assert estimate.rate(0.0) == 0
    arrive(estimate, *(100 + n / 4 for n in range(20)))
    assert estimate.rate(105.0) == pytest.approx(4, rel=0.1)


def test_a_request_from_the_past_counts_as_one_of_now() -> None:
    """An engine that took the place of another gets requests that came to the other."""
    estimate = TrafficEstimate()
    arrive(estimate, 100.0, 50.0, 101.0)
    assert estimate.rate(101.0) == pytest.approx(3, rel=0.05)


def test_what_is_known_fades_where_nothing_more_comes() -> None:
    traffic = Traffic(prompt=1, output=1, context=1, held=1, rate=8.0)
    assert traffic.after(RATE_SECONDS).rate == pytest.approx(8 / math.e)
    assert traffic.after(-1.0).rate == 8.0


def test_a_pace_that_hardly_anybody_asks_for_does_not_count() -> None:
    estimate = TrafficEstimate()
    for number in range(200):
        text = "tpot=1ms,ttft=1ms" if number < 2 else "tpot=50ms"
        estimate.arrived(request_of(objectives=parse_objectives(text)))
    assert estimate.pace() == Pace(tpot=0.05)
    estimate.arrived(request_of(objectives=parse_objectives("tpot=20ms")))
    assert estimate.pace().tpot == 0.02, "with it, three of 201 ask for so much"


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(0, 1e6))
def test_a_rate_is_a_number(times: list[float], now: float) -> None:
    estimate = TrafficEstimate()
    arrive(estimate, *times)
    assert 0 <= estimate.rate(now) < math.inf


def test_a_scheduler_tells_of_what_ran() -> None:
    """Two with one prompt: the second hits two blocks of it, and shares them while both run."""
    harness = make_harness(limits=limits_of(model_len=64))
    prompt = tuple(range(10))
    harness.add(request_of("a", prompt=prompt, max_tokens=9))
    harness.step()
    harness.add(request_of("b", prompt=prompt, max_tokens=5))
    harness.drain()
    found = harness.scheduler.traffic.means(0.0)
    assert found is not None
    assert (found.prompt, found.cached, found.output) == ((10 + 2) / 2, 4.0, 7.0)
    context = (9 * (10 + 4.5) + 5 * (10 + 2.5)) / 14
    assert found.context == context
    # The second ends while the first, with which it shares eight tokens, goes on.
    assert found.held == pytest.approx(context - 5 * 8 / 14)
    assert found.longest == 10


def test_what_never_ran_tells_nothing() -> None:
    harness = make_harness(limits=limits_of(seqs=1))
    harness.add(request_of("a", max_tokens=9), request_of("b"))
    harness.step()
    harness.abort("b")
    assert harness.scheduler.traffic.means(0.0) is None
    harness.step()
    harness.abort("a")
    found = harness.scheduler.traffic.means(0.0)
    assert found is not None
    assert found.output == 2
