"""What holds under every policy, whatever arrives, ends, is aborted or is short of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.config import PolicyName
from headway.scheduling.sequence import MAX_PREEMPTIONS, Sequence
from headway.types import Limits, Request
from tests.scheduling.fake_runner import reference
from tests.scheduling.house import EngineHarness, limits_of, make_house, request_of

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
every_policy = pytest.mark.parametrize("policy", POLICIES)
modest = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large]
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

    def house(self, policy: PolicyName) -> EngineHarness:
        return make_house(
            policy,
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


def play(scene: Scene, policy: PolicyName) -> EngineHarness:
    """Let it all happen, with every invariant checked at every step."""
    house = scene.house(policy)
    coming = list(scene.arrivals)
    for step in range(21):
        while coming and coming[0][0] <= step:
            house.add(coming.pop(0)[1])
        if step in scene.aborts:
            house.abort(scene.aborts[step])
            house.scheduler.check()
        watch(house)
    house.drain()
    return house


def watch(house: EngineHarness) -> None:
    """One step in which the first in line must get something, itself or through its leader.

    A leader may stand behind those it leads, if they are more urgent.
    """
    running = list(house.scheduler._roster.running)
    house.step()
    if running:
        first = next(seq for seq in running if not seq.held)
        granted = {piece.seq for piece in house.runner.plans[-1].slices}
        assert first.id in granted
        assert running[0].active_step >= house.scheduler.stats().step or led(house, running[0])
    for seq in running:
        assert seq.preemptions <= MAX_PREEMPTIONS


def led(house: EngineHarness, seq: Sequence) -> bool:
    """Whether it is held for a leader that moved in this step or the last, or is there already."""
    prefixes, pool = house.scheduler._roster.prefixes, house.scheduler.pool
    missing = seq.hashes[len(pool.match(seq.hashes)) :]
    leader = prefixes._leaders.get(missing[0]) if missing else None
    return seq.held and (leader is None or leader.active_step >= house.scheduler.stats().step - 1)


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
def test_tokens_are_those_of_a_request_alone(policy: PolicyName, scene: Scene) -> None:
    house = play(scene, policy)
    aborted = set(scene.aborts.values())
    for request in scene.requests:
        expected = undisturbed(request)
        got = house.tokens.get(request.id, [])
        if house.ends[request.id].finish == "abort":
            assert request.id in aborted
            assert got == expected[: len(got)]
        else:
            assert got == expected


@every_policy
@modest
@given(scene=scenes())
def test_every_request_ends_once_and_every_block_is_free(policy: PolicyName, scene: Scene) -> None:
    house = play(scene, policy)  # two ends of one request fail in `EngineHarness.hear`
    assert set(house.ends) == {request.id for request in scene.requests}
    stats = house.scheduler.stats()
    assert (stats.running, stats.waiting) == (0, 0)


@every_policy
@modest
@given(scene=scenes(aborts=False))
def test_uncached_tokens_are_computed_once_plus_recomputes(
    policy: PolicyName, scene: Scene
) -> None:
    house = play(scene, policy)
    stats = house.scheduler.stats()
    # The last token of each request is never fed back, so nobody computes it.
    stored = sum(len(r.prompt) + len(house.tokens[r.id]) - 1 for r in scene.requests)
    cached = sum(event.cached_tokens for event in house.firsts.values())
    assert house.runner.computed == stats.computed_tokens
    assert stats.computed_tokens == stored - cached + stats.recomputed_tokens
    assert stats.prefix_hits <= cached <= stats.prefix_queries or not scene.prefix_caching


@every_policy
@modest
@given(scene=scenes(exact=True))
def test_no_preemption_where_lengths_are_exact(policy: PolicyName, scene: Scene) -> None:
    assert play(scene, policy).scheduler.stats().preemptions == 0


@every_policy
@settings(modest, max_examples=20)
@given(scene=scenes())
def test_same_state_same_plans(policy: PolicyName, scene: Scene) -> None:
    assert play(scene, policy).runner.plans == play(scene, policy).runner.plans


@every_policy
@settings(modest, max_examples=30)
@given(scene=scenes(aborts=False), cut=st.integers(1, 13))
def test_resumed_requests_go_on_as_if_undisturbed(
    policy: PolicyName, scene: Scene, cut: int
) -> None:
    house = scene.house(policy)
    expected = {request.id: undisturbed(request) for request in scene.requests}
    for request in scene.requests:
        made = tuple(expected[request.id][: min(cut, len(expected[request.id]) - 1)])
        house.add(replace(request, generated=made))
    house.drain()
    for request in scene.requests:
        made = tuple(expected[request.id])[: min(cut, len(expected[request.id]) - 1)]
        assert [*made, *house.tokens[request.id]] == expected[request.id]


@every_policy
@settings(modest, max_examples=30)
@given(scene=scenes(aborts=False), bad=st.integers(0, 9))
def test_a_request_with_bad_logits_ends_alone(policy: PolicyName, scene: Scene, bad: int) -> None:
    house = make_house(
        policy,
        blocks=scene.blocks,
        limits=scene.limits,
        spoiled=lambda entry: entry.sampling.seed == 100 * bad,
    )
    house.add(*scene.requests)
    house.drain()
    for request in scene.requests:
        if request.sampling.seed == 100 * bad:
            assert house.ends[request.id].finish == "error"
            assert house.tokens[request.id] == []
        else:
            assert house.tokens[request.id] == undisturbed(request)
