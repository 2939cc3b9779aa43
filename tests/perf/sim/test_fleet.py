"""Routers by example: what they see, and where they send."""

from __future__ import annotations

from headway.perf.sim.fleet import ReplicaLoad, make_router
from headway.perf.sim.simulate import simulate
from headway.perf.workload.workload import Segment, WorkloadRequest
from tests.perf.sim.setups import limits_of, request_of, setup_of, workload_of

EVEN = [ReplicaLoad(), ReplicaLoad(), ReplicaLoad()]


def with_prefix(seed: int, prefix: int) -> WorkloadRequest:
    return WorkloadRequest(segments=(Segment(prefix, 8), Segment(seed, 4)), output=2, cap=2, at=0.0)


def test_round_robin_takes_turns() -> None:
    router = make_router("round-robin")
    assert [router.choose(request_of(), EVEN) for _ in range(4)] == [0, 1, 2, 0]


def test_least_requests_and_least_tokens_look_at_different_things() -> None:
    loads = [ReplicaLoad(requests=1, tokens=900), ReplicaLoad(requests=3, tokens=30)]
    assert make_router("least-requests").choose(request_of(), loads) == 0
    assert make_router("least-tokens").choose(request_of(), loads) == 1


def test_prefix_affine_goes_where_the_prefix_is() -> None:
    router = make_router("prefix-affine")
    assert router.choose(with_prefix(10, prefix=1), EVEN) == 0
    busy = [ReplicaLoad(requests=1), ReplicaLoad(), ReplicaLoad()]
    # Nobody is far above the mean, so the prefix decides; a new one goes to who has least.
    assert (
        router.choose(with_prefix(11, prefix=1), [ReplicaLoad(requests=1), ReplicaLoad(requests=1)])
        == 0
    )
    assert router.choose(with_prefix(12, prefix=2), busy) == 1


def test_prefix_affine_spares_a_replica_that_has_too_much() -> None:
    router = make_router("prefix-affine")
    assert router.choose(with_prefix(10, prefix=1), EVEN) == 0
    loads = [ReplicaLoad(requests=9), ReplicaLoad(requests=1), ReplicaLoad(requests=1)]
    assert router.choose(with_prefix(11, prefix=1), loads) == 1
    # From now on the prefix is known there.
    assert (
        router.choose(with_prefix(12, prefix=1), [ReplicaLoad(), ReplicaLoad(), ReplicaLoad()]) == 1
    )


def test_least_requests_hears_of_ends_only_when_they_happen() -> None:
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


def test_a_router_that_keeps_prefixes_together_saves_computing() -> None:
    requests = [
        WorkloadRequest(
            segments=(Segment(1 + n % 3, 16), Segment(100 + n, 3)), output=1, cap=1, at=4.0 * n
        )
        for n in range(24)
    ]
    computed = {}
    for router in ("round-robin", "prefix-affine"):
        outcome = simulate(workload_of(*requests), setup_of(replicas=2, router=router))
        computed[router] = sum(replica.computed_tokens for replica in outcome.replicas)
    assert computed["prefix-affine"] == 3 * 16 + 24 * 3
    assert computed["round-robin"] == 2 * 3 * 16 + 24 * 3
