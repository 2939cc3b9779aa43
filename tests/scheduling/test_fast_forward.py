"""Skipping ahead leaves the scheduler just as stepping does: same plans, same blocks, same cache.

Two houses live through the same afternoon. One steps; the other skips whatever is certain, and its
plans must be those of the first one with gaps where it skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from headway.config import PolicyName
from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.build import build_scheduler
from headway.scheduling.fast_forward import FastForward, steps_with_room
from headway.scheduling.policy import View, policy_config
from headway.scheduling.policy.base import Decision, board_whole_batch
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.sequence import new_sequence
from headway.scheduling.stats import Idle
from headway.types import Request, Sampled, StepPlan, StepResult
from headway.types.engine import PolicyConfig, SchedulerConfig
from tests.scheduling.fake_runner import frozen
from tests.scheduling.house import limits_of, request_of
from tests.scheduling.test_every_policy import Scene, every_policy, modest, scenes


def token_at(request: Request, place: int) -> int:
    """What a request generates at a place of its answer: members of a group may say the same."""
    return (sum(request.prompt) + 3 * place + request.sampling.seed % 2) % 11


@dataclass
class House:
    """A scheduler and its steps, each a second long; tokens come from `token_at`."""

    scheduler: Scheduler
    skipping: bool
    requests: dict[int, Request] = field(default_factory=dict)
    plans: dict[int, StepPlan] = field(default_factory=dict)
    skipped: int = 0
    step: int = 0

    def add(self, request: Request) -> None:
        if self.scheduler.add(request) is None:
            live = self.scheduler._roster.live
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
                Sampled(seq=piece.seq, token=self._next(piece.seq))
                for piece in plan.slices
                if piece.sample
            ]
            self.scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 0.0)
            self.scheduler.check()

    def told(self, step: int) -> list[int]:
        """Who had left, as far as the plans up to that step say."""
        return [seq for at, plan in self.plans.items() if at <= step for seq in plan.ended]

    def _skip(self, most: int) -> bool:
        running = list(self.scheduler._roster.running)
        for seq in running:
            made = [token_at(seq.request, seq.generated + place) for place in range(most)]
            stops = [place for place, token in enumerate(made) if token in seq.stop_ids]
            most = min(most, stops[0] + 1) if stops else most
        quiet = self.scheduler.quiet_steps(float(self.step), most)
        assert quiet.steps <= max(0, most)
        if not quiet.steps:
            return False
        tokens = {
            seq.id: [token_at(seq.request, seq.generated + at) for at in range(quiet.steps)]
            for seq in running
        }
        ends = {event.id for event in self.scheduler.advance(quiet, tokens)}
        assert ends == {seq.request.id for seq in running if seq.state == "ended"}
        self.scheduler.check()
        self.step += quiet.steps
        self.skipped += quiet.steps
        return True

    def _next(self, number: int) -> int:
        seq = self.scheduler._roster.live[number]
        return token_at(seq.request, seq.generated)


def house_of(scene: Scene, policy: PolicyName, *, skipping: bool) -> House:
    return House(
        scheduler=build_scheduler(
            SchedulerConfig(
                policy=policy_config(policy, {"dynamic_wait": 3.0}),
                limits=scene.limits,
                num_blocks=scene.blocks,
                block_size=4,
                prefix_caching=scene.prefix_caching,
            ),
            lengths=LengthEstimate(first_guess=scene.first_guess),
        ),
        skipping=skipping,
    )


def live_through(scene: Scene, house: House, *, gap: int) -> None:
    """The scene with `gap` steps between its moments, so that there is something to skip."""
    moments: dict[int, list[Request | str]] = {}
    for at, request in scene.arrivals:
        moments.setdefault(at * gap, []).append(request)
    for at, name in scene.aborts.items():
        moments.setdefault(at * gap, []).append(name)
    for at in sorted(moments):
        house.run_until(at)
        for event in moments[at]:
            if isinstance(event, str):
                house.scheduler.abort(event)
            else:
                house.add(replace(event, arrival=float(at)))
    house.run_until(2000)
    assert not house.scheduler.has_work


def insides(scheduler: Scheduler) -> dict[str, object]:
    pool = scheduler.pool
    return {
        "blank": pool._blank,
        "cached": list(pool._cached),
        "stored": pool._stored,
        "stats": scheduler.stats(),
        "leaders": {name: seq.id for name, seq in scheduler._roster.prefixes._leaders.items()},
    }


@every_policy
@modest
@given(scene=scenes(), gap=st.sampled_from([1, 3, 8]))
def test_skipping_is_stepping(policy: PolicyName, scene: Scene, gap: int) -> None:
    stepping = house_of(scene, policy, skipping=False)
    skipping = house_of(scene, policy, skipping=True)
    live_through(scene, stepping, gap=gap)
    live_through(scene, skipping, gap=gap)
    assert len(stepping.plans) == len(skipping.plans) + skipping.skipped
    for step, plan in skipping.plans.items():
        # Who has left is told with the next plan that is written.
        assert replace(plan, ended=()) == replace(stepping.plans[step], ended=())
        assert skipping.told(step) == stepping.told(step)
    assert insides(skipping.scheduler) == insides(stepping.scheduler)


def scheduler_of(
    policy: PolicyName = "continuous", *, seats: int = 8, blocks: int = 64
) -> Scheduler:
    return build_scheduler(
        SchedulerConfig(
            policy=PolicyConfig(name=policy),
            limits=limits_of(seqs=seats),
            num_blocks=blocks,
            block_size=4,
        )
    )


def step(scheduler: Scheduler) -> None:
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    sampled = [Sampled(seq=piece.seq, token=5) for piece in plan.slices if piece.sample]
    scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 0.0)


def test_nothing_is_skipped_before_a_prompt_is_computed_or_when_nobody_runs() -> None:
    scheduler = scheduler_of()
    assert scheduler.quiet_steps(0.0, 9) == FastForward(0)
    scheduler.add(request_of(max_tokens=9))
    assert scheduler.quiet_steps(0.0, 9) == FastForward(0)


def test_steps_are_quiet_until_the_first_has_all_its_tokens() -> None:
    scheduler = scheduler_of()
    scheduler.add(request_of("a", max_tokens=20))
    scheduler.add(request_of("b", max_tokens=10))
    step(scheduler)
    assert scheduler.quiet_steps(0.0, 99) == FastForward(9)
    assert scheduler.quiet_steps(0.0, 3) == FastForward(3)


def test_who_ends_with_the_last_quiet_step_hears_of_it() -> None:
    scheduler = scheduler_of()
    for name, stop in (("a", ()), ("b", (3,)), ("c", ())):
        scheduler.add(request_of(name, max_tokens=3 if name == "a" else 9, stop=stop))
    step(scheduler)
    quiet = scheduler.quiet_steps(0.0, 9)
    assert quiet == FastForward(2)
    events = scheduler.advance(quiet, {1: [5, 5], 2: [5, 3], 3: [5, 5]})
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
        assert scheduler.quiet_steps(0.0, 99).steps == expected


def test_a_full_house_is_quiet_however_many_wait() -> None:
    scheduler = scheduler_of(seats=1)
    for name in "abc":
        scheduler.add(request_of(name, max_tokens=10))
    step(scheduler)
    assert scheduler.quiet_steps(0.0, 99).steps == 9


def test_idle_slots_are_those_that_the_steps_would_have() -> None:
    scheduler = scheduler_of("static")
    scheduler.add(request_of("a", max_tokens=1))
    scheduler.add(request_of("b", max_tokens=10))
    step(scheduler)
    assert scheduler.quiet_steps(0.0, 99) == FastForward(9, 1)


def test_a_policy_that_looks_at_the_time_is_asked_at_every_step() -> None:
    class Moody(Continuous):
        timeless = False

    scheduler = Scheduler(
        policy=Moody(), pool=BlockPool(num_blocks=9, block_size=4), limits=limits_of()
    )
    scheduler.add(request_of(max_tokens=20))
    step(scheduler)
    assert scheduler.quiet_steps(0.0, 99) == FastForward(0)


def test_a_policy_that_leaves_somebody_out_is_not_skipped() -> None:
    class Unfair:
        timeless = True

        def decide(self, view: View) -> Decision:
            if not view.running:
                return board_whole_batch(view)
            return Decision(shares=[(view.running[0].id, 1)])

    scheduler = Scheduler(
        policy=Unfair(), pool=BlockPool(num_blocks=64, block_size=4), limits=limits_of()
    )
    for name in "ab":
        scheduler.add(request_of(name, max_tokens=20))
    step(scheduler)
    assert scheduler.quiet_steps(0.0, 99) == FastForward(0)


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
