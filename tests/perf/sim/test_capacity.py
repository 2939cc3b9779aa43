"""Searches whose answers can be found by hand on a machine that makes a step a second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.errors import InvalidRequest
from headway.perf.sim.capacity import FINEST, CapacityCandidate, CapacitySearch
from headway.perf.workload.synthetic import at_rate
from headway.perf.workload.workload import Workload
from headway.types.objectives import parse_objectives
from tests.perf.sim.setups import limits_of, request_of, setup_of, workload_of


def steady(count: int, *, every: float, output: int = 4) -> Workload:
    return workload_of(*(request_of(output=output, at=every * n, seed=n) for n in range(count)))


def test_the_smallest_fleet_is_found() -> None:
    # One slot a replica: each serves a request in 4 s, and 12 come at once. To have all first
    # tokens within 9 s, a replica may serve three.
    setup = setup_of(limits=limits_of(seqs=1))
    search = CapacitySearch(steady(12, every=0.0), parse_objectives("ttft=9s"))
    found = search.replicas(setup, widths=(1,), budgets=(64,))
    assert found.best is not None
    assert found.best.setup.replicas == 4
    assert found.best.attains
    tried = [candidate.setup.replicas for candidate in found.tried]
    assert tried == [1, 2, 4, 3]


def test_a_wider_batch_saves_machines() -> None:
    setup = setup_of(limits=limits_of(seqs=1))
    search = CapacitySearch(steady(12, every=0.0), parse_objectives("ttft=9s"))
    found = search.replicas(setup, widths=(1, 12), budgets=(64,))
    assert found.best is not None
    assert found.best.setup.replicas == 1
    assert found.best.setup.scheduler.limits.max_num_seqs == 12


def test_batches_wider_than_anybody_fills_are_not_tried() -> None:
    search = CapacitySearch(steady(5, every=0.0), parse_objectives("e2el=3s"))
    setup = setup_of(limits=limits_of(seqs=2))
    found = search.batch(setup, widths=(2, 4, 8, 16, 32), budgets=(64,))
    assert [one.setup.scheduler.limits.max_num_seqs for one in found.tried] == [2, 4, 8]


def test_other_batches_are_tried_where_the_objectives_are_near_and_only_there() -> None:
    # With 2 slots a replica the last of 12 waits for five others' 4 s; e2el wants them within 12 s,
    # which 6 of 12 keep: of the one replica the whole grid is worth a try.
    setup = setup_of(limits=limits_of(seqs=2))
    near = CapacitySearch(steady(12, every=0.0), parse_objectives("e2el=12s"))
    near_tried = near.replicas(setup, widths=(3, 12), budgets=(64,)).tried
    assert {one.setup.scheduler.limits.max_num_seqs for one in near_tried} >= {2, 3}
    far = CapacitySearch(steady(12, every=0.0), parse_objectives("e2el=3s"))
    far_tried = far.replicas(setup, widths=(3, 12), budgets=(64,)).tried
    assert {one.setup.scheduler.limits.max_num_seqs for one in far_tried} == {2, 12}


def test_what_no_fleet_can_hold_is_said() -> None:
    search = CapacitySearch(steady(3, every=0.0), parse_objectives("ttft=500ms"))
    found = search.replicas(setup_of(), widths=(8,), budgets=(64,))
    assert found.best is None
    assert found.tried


def test_the_best_batch_of_a_fleet() -> None:
    search = CapacitySearch(steady(8, every=0.0), parse_objectives("e2el=4s"))
    found = search.batch(setup_of(limits=limits_of(seqs=2)), widths=(2, 4, 8), budgets=(64,))
    assert found.best is not None
    assert found.best.setup.scheduler.limits.max_num_seqs == 8
    assert [one.attains for one in found.tried] == [False, False, True]


@pytest.mark.parametrize("every", [1.0, 16.0])
def test_the_highest_rate_is_found_from_either_side(every: float) -> None:
    # One at a time, 4 s each: nobody waits if they come every 4 s, and the first token then takes
    # a second. Faster than that, the queue grows with every request.
    setup = setup_of("sequential")
    search = CapacitySearch(steady(40, every=every), parse_objectives("ttft=1.5s"))
    found = search.rate(setup)
    assert found.best is not None
    gap = every / found.best.rate_scale
    assert 4.0 / FINEST < gap < 4.0 * FINEST


def test_candidates_are_reported_and_simulated_once() -> None:
    told: list[CapacityCandidate] = []
    search = CapacitySearch(
        steady(2, every=0.0), parse_objectives("ttft=9s"), on_candidate=told.append
    )
    setup = setup_of()
    assert search.candidate(setup) is search.candidate(replace(setup))
    assert len(told) == 1


def test_a_refused_request_means_that_nothing_is_attained() -> None:
    search = CapacitySearch(
        workload_of(request_of(prompt=300), *(request_of(seed=n) for n in range(400))),
        parse_objectives("ttft_p50=600s"),
    )
    assert not search.candidate(setup_of()).attains


def test_searches_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="objectives"):
        CapacitySearch(steady(1, every=0.0), ())
    with pytest.raises(InvalidRequest, match="no requests"):
        CapacitySearch(workload_of(), parse_objectives("ttft=1s"))
    with pytest.raises(InvalidRequest, match="at once"):
        CapacitySearch(steady(2, every=0.0), parse_objectives("ttft=1s")).rate(setup_of())


def test_a_faster_workload_is_the_same_but_for_its_times() -> None:
    slow = steady(3, every=2.0)
    fast = at_rate(slow, 4.0)
    assert [request.at for request in fast.requests] == [0.0, 0.5, 1.0]
    assert [request.segments for request in fast.requests] == [
        request.segments for request in slow.requests
    ]
    assert at_rate(slow, 1.0) is slow
