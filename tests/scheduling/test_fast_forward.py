"""Skipping ahead leaves the scheduler just as stepping does: same plans, same blocks, same cache.

Two schedulers get the same requests. One steps; the other skips whatever is certain, and its plans
must be those of the first one with gaps where it skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from headway.config import PolicyName
from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.fast_forward import FastForward, all_decode, steps_with_room
from headway.scheduling.policy import Policy, View
from headway.scheduling.policy.base import Decision, launch_batch
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.sequence import new_sequence
from headway.scheduling.stats import Idle
from headway.types import Request, Sampled, StepPlan, StepResult
from tests.scheduling.fake_runner import frozen
from tests.scheduling.harness import TokenSeconds, limits_of, request_of
from tests.scheduling.test_every_policy import Scene, every_policy, modest, scenes
from tests.scheduling.toy_policies import policy_of


def token_at(request: Request, place: int) -> int:
    """What a request generates at a place of its answer: members of a group may say the same."""
    return (sum(request.prompt) + 3 * place + request.sampling.seed % 2) % 11


@dataclass
class SteppedScheduler:
    """A scheduler and its steps, each a second long; tokens come from `token_at`."""

    scheduler: Scheduler
    skipping: bool
    requests: dict[int, Request] = field(default_factory=dict)
    plans: dict[int, StepPlan] = field(default_factory=dict)
    skipped: int = 0
    step: int = 0

    def add(self, request: Request) -> None:
        if self.scheduler.add(request) is None:
            live = self.scheduler._queues.live
            self.requests = {number: seq.request for number, seq in live.items()}

    def run_until(self, step: int) -> None:
        """All steps before that one."""
        while self.step < step:
            if self.skipping and self._skip(step - self.step):
                continue
            plan = self.scheduler.plan(float(self.step))
            self.step += 1
            if isinstance(plan, Idle):
                continue
            self.plans[self.step] = replace(frozen(plan), step=0)
            sampled = [
                Sampled(seq=piece.seq, tokens=(self._next(piece.seq),))
                for piece in plan.slices
                if piece.outputs
            ]
            self.scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 0.0)
            self.scheduler.check()

    def told(self, step: int) -> list[int]:
        """Who had left, as far as the plans up to that step say."""
        return [seq for at, plan in self.plans.items() if at <= step for seq in plan.ended]

    def _skip(self, most: int) -> bool:
        running = list(self.scheduler._queues.running)
        for seq in running:
            made = [token_at(seq.request, seq.generated + place) for place in range(most)]
            stops = [place for place, token in enumerate(made) if token in seq.stop_ids]
            most = min(most, stops[0] + 1) if stops else most
        quiet = self.scheduler.fast_forward_steps(float(self.step), most)
        assert quiet.steps <= max(0, most)
        if not quiet.steps:
            return False
        if quiet.until is not None:
            quiet = quiet._replace(steps=min(quiet.steps, ceil(quiet.until - self.step)))
        tokens = {
            seq.id: [token_at(seq.request, seq.generated + at) for at in range(quiet.steps)]
            for seq in running
        }
        ends = {event.id for event in self.scheduler.fast_forward(quiet, tokens, float(self.step))}
        assert ends == {seq.request.id for seq in running if seq.state == "ended"}
        self.scheduler.check()
        self.step += quiet.steps
        self.skipped += quiet.steps
        return True

    def _next(self, number: int) -> int:
        seq = self.scheduler._queues.live[number]
        return token_at(seq.request, seq.generated)


def stepped_scheduler(scene: Scene, policy: str, *, skipping: bool) -> SteppedScheduler:
    return SteppedScheduler(
        scheduler=Scheduler(
            policy=policy_of(policy),
            pool=BlockPool(num_blocks=scene.blocks, block_size=4),
            limits=scene.limits,
            prefix_caching=scene.prefix_caching,
            lengths=LengthEstimate(first_guess=scene.first_guess),
            step_times=TokenSeconds(),
        ),
        skipping=skipping,
    )


def live_through(scene: Scene, harness: SteppedScheduler, *, gap: int) -> None:
    """The scene with `gap` steps between its moments, so that there is something to skip."""
    moments: dict[int, list[Request | str]] = {}
    for at, request in scene.arrivals:
        moments.setdefault(at * gap, []).append(request)
    for at, name in scene.aborts.items():
        moments.setdefault(at * gap, []).append(name)
    for at in sorted(moments):
        harness.run_until(at)
        for event in moments[at]:
            if isinstance(event, str):
                harness.scheduler.abort(event)
            else:
                harness.add(replace(event, arrival=float(at)))
    harness.run_until(2000)
    assert not harness.scheduler.has_work


def insides(scheduler: Scheduler) -> dict[str, object]:
    pool = scheduler.pool
    return {
        "blank": pool._free,
        "cached": list(pool._cached),
        "stored": pool._stored,
        "stats": scheduler.stats(),
        "leaders": {name: seq.id for name, seq in scheduler._queues.prefixes._leaders.items()},
    }


@every_policy
@modest
@given(scene=scenes(), gap=st.sampled_from([1, 3, 8]))
def test_skipping_is_stepping(policy: str, scene: Scene, gap: int) -> None:
    stepping = stepped_scheduler(scene, policy, skipping=False)
    skipping = stepped_scheduler(scene, policy, skipping=True)
    live_through(scene, stepping, gap=gap)
    live_through(scene, skipping, gap=gap)
    assert len(stepping.plans) == len(skipping.plans) + skipping.skipped
    for step, plan in skipping.plans.items():
        # Who has left is told with the next plan that is written.
        assert replace(plan, ended=()) == replace(stepping.plans[step], ended=())
        assert skipping.told(step) == stepping.told(step)
    assert insides(skipping.scheduler) == insides(stepping.scheduler)


def scheduler_of(
    policy: PolicyName = "continuous", *, free_slots: int = 8, blocks: int = 64
) -> Scheduler:
    return Scheduler(
        policy=policy_of(policy),
        pool=BlockPool(num_blocks=blocks, block_size=4),
        limits=limits_of(seqs=free_slots),
    )


def step(scheduler: Scheduler) -> None:
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    sampled = [Sampled(seq=piece.seq, tokens=(5,)) for piece in plan.slices if piece.outputs]
    scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 0.0)


def test_nothing_is_skipped_before_a_prompt_is_computed_or_when_nobody_runs() -> None:
    scheduler = scheduler_of()
    assert scheduler.fast_forward_steps(0.0, 9) == FastForward(0)
    scheduler.add(request_of(max_tokens=9))
    assert scheduler.fast_forward_steps(0.0, 9) == FastForward(0)


def test_steps_are_quiet_until_the_first_has_all_its_tokens() -> None:
    scheduler = scheduler_of()
    scheduler.add(request_of("a", max_tokens=20))
    scheduler.add(request_of("b", max_tokens=10))
    step(scheduler)
    assert scheduler.fast_forward_steps(0.0, 99) == FastForward(9)
    assert scheduler.fast_forward_steps(0.0, 3) == FastForward(3)


def test_who_ends_with_the_last_quiet_step_hears_of_it() -> None:
    scheduler = scheduler_of()
    for name, stop in (("a", ()), ("b", (3,)), ("c", ())):
        scheduler.add(request_of(name, max_tokens=3 if name == "a" else 9, stop=stop))
    step(scheduler)
    quiet = scheduler.fast_forward_steps(0.0, 9)
    assert quiet == FastForward(2)
    events = scheduler.fast_forward(quiet, {1: [5, 5], 2: [5, 3], 3: [5, 5]}, 2.0)
    assert [(event.id, event.finish, event.stop_reason) for event in events] == [
        ("a", "length", None),
        ("b", "stop", 3),
    ]
    assert scheduler.stats().running == 1


def test_whoever_may_board_ends_the_quiet_unless_the_policy_seats_nobody() -> None:
    cases: list[tuple[PolicyName, int]] = [("continuous", 0), ("static", 9), ("sequential", 9)]
    for policy, expected in cases:
        scheduler = scheduler_of(policy)
        scheduler.add(request_of("a", max_tokens=10))
        step(scheduler)
        scheduler.add(request_of("b", max_tokens=10))
        assert scheduler.fast_forward_steps(0.0, 99).steps == expected


def test_with_a_full_batch_steps_are_certain_however_many_wait() -> None:
    scheduler = scheduler_of(free_slots=1)
    for name in "abc":
        scheduler.add(request_of(name, max_tokens=10))
    step(scheduler)
    assert scheduler.fast_forward_steps(0.0, 99).steps == 9


def test_idle_slots_are_those_that_the_steps_would_have() -> None:
    scheduler = scheduler_of("static")
    scheduler.add(request_of("a", max_tokens=1))
    scheduler.add(request_of("b", max_tokens=10))
    step(scheduler)
    assert scheduler.fast_forward_steps(0.0, 99) == FastForward(9, 1)


def test_a_policy_that_looks_at_the_time_is_asked_at_every_step() -> None:
    class Moody(Continuous):
        def decide(self, view: View) -> Decision:
            return replace(super().decide(view), ask_again=view.now)

    scheduler = Scheduler(
        policy=Moody(), pool=BlockPool(num_blocks=9, block_size=4), limits=limits_of()
    )
    scheduler.add(request_of(max_tokens=20))
    step(scheduler)
    assert scheduler.fast_forward_steps(0.0, 99) == FastForward(0)


def test_a_policy_that_leaves_somebody_out_is_not_skipped() -> None:
    class Unfair(Policy):
        def decide(self, view: View) -> Decision:
            if not view.running:
                return launch_batch(view)
            return Decision(tokens=[(view.running[0].id, 1)])

    scheduler = Scheduler(
        policy=Unfair(), pool=BlockPool(num_blocks=64, block_size=4), limits=limits_of()
    )
    for name in "ab":
        scheduler.add(request_of(name, max_tokens=20))
    step(scheduler)
    assert scheduler.fast_forward_steps(0.0, 99) == FastForward(0)


def test_a_prompt_that_is_computed_again_token_by_token_is_no_decode() -> None:
    seq = new_sequence(1, request_of(prompt=(1, 2, 3)), prefix_caching=False)
    seq.tokens += [4, 5, 6, 7]
    seq.entered, seq.first_token_at = True, 1.0
    for computed in range(1, 7):
        seq.computed, seq.todo = computed, len(seq.tokens) - computed
        assert all_decode([(1, 1)], [seq]) is (computed == 6)


@given(
    tables=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=5),
    most=st.integers(0, 40),
    free=st.integers(0, 20),
)
def test_steps_with_room_is_the_most_that_the_free_blocks_allow(
    tables: list[tuple[int, int]], most: int, free: int
) -> None:
    size, running = 4, []
    for number, (blocks, filled) in enumerate(tables):
        seq = new_sequence(number, request_of(), prefix_caching=False)
        seq.blocks = list(range(blocks))
        seq.computed = max(0, (blocks - 1) * size + filled)
        running.append(seq)
    found = steps_with_room(running, most, free=free, block_size=size)

    def needed(steps: int) -> int:
        return sum(max(0, -(-(s.computed + steps) // size) - len(s.blocks)) for s in running)

    assert 0 <= found <= most
    assert needed(found) <= free or not found
    assert found == most or needed(found + 1) > free


def test_steps_are_certain_until_the_decision_may_change() -> None:
    scheduler = Scheduler(
        policy=policy_of("toy: shifts"),
        pool=BlockPool(num_blocks=9, block_size=4),
        limits=limits_of(),
    )
    scheduler.add(request_of(max_tokens=20))
    step(scheduler)
    assert scheduler.fast_forward_steps(7.0, 99) == FastForward(19, 0, until=10.0)
