"""Requests that come from another engine, and bring their keys and values along."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.block_pool import BlockPool
from headway.types import Request
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of
from tests.scheduling.test_every_policy import Scene, modest, scenes

SIZE = 4


@dataclass
class EngineElsewhere:
    """A `BlockStore` of what another engine's fake runner has stored."""

    pool: BlockPool
    store: dict[tuple[int, int], int]
    own: dict[tuple[int, int], int] = field(default_factory=dict)
    """Of the engine that loads."""
    loads: list[int] = field(default_factory=list)
    """How many blocks each load was asked for."""
    lost_after: int = 2**31
    """Blocks, in all loads together, after which the other engine has overwritten the rest."""

    def match(self, source: str, names: Seq[bytes]) -> int:
        assert source == "elsewhere"
        return len(self.pool.match(names))

    def load(self, source: str, names: Seq[bytes], blocks: Seq[int]) -> int:
        assert source == "elsewhere"
        assert len(names) == len(blocks)
        kept = max(0, self.lost_after - sum(self.loads))
        self.loads.append(len(names))
        found = self.pool.match(names)[:kept]
        for there, here in zip(found, blocks, strict=False):
            for offset in range(SIZE):
                self.own[here, offset] = self.store[there, offset]
        return len(found)


def elsewhere(harness: EngineHarness) -> EngineElsewhere:
    return EngineElsewhere(harness.scheduler.pool, harness.runner.store)


def moved(request: Request, told: Seq[int]) -> Request:
    return replace(request, generated=tuple(told), kv_source="elsewhere")


def first_steps(request: Request, steps: int = 4) -> tuple[EngineElsewhere, list[int]]:
    """A request was computed elsewhere for some steps: where, and which tokens it got."""
    harness = make_harness()
    harness.add(request)
    for _ in range(steps):
        harness.step()
    return elsewhere(harness), harness.tokens[request.id]


def test_what_was_computed_elsewhere_is_loaded_and_not_computed() -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    harness = make_harness(blocks_elsewhere=store)
    harness.add(moved(request, told))
    harness.drain()
    assert told + harness.tokens["a"] == reference(request.prompt, max_tokens=9)
    # 45 tokens are known, of which the last is never hit; the last to come is not fed.
    assert harness.runner.computed == 41 + 9 - 1 - 44
    assert harness.firsts["a"].cached_tokens == 41
    assert store.loads == [11]


def test_no_step_loads_more_tokens_than_it_may_compute_and_others_go_on_meanwhile() -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    harness = make_harness(limits=limits_of(tokens=9), blocks_elsewhere=store)
    harness.add(request_of("b", prompt=(9, 9), max_tokens=30))
    harness.step()
    harness.add(moved(request, told))
    begun = len(harness.tokens["b"])
    while "a" not in harness.tokens:
        harness.step()
    assert store.loads == [2, 2, 2, 2, 2, 1]
    assert len(harness.tokens["b"]) - begun >= len(store.loads), "a token in each of these steps"
    harness.drain()
    assert told + harness.tokens["a"] == reference(request.prompt, max_tokens=9)


def test_several_that_are_loaded_share_what_a_step_may() -> None:
    asked = [
        request_of(name, prompt=tuple(range(at, at + 41))) for at, name in ((0, "a"), (50, "b"))
    ]
    first = make_harness()
    first.add(*asked)
    first.step()
    first.step()
    store = elsewhere(first)
    harness = make_harness(limits=limits_of(tokens=12), blocks_elsewhere=store)
    harness.add(*(moved(each, first.tokens[each.id]) for each in asked))
    before, in_steps = 0, []
    while harness.engine.has_work:
        harness.step()
        in_steps.append(sum(store.loads) - before)
        before = sum(store.loads)
    assert sum(in_steps) == 20
    assert max(in_steps) == 3


def test_what_is_loaded_counts_as_hit_and_not_as_served() -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    harness = make_harness(blocks_elsewhere=store)
    harness.add(moved(request, told))
    while "a" not in harness.tokens:
        harness.step()
    (seq,) = harness.scheduler.queues.running
    assert seq.hits == 44


@pytest.mark.parametrize("kept", [0, 1, 7])
def test_what_is_lost_on_the_way_is_computed(kept: int) -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    store.lost_after = kept
    harness = make_harness(limits=limits_of(tokens=16), blocks_elsewhere=store)
    harness.add(moved(request, told))
    harness.drain()
    assert told + harness.tokens["a"] == reference(request.prompt, max_tokens=9)
    assert harness.firsts["a"].cached_tokens == kept * SIZE


def test_what_is_loaded_is_hit_by_others_who_wait_for_it() -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    harness = make_harness(limits=limits_of(tokens=8), blocks_elsewhere=store)
    harness.add(moved(request, told), replace(request, id="b"))
    harness.drain()
    assert harness.tokens["b"] == reference(request.prompt, max_tokens=9)
    assert harness.firsts["b"].cached_tokens == 40
    assert sum(store.loads) == 11


def test_prompt_logprobs_are_computed_as_nothing_stores_them() -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=3, prompt_logprobs=0)
    store, _ = first_steps(replace(request, sampling=request_of().sampling), steps=2)
    harness = make_harness(blocks_elsewhere=store)
    harness.add(replace(request, kv_source="elsewhere"))
    harness.drain()
    assert store.loads == []
    assert harness.runner.computed >= 41


@pytest.mark.parametrize("how", ["abort", "preempt"])
def test_a_sequence_may_leave_while_it_is_loaded(how: str) -> None:
    request = request_of(prompt=tuple(range(41)), max_tokens=9)
    store, told = first_steps(request)
    harness = make_harness(limits=limits_of(tokens=8), blocks_elsewhere=store)
    harness.add(moved(request, told))
    harness.step()
    harness.step()
    (seq,) = harness.scheduler.queues.running
    assert seq.loading
    if how == "abort":
        harness.abort("a")
    else:
        harness.scheduler._queues.preempt(seq)
    assert not seq.loading
    harness.scheduler.check()
    harness.drain()
    if how == "preempt":
        assert told + harness.tokens["a"] == reference(request.prompt, max_tokens=9)


@modest
@given(
    scene=scenes(),
    policy=st.sampled_from(["continuous", "paced", "sequential"]),
    steps=st.integers(0, 15),
    lost_after=st.sampled_from([2**31, 2**31, 0, 1, 5]),
)
def test_tokens_are_the_same_whenever_requests_move(
    scene: Scene, policy: str, steps: int, lost_after: int
) -> None:
    """All of them, from an engine that then stands still to one with as little memory."""
    first = scene.harness(policy)
    first.add(*scene.requests)
    for _ in range(steps):
        if first.engine.has_work:
            first.step()
    store = elsewhere(first)
    store.lost_after = lost_after
    second = make_harness(
        policy,
        blocks=scene.blocks,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
        first_guess=scene.first_guess,
        blocks_elsewhere=store,
    )
    second.add(
        *(
            moved(request, first.tokens.get(request.id, ()))
            for request in scene.requests
            if request.id not in first.ends
        )
    )
    for step in range(20):
        if step in scene.aborts:
            second.abort(scene.aborts[step])
        if second.engine.has_work:
            second.step()
    second.drain()
    for request in scene.requests:
        end = second.ends.get(request.id) or first.ends[request.id]
        told = first.tokens.get(request.id, []) + second.tokens.get(request.id, [])
        expected = reference(
            request.prompt,
            max_tokens=request.sampling.max_tokens,
            seed=request.sampling.seed,
            stop=request.sampling.stop_token_ids,
        )
        assert told == (expected if end.finish != "abort" else expected[: len(told)])
