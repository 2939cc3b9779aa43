"""Routers by example: what they see, and which engine they choose."""

from __future__ import annotations

import pytest

from headway import routing
from headway.routing import EngineView, PrefixAffine, RequestShape, make_router

ANY = RequestShape(prompt_tokens=4, max_tokens=2)


def idle(count: int = 3) -> list[EngineView]:
    return [EngineView() for _ in range(count)]


def loaded(*requests: int) -> list[EngineView]:
    return [EngineView(requests=count) for count in requests]


def shape(*prefixes: bytes) -> RequestShape:
    return RequestShape(prompt_tokens=12, max_tokens=2, prefixes=prefixes)


def test_round_robin_takes_turns() -> None:
    router = make_router("round-robin")
    assert [router.choose(ANY, idle()) for _ in range(4)] == [0, 1, 2, 0]


def test_least_requests_and_least_tokens_look_at_different_things() -> None:
    views = [EngineView(requests=1, tokens=900), EngineView(requests=3, tokens=30)]
    assert make_router("least-requests").choose(ANY, views) == 0
    assert make_router("least-tokens").choose(ANY, views) == 1


def test_a_view_counts_what_was_sent_and_has_not_ended() -> None:
    view = EngineView()
    view.sent(RequestShape(prompt_tokens=10, max_tokens=5))
    view.sent(ANY)
    view.ended(ANY)
    assert view == EngineView(requests=1, tokens=15)


def test_prefix_affine_chooses_the_engine_that_has_the_prefix() -> None:
    router = make_router("prefix-affine")
    assert router.choose(shape(b"a"), idle()) == 0
    # No load is far above the mean, so the prefix decides; a new one goes to the least loaded.
    assert router.choose(shape(b"a"), loaded(1, 1)) == 0
    assert router.choose(shape(b"b"), loaded(1, 0, 0)) == 1


def test_prefix_affine_prefers_the_longest_known_prefix() -> None:
    router = make_router("prefix-affine")
    assert router.choose(shape(b"a"), loaded(0, 0)) == 0
    assert router.choose(shape(b"a", b"ab"), loaded(9, 0)) == 1
    assert router.choose(shape(b"x"), loaded(0, 0)) == 0
    assert router.choose(shape(b"x", b"xy"), loaded(0, 0)) == 0
    assert router.choose(shape(b"a", b"ab", b"abc"), loaded(0, 0)) == 1
    # A prefix of nothing else is no reason to go anywhere.
    assert router.choose(shape(), loaded(1, 0)) == 1


def test_prefix_affine_spares_an_engine_with_too_much_load() -> None:
    router = make_router("prefix-affine")
    assert router.choose(shape(b"a"), idle()) == 0
    assert router.choose(shape(b"a"), loaded(9, 1, 1)) == 1
    # From now on the prefix is known there.
    assert router.choose(shape(b"a"), idle()) == 1


def test_prefix_affine_forgets_engines_that_are_gone() -> None:
    router = make_router("prefix-affine")
    assert router.choose(shape(b"a"), loaded(1, 1, 0)) == 2
    assert router.choose(shape(b"a"), idle(2)) == 0


def test_prefix_affine_remembers_the_most_recently_used_prefixes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "MAX_PREFIXES", 2)
    router = PrefixAffine()
    assert router.choose(shape(b"a"), loaded(1, 0)) == 1
    assert router.choose(shape(b"b"), loaded(1, 0)) == 1
    assert router.choose(shape(b"a"), loaded(0, 0)) == 1
    assert router.choose(shape(b"c"), loaded(0, 1)) == 0
    assert router.choose(shape(b"a"), loaded(0, 0)) == 1
    assert router.choose(shape(b"b"), loaded(0, 0)) == 0
