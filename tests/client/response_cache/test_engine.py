"""An engine with a cache gives every request what the engine alone would have given it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from headway.client import Stream
from headway.client.response_cache.engine import CachingEngine
from headway.client.response_cache.keys import CacheKeys
from headway.client.response_cache.store import AnswerStore
from headway.errors import InvalidRequest, Unavailable
from headway.types import TokenEvent
from tests.client.response_cache.scripted import ScriptedEngine, expected, request
from tests.client.support import collect, tokens


def caching(most_bytes: int = 2**20) -> tuple[CachingEngine, ScriptedEngine]:
    engine = ScriptedEngine()
    store = AnswerStore(most_bytes, max_age=1e9)
    return CachingEngine(engine, keys=CacheKeys(b"model"), store=store), engine


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    run.__name__ = test.__name__
    return run


async def settle() -> None:
    """Let all that can run do so."""
    for _ in range(6):
        await asyncio.sleep(0)


async def answered(engine: ScriptedEngine, stream: Stream) -> list[TokenEvent]:
    """All events of a stream, while the engine steps as long as it has something to compute."""
    reading = asyncio.ensure_future(collect(stream))
    for _ in range(60):
        await settle()
        if engine.running:
            engine.step()
    return await asyncio.wait_for(reading, 1)


@in_loop
async def test_an_equal_request_is_answered_from_memory_with_all_that_was_said() -> None:
    cache, engine = caching()
    asked = request("a", logprobs=1)
    first = await answered(engine, cache.submit(asked))
    stream = cache.submit(replace(asked, id="b", arrival=70.0))
    (event,) = await collect(stream)
    assert list(event.tokens) == tokens(first) == expected(asked)
    assert event.logprobs == tuple(each for told in first for each in told.logprobs)
    assert (event.finish, event.id, event.scheduled_at) == ("length", "b", 70.0)
    assert (event.cached, event.cached_tokens) == (True, 0)
    assert stream.outcome == "hit"
    assert len(engine.submitted) == 1
    assert (cache.counts.queries, cache.counts.hits, cache.counts.tokens) == (2, 1, 6)


@in_loop
async def test_a_request_that_comes_while_an_equal_one_is_computed_joins_it() -> None:
    cache, engine = caching()
    one = cache.submit(request("a"))
    engine.step()
    engine.step()
    two = cache.submit(request("b", arrival=70.0))
    assert (one.outcome, two.outcome) == ("miss", "joined")
    # From the first token on, and at once.
    began = await anext(two)
    assert list(began.tokens) == expected(request("b"))[:2]
    assert (began.scheduled_at, began.cached) == (70.0, True)
    engine.step()
    assert [event.tokens for event in (await anext(one), await anext(two))] == [
        tuple(expected(request("a"))[:3]),
        tuple(expected(request("b"))[2:3]),
    ]
    rest = [await answered(engine, each) for each in (one, two)]
    assert tokens(rest[0]) == tokens(rest[1]) == expected(request("a"))[3:]
    assert len(engine.submitted) == 1


@in_loop
async def test_the_engine_goes_on_until_the_last_one_leaves() -> None:
    cache, engine = caching()
    one, two, three = (cache.submit(request(name)) for name in "abc")
    engine.step()
    one.cancel()
    three.cancel("c")
    assert len(engine.running) == 1
    # The id of the one that left is free, though its computation goes on.
    again = cache.submit(request("a"))
    assert again.outcome == "joined"
    again.cancel()
    assert tokens(await answered(engine, two)) == expected(request("b"))
    last = cache.submit(request("x", (1, 2)))
    engine.step()
    last.cancel()
    assert (engine.running, len(engine.cancelled)) == ({}, 1)
    assert len(cache.store) == 1  # and nothing of the one that was left


@in_loop
async def test_only_what_is_equally_urgent_shares_a_computation_and_all_share_the_answer() -> None:
    cache, engine = caching()
    one = cache.submit(request("a", priority=0))
    two = cache.submit(request("b", priority=1))
    three = cache.submit(replace(request("c"), service_class="batch"))
    assert [each.outcome for each in (one, two, three)] == ["miss"] * 3
    await answered(engine, one)
    assert cache.submit(request("d", priority=5)).outcome == "hit"


@in_loop
async def test_an_answer_that_its_reader_had_enough_of_is_kept_and_continued_when_asked() -> None:
    cache, engine = caching()
    one = cache.submit(request("a", logprobs=1))
    for _ in range(3):
        engine.step()
    await anext(one)
    one.enough("a")
    assert (engine.running, len(cache.store)) == ({}, 1)
    two = cache.submit(request("b", logprobs=1))
    await settle()
    began = await anext(two)
    assert (list(began.tokens), began.finish) == (expected(request("b"))[:3], None)
    two.enough("b")
    await settle()
    assert len(engine.submitted) == 1  # nothing is computed unless somebody wants more
    three = cache.submit(request("c", logprobs=1))
    whole = await answered(engine, three)
    assert tokens(whole) == expected(request("c"))
    assert len([each for event in whole for each in event.logprobs]) == 6
    assert [len(each.generated) for each in engine.submitted] == [0, 3]
    assert three.outcome == "hit"
    (event,) = await collect(cache.submit(request("d", logprobs=1)))
    assert list(event.tokens) == expected(request("d"))
    assert len(event.logprobs) == 6


@in_loop
async def test_whoever_joins_a_paused_answer_is_continued_with_it() -> None:
    cache, engine = caching()
    first = cache.submit(request("a"))
    engine.step()
    await anext(first)
    first.enough("a")
    one, two = cache.submit(request("b")), cache.submit(request("c"))
    assert (one.outcome, two.outcome) == ("hit", "hit")
    assert tokens(await answered(engine, two)) == expected(request("c"))
    assert tokens(await collect(one)) == expected(request("b"))
    assert [len(each.generated) for each in engine.submitted] == [0, 1]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_kept_beginning_is_continued_for_a_reader_who_takes_what_is_there(
    one_by_one: bool,
) -> None:
    async def main() -> None:
        cache, engine = caching()
        first = cache.submit(request("a"))
        engine.step()
        await anext(first)
        first.enough("a")
        stream = cache.submit(request("b"))
        unread = stream.going_on  # nothing comes before the beginning is read
        begun = [stream.take()] if one_by_one else stream.take_all()
        assert all(begun)
        assert (unread, stream.going_on) == (False, True)
        await asyncio.sleep(0)
        told = [*filter(None, begun), *await answered(engine, stream)]
        assert tokens(told) == expected(request("b"))

    asyncio.run(main())


@in_loop
async def test_an_answer_of_which_others_want_more_is_not_kept_before_its_end() -> None:
    cache, engine = caching()
    one, two = cache.submit(request("a")), cache.submit(request("b"))
    engine.step()
    one.enough("a")
    assert len(cache.store) == 0
    assert tokens(await answered(engine, two)) == expected(request("b"))
    assert cache.submit(request("c")).outcome == "hit"


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_what_went_wrong_is_told_to_all_and_not_kept(finish: str) -> None:
    async def main() -> None:
        cache, engine = caching()
        streams = [cache.submit(request(name)) for name in "ab"]
        engine.step()
        (running,) = engine.running
        engine.end(
            TokenEvent(id=running, finish=finish, error="why", retry_after=2.5)  # type: ignore[arg-type]
        )
        for stream in streams:
            (event,) = await collect(stream)
            assert (event.finish, event.error, event.retry_after) == (finish, "why", 2.5)
        assert len(cache.store) == 0
        assert cache.submit(request("c")).outcome == "miss"

    asyncio.run(main())


@in_loop
async def test_requests_of_one_call_go_to_the_engine_together_and_equal_ones_once() -> None:
    cache, engine = caching()
    given = [request("p0"), request("p1", (1,)), request("p2")]
    stream = cache.submit(*given)
    assert len(engine.submitted) == 2
    assert stream.outcome == "miss"  # the worst of all
    told = await answered(engine, stream)
    for each in given:
        own = [event for event in told if event.id == each.id]
        assert tokens(own) == expected(each)
    assert cache.submit(*(replace(each, id=f"{each.id}-2") for each in given)).outcome == "hit"


@in_loop
async def test_listeners_hear_of_every_request_and_of_nothing_twice() -> None:
    cache, engine = caching()
    heard: list[TokenEvent] = []
    steps: list[int] = []

    def listen(events: object, stats: object, now: float) -> None:
        heard.extend(events)  # type: ignore[arg-type]
        steps.append(stats.step)  # type: ignore[attr-defined]

    unsubscribe = cache.subscribe(listen)
    one = cache.submit(request("a"))
    engine.step()
    two = cache.submit(request("b"))
    await answered(engine, one)
    cache.submit(request("c"))
    left = cache.submit(request("d", (1,)))
    left.cancel()
    for name, cached in (("a", False), ("b", True), ("c", True)):
        own = [event for event in heard if event.id == name]
        assert tokens(own) == expected(request(name))
        assert [event.finish for event in own if event.finish] == ["length"]
        assert {event.cached for event in own} == {cached}
        assert sum(event.cached_tokens for event in own) == (0 if cached else 2)
    assert [event.finish for event in heard if event.id == "d"] == ["abort"]
    assert set(steps) == set(range(1, 7))
    # What the cache does not know passes through.
    engine.submit(request("own"))
    engine.step()
    assert heard[-1].id == "own"
    unsubscribe()
    engine.step()
    assert len([event for event in heard if event.id == "own"]) == 1
    await collect(two)


def test_whoever_watches_the_batch_watches_that_of_the_engine() -> None:
    cache, engine = caching()
    unwatch = cache.watch_batch(print)
    assert engine.watching == [print]
    unwatch()
    assert not engine.watching


@in_loop
async def test_an_id_that_is_in_use_is_refused_and_leaves_nothing() -> None:
    cache, engine = caching()
    cache.submit(request("a"))
    for given in ([request("new", (9,)), request("a")], [request("b", (9,)), request("b", (8,))]):
        with pytest.raises(InvalidRequest, match="is running already"):
            cache.submit(*given)
    assert len(engine.submitted) == 1
    assert cache.submit(request("new", (9,))).outcome == "miss"


@in_loop
async def test_an_engine_that_cannot_compute_refuses_only_what_must_be_computed() -> None:
    cache, engine = caching()
    await answered(engine, cache.submit(request("a")))
    running = cache.submit(request("b", (1,)))
    engine.state = "failed"
    with pytest.raises(Unavailable):
        cache.submit(request("c"), request("d", (1,)), request("e", (2,)))
    # Of the refused call nothing is left, and what it would have joined goes on.
    assert tokens(await answered(engine, running)) == expected(request("b", (1,)))
    assert cache.submit(request("c")).outcome == "hit"
    engine.state = "ready"
    assert cache.submit(request("e", (2,))).outcome == "miss"


@in_loop
async def test_a_paused_answer_that_cannot_be_continued_ends_with_the_reason() -> None:
    cache, engine = caching()
    first = cache.submit(request("a"))
    engine.step()
    await anext(first)
    first.enough("a")
    engine.state = "failed"
    events = await collect(cache.submit(request("b")))
    assert tokens(events) == expected(request("b"))[:1]
    assert (events[-1].finish, events[-1].error) == ("error", "the engine is failed")


@in_loop
async def test_aborting_one_of_several() -> None:
    cache, engine = caching()
    one, two = cache.submit(request("a")), cache.submit(request("b"))
    engine.step()
    cache.abort("a")
    cache.abort("unknown")
    told = await collect(one)
    assert (tokens(told), told[-1].finish) == (expected(request("a"))[:1], "abort")
    assert tokens(await answered(engine, two)) == expected(request("b"))
    engine.submit(request("own"))
    cache.abort("own")
    assert engine.running == {}


@in_loop
async def test_a_request_that_is_taken_away_continues_elsewhere() -> None:
    cache, engine = caching()
    one, two = cache.submit(request("a")), cache.submit(request("b"))
    engine.step()
    taken = cache.take("a")
    assert taken is not None
    assert (taken.id, list(taken.generated)) == ("a", expected(taken)[:1])
    assert tokens(await collect(one)) == expected(taken)[:1]
    assert (cache.take("a"), len(engine.running)) == (None, 1)
    # A cache is not asked for what was begun elsewhere.
    elsewhere = cache.submit(taken)
    assert elsewhere.outcome is None
    assert tokens(await answered(engine, elsewhere)) == expected(taken)[1:]
    assert tokens(await collect(two)) == expected(taken)
    alone = cache.submit(request("c", (1,)))
    assert cache.take("c") is not None
    assert (engine.running, await collect(alone)) == ({}, [])


@in_loop
async def test_nothing_of_a_damaged_model_is_given_again() -> None:
    cache, engine = caching()
    await answered(engine, cache.submit(request("a")))
    waiting = cache.submit(request("b", (1,)))
    engine.step()
    cache.forget()
    one, two = cache.submit(request("c")), cache.submit(request("d", (1,)))
    assert (one.outcome, two.outcome) == ("miss", "miss")
    two.cancel()
    assert tokens(await answered(engine, waiting)) == expected(request("b", (1,)))
    assert cache.submit(request("e", (1,))).outcome == "miss"


@in_loop
async def test_closing_ends_what_the_engine_has_and_what_it_has_not() -> None:
    cache, engine = caching()
    first = cache.submit(request("a"))
    engine.step()
    await anext(first)
    first.enough("a")
    paused, running = cache.submit(request("b")), cache.submit(request("c", (1,)))
    await cache.close()
    assert engine.closed
    for stream in (paused, running):
        assert (await collect(stream))[-1].finish == "abort"


@in_loop
async def test_an_engine_that_falls_silent_ends_its_requests() -> None:
    """A stream that ends without a last event is a fault of the engine's, and no hang."""
    cache, engine = caching()
    stream = cache.submit(request("a"))
    (progress,) = engine.running.values()
    progress.stream.release(progress.request.id)
    await settle()
    (event,) = await collect(stream)
    assert (event.finish, event.error) == ("error", "the engine ended without an answer")
    assert event.scheduled_at is not None
