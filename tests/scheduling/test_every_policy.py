"""What holds under every policy, whatever arrives, ends, is aborted or is short of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.scheduling.drafts import Proposer
from headway.scheduling.sequence import MAX_PREEMPTIONS, Sequence
from headway.types import Limits, Request
from headway.types.objectives import parse_objectives
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of
from tests.scheduling.toy_policies import NAMES, SHIPPED

every_policy = pytest.mark.parametrize("policy", NAMES)
every_shipped_policy = pytest.mark.parametrize("policy", SHIPPED)
MOST_EXAMPLES = settings().max_examples
"""Of Hypothesis' profile: fewer for `benchmarks/mutation.py` than what the tests here ask for."""
modest = settings(
    max_examples=min(60, MOST_EXAMPLES),
    deadline=None,
    suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Scene:
    """A random afternoon: who comes before which step, and who gives up before which."""

    limits: Limits
    blocks: int
    prefix_caching: bool
    first_guess: int
    arrivals: tuple[tuple[int, Request], ...]
    aborts: Mapping[int, str]

    def harness(self, policy: str, proposer: Proposer | None = None) -> EngineHarness:
        return make_harness(
            policy,
            proposer=proposer,
            blocks=self.blocks,
            limits=self.limits,
            prefix_caching=self.prefix_caching,
            first_guess=self.first_guess,
        )

    @property
    def requests(self) -> list[Request]:
        return [request for _, request in self.arrivals]


# Few prefixes and few tokens, so that they are often shared; the block size is 4.
prefixes = st.sampled_from([(), (1,) * 4, (1,) * 8 + (2,) * 4, (3, 1, 4, 1, 5, 9, 2, 6) * 2])
prompts = st.builds(
    lambda head, tail: head + tail or (9,),
    prefixes,
    st.lists(st.integers(0, 3), max_size=9).map(tuple),
)


promises = st.sampled_from(
    [(), parse_objectives("ttft=2s"), parse_objectives("ttft=9s,tpot=500ms")]
)


@st.composite
def scenes(draw: st.DrawFn, *, exact: bool = False, aborts: bool = True) -> Scene:
    stops = st.just(()) if exact else st.sampled_from([(), (7,), (7,), tuple(range(0, 50, 5))])
    arrivals = []
    for index in range(draw(st.integers(1, 10))):
        at = draw(st.integers(0, 12))
        request = request_of(
            str(index),
            prompt=draw(prompts),
            max_tokens=draw(st.integers(1, 12)),
            stop=draw(stops),
            seed=index,
            arrival=float(at),
            priority=draw(st.sampled_from([0, 0, 0, 1])),
            objectives=draw(promises),
            tenant=draw(st.sampled_from(["", "b"])),
            cache_salt=draw(st.sampled_from(["", "", "x"])),
        )
        for copy in range(draw(st.sampled_from([1, 1, 1, 3]))):
            sampling = replace(request.sampling, seed=100 * index + copy)
            member = replace(
                request, id=f"{index}-{copy}", group=f"group {index}", sampling=sampling
            )
            arrivals.append((at, member))
    arrivals.sort(key=lambda pair: pair[0])
    ids = st.sampled_from([request.id for _, request in arrivals])
    gone = draw(st.dictionaries(st.integers(0, 20), ids, max_size=4)) if aborts else {}
    return Scene(
        limits=limits_of(
            seqs=draw(st.integers(1, 6)),
            tokens=draw(st.integers(1, 24)),
            partial=draw(st.integers(1, 3)),
            model_len=64,
        ),
        blocks=draw(st.integers(9, 20)),
        prefix_caching=draw(st.booleans()),
        first_guess=draw(st.sampled_from([1, 1, 256])),
        arrivals=tuple(arrivals),
        aborts=gone,
    )


def play(scene: Scene, policy: str, proposer: Proposer | None = None) -> EngineHarness:
    """Let it all happen, with every invariant checked at every step."""
    harness = scene.harness(policy, proposer)
    coming = list(scene.arrivals)
    for step in range(21):
        while coming and coming[0][0] <= step:
            harness.add(coming.pop(0)[1])
        if step in scene.aborts:
            harness.abort(scene.aborts[step])
            harness.scheduler.check()
        if policy in SHIPPED:
            watch(harness, paced=policy == "paced")
        else:
            harness.step()
    harness.drain()
    return harness


def watch(harness: EngineHarness, *, paced: bool) -> None:
    """One step in which the first in the queue must get something, itself or through its leader.

    A leader may stand behind those it leads, if they are more urgent. Under `paced` a prompt may
    have to let those pass that are due sooner, but the step is not empty.
    """
    running = list(harness.scheduler._queues.running)
    harness.step()
    if running:
        first = next(seq for seq in running if not seq.deferred)
        assert harness.runner.plans[-1].slices
        granted = {piece.seq for piece in harness.runner.plans[-1].slices}
        if not paced:
            assert first.id in granted
            step = harness.scheduler.stats().step
            assert running[0].active_step >= step or led(harness, running[0])
    for seq in running:
        assert seq.preemptions <= MAX_PREEMPTIONS


def led(harness: EngineHarness, seq: Sequence) -> bool:
    """Whether it is deferred for a leader that moved in this step or the last, or is done."""
    prefixes, pool = harness.scheduler._queues.prefixes, harness.scheduler.pool
    missing = seq.hashes[len(pool.match(seq.hashes)) :]
    leader = prefixes._leaders.get(missing[0]) if missing else None
    return seq.deferred and (
        leader is None or leader.active_step >= harness.scheduler.stats().step - 1
    )


def undisturbed(request: Request) -> list[int]:
    sampling = request.sampling
    return reference(
        request.prompt,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=sampling.stop_token_ids,
    )


@every_policy
@modest
@given(scene=scenes())
def test_tokens_are_those_of_a_request_alone(policy: str, scene: Scene) -> None:
    harness = play(scene, policy)
    aborted = set(scene.aborts.values())
    for request in scene.requests:
        expected = undisturbed(request)
        got = harness.tokens.get(request.id, [])
        if harness.ends[request.id].finish == "abort":
            assert request.id in aborted
            assert got == expected[: len(got)]
        else:
            assert got == expected


@every_policy
@modest
@given(scene=scenes())
def test_every_request_ends_once_and_every_block_is_free(policy: str, scene: Scene) -> None:
    harness = play(scene, policy)  # two ends of one request fail in `EngineHarness.hear`
    assert set(harness.ends) == {request.id for request in scene.requests}
    stats = harness.scheduler.stats()
    assert (stats.running, stats.waiting) == (0, 0)


@every_policy
@modest
@given(scene=scenes(aborts=False))
def test_uncached_tokens_are_computed_once_plus_recomputes(policy: str, scene: Scene) -> None:
    harness = play(scene, policy)
    stats = harness.scheduler.stats()
    # The last token of each request is never fed back, so nobody computes it.
    stored = sum(len(r.prompt) + len(harness.tokens[r.id]) - 1 for r in scene.requests)
    cached = sum(event.cached_tokens for event in harness.firsts.values())
    assert harness.runner.computed == stats.computed_tokens
    again = harness.runner.recomputed - harness.runner.hit_later
    assert stats.computed_tokens == stored - cached + again
    assert stats.prefix_hits <= cached <= stats.prefix_queries or not scene.prefix_caching


@every_shipped_policy
@modest
@given(scene=scenes(exact=True))
def test_no_preemption_where_lengths_are_exact(policy: str, scene: Scene) -> None:
    stats = play(scene, policy).scheduler.stats()
    assert stats.preemptions == stats.gave_way


@every_policy
@settings(modest, max_examples=min(20, MOST_EXAMPLES))
@given(scene=scenes())
def test_same_state_same_plans(policy: str, scene: Scene) -> None:
    assert play(scene, policy).runner.plans == play(scene, policy).runner.plans


@every_policy
@settings(modest, max_examples=min(30, MOST_EXAMPLES))
@given(scene=scenes(aborts=False), cut=st.integers(1, 13))
def test_resumed_requests_go_on_as_if_undisturbed(policy: str, scene: Scene, cut: int) -> None:
    harness = scene.harness(policy)
    expected = {request.id: undisturbed(request) for request in scene.requests}
    for request in scene.requests:
        made = tuple(expected[request.id][: min(cut, len(expected[request.id]) - 1)])
        harness.add(replace(request, generated=made))
    harness.drain()
    for request in scene.requests:
        made = tuple(expected[request.id])[: min(cut, len(expected[request.id]) - 1)]
        assert [*made, *harness.tokens[request.id]] == expected[request.id]


@every_policy
@settings(modest, max_examples=min(30, MOST_EXAMPLES))
@given(scene=scenes(aborts=False), bad=st.integers(0, 9))
def test_a_request_with_bad_logits_ends_alone(policy: str, scene: Scene, bad: int) -> None:
    harness = make_harness(
        policy,
        blocks=scene.blocks,
        limits=scene.limits,
        spoiled=lambda entry: entry.sampling.seed == 100 * bad,
    )
    harness.add(*scene.requests)
    harness.drain()
    for request in scene.requests:
        if request.sampling.seed == 100 * bad:
            assert harness.ends[request.id].finish == "error"
            assert harness.tokens[request.id] == []
        else:
            assert harness.tokens[request.id] == undisturbed(request)
