"""Readings of metrics: what was observed between two of them, whatever came before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from headway.cli.scrape import Scrape, Span, scrape_of

BUCKETS = (0.1, 0.5, 1.0, 5.0)


def reading(text: str, at: float = 0.0) -> Scrape:
    return scrape_of(text + "\n", at)


def span(before: str, after: str, seconds: float = 2.0) -> Span:
    return Span(before=reading(before), after=reading(after, seconds))


def test_values_are_picked_by_their_labels_and_added_up() -> None:
    found = reading('a{e="1",r="x"} 1\na{e="2",r="x"} 2\na{e="1",r="y"} 4\nb 8')
    assert found.total("a") == 7
    assert found.total("a", r="x") == 3
    assert found.worst("a") == 4
    assert found.total("a", r="z") is None
    assert found.total("c") is None
    assert dict(found.by("a", "r")) == {"x": 3.0, "y": 4.0}


def test_a_rate_is_growth_over_time() -> None:
    found = span("# TYPE t counter\nt_total 10", "# TYPE t counter\nt_total 16")
    assert found.rate("t_total") == 3.0
    assert found.rate("u_total") is None


def test_a_counter_of_a_server_that_was_started_again_counts_from_nothing() -> None:
    assert span("t_total 10", "t_total 4").grown("t_total") == 4


def test_a_counter_that_was_not_there_before_counts_from_nothing() -> None:
    assert span("u 1", "t_total 4").grown("t_total") == 4


def test_a_share_of_nothing_is_unknown() -> None:
    found = span("h_total 1\nq_total 3", "h_total 2\nq_total 7")
    assert found.share("h_total", "q_total") == 0.25
    assert span("h_total 1\nq_total 3", "h_total 1\nq_total 3").share("h_total", "q_total") is None


def text_of(values: Sequence[float]) -> str:
    registry = CollectorRegistry()
    histogram = Histogram("h", "x", buckets=BUCKETS, registry=registry)
    Counter("other", "x", registry=registry)
    for value in values:
        histogram.observe(value)
    return generate_latest(registry).decode()


VALUES = st.lists(st.floats(0.001, 4.9), max_size=30)


@given(VALUES, VALUES, st.sampled_from((0.01, 0.5, 0.9, 0.99, 1.0)))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(
    earlier: list[float], values: list[float], q: float
) -> None:
    found = span(text_of(earlier), text_of([*earlier, *values])).quantile("h", q)
    if not values:
        assert found is None
        return
    exact = sorted(values)[ceil(q * len(values)) - 1]
    above = bisect_left(BUCKETS, exact)
    low = BUCKETS[above - 1] if above else 0.0
    assert found is not None
    assert low <= found <= BUCKETS[above] + 1e-9


def test_within_a_bucket_values_are_taken_to_be_spread_evenly() -> None:
    found = span(text_of([]), text_of([0.6, 0.7, 0.8, 0.9]))
    assert found.quantile("h", 0.5) == pytest.approx(0.75)
    assert found.quantile("h", 0.25) == pytest.approx(0.625)


def test_a_value_above_all_buckets_is_said_to_be_at_the_last_bound() -> None:
    assert span(text_of([]), text_of([100.0])).quantile("h", 0.5) == 5.0


def test_a_mean_is_of_the_time_between() -> None:
    found = span(text_of([4.0]), text_of([4.0, 1.0, 2.0]))
    assert found.mean("h") == pytest.approx(1.5)


def test_what_is_no_metrics_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"."):
        reading("<html>")
