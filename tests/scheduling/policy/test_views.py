"""What a policy sees, and that what it decides is done: order, preemption, deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.policy import Decision, Policy, SequenceView, View
from headway.scheduling.policy.base import fill
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle
from headway.steptime.shape import StepShape
from headway.types.objectives import Pace, parse_objectives
from headway.wire import HEADER, Submit, pack, read_to_engine
from tests.scheduling.harness import limits_of, make_harness, request_of

PROMISE = parse_objectives("ttft=2s,tpot=500ms")


@dataclass
class Spy(Policy):
    """Continuous batching that notes what it sees of every sequence that runs."""

    seen: list[tuple[int, int, int, float | None]] = field(default_factory=list)
    promises: set[tuple[str, Pace]] = field(default_factory=set)
    predicted: list[float | None] = field(default_factory=list)

    def decide(self, view: View) -> Decision:
        for seq in view.running:
            self.seen.append((seq.todo, seq.computed, seq.generated, seq.first_token_at))
        self.promises |= {(seq.tenant, seq.pace) for seq in view.waiting}
        tokens = fill(view, view.candidates)
        times = view.step_times
        shape = StepShape(tokens=sum(count for _, count in tokens))
        self.predicted.append(None if times is None else times.predict(shape))
        return Decision(tokens=tokens)


def test_a_policy_sees_progress_and_times() -> None:
    spy = Spy()
    harness = make_harness(spy, limits=limits_of(tokens=4))
    harness.clock.seconds = 10.0
    harness.add(request_of(prompt=(1, 2, 3, 4, 5, 6), max_tokens=3))
    harness.drain()
    assert spy.seen == [(2, 4, 0, None), (1, 6, 1, 11.0), (1, 7, 2, 11.0)]
    assert spy.predicted == [4.0, 2.0, 1.0, 1.0]


def test_without_a_model_nothing_is_predicted() -> None:
    spy = Spy()
    scheduler = Scheduler(
        policy=spy, pool=BlockPool(num_blocks=9, block_size=4), limits=limits_of()
    )
    scheduler.add(request_of())
    scheduler.plan(0.0)
    assert spy.predicted == [None]


def test_tenant_and_objectives_arrive_at_the_policy_over_the_wire() -> None:
    request = request_of(tenant="b", objectives=PROMISE)
    received = read_to_engine(pack(Submit(requests=[request]))[HEADER.size :])
    assert isinstance(received, Submit)
    (arrived,) = received.requests
    assert arrived == request
    spy = Spy()
    harness = make_harness(spy)
    harness.add(arrived)
    harness.step()
    assert spy.promises == {("b", Pace(ttft=2.0, tpot=0.5))}


class LastFirst(Spy):
    """Orders by arrival, the last first."""

    def order(self, seq: SequenceView) -> tuple[float, ...]:
        return (-seq.arrival,)


def test_a_policy_orders_both_queues() -> None:
    harness = make_harness(LastFirst(), limits=limits_of(seqs=2))
    for number in range(4):
        harness.add(request_of(str(number), max_tokens=2, arrival=float(number)))
    harness.step()
    assert [part.seq for part in harness.runner.plans[0].slices] == [4, 3]
    harness.step()
    assert [part.seq for part in harness.runner.plans[1].slices] == [4, 3]
    harness.drain()
    assert list(harness.ends) == ["3", "2", "1", "0"]


def test_memory_is_taken_from_the_last_in_the_policys_order() -> None:
    harness = make_harness(LastFirst(), blocks=6, first_guess=1)
    for number in range(2):
        harness.add(
            request_of(
                str(number), prompt=(number,), max_tokens=16, stop=(-1,), arrival=float(number)
            )
        )
    harness.drain()
    assert harness.scheduler.stats().preemptions > 0
    assert list(harness.ends) == ["1", "0"]


def test_keys_that_change_are_asked_for_anew() -> None:
    class LeastServed(Spy):
        reorder = True

        def order(self, seq: SequenceView) -> tuple[float, ...]:
            return (seq.generated,)

    harness = make_harness(LeastServed(), limits=limits_of(tokens=3))
    harness.add(request_of("a", max_tokens=9))
    harness.step()
    harness.step()
    harness.add(request_of("b", prompt=(7,), max_tokens=9))
    harness.step()
    harness.step()
    assert [part.seq for part in harness.runner.plans[3].slices] == [2, 1]


def test_whom_the_policy_preempts_gives_its_slot_and_blocks_at_once() -> None:
    harness = make_harness("toy: urgent", limits=limits_of(seqs=1))
    harness.add(request_of("late", max_tokens=9))
    harness.step()
    harness.add(request_of("soon", max_tokens=2, objectives=PROMISE))
    harness.step()
    assert [part.seq for part in harness.runner.plans[1].slices] == [2]
    assert harness.runner.plans[1].ended == (1,)
    harness.drain()
    assert list(harness.ends) == ["soon", "late"]
    assert harness.scheduler.stats().preemptions == 1


class Preempts(Policy):
    """Names a sequence that it may not name."""

    def __init__(self, number: int) -> None:
        self.number = number

    def decide(self, view: View) -> Decision:
        if view.running:
            return Decision(preempt=[self.number])
        return Decision(tokens=[(seq.id, seq.todo) for seq in view.candidates][:1])


@pytest.mark.parametrize("number", [2, 99])
def test_only_who_runs_can_be_preempted(number: int) -> None:
    harness = make_harness(Preempts(number))
    harness.add(request_of("a"), request_of("b"))
    harness.step()
    with pytest.raises(ValueError, match=f"preempts sequence {number}"):
        harness.step()


def test_who_was_preempted_too_often_may_not_be_again() -> None:
    harness = make_harness(Preempts(1))
    harness.add(request_of("a", max_tokens=99))
    with pytest.raises(ValueError, match="preempts sequence 1"):
        harness.drain()
    assert harness.scheduler.stats().preemptions == 3


def test_deadlines_are_met_that_the_order_of_arrival_would_miss() -> None:
    late: dict[str, float] = {}
    for policy in ("continuous", "toy: earliest deadline"):
        harness = make_harness(policy, limits=limits_of(seqs=1))
        harness.add(request_of("long", max_tokens=50))
        harness.step()
        harness.add(request_of("soon", max_tokens=1, arrival=1.0, objectives=PROMISE))
        for _ in range(60):
            if isinstance(harness.step(), Idle):
                break
            if "soon" in harness.ends:
                late.setdefault(policy, harness.clock.seconds - 1.0)
    assert late["toy: earliest deadline"] <= 2.0 < late["continuous"]
