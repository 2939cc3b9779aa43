"""Routers in a simulated fleet: what they see when, and what comes of their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from headway.perf.sim import simulate as simulated
from headway.perf.sim.fleet import shape_of
from headway.perf.sim.requests import SimulatedRequest
from headway.perf.sim.simulate import simulate
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.routing import ROUTERS, EngineView, RequestShape, RouterName
from headway.types.objectives import parse_objectives
from tests.perf.sim.setups import limits_of, request_of, setup_of, workload_of


def mixed_workload(requests: int = 400) -> Workload:
    """Requests with shared prefixes, some nested, for more than three replicas can do at once."""
    draw, at, found = Random(7), 0.0, []
    for number in range(requests):
        at += draw.randrange(1, 8) / 4
        seeds: tuple[int, ...] = draw.choice([(), (1,), (1, 2), (1, 3), (4,), (4, 5, 6)])
        output = draw.randrange(1, 12)
        own = Segment(1000 + number, draw.randrange(1, 12))
        found.append(
            WorkloadRequest(
                segments=(*(Segment(seed, 8) for seed in seeds), own),
                output=output,
                cap=output + draw.choice([0, 0, 3]),
                at=at,
            )
        )
    return workload_of(*found)


@pytest.mark.parametrize(
    ("router", "duration", "latency", "computed"),
    [
        ("round-robin", 403.0, 5676.5, (1420, 1477, 1495)),
        ("least-requests", 398.0, 4807.0, (1459, 1469, 1468)),
        ("prefix", 400.5, 5262.5, (1379, 1431, 1534)),
        ("predicted", 399.75, 4912.75, (1527, 1428, 1429)),
    ],
)
def test_decisions_are_reproducible(
    router: RouterName, duration: float, latency: float, computed: tuple[int, ...]
) -> None:
    # The figures were recorded; those of round-robin when it was still part of the simulator.
    setup = setup_of(replicas=3, router=router, limits=limits_of(seqs=2))
    outcome = simulate(mixed_workload(), setup)
    assert outcome.duration == duration
    assert sum(record.latency or 0.0 for record in outcome.records) == latency
    assert tuple(replica.computed_tokens for replica in outcome.replicas) == computed


def test_a_shape_names_each_prefix_that_others_may_share() -> None:
    def one(*seeds: int) -> SimulatedRequest:
        spec = WorkloadRequest(
            segments=tuple(Segment(seed, 8) for seed in seeds), output=2, cap=5, at=3.0
        )
        return SimulatedRequest(
            index=7,
            spec=spec,
            arrival=spec.at,
            prompt_tokens=spec.prompt_tokens,
            objectives=parse_objectives("ttft=2s"),
        )

    first, second = shape_of(one(1, 2, 3)), shape_of(one(1, 4, 5))
    assert (first.id, first.at, first.pace.ttft) == ("7", 3.0, 2.0)
    assert (first.prompt_tokens, first.max_tokens) == (24, 5)
    assert [prefix.tokens for prefix in first.prefixes] == [8, 16]
    assert first.prefixes[0] == second.prefixes[0]
    assert first.prefixes[1] != second.prefixes[1]
    # The same segment after another one is another prefix.
    assert shape_of(one(2, 9)).prefixes[0].name != first.prefixes[1].name


def test_least_requests_sees_ends_only_when_they_happen() -> None:
    # The first request runs for 10 s; the second, to the other replica, for 2 s. The third comes
    # at 1.5, when both are busy, and goes to the first one; the fourth at 4, to the idle second.
    requests = [
        request_of(output=10, at=0.0),
        request_of(output=2, at=0.5, seed=1),
        request_of(output=1, at=1.5, seed=2),
        request_of(output=1, at=4.0, seed=3),
    ]
    setup = setup_of(replicas=2, router="least-requests", limits=limits_of(seqs=1))
    records = simulate(workload_of(*requests), setup).records
    assert records[2].ttft == 10.0 - 1.5 + 1.0
    assert records[3].ttft == 1.0


def test_an_end_within_the_step_under_way_is_not_known_yet() -> None:
    # At 1.0 each replica has one request. The second one's ends with the step under way, at 1.5,
    # which nobody can know: the third goes to the first replica, which is busy until 10.
    requests = [
        request_of(output=10, at=0.0),
        request_of(output=1, at=0.5, seed=1),
        request_of(output=1, at=1.0, seed=2),
    ]
    setup = setup_of(replicas=2, router="least-requests", limits=limits_of(seqs=1))
    records = simulate(workload_of(*requests), setup).records
    assert [record.ttft for record in records] == [1.0, 1.0, 10.0 - 1.0 + 1.0]


def test_a_router_that_keeps_prefixes_together_saves_computing() -> None:
    requests = [
        WorkloadRequest(
            segments=(Segment(1 + n % 3, 16), Segment(100 + n, 3)), output=1, cap=1, at=4.0 * n
        )
        for n in range(24)
    ]
    computed = {}
    for router in ROUTERS:
        outcome = simulate(workload_of(*requests), setup_of(replicas=2, router=router))
        computed[router] = sum(replica.computed_tokens for replica in outcome.replicas)
    assert computed["prefix"] == 3 * 16 + 24 * 3
    assert computed["round-robin"] == 2 * 3 * 16 + 24 * 3


def test_the_default_router_predicts() -> None:
    assert setup_of().router == "predicted"


@dataclass
class Watching:
    """Takes turns, and notes what it could see of the first engine."""

    seen: list[tuple[int, int, int]]

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        view = engines[0]
        self.seen.append((view.requests, view.decodes, view.held))
        return int(request.id) % len(engines)


def seen_by_a_router(
    monkeypatch: pytest.MonkeyPatch, workload: Workload, *, fast_forward: bool
) -> list[tuple[int, int, int]]:
    watching = Watching([])
    monkeypatch.setattr(simulated, "make_router", lambda _: watching)
    simulate(workload, setup_of(replicas=2), fast_forward=fast_forward)
    return watching.seen


@pytest.mark.parametrize("fast_forward", [True, False])
def test_a_router_knows_of_steps_that_are_over_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, fast_forward: bool
) -> None:
    # The first request, to the first engine, has a prompt of 3 and gets a token at 1, 2, 3 and 4.
    times = (0.0, 0.5, 1.5, 3.5, 4.0)
    requests = [request_of(output=4, at=at, seed=n) for n, at in enumerate(times)]
    requests[2:] = [replace(each, output=1, cap=1) for each in requests[2:]]
    seen = seen_by_a_router(monkeypatch, workload_of(*requests), fast_forward=fast_forward)
    # The third one, sent there at 1.5, has its only token at 3, when that step is over.
    assert seen == [(0, 0, 0), (1, 0, 3), (1, 1, 4), (1, 1, 6), (0, 0, 0)]


def test_a_router_sees_the_same_whether_steps_are_skipped_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workload = mixed_workload(120)
    skipped, stepped = (
        seen_by_a_router(monkeypatch, workload, fast_forward=each) for each in (True, False)
    )
    assert skipped == stepped
    assert len({seen for seen in stepped if seen[1]}) > 20
