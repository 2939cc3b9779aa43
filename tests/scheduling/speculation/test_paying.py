"""The rule in a scheduler on a machine of known speed: never slower, for any stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.drafts import Guess, Wanted
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.sequence import new_sequence
from headway.scheduling.speculation.accounts import MOST_LOSS
from headway.scheduling.speculation.paying import FRUITLESS, PROBE, REST, PayingDrafts
from headway.scheduling.speculation.speculation import DraftStep, Speculation
from headway.scheduling.speculation.worth import ADVANCE, SELDOM
from headway.steptime.online import StepTimes
from headway.types import Grammar, Request, Sampled, StepPlan, StepResult
from tests.scheduling.harness import limits_of, make_harness, request_of
from tests.scheduling.proposers import Fixed, Guesser, OneByOne
from tests.scheduling.speculation.machines import Believed, KnownTimes, seconds_of
from tests.scheduling.test_every_policy import (
    Scene,
    every_policy,
    modest,
    scenes,
    undisturbed,
)

Right = Callable[[str, int], float]
"""How likely a draft of a request is right, after so many generated tokens; below 0: there is
none."""


def truth(number: int, place: int) -> int:
    return 1 + (7 * number + place) % 40


@dataclass
class Drafter(OneByOne):
    """Knows the answers, and errs."""

    right: Right
    seed: int = 0
    costs: float = 0.0
    """Seconds for each draft."""
    asking: float = 0.0
    """Seconds to be asked at all, of which nobody is told before."""
    took: float = 0.0
    asked: int = 0

    @property
    def seconds(self) -> float:
        return self.took

    def cost(self, width: int) -> float:
        return self.costs

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        self.took = self.asking + self.costs * max(each.most for each in wanted)
        self.asked += 1
        return super().propose(wanted)

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        made = len(tokens) - len(request.prompt)
        found: list[int] = []
        if self.right(request.id, made) < 0.0:
            return found
        for place in range(made, made + most):
            drawn = hash((self.seed, int(request.id), place, made)) % 10_007 / 10_007
            right = drawn < self.right(request.id, made)
            found.append(truth(int(request.id), place) if right else 0)
        return found


@dataclass
class Reader(Drafter):
    """Finds nothing until it was asked so many times."""

    unread: int = 0

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        if not self.unread:
            return super().guess(request, tokens, most)
        self.unread -= 1
        return ()


@dataclass
class Run:
    """What came of it."""

    ends: dict[str, float] = field(default_factory=dict)
    """When each request ended, in seconds."""
    steps: int = 0
    drafts: int = 0
    widest: int = 0
    """Most drafts in one step."""


def run(
    width: int,
    drafter: Drafter | None = None,
    *,
    times: StepTimes | None = None,
    seconds: Callable[[int], float] = seconds_of,
    output: int = 400,
    noise: float = 0.0,
) -> Run:
    """So many streams, from their first tokens to their ends."""
    speculation = None
    times = times or KnownTimes(seconds)
    if drafter is not None:
        speculation = Speculation([drafter], PayingDrafts(times))
    scheduler = Scheduler(
        policy=Continuous(),
        pool=BlockPool(num_blocks=width * (output // 16 + 3), block_size=16),
        limits=limits_of(seqs=width, tokens=1024, model_len=output + 9),
        step_times=times,
        speculation=speculation,
    )
    for number in range(width):
        scheduler.add(request_of(str(number), prompt=(number,), max_tokens=output))
    random, now, found = Random(3), 0.0, Run()
    while scheduler.has_work:
        plan = scheduler.plan(now)
        assert isinstance(plan, StepPlan)
        took = seconds(sum(len(part.tokens) for part in plan.slices))
        took *= 1.0 + noise * random.uniform(-1.0, 1.0)
        if drafter is not None:
            took += drafter.took
            drafter.took = 0.0
        now += took
        result = StepResult(step=plan.step, sampled=_sampled(plan), seconds=took)
        for event in scheduler.commit(plan, result, now):
            if event.finish is not None:
                found.ends[event.id] = now
        drafts = sum(part.outputs - 1 for part in plan.slices)
        found.steps += 1
        found.drafts += drafts
        found.widest = max(found.widest, drafts)
    return found


def _sampled(plan: StepPlan) -> list[Sampled]:
    sampled = []
    for part in plan.slices:
        made = part.start + len(part.tokens) - part.outputs  # the prompt is one token
        tokens = [truth(part.seq - 1, made)]
        for draft in part.tokens[1 - part.outputs :] if part.outputs > 1 else ():
            if draft != tokens[-1]:
                break
            made += 1
            tokens.append(truth(part.seq - 1, made))
        sampled.append(Sampled(seq=part.seq, tokens=tuple(tokens)))
    return sampled


def always(chance: float) -> Right:
    return lambda name, made: chance


def slower(some: Run, other: Run) -> float:
    """How many times as long the stream took that suffered most."""
    return max(some.ends[name] / other.ends[name] for name in other.ends)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 16, 64])
@pytest.mark.parametrize("chance", [0.0, 0.3, 0.9])
def test_no_stream_is_slower_than_without_drafts(width: int, chance: float) -> None:
    output = 1000 if width < 8 else 200
    drafting = run(width, Drafter(always(chance)), output=output, noise=0.1)
    assert slower(drafting, run(width, output=output, noise=0.1)) < 1.01


def test_where_drafts_are_right_one_alone_is_much_faster() -> None:
    assert run(1).ends["0"] / run(1, Drafter(always(0.9))).ends["0"] > 2.0
    assert run(1).ends["0"] / run(1, Drafter(always(0.6))).ends["0"] > 1.2
    assert slower(run(4, Drafter(always(0.9))), run(4)) < 0.9


def test_wide_steps_have_none_but_to_see_what_they_cost() -> None:
    output = 4 * PROBE
    assert 0 < run(64, Drafter(always(1.0)), output=output).drafts <= output / PROBE


@pytest.mark.parametrize("factor", [0.2, 3.0])
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
def test_a_model_that_errs_about_drafts_makes_no_stream_slower(
    factor: float, width: int, chance: float
) -> None:
    drafter = Drafter(always(chance))
    drafting = run(width, drafter, times=Believed(factor), noise=0.05, output=800)
    assert slower(drafting, run(width, noise=0.05, output=800)) < 1.02


def test_a_machine_on_which_drafts_never_pay_is_found_out() -> None:
    """The model holds them for cheap, and they cost as much as decodes."""
    linear: Callable[[int], float] = lambda tokens: 1e-3 * tokens  # noqa: E731
    drafter = Drafter(always(0.9))
    drafting = run(1, drafter, times=Believed(0.1, linear), seconds=linear, output=2000)
    assert slower(drafting, run(1, seconds=linear, output=2000)) < 1.01


@pytest.mark.parametrize(("width", "factor"), [(1, 25.0), (3, 8.0)])
def test_a_model_that_holds_drafts_for_dear_is_put_right(width: int, factor: float) -> None:
    """Each is believed to cost more than a token, and costs a twentieth of a step."""
    drafter = Drafter(always(0.9))
    drafting = run(width, drafter, times=Believed(factor), output=1500)
    assert slower(drafting, run(width, output=1500)) < 0.9


def test_a_stream_that_never_has_any_is_not_delayed_for_the_others() -> None:
    """Half a step in all, and a hundredth."""
    others = Drafter(lambda name, made: -1.0 if name == "0" else 0.95)
    drafting, plain = run(4, others), run(4)
    assert drafting.ends["0"] < 1.01 * plain.ends["0"] + 0.5 * seconds_of(4) + 1e-9


def test_streams_that_take_turns_all_gain() -> None:
    """Each has drafts that are right in one step of four: one pays for the others, and is paid."""
    turns = Drafter(lambda name, made: 0.95 if (made // 8 + int(name)) % 2 else -1.0)
    assert slower(run(3, turns, output=800), run(3, output=800)) < 0.97


def test_drafts_that_turn_wrong_cost_a_few_steps() -> None:
    """Whoever is believed and then always errs: a stream loses no more than it may."""
    for good in (0, 50, 300):
        trap = Drafter(lambda name, made, good=good: 1.0 if made < good else 0.0)  # type: ignore[misc]
        late, plain = run(1, trap, output=1200), run(1, output=1200)
        assert late.ends["0"] < plain.ends["0"] + (MOST_LOSS + 1) * seconds_of(1)


def test_drafts_that_turn_right_are_found_again() -> None:
    late = Drafter(lambda name, made: 0.0 if made < 1000 else 0.95)
    whole = run(1, late, output=4000).ends["0"]
    assert whole < 0.8 * run(1, output=4000).ends["0"]


def test_what_it_takes_to_find_drafts_is_weighed() -> None:
    cheap, dear = Drafter(always(0.9), costs=1e-4), Drafter(always(0.9), costs=3e-3)
    assert slower(run(1, cheap), run(1)) < 0.6
    drafting = run(1, dear, output=2000)
    assert drafting.drafts <= 2000 / PROBE
    assert slower(drafting, run(1, output=2000)) < 1.01


def test_who_must_read_a_text_before_it_finds_anything_is_waited_for() -> None:
    reader = Reader(always(0.95), costs=3e-4, unread=100)
    drafting, plain = run(2, reader), run(2)
    assert reader.unread == 0
    assert slower(drafting, plain) < 0.9


@dataclass
class Watched(Drafter):
    """Notes the streams that it is asked about."""

    streams: list[str] = field(default_factory=list)

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        self.streams.append(request.id)
        return super().guess(request, tokens, most)


def test_streams_of_which_nothing_comes_are_asked_about_in_few_steps() -> None:
    never = Watched(lambda name, made: -1.0)
    steps = run(2, never, output=400).steps
    for asked in Counter(never.streams).values():
        assert FRUITLESS <= asked <= FRUITLESS + steps / REST + 1
    alone = Watched(lambda name, made: -1.0)
    steps = run(1, alone, output=400).steps
    assert len(alone.streams) >= steps - 2


def test_a_stream_that_begins_to_repeat_is_asked_about_in_every_step_again() -> None:
    late = Watched(lambda name, made: 0.95 if made > 800 else -1.0)
    found = run(2, late, output=1600)
    assert found.steps < 1600 - 400
    drafted = Watched(lambda name, made: 0.95)
    assert found.steps - 800 < run(2, drafted, output=800).steps + 30


def test_what_a_grammar_forces_is_asked_for_in_every_step() -> None:
    rule = PayingDrafts(KnownTimes(seconds_of))
    grammar = replace(request_of("1").sampling, structured_outputs=Grammar(kind="regex", text="a*"))
    constrained = new_sequence(1, replace(request_of("1"), sampling=grammar), prefix_caching=True)
    free = new_sequence(2, request_of("2"), prefix_caching=True)
    never = Drafter(lambda name, made: -1.0)
    asked = [
        rule.asks(
            DraftStep(
                number=number,
                decodes=[constrained, free],
                others=(),
                most={constrained: 3, free: 3},
                most_tokens=100,
            ),
            never,
            [constrained, free],
            {},
        )
        for number in range(FRUITLESS + 3 * REST)
    ]
    assert [each[0] for each in asked] == [3] * len(asked)
    assert [each[1] for each in asked].count(3) < len(asked) - 3


def test_who_takes_long_and_finds_little_is_asked_seldom() -> None:
    idle = Drafter(lambda name, made: -1.0, asking=2e-4)
    drafting, plain = run(1, idle, output=2000), run(1, output=2000)
    assert idle.asked < ADVANCE + 2000 / SELDOM + 2
    assert drafting.ends["0"] < 1.01 * plain.ends["0"] + ADVANCE * 2e-4
    seldom = Drafter(lambda name, made: 0.95 if made % 100 < 10 else -1.0, asking=1e-5)
    assert slower(run(1, seldom, output=2000), plain) < 0.97
    assert seldom.asked > 1500


def test_without_step_times_one_alone_has_drafts() -> None:
    def played(width: int, chance: float) -> Run:
        drafter = Drafter(always(chance))
        scheduler = Scheduler(
            policy=Continuous(),
            pool=BlockPool(num_blocks=64, block_size=16),
            limits=limits_of(seqs=width),
            speculation=Speculation([drafter], PayingDrafts(None)),
        )
        for number in range(width):
            scheduler.add(request_of(str(number), prompt=(number,), max_tokens=100))
        found = Run()
        while scheduler.has_work:
            plan = scheduler.plan(0.0)
            assert isinstance(plan, StepPlan)
            scheduler.commit(plan, StepResult(step=plan.step, sampled=_sampled(plan)), 0.0)
            found.steps += 1
            found.drafts += sum(part.outputs - 1 for part in plan.slices)
        return found

    assert played(1, 0.9).steps < 60
    assert played(2, 0.9).drafts == 0
    assert played(1, 0.0).drafts < 10


@every_policy
@modest
@given(scene=scenes(), seed=st.integers(0, 9), factor=st.sampled_from([0.0, 0.3, 1.0]))
def test_under_any_policy_no_token_changes(
    policy: str, scene: Scene, seed: int, factor: float
) -> None:
    times = Believed(factor, lambda tokens: 1.0 + 0.1 * tokens)
    harness = make_harness(
        policy,
        speculation=Speculation([Guesser(seed), Fixed((1, 2))], PayingDrafts(times)),
        step_times=times,
        blocks=scene.blocks,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
        first_guess=scene.first_guess,
    )
    coming = list(scene.arrivals)
    for step in range(21):
        while coming and coming[0][0] <= step:
            harness.add(coming.pop(0)[1])
        if step in scene.aborts:
            harness.abort(scene.aborts[step])
        harness.step()
    harness.drain()
    for request in scene.requests:
        got = harness.tokens.get(request.id, [])
        assert got == undisturbed(request)[: len(got)]
        assert harness.ends[request.id].finish == "abort" or got == undisturbed(request)
    speculation = harness.scheduler._speculation
    assert speculation is not None
    assert isinstance(speculation.rule, PayingDrafts)
    assert not speculation.rule._accounts, "what is kept of a sequence goes with it"


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(1, 6),
    chances=st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6),
    factor=st.floats(0.3, 2.0),
    seed=st.integers(0, 99),
)
def test_whatever_the_chances_and_the_model_no_stream_loses_much(
    width: int, chances: list[float], factor: float, seed: int
) -> None:
    drafter = Drafter(lambda name, made: chances[int(name)], seed=seed)
    drafting = run(width, drafter, times=Believed(factor), noise=0.05, output=300)
    plain = run(width, noise=0.05, output=300)
    for name, end in plain.ends.items():
        assert drafting.ends[name] < 1.02 * end + (MOST_LOSS + 1) * seconds_of(width)
