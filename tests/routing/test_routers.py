"""Routers by example: what they see, and which engine they choose."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.routing import ROUTERS, EngineView, RouterName, make_router, router_name
from tests.routing.setups import request, view_of

every_router = pytest.mark.parametrize("name", ROUTERS)


def loaded(*counts: int) -> list[EngineView]:
    views = [view_of() for _ in counts]
    for view, count in zip(views, counts, strict=True):
        for number in range(count):
            view.sent(request(str(number)))
    return views


def test_round_robin_takes_turns() -> None:
    router = make_router("round-robin")
    assert [router.choose(request(), loaded(9, 0, 0)) for _ in range(4)] == [0, 1, 2, 0]


def test_least_requests_looks_at_their_number_alone() -> None:
    views = loaded(1, 0, 2)
    views[1].sent(request("long", prompt=9000))
    views[0].sent(request("short", prompt=1))
    assert make_router("least-requests").choose(request(), views) == 1


def test_prefix_chooses_who_has_most_of_the_prompt() -> None:
    views = loaded(1, 1, 0)
    views[0].prefixes.note(request(prefixes=[(b"a", 64)]).prefixes)
    views[1].prefixes.note(request(prefixes=[(b"a", 64), (b"ab", 128)]).prefixes)
    router = make_router("prefix")
    asked = request(prompt=200, prefixes=[(b"a", 64), (b"ab", 128), (b"abc", 192)])
    assert router.choose(asked, views) == 1
    assert router.choose(request(prefixes=[(b"x", 64)]), views) == 2


def test_of_two_who_have_as_much_prefix_takes_the_less_loaded() -> None:
    views = loaded(1, 0, 1)
    for view in views[:2]:
        view.prefixes.note(request(prefixes=[(b"a", 64)]).prefixes)
    assert make_router("prefix").choose(request(prefixes=[(b"a", 64)]), views) == 1


def test_prefix_spares_an_engine_with_too_many_requests() -> None:
    views = loaded(9, 1, 1)
    views[0].prefixes.note(request(prefixes=[(b"a", 64)]).prefixes)
    assert make_router("prefix").choose(request(prefixes=[(b"a", 64)]), views) in (1, 2)


@every_router
def test_equals_get_equally_much(name: RouterName) -> None:
    router = make_router(name)
    views = loaded(0, 0, 0, 0)
    chosen = Counter(router.choose(request(ttft=9.0), views) for _ in range(40))
    assert chosen == dict.fromkeys(range(4), 10)


@every_router
@given(
    counts=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8),
    ttft=st.sampled_from([None, 1.0, 3.0, 50.0]),
)
def test_only_those_that_are_offered_are_chosen(
    name: RouterName, counts: list[list[int]], ttft: float | None
) -> None:
    router = make_router(name)
    for offered in counts:
        views = loaded(*offered)
        assert 0 <= router.choose(request(ttft=ttft, prefixes=[(b"a", 4)]), views) < len(views)


def test_a_router_has_a_name_and_those_of_old_are_explained() -> None:
    assert [router_name(name) for name in ROUTERS] == list(ROUTERS)
    for name, why in (("prefix-affine", "called prefix"), ("least-tokens", "gone"), ("x", "no")):
        with pytest.raises(InvalidRequest, match=why) as caught:
            router_name(name)
        assert caught.value.field == "--router"
