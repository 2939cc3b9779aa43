"""Callers share the slots: who waits is next by turns, and who takes too much gives a slot back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.scheduling.sequence import LEAST_TURN, Sequence, new_sequence
from headway.scheduling.waiting import WaitingQueue
from headway.types import Request
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of
from tests.scheduling.test_every_policy import Scene, modest, play, scenes
from tests.scheduling.toy_policies import SHIPPED


def owned(name: str, *, tenant: str = "", caller: str = "", **more: Any) -> Request:
    return replace(request_of(name, tenant=tenant, **more), caller=caller)


def many(count: int, caller: str, *, tokens: int = 200, tenant: str = "") -> list[Request]:
    return [
        owned(
            f"{tenant}{caller}-{n}", tenant=tenant, caller=caller, prompt=(n, 1), max_tokens=tokens
        )
        for n in range(count)
    ]


def running(harness: EngineHarness) -> list[str]:
    return [seq.request.caller for seq in harness.scheduler._queues.running]


def queued(number: int, request: Request, order: tuple[float, ...] = ()) -> Sequence:
    seq = new_sequence(number, request, prefix_caching=False)
    seq.standing = (request.priority,)
    seq.order = (*(order or (request.priority, request.arrival)), number)
    return seq


# --- Who is next ---


def test_a_neighbour_is_next_whoever_came_before() -> None:
    queue = WaitingQueue()
    for number, request in enumerate([*many(5, "big"), owned("small", caller="small")]):
        queue.add(queued(number, request))
    assert [seq.request.id for seq in queue][:3] == ["big-0", "small", "big-1"]


def test_first_between_tenants_and_then_between_their_callers() -> None:
    queue = WaitingQueue()
    requests = [*many(2, "x", tenant="a"), *many(2, "y", tenant="a"), *many(2, "z", tenant="b")]
    for number, request in enumerate(requests):
        queue.add(queued(number, request))
    assert [seq.request.id for seq in queue] == ["ax-0", "bz-0", "ay-0", "bz-1", "ax-1", "ay-1"]


def test_priority_comes_before_turns() -> None:
    queue = WaitingQueue()
    requests = [owned("a", caller="a"), owned("b", caller="b"), owned("c", caller="b", priority=-1)]
    for number, request in enumerate(requests):
        queue.add(queued(number, request))
    assert [seq.request.id for seq in queue] == ["c", "a", "b"]


def test_of_those_that_hold_as_many_who_was_served_less_is_next() -> None:
    queue = WaitingQueue()
    first, second = queued(0, owned("a-0", caller="a")), queued(1, owned("a-1", caller="a"))
    other = queued(2, owned("b", caller="b", arrival=9.0))
    for seq in (first, second, other):
        queue.add(seq)
    queue.admit(first)
    queue.leave(first, 100, again=False)
    assert next(iter(queue)) is other


def test_newcomers_do_not_pass_somebody_for_ever() -> None:
    harness = make_harness("sequential")
    harness.add(*many(2, "patient", tokens=9))
    for number in range(40):  # more work than there is room for, always by somebody new
        harness.add(owned(f"new-{number}", caller=f"new-{number}", max_tokens=9))
        for _ in range(9):
            harness.step()
    assert "patient-1" in harness.ends


moves = st.lists(
    st.tuples(st.sampled_from(["add", "admit", "leave", "again", "end"]), st.integers(0, 99)),
    max_size=60,
)


@modest
@given(moves=moves, arrivals=st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_the_queue_is_what_choosing_anew_each_time_gives(
    moves: list[tuple[str, int]], arrivals: list[int]
) -> None:
    queue, waits, runs = WaitingQueue(), [], []
    for number, (move, pick) in enumerate(moves):
        if move == "add":
            request = owned(
                str(number),
                tenant=str(pick % 2),
                caller=str(pick % 3),
                arrival=float(arrivals[number]),
                priority=pick % 5 // 4,
            )
            waits.append(queued(number, request))
            queue.add(waits[-1])
        elif move == "admit" and waits:
            runs.append(waits.pop(pick % len(waits)))
            queue.admit(runs[-1])
        elif move in ("leave", "again") and runs:
            seq = runs.pop(pick % len(runs))
            queue.leave(seq, pick, again=move == "again")
            waits += [seq] if move == "again" else []
        elif move == "end" and waits:
            queue.remove(waits.pop(pick % len(waits)))
        queue.check()
        assert len(queue) == len(waits)
    assert list(queue) == chosen_anew(queue, waits, runs)
    urgent = {owner_of(seq) for seq in waits if seq.priority < 1}
    later = [seq for seq in waits if owner_of(seq) not in urgent]
    assert list(queue.later((1,))) == chosen_anew(queue, later, runs)
    assert list(queue.later((2,))) == []
    if waits:
        assert queue[0] is next(iter(queue))


def owner_of(seq: Sequence) -> tuple[str, str]:
    return seq.tenant, seq.request.caller


def chosen_anew(queue: WaitingQueue, waits: list[Sequence], runs: list[Sequence]) -> list[Sequence]:
    """The order as the rule says it, with everything counted anew for each place."""
    left, runs, found = list(waits), list(runs), []
    while left:
        best = []
        for tenant in {seq.tenant for seq in left}:
            of_tenant = [seq for seq in left if seq.tenant == tenant]
            held = [seq.request.caller for seq in runs if seq.tenant == tenant]
            heads = []
            for caller in {seq.request.caller for seq in of_tenant}:
                own = [seq for seq in of_tenant if seq.request.caller == caller]
                first = min(own, key=lambda seq: seq.order)
                served = queue._known(first).served
                heads.append((first.priority, held.count(caller), served, first.order, first))
            first = min(heads, key=lambda head: head[:-1])[-1]
            served = queue._known(first).tenant.served
            best.append((first.priority, len(held), served, first.order, first))
        chosen = min(best, key=lambda head: head[:-1])[-1]
        found.append(chosen)
        left.remove(chosen)
        runs.append(chosen)
    return found


@modest
@given(arrivals=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1)), max_size=20))
def test_one_caller_waits_in_the_policys_order(arrivals: list[tuple[int, int]]) -> None:
    queue, waits = WaitingQueue(), []
    for number, (arrival, priority) in enumerate(arrivals):
        waits.append(queued(number, owned(str(number), arrival=float(arrival), priority=priority)))
        queue.add(waits[-1])
        if number % 3 == 2:  # some run, and count
            queue.admit(waits.pop(0))
    assert list(queue) == sorted(waits, key=lambda seq: seq.order)
    later = [seq for seq in list(queue) if seq.priority > 0]
    assert list(queue.later((1,))) == later, "of one caller no urgent one hides the others"


def test_by_order_a_tenants_callers_are_next_whatever_they_were_served() -> None:
    queue = WaitingQueue(by_order=True)
    first, second = queued(0, owned("a-0", caller="a")), queued(1, owned("a-1", caller="a"))
    other = queued(2, owned("b", caller="b", arrival=9.0))
    for seq in (first, second, other):
        queue.add(seq)
    queue.admit(first)
    assert next(iter(queue)) is other, "turns of those that hold fewer come first all the same"
    queue.leave(first, 100, again=False)
    assert next(iter(queue)) is second


def test_a_waiting_sequence_moves_when_its_order_changes() -> None:
    queue = WaitingQueue()
    seqs = [queued(number, request) for number, request in enumerate(many(3, "a"))]
    for seq in seqs:
        queue.add(seq)
    with queue.moved(seqs[0]):
        seqs[0].standing, seqs[0].order = (1,), (1, 0.0, 0)
    queue.check()
    assert list(queue) == [seqs[1], seqs[2], seqs[0]]
    with queue.moved(seqs[1]):
        seqs[1].standing, seqs[1].order = (2,), (2, 0.0, 1)
    assert queue[0] is seqs[2]
    queue.check()


# --- Who gives a slot back ---


def test_a_neighbour_gets_a_slot_at_once_of_one_who_holds_all() -> None:
    harness = make_harness(blocks=900, limits=limits_of(seqs=4))
    harness.add(*many(12, "big"))
    harness.step()
    assert running(harness) == ["big"] * 4
    harness.add(owned("small", caller="small", prompt=(9,), max_tokens=2))
    harness.step()
    assert running(harness) == ["big"] * 3 + ["small"]
    assert "small" in harness.firsts
    assert harness.scheduler.stats().gave_way == 1
    harness.step()
    harness.step()
    assert running(harness) == ["big"] * 4  # the youngest has its slot back
    harness.drain()
    assert len(harness.ends) == 13


def test_a_neighbour_gets_memory_of_one_who_holds_all() -> None:
    harness = make_harness(blocks=40, limits=limits_of(seqs=16))
    harness.add(*many(12, "big", tokens=40))
    for _ in range(3):
        harness.step()
    assert 2 < len(running(harness)) < 12, "memory is short, and slots are not"
    harness.add(owned("small", caller="small", prompt=(9,) * 9, max_tokens=9))
    harness.step()
    assert "small" in running(harness)
    harness.drain()
    assert len(harness.ends) == 13


def test_shares_become_equal_and_stay() -> None:
    harness = make_harness(blocks=900, limits=limits_of(seqs=6))
    harness.add(*many(9, "a"))
    harness.step()
    harness.add(*many(9, "b"))
    for _ in range(30):
        harness.step()
    assert sorted(running(harness)) == ["a"] * 3 + ["b"] * 3
    assert harness.scheduler.stats().gave_way == 3


def test_a_share_is_exceeded_by_two_slots() -> None:
    queue = WaitingQueue()
    held = [queued(n, request) for n, request in enumerate(many(4, "big"))]
    own, waits = (queued(9 + n, request) for n, request in enumerate(many(2, "small")))
    for seq in (*held, own, waits):
        queue.add(seq)
    queue.admit(own)
    for count, seq in enumerate(held, start=1):
        queue.admit(seq)
        exceeded = count >= 3
        assert queue.owes(held[0], waits) == queue.anyone_owes(waits) == exceeded


def test_two_who_hold_one_each_keep_them() -> None:
    harness = make_harness(limits=limits_of(seqs=2))
    harness.add(*many(1, "a", tokens=50), *many(1, "b", tokens=50))
    harness.step()
    harness.add(*many(5, "c", tokens=5))
    for _ in range(20):
        harness.step()
    assert running(harness) == ["a", "b"]
    assert harness.scheduler.stats().gave_way == 0


def test_nobody_gives_way_to_the_less_urgent() -> None:
    harness = make_harness(limits=limits_of(seqs=4))
    harness.add(*(replace(request, priority=-1) for request in many(4, "urgent", tokens=30)))
    harness.step()
    harness.add(owned("small", caller="small"))
    for _ in range(20):
        harness.step()
    assert running(harness) == ["urgent"] * 4
    assert harness.scheduler.stats().gave_way == 0


@pytest.mark.parametrize("policy", ["static", "dynamic", "sequential"])
def test_the_other_policies_keep_who_is_in_their_batch(policy: str) -> None:
    harness = make_harness(policy, limits=limits_of(seqs=4))
    harness.add(*many(12, "big", tokens=9))
    for _ in range(3):
        harness.step()
    harness.add(owned("small", caller="small", max_tokens=2))
    harness.drain()
    assert harness.scheduler.stats().gave_way == 0
    # But it is in the next one.
    ended = list(harness.ends)
    assert ended.index("small") <= {"sequential": 1}.get(policy, 4)


def test_who_gave_way_is_left_alone_until_that_was_worth_it() -> None:
    harness = make_harness(blocks=900, limits=limits_of(seqs=2))
    harness.add(*many(2, "big"))
    harness.step()
    for number in range(30):  # a neighbour every few steps
        harness.add(owned(f"n{number}", caller=f"n{number}", prompt=(9,), max_tokens=1))
        for _ in range(4):
            harness.step()
    assert 0 < harness.scheduler.stats().gave_way <= 1 + 120 // LEAST_TURN
    assert harness.scheduler._queues.by_request["big-0"].gave_way == 0, "the first always goes on"
    harness.drain()
    assert len(harness.ends) == 32


def test_growing_takes_memory_from_who_holds_most() -> None:
    harness = make_harness(blocks=12, first_guess=1, limits=limits_of(seqs=8))
    grows = [replace(r, sampling=replace(r.sampling, stop_token_ids=(-1,))) for r in many(4, "big")]
    harness.add(*(replace(r, sampling=replace(r.sampling, max_tokens=30)) for r in grows))
    harness.add(owned("small", caller="small", prompt=(9, 9), max_tokens=30, stop=(-1,)))
    kept = 0
    while "small" not in harness.ends:
        before = harness.scheduler.stats().preemptions
        had, held = "small" in running(harness), running(harness).count("big")
        harness.step()
        if had and held > 1 and harness.scheduler.stats().preemptions > before:
            assert "small" in [*running(harness), *harness.ends], "the last in the queue"
            kept += 1
    assert kept
    harness.drain()


# --- What holds whatever happens ---


def with_callers(scene: Scene) -> Scene:
    """The scene with the copies of each request as one caller's."""
    return replace(
        scene,
        arrivals=tuple((at, replace(r, caller=r.id.partition("-")[0])) for at, r in scene.arrivals),
    )


@pytest.mark.parametrize("policy", SHIPPED)
@modest
@given(scene=scenes(aborts=False))
def test_owners_change_no_token_and_everybody_is_served(policy: str, scene: Scene) -> None:
    shared, alone = play(with_callers(scene), policy), play(scene, policy)
    assert shared.tokens == alone.tokens
    assert set(shared.ends) == {request.id for request in scene.requests}


@settings(modest, max_examples=40)
@given(
    seqs=st.integers(1, 5),
    sizes=st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(1, 90)), min_size=1, max_size=8
    ),
)
def test_no_slot_is_idle_and_giving_way_is_bounded(
    seqs: int, sizes: list[tuple[int, int, int]]
) -> None:
    harness = make_harness(blocks=400, limits=limits_of(seqs=seqs, tokens=256))
    coming = sorted((at, number) for number, (at, _, _) in enumerate(sizes))
    step = 0
    while coming or harness.engine.has_work:
        while coming and coming[0][0] <= step:
            _, number = coming.pop(0)
            _, count, tokens = sizes[number]
            harness.add(*many(count, str(number), tokens=tokens))
        waited = len(harness.scheduler._queues.live)
        harness.step()
        if waited:
            assert len(harness.runner.plans[-1].slices) == min(seqs, waited), "work is left undone"
        step += 1
        assert step < 5000, "somebody waits for ever"
    made = sum(len(tokens) for tokens in harness.tokens.values())
    sequences = sum(count for _, count, _ in sizes)
    assert harness.scheduler.stats().gave_way <= sequences + made // LEAST_TURN
