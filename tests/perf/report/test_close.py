"""Two systems are told apart where their rounds are, and only there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.report.close import indistinct, range_text, too_close
from headway.perf.report.headline import first_words, headline
from headway.perf.report.run import Report, Run, median_run


def _run(system: str, *throughputs: float, latency: float = 1.0, rate: float | None = None) -> Run:
    rounds = [
        Run(
            system=system,
            group="g",
            rate=rate,
            summary={"output_throughput": each, "p50_e2el_ms": latency * each},
        )
        for each in throughputs
    ]
    return median_run(rounds)


def test_ranges_that_overlap_are_too_close_to_call() -> None:
    leader, near, far = _run("a", 99.0, 103.0, 106.0), _run("b", 95.0, 98.0, 100.0), _run("c", 9, 8)
    assert indistinct(leader, near)
    assert not indistinct(leader, far)
    assert too_close(leader, (leader, near, far)) == (
        "Too close to call, as the ranges of their rounds overlap: a 99.0 to 106 tokens/s, "
        "b 95.0 to 100 tokens/s."
    )
    assert too_close(far, (leader, near, far)) == ""


def test_a_single_round_has_no_range_and_is_compared_as_it_is() -> None:
    once, often = _run("a", 100.0), _run("b", 99.0, 101.0)
    assert range_text(once, "output_throughput") == ""
    assert not indistinct(once, often)


def test_at_a_rate_that_both_keep_up_with_latencies_decide() -> None:
    one, other = _run("a", 100.0, 101.0, rate=2.0), _run("b", 100.0, 101.0, latency=9.0, rate=2.0)
    assert not indistinct(one, other)
    assert indistinct(one, _run("c", 99.5, 100.5, rate=2.0))
    behind = _run("d", 50.0, 100.5, rate=2.0)
    assert indistinct(one, behind), "it does not keep up: throughput decides"
    assert range_text(one, "p50_e2el_ms") == "100 ms to 101 ms"


def test_the_headline_does_not_call_what_is_too_close() -> None:
    first, second, third = _run("static", 90, 100, 105), _run("dynamic", 99, 102, 110), _run("c", 9)
    found = headline(Report(title="t", about={}, runs=(first, second, third)))
    assert found is not None
    assert found.sentence == "Dynamic and static are too close to call"
    assert found.changes == ()
    assert found.close.startswith("Too close to call")


def test_the_base_may_be_far_where_another_is_near() -> None:
    runs = (_run("static", 50, 51, 52), _run("a", 99, 102, 110), _run("b", 98, 101, 105))
    report = Report(title="t", about={}, runs=runs)
    words = first_words(report)
    assert words.startswith("A gives 2.0")
    assert "Too close to call, as the ranges of their rounds overlap: a 99" in words
    assert words.endswith("b 98.0 to 105 tokens/s.\n\n")
    assert first_words(Report(title="t", about={}, runs=())) == ""


_ROUNDS = st.lists(st.floats(1.0, 100.0), min_size=2, max_size=4)


@given(_ROUNDS, _ROUNDS)
def test_it_is_the_same_from_both_sides_and_means_that_no_order_is_certain(
    mine: list[float], theirs: list[float]
) -> None:
    one, other = _run("a", *mine), _run("b", *theirs)
    assert indistinct(one, other) == indistinct(other, one)
    apart = min(mine) > max(theirs) or max(mine) < min(theirs)
    assert indistinct(one, other) == (not apart)


@pytest.mark.parametrize("figure", ["output_throughput", "p50_e2el_ms"])
def test_the_range_holds_the_median(figure: str) -> None:
    run = _run("a", 3.0, 1.0, 2.0)
    low, high = run.ranges[figure]
    assert low < run.summary[figure] < high
