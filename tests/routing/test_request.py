"""Shapes of real requests: names of what prompts share, and what is left of the time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.routing import RequestShape, shape_of
from headway.routing.request import (
    LONGEST_PREFIX,
    SHORTEST_PREFIX,
    prefix_lengths,
    prompt_prefixes,
)
from headway.types import Request, ResolvedSampling
from headway.types.objectives import parse_objectives


def shape(
    *,
    prompt: int = 200,
    generated: tuple[int, ...] = (),
    slo: str = "",
    salt: str = "",
    now: float = 10.0,
    named: bool = True,
) -> RequestShape:
    request = Request(
        id="a",
        prompt=tuple(range(prompt)),
        sampling=ResolvedSampling(max_tokens=9, seed=0),
        arrival=9.0,
        generated=generated,
        cache_salt=salt,
        objectives=parse_objectives(slo) if slo else (),
    )
    return shape_of(request, now, named=named)


def test_a_shape_has_lengths_names_and_when_it_is_routed() -> None:
    found = shape()
    assert (found.id, found.at, found.prompt_tokens, found.max_tokens) == ("a", 10.0, 200, 9)
    assert [prefix.tokens for prefix in found.prefixes] == [64, 128, 192]


def test_what_was_generated_elsewhere_is_part_of_the_prompt() -> None:
    found = shape(generated=(5, 6, 7))
    assert (found.prompt_tokens, found.max_tokens) == (203, 6)


def test_without_a_prefix_cache_nothing_is_named() -> None:
    assert shape(named=False).prefixes == ()


def test_the_first_token_is_due_after_what_is_left_of_its_time() -> None:
    assert shape(slo="ttft=3s,tpot=50ms").pace.ttft == 2.0
    assert shape(slo="ttft=3s,tpot=50ms").pace.tpot == 0.05
    assert shape(slo="ttft=3s", now=20.0).pace.ttft == 0.0
    assert shape(slo="tpot=50ms", now=20.0).pace.ttft == math.inf


def test_one_that_had_its_first_token_is_late_for_nothing() -> None:
    moved = shape(slo="ttft=3s,tpot=50ms", generated=(5,), now=20.0)
    assert (moved.pace.ttft, moved.pace.tpot) == (math.inf, 0.05)


@given(shared=st.integers(0, 900), first=st.integers(1, 300), second=st.integers(1, 300))
def test_two_prompts_have_the_names_in_common_of_what_they_share(
    shared: int, first: int, second: int
) -> None:
    common = list(range(shared))
    one = prompt_prefixes([*common, *[-1] * first])
    other = prompt_prefixes([*common, *[-2] * second])
    known = {prefix.name for prefix in one}
    found = [prefix.tokens for prefix in other if prefix.name in known]
    within = min(shared, shared + first - 1, shared + second - 1)
    assert found == [length for length in prefix_lengths(10**4) if length <= within]


def test_another_salt_shares_nothing() -> None:
    one, other = prompt_prefixes(range(200), "a"), prompt_prefixes(range(200), "b")
    assert not {each.name for each in one} & {each.name for each in other}


@given(tokens=st.integers(0, 2 * LONGEST_PREFIX))
def test_named_lengths_are_few_and_tell_what_is_shared_to_an_eighth(tokens: int) -> None:
    lengths = list(prefix_lengths(tokens))
    assert len(lengths) <= 100
    for begin, end in zip([0, *lengths], lengths, strict=False):
        assert end - begin <= max(SHORTEST_PREFIX, begin / 8)
    if lengths:
        assert lengths[-1] < tokens
        rest = min(tokens, LONGEST_PREFIX + 1) - lengths[-1]
        assert rest <= max(SHORTEST_PREFIX, lengths[-1] / 8) + 1


@pytest.mark.parametrize("tokens", [0, 1, SHORTEST_PREFIX])
def test_a_short_prompt_has_no_names(tokens: int) -> None:
    assert prompt_prefixes(range(tokens)) == []
