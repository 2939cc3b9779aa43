"""A draft model: its guesses are what it would generate, whatever became of those before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.engine.draft_model import NEAR, PROMPT_TOKENS, WORTH_READING, DraftModel
from headway.scheduling.drafts import Guess, Wanted
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape
from headway.types import Grammar, Limits, NewSequence, Request, StepPlan, StepResult
from tests.engine.reading_runner import ReadingRunner
from tests.scheduling.fake_runner import VOCABULARY, reference
from tests.scheduling.harness import StepClock, limits_of, make_harness, request_of
from tests.scheduling.test_every_policy import (
    Scene,
    every_policy,
    modest,
    play,
    scenes,
    undisturbed,
)

BLOCK = 4
LONG = 1000


def model_of(
    *,
    blocks: int = 400,
    limits: Limits | None = None,
    spoiled: Callable[[NewSequence], bool] = lambda entry: False,
    clock: StepClock | None = None,
    step_times: StepTimes | None = None,
) -> tuple[DraftModel, ReadingRunner]:
    limits = limits or limits_of(tokens=512, model_len=2000)
    runner = ReadingRunner(limits, BLOCK, spoiled)
    model = DraftModel(
        runner,
        limits=limits,
        num_blocks=blocks,
        block_size=BLOCK,
        clock=clock or StepClock(),
        step_times=step_times,
    )
    return model, runner


def guessed(model: DraftModel, request: Request, tokens: Sequence[int], most: int) -> list[int]:
    (guess,) = model.propose([Wanted(request, list(tokens), most)])
    model.check()
    return list(guess.tokens)


def long_request(name: str = "a", *, seed: int = 0, length: int = 3) -> Request:
    prompt = tuple(n % VOCABULARY for n in range(length))
    return request_of(name, prompt=prompt, max_tokens=LONG, seed=seed)


def test_sequences_are_drafted_for_together() -> None:
    model, runner = model_of()
    requests = [long_request(str(n), seed=n, length=3 + n) for n in range(3)]
    wanted = [
        Wanted(request, [*request.prompt, 7], most)
        for request, most in zip(requests, (3, 1, 5), strict=True)
    ]
    found = model.propose(wanted)
    for (request, tokens, most), guess in zip(wanted, found, strict=True):
        assert guess == Guess(reference(tokens, max_tokens=most, seed=request.sampling.seed))
    assert [len(plan.slices) for plan in runner.plans] == [3, 2, 2, 1, 1]
    assert all(len(part.tokens) == 1 for plan in runner.plans[1:] for part in plan.slices)


@pytest.mark.parametrize("accepted", range(6))
def test_what_was_wrong_is_taken_back_and_the_rest_is_not_read_again(accepted: int) -> None:
    """Of five drafts, of which the last one was never read."""
    model, runner = model_of()
    request = long_request()
    tokens = list(request.prompt)
    drafts = guessed(model, request, tokens, 5)
    other = (drafts[accepted] + 1) % VOCABULARY if accepted < 5 else 9
    tokens += [*drafts[:accepted], other]
    runner.plans.clear()
    assert guessed(model, request, tokens, 5) == reference(tokens, max_tokens=5)
    (part,) = runner.plans[0].slices
    assert part.start == len(request.prompt) + min(accepted, 4)
    assert len(part.tokens) == (2 if accepted == 5 else 1)


def test_the_same_tokens_give_the_same_drafts_again() -> None:
    model, runner = model_of()
    request = long_request()
    first = guessed(model, request, request.prompt, 4)
    runner.plans.clear()
    assert guessed(model, request, request.prompt, 4) == first
    assert [len(part.tokens) for plan in runner.plans for part in plan.slices] == [1] * 4


def test_long_prompts_are_read_in_parts_while_others_get_their_drafts() -> None:
    model, runner = model_of()
    long, other, short = (
        long_request("long", length=2 * PROMPT_TOKENS + 40),
        long_request("other", length=PROMPT_TOKENS),
        long_request("short", length=NEAR),
    )
    requests = [replace(each, cache_salt=each.id) for each in (long, other, short)]
    answers = {request.id: list(request.prompt) for request in requests}
    first: dict[str, int] = {}
    for number in range(4):
        runner.plans.clear()
        found = model.propose([Wanted(r, answers[r.id], 2) for r in requests])
        parts = [part for plan in runner.plans for part in plan.slices if len(part.tokens) > NEAR]
        assert sum(len(part.tokens) for part in parts) <= PROMPT_TOKENS
        for request, guess in zip(requests, found, strict=True):
            tokens = answers[request.id]
            if guess.tokens:
                first.setdefault(request.id, number)
                assert guess.tokens == reference(tokens, max_tokens=2)
            tokens += reference(tokens, max_tokens=1)
    # That which is least behind comes first: `long` has what it leaves.
    assert first == {"short": 0, "other": 0, "long": 3}


def test_a_step_of_the_draft_model_keeps_to_its_limits() -> None:
    """Of tokens, then of sequences; those that come later get none."""
    for limits, guesses in ((limits_of(tokens=10, model_len=99), 3), (limits_of(seqs=2), 2)):
        model, runner = model_of(limits=limits)
        wanted = [Wanted(long_request(str(n)), [1, 2, 3], 2) for n in range(5)]
        found = model.propose(wanted)
        assert [bool(guess.tokens) for guess in found] == [n < guesses for n in range(5)]
        assert len(runner.plans) == 2


def test_other_tokens_are_replaced_where_they_are_not_read_at_once() -> None:
    """Drafts were wrong, and much was generated without drafts since."""
    model, runner = model_of()
    request = long_request()
    tokens = list(request.prompt)
    drafts = guessed(model, request, tokens, 5)
    tokens += [(drafts[0] + 1) % VOCABULARY]
    tokens += reference(tokens, max_tokens=PROMPT_TOKENS + 20)
    assert guessed(model, request, tokens, 5) == []
    assert guessed(model, request, tokens, 5) == reference(tokens, max_tokens=5)
    (number,) = runner.known
    assert [plan.ended for plan in runner.plans if plan.ended] == [[number]]


def test_drafts_end_before_a_token_that_ends_the_sequence() -> None:
    prompt = (1, 2, 3)
    truth = reference(prompt, max_tokens=9)
    stop = next(token for n, token in enumerate(truth) if n > 1 and token not in truth[:n])
    model, runner = model_of()
    request = request_of(prompt=prompt, max_tokens=LONG, stop=(stop,))
    assert guessed(model, request, prompt, 9) == truth[: truth.index(stop)]
    assert len(runner.plans) == truth.index(stop) + 1


def test_a_sequence_that_cannot_be_sampled_for_gets_none_and_keeps_nothing() -> None:
    model, runner = model_of(spoiled=lambda entry: entry.sampling.seed == 1)
    bad, good = long_request("bad", seed=1), long_request("good", seed=2)
    for _ in range(2):
        found = model.propose([Wanted(bad, [1, 2, 3], 2), Wanted(good, [1, 2, 3], 2)])
        assert [len(guess.tokens) for guess in found] == [0, 2]
        model.check()
    assert [entry.sampling.seed for plan in runner.plans for entry in plan.new] == [1, 2]
    assert [entry.sampling.seed for entry in runner.known.values()] == [2]


def test_requests_that_leave_are_forgotten() -> None:
    model, runner = model_of(blocks=3)
    for name in ("a", "b", "c"):
        assert guessed(model, long_request(name), [1, 2, 3, 4, 5], 6), "there is room for one"
        model.forget(name)
        model.forget(name)
    assert len(runner.known) == 1, "the last one leaves with the next step"
    assert guessed(model, long_request("d"), [1], 1)
    assert len(runner.known) == 1


def test_without_room_for_all_there_is_one_draft_and_without_any_there_is_none() -> None:
    model, _ = model_of(blocks=1)
    assert len(guessed(model, long_request("a"), [1, 2, 3, 4], 3)) == 1
    model.forget("a")
    assert guessed(model, long_request("b"), [1, 2, 3, 4, 5], 3) == []
    assert len(guessed(model, long_request("c"), [1, 2, 3], 2)) == 2, "b keeps no room"


def test_sequences_longer_than_the_draft_model_takes_have_no_drafts() -> None:
    model, _ = model_of(limits=limits_of(model_len=8))
    request = long_request()
    tokens = list(request.prompt)
    lengths = []
    while len(tokens) < 11:
        lengths.append(len(guessed(model, request, tokens, 4)))
        tokens += reference(tokens, max_tokens=1)
    assert lengths == [4, 4, 4, 3, 2, 1, 0, 0]


def test_what_few_tokens_would_not_repay_is_not_read() -> None:
    left = 3
    for length, read in ((WORTH_READING * left, True), (WORTH_READING * left + 1, False)):
        model, runner = model_of()
        request = replace(
            long_request(length=length),
            sampling=replace(long_request().sampling, max_tokens=left),
        )
        assert bool(guessed(model, request, request.prompt, 2)) == read
        assert bool(runner.plans) == read


def test_a_prefix_is_read_once() -> None:
    """By those of a group that come together, and by who continues a conversation later."""
    model, runner = model_of()
    group = [long_request(str(n), seed=n, length=PROMPT_TOKENS) for n in range(3)]
    for _ in range(2):
        found = model.propose([Wanted(request, list(request.prompt), 1) for request in group])
    for request, guess in zip(group, found, strict=True):
        seed = request.sampling.seed
        assert guess.tokens == reference(request.prompt, max_tokens=1, seed=seed)
        model.forget(request.id)
    later = replace(long_request("later"), prompt=(*group[0].prompt, *range(9)))
    assert guessed(model, later, later.prompt, 2) == reference(later.prompt, max_tokens=2)
    read = sum(len(part.tokens) for plan in runner.plans for part in plan.slices)
    assert read <= PROMPT_TOKENS + 3 * BLOCK + BLOCK + 9 + 2


def test_it_samples_as_it_was_asked_to_but_tells_no_log_probabilities() -> None:
    model, runner = model_of()
    sampling = replace(
        long_request().sampling, temperature=0.7, top_k=5, logprobs=3, prompt_logprobs=1
    )
    request = replace(long_request(), sampling=replace(sampling, logprob_token_ids=(4,)))
    tokens = [*request.prompt, 7]
    assert guessed(model, request, tokens, 1)
    (entry,) = runner.plans[0].new
    assert entry.sampling == replace(sampling, logprobs=None, prompt_logprobs=None)
    assert (entry.tokens, entry.prompt_len) == (tuple(tokens), 3)


def test_what_a_grammar_constrains_is_left_to_others() -> None:
    model, _ = model_of()
    plain = request_of()
    grammar = Grammar(kind="regex", text="a")
    bound = replace(plain, sampling=replace(plain.sampling, structured_outputs=grammar))
    assert model.may_propose(plain)
    assert not model.may_propose(bound)


class NotedTimes:
    """A second for each sequence and a hundredth for each position that is read."""

    window: int | None = None

    def __init__(self) -> None:
        self.learned: list[tuple[StepShape, float]] = []

    def predict(self, shape: StepShape) -> float:
        return shape.sequences + shape.decode_context / 100

    bound = predict

    def learn(self, shape: StepShape, seconds: float) -> None:
        self.learned.append((shape, seconds))


def test_what_drafts_cost_follows_from_steps_as_they_were() -> None:
    clock, times = StepClock(), NotedTimes()
    model, runner = model_of(clock=clock, step_times=times)
    compute = runner.compute
    assert model.cost(3) == pytest.approx(3.03)

    def slowly(plan: StepPlan) -> StepResult:
        clock.seconds += 0.5
        return compute(plan)

    runner.compute = slowly  # type: ignore[method-assign]
    assert guessed(model, long_request(), list(range(20)), 3)
    assert model.seconds == 1.5
    assert [seconds for _, seconds in times.learned] == [0.5] * 2
    assert [shape.tokens for shape, _ in times.learned] == [1, 1], "reading is no draft"
    assert model.cost(2) == pytest.approx(2 + 2 * 22 / 100), "with contexts as they were last"
    assert model.propose([]) == []
    assert model.seconds == 0.0


def test_without_step_times_its_cost_is_unknown() -> None:
    model, _ = model_of()
    assert guessed(model, long_request(), [1, 2], 2)
    assert model.cost(4) == 0.0


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, bool]]:
    """Rounds: whom it is about, how many drafts are wanted, how many tokens follow, and whether it
    leaves."""
    one = st.tuples(
        st.integers(0, 3),
        st.integers(1, 6),
        st.sampled_from([0, 1, 1, 2, 3, 9, PROMPT_TOKENS + 9]),
        st.sampled_from([False] * 9 + [True]),
    )
    return draw(st.lists(one, max_size=40))


@modest
@given(
    rounds=histories(),
    blocks=st.sampled_from([3, 20, 90, 400]),
    tokens=st.sampled_from([4, 40, 512]),
    off=st.integers(0, 3),
    together=st.integers(1, 4),
)
def test_a_draft_is_always_what_the_draft_model_would_generate(
    rounds: list[tuple[int, int, int, bool]], blocks: int, tokens: int, off: int, together: int
) -> None:
    """Drafts are right up to a place, `off` tokens were generated otherwise; some leave, and others
    come under their names."""
    model, _ = model_of(blocks=blocks, limits=limits_of(tokens=tokens, model_len=600))
    live: dict[int, tuple[Request, list[int]]] = {}
    for begin in range(0, len(rounds), together):
        some = {who: rest for who, *rest in rounds[begin : begin + together]}
        wanted = []
        for who, (most, _, _) in some.items():
            request = long_request(str(who), seed=who, length=3 + 50 * who)
            request, known = live.setdefault(who, (request, list(request.prompt)))
            wanted.append(Wanted(request, known, most))
        found = model.propose(wanted)
        model.check()
        for (request, tokens_now, most), guess in zip(wanted, found, strict=True):
            truth = reference(tokens_now, max_tokens=most, seed=request.sampling.seed)
            assert len(guess.tokens) <= most
            assert list(guess.tokens) == truth[: len(guess.tokens)]
        for who, (_, more, leaves) in some.items():
            request, known = live[who]
            known += reference(known, max_tokens=more, seed=request.sampling.seed)
            if off and more:
                known[-min(off, more)] = (known[-min(off, more)] + 1) % VOCABULARY
            if leaves:
                model.forget(request.id)
                del live[who]
    for request, _ in live.values():
        model.forget(request.id)
    assert model._cache.free == blocks


@every_policy
@modest
@given(scene=scenes(), blocks=st.sampled_from([4, 64]))
def test_no_token_depends_on_a_draft_model(policy: str, scene: Scene, blocks: int) -> None:
    """Here it is the model itself, and has much or little room."""
    model, _ = model_of(blocks=blocks, limits=replace(scene.limits, max_model_len=64))
    harness = play(scene, policy, model)
    for request in scene.requests:
        got = harness.tokens.get(request.id, [])
        assert got == undisturbed(request)[: len(got)]
    model.check()
    assert model._cache.free == blocks, "who ends is forgotten"


def test_the_model_itself_is_always_right() -> None:
    model, _ = model_of()
    harness = make_harness(proposer=model, blocks=200)
    for n in range(3):
        harness.add(request_of(str(n), prompt=tuple(range(3 + n)), max_tokens=40, seed=n))
    harness.drain()
    stats = harness.scheduler.stats()
    assert stats.draft_tokens == stats.accepted_tokens > 60
    for n in range(3):
        assert harness.tokens[str(n)] == reference(range(3 + n), max_tokens=40, seed=n)
