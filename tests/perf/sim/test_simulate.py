"""Simulations by hand, and the promise that skipping ahead changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.config import PolicyName
from headway.perf.sim.runner import SimulatedRunner
from headway.perf.sim.simulate import Setup, Simulated, shares_prefixes, simulate
from headway.perf.workload.workload import Workload
from headway.routing import ROUTERS, RouterName
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.policy import Decision, Policy, View, make_policy
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.steptime.model import Residuals
from headway.steptime.profiles import Profile
from headway.types import Request
from headway.types.engine import SchedulerConfig
from tests.perf.sim.setups import (
    UNEVEN,
    limits_of,
    profile_of,
    request_of,
    setup_of,
    workload_of,
    workloads,
)
from tests.scheduling.harness import TokenSeconds
from tests.scheduling.proposers import OneByOne
from tests.scheduling.test_every_policy import every_shipped_policy
from tests.scheduling.toy_policies import TOYS, policy_of

SPREAD = Residuals(decode=(0.5, 1.0, 2.0), mixed=(1.0, 1.5), prefill=(0.75, 1.25))


def test_a_request_alone_gets_a_token_a_second() -> None:
    outcome = simulate(workload_of(request_of(prompt=3, output=4, at=2.0)), setup_of())
    (record,) = outcome.records
    assert (record.ttft, record.latency, record.output_tokens) == (1.0, 4.0, 4)
    assert (record.sent, record.outcome, record.largest_gap) == (2.0, "ok", 1.0)
    assert outcome.gaps == {1_000_000: 3}
    assert outcome.duration == 6.0
    assert outcome.replicas[0].steps == 4


def test_an_arrival_during_a_step_waits_for_its_end() -> None:
    early, late = request_of(output=4), request_of(output=2, at=1.5, seed=1)
    records = simulate(workload_of(early, late), setup_of()).records
    assert records[1].ttft == 1.5
    assert records[1].latency == 2.5


def test_static_makes_the_late_wait_for_the_slowest() -> None:
    requests = [request_of(output=6), request_of(output=2, at=0.5, seed=1)]
    late = {
        policy: simulate(workload_of(*requests), setup_of(policy)).records[1].ttft
        for policy in ("static", "continuous")
    }
    assert late == {"static": 6.5, "continuous": 1.5}


def test_the_length_of_an_answer_is_known_to_the_runner_alone() -> None:
    outcome = simulate(workload_of(request_of(output=3, cap=50)), setup_of())
    assert outcome.records[0].output_tokens == 3
    assert outcome.duration == 3.0


def test_what_can_never_fit_is_refused_and_the_others_go_on() -> None:
    records = simulate(
        workload_of(request_of(prompt=300), request_of(prompt=3, seed=1)), setup_of()
    ).records
    assert records[0].outcome == "refused"
    assert "context" in records[0].error
    assert (records[0].ttft, records[0].output_tokens) == (None, 0)
    assert records[1].outcome == "ok"


def test_a_shared_prefix_is_cached_where_caching_is_on() -> None:
    requests = [request_of(prompt=9, output=1), request_of(prompt=9, output=1, at=5.0)]
    for caching, expected in ((True, 8), (False, 0)):
        outcome = simulate(workload_of(*requests), setup_of(prefix_caching=caching))
        assert [record.cached_tokens for record in outcome.records] == [0, expected]


def test_bars_and_idle_share_of_a_static_batch() -> None:
    requests = [request_of(output=1), request_of(output=4, seed=1)]
    outcome = simulate(workload_of(*requests), setup_of("static"), keep_bars=True)
    bars = {
        bar.request: (bar.slot, bar.begin, bar.first, bar.end) for bar in outcome.replicas[0].bars
    }
    assert bars == {"0": (0, 0.0, 1.0, 1.0), "1": (1, 0.0, 1.0, 4.0)}
    assert outcome.idle_share == 1 - 5 / 8


def test_a_preempted_sequence_has_two_bars() -> None:
    # After eight short answers the long ones that follow come as a surprise.
    requests = [request_of(prompt=4, output=2 if n < 8 else 40, cap=60, seed=n) for n in range(16)]
    outcome = simulate(workload_of(*requests), setup_of(num_blocks=40), keep_bars=True)
    replica = outcome.replicas[0]
    assert replica.preemptions > 0
    assert len(replica.bars) == len(requests) + replica.preemptions
    assert sum(bar.end - bar.begin for bar in replica.bars) == pytest.approx(replica.slot_seconds)


def test_percent_of_limit_is_ideal_over_busy() -> None:
    outcome = simulate(workload_of(request_of(prompt=4, output=1)), setup_of())
    # 4 tokens of one operation, 10 pairs over 2 layers: 24 operations at 256 a second.
    assert outcome.percent_of_limit == pytest.approx(100 * 24 / 256)


def test_no_percent_of_limit_is_above_100() -> None:
    found = simulate(workload_of(request_of(prompt=4, output=1)), setup_of())
    (replica,) = found.replicas
    fast = replace(found, replicas=(replace(replica, busy=replica.ideal / 2),))
    assert fast.percent_of_limit == 100.0


def compared(workload: Workload, setup: Setup, seed: int = 0) -> tuple[Simulated, Simulated]:
    return (
        simulate(workload, setup, seed=seed, keep_bars=True),
        simulate(workload, setup, seed=seed, keep_bars=True, fast_forward=False),
    )


@every_shipped_policy
@settings(max_examples=40, deadline=None)
@given(
    workload=workloads(),
    slots=st.integers(1, 6),
    blocks=st.integers(12, 40),
    caching=st.booleans(),
    profile=st.builds(
        profile_of,
        st.just(UNEVEN),
        residuals=st.sampled_from([Residuals(), SPREAD]),
        window=st.sampled_from([None, 6, 20]),
    ),
    fleet=st.tuples(st.integers(1, 3), st.sampled_from(ROUTERS)),
    seed=st.integers(0, 3),
)
def test_skipping_is_stepping(
    policy: PolicyName,
    workload: Workload,
    slots: int,
    blocks: int,
    caching: bool,
    profile: Profile,
    fleet: tuple[int, RouterName],
    seed: int,
) -> None:
    setup = setup_of(
        policy,
        profile=profile,
        limits=limits_of(seqs=slots, tokens=16),
        num_blocks=blocks,
        prefix_caching=caching,
        replicas=fleet[0],
        router=fleet[1],
    )
    assert_same(*compared(workload, setup, seed))


def assert_same(skipped: Simulated, stepped: Simulated) -> None:
    assert skipped.records == stepped.records
    assert skipped.gaps == stepped.gaps
    for one, other in zip(skipped.replicas, stepped.replicas, strict=True):
        assert one.bars == other.bars
        assert (one.steps, one.preemptions) == (other.steps, other.preemptions)
        assert one.busy == pytest.approx(other.busy)
        assert one.ideal == pytest.approx(other.ideal)


@settings(max_examples=40, deadline=None)
@given(workload=workloads(), replicas=st.integers(1, 3), router=st.sampled_from(ROUTERS))
def test_every_answer_comes_whole_wherever_it_was_sent(
    workload: Workload, replicas: int, router: RouterName
) -> None:
    outcome = simulate(workload, setup_of(replicas=replicas, router=router))
    for record, request in zip(outcome.records, workload.requests, strict=True):
        assert record.output_tokens == request.output
        assert record.latency is not None
        assert record.ttft is not None
        assert record.ttft >= 1.0
        assert record.latency >= record.ttft + request.output - 1
    assert sum(outcome.gaps.values()) == sum(request.output - 1 for request in workload.requests)


@settings(max_examples=60, deadline=None)
@given(
    outputs=st.lists(st.tuples(st.integers(1, 24), st.integers(0, 20)), min_size=8, max_size=24),
    blocks=st.integers(12, 40),
)
def test_caching_prefixes_that_are_not_shared_is_only_seen_in_preemptions(
    outputs: list[tuple[int, int]], blocks: int
) -> None:
    requests = [
        request_of(prompt=5 + n % 9, output=output, cap=output + more, at=n / 4, seed=n)
        for n, (output, more) in enumerate(outputs)
    ]
    alone, setup = workload_of(*requests), setup_of(num_blocks=blocks)
    # Another request, refused at the end, begins as the first does: so blocks are named.
    shared = workload_of(*requests, request_of(prompt=300, at=99.0, seed=0))
    assert not shares_prefixes(alone)
    assert shares_prefixes(shared)
    assert simulate(alone, setup).records == simulate(shared, setup).records[:-1]


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    workload = workload_of(*(request_of(output=9, at=n / 2, seed=n) for n in range(5)))
    setup = setup_of(profile=profile_of(UNEVEN, residuals=SPREAD))
    assert simulate(workload, setup, seed=1) == simulate(workload, setup, seed=1)
    assert simulate(workload, setup, seed=1).records != simulate(workload, setup, seed=2).records
    plain = simulate(workload, setup, seed=1, residuals=False)
    assert plain == simulate(workload, setup, seed=2, residuals=False)


def test_an_empty_workload_takes_no_time() -> None:
    outcome = simulate(workload_of(), setup_of())
    assert (outcome.records, outcome.duration, outcome.percent_of_limit) == ((), 0.0, None)
    assert outcome.idle_share is None


def test_the_simulator_loads_neither_tensors_nor_event_loops() -> None:
    program = (
        "import sys, headway.perf.sim.simulate, headway.perf.sim.capacity, "
        "headway.perf.sim.replay, headway.perf.sim.roofline, headway.cli.simulate\n"
        "heavy = {'torch', 'numpy', 'asyncio', 'starlette', 'transformers', 'aiohttp'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@dataclass(frozen=True)
class Repeating(OneByOne):
    """Answers repeat one token, so these drafts are right but for an end."""

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        return [-2 - request.sampling.seed] * min(most, 3)


def changed(workload: Workload, setup: Setup, **changes: Any) -> tuple[Simulated, Simulated]:
    """As `compared`, with other arguments of the scheduler."""

    def make(config: SchedulerConfig, **usual: Any) -> Scheduler:
        assert usual.pop("store") is None
        settings: dict[str, Any] = {
            "policy": make_policy(config.policy),
            "pool": BlockPool(num_blocks=config.num_blocks, block_size=config.block_size),
            "limits": config.limits,
            "prefix_caching": config.prefix_caching,
        }
        return Scheduler(**settings | usual | changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headway.perf.sim.simulate.build_scheduler", make)
        return compared(workload, setup)


@pytest.mark.parametrize("policy", list(TOYS))
@settings(max_examples=40, deadline=None)
@given(workload=workloads(), seats=st.integers(1, 6), blocks=st.integers(12, 40))
def test_policies_that_look_at_the_time_are_skipped_exactly(
    policy: str, workload: Workload, seats: int, blocks: int
) -> None:
    setup = setup_of(profile=profile_of(UNEVEN), limits=limits_of(seqs=seats), num_blocks=blocks)
    assert_same(*changed(workload, setup, policy=policy_of(policy), step_times=TokenSeconds()))


class Procrastinating(Policy):
    """Wants to be asked again at once, whenever it is asked."""

    def decide(self, view: View) -> Decision:
        return Decision(ask_again=view.now)


def test_a_policy_that_waits_for_no_time_at_all_ends_the_simulation() -> None:
    with pytest.raises(RuntimeError, match="a time that has passed"):
        changed(workload_of(request_of()), setup_of(), policy=Procrastinating())


def test_skipping_no_step_ends_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedRunner, "fast_forward", lambda *_: {1: []})
    with pytest.raises(RuntimeError, match="no step"):
        simulate(workload_of(request_of()), setup_of())


@settings(max_examples=40, deadline=None)
@given(workload=workloads(), seats=st.integers(1, 6), blocks=st.integers(12, 40))
def test_drafts_make_answers_of_the_same_length(
    workload: Workload, seats: int, blocks: int
) -> None:
    setup = setup_of(limits=limits_of(seqs=seats), num_blocks=blocks)
    (drafting, _), (plain, _) = (
        changed(workload, setup, speculation=Speculation([Repeating()], AllDrafts())),
        changed(workload, setup),
    )
    assert [each.output_tokens for each in drafting.records] == [
        each.output_tokens for each in plain.records
    ]
    assert sum(drafting.gaps.values()) == sum(plain.gaps.values())


def test_drafts_that_are_right_save_steps() -> None:
    outcome, _ = changed(
        workload_of(request_of(prompt=4, output=9)),
        setup_of(),
        speculation=Speculation([Repeating()], AllDrafts()),
    )
    # The prompt's step gives a token, two more give four each.
    assert outcome.replicas[0].steps == 3
    assert outcome.gaps == {0: 6, 1_000_000: 2}
    (record,) = outcome.records
    assert (record.ttft, record.latency, record.output_tokens) == (1.0, 3.0, 9)
