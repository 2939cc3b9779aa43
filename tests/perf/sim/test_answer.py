"""What was asked is answered in one sentence, with the figures that the search itself had."""

from __future__ import annotations

import pytest

from headway.perf.report.price import HourlyPrice
from headway.perf.report.run import Run
from headway.perf.sim.answer import found_text, replayed_text, trials_of
from headway.perf.sim.capacity import CapacitySearch
from headway.perf.sim.replay import Replayed
from headway.perf.workload.synthetic import rate_of
from headway.types.objectives import parse_objectives
from tests.perf.sim.setups import limits_of, setup_of
from tests.perf.sim.test_capacity import steady


def test_a_fleet_is_named_with_what_the_next_smaller_one_misses() -> None:
    # One slot a replica, 4 s a request, 12 at once: three each have first tokens within 9 s, and of
    # three replicas' four the last waits for 12 s.
    search = CapacitySearch(steady(12, every=0.0), parse_objectives("ttft=9s"))
    found = search.replicas(setup_of(limits=limits_of(seqs=1)), widths=(1,), budgets=(64,))
    text = found_text(found, "replicas", None)
    assert text == "4 replicas hold ttft=9s (9.00 s), 3 do not (13.0 s)"
    trials = trials_of(found, None, HourlyPrice(3.6, "EUR"))
    assert [trial.replicas for trial in trials] == [1, 2, 4, 3]
    assert [trial.attains for trial in trials] == [False, False, True, False]
    assert trials[0].measured == {"ttft=9s": pytest.approx(45.0)}
    assert trials[0].currency == "EUR"
    # 48 tokens in 48 s: a token a second costs a thousandth, a million a thousand.
    assert trials[0].cost_per_million == pytest.approx(1000.0)


def test_one_replica_holds_and_has_none_below() -> None:
    search = CapacitySearch(steady(2, every=0.0), parse_objectives("ttft=9s,e2el=1min"))
    found = search.replicas(setup_of(), widths=(8,), budgets=(64,))
    text = found_text(found, "replicas", None)
    assert text.startswith("1 replica holds ttft=9s (")
    assert " and e2el=1min (" in text
    assert "not" not in text


def test_a_batch_is_named_among_those_that_were_tried() -> None:
    search = CapacitySearch(steady(8, every=0.0), parse_objectives("e2el=4s"))
    found = search.batch(setup_of(limits=limits_of(seqs=2)), widths=(2, 4, 8), budgets=(64,))
    assert found_text(found, "batch", None) == (
        "max_num_seqs 8 with max_num_batched_tokens 64 holds e2el=4s (4.00 s), the best of 3 "
        "batches, of which 1 hold"
    )


def test_a_rate_is_in_requests_a_second() -> None:
    workload = steady(40, every=16.0)
    search = CapacitySearch(workload, parse_objectives("ttft=1.5s"))
    found = search.rate(setup_of("sequential"))
    rate = rate_of(workload)
    text = found_text(found, "rate", rate)
    # One at a time, 4 s each; 40 requests have 39 gaps.
    assert found.best is not None
    assert text.startswith(f"{found.best.rate_scale * 40 / (39 * 16):.3g}")
    assert " requests/s hold ttft=1.5s (1.00 s), " in text
    higher = float(text.split(", ")[1].split()[0])
    assert 0.25 < higher < 0.28
    assert all(trial.rate for trial in trials_of(found, rate, None))


def test_where_nothing_holds_the_nearest_is_named() -> None:
    search = CapacitySearch(steady(3, every=0.0), parse_objectives("ttft=500ms,e2el=1min"))
    found = search.replicas(setup_of(), widths=(8,), budgets=(64,))
    text = found_text(found, "replicas", None)
    assert text.startswith("Nothing that was tried holds the objectives; nearest is ")
    assert text.endswith(": ttft=500ms: 1.00 s"), "what is met is not named"


def _pair(measured: float, predicted: float) -> tuple[Run, Run]:
    one, other = (
        Run(system=name, group="g", summary={"p50_e2el_ms": value})
        for name, value in (("measured", measured), ("predicted", predicted))
    )
    return one, other


def test_a_replay_says_how_many_steps_are_alike_and_how_far_the_prediction_is() -> None:
    alike = Replayed(steps=286, recorded=286, difference=None)
    text = replayed_text([alike], [_pair(2000.0, 980.0)])
    assert text == "286 of 286 steps planned alike; latency p50 predicted 51 % too low"


def test_of_several_engines_the_worst_prediction_is_named() -> None:
    replays = [
        Replayed(steps=2, recorded=3, difference="x"),
        Replayed(steps=1, recorded=1, difference=None),
    ]
    text = replayed_text(replays, [_pair(100.0, 101.0), _pair(100.0, 90.0)])
    assert text == "3 of 4 steps planned alike; latency p50 predicted at worst 10 % too low"
    assert replayed_text(replays, []) == "3 of 4 steps planned alike"
