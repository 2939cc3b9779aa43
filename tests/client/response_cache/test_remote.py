"""A shared cache is worth a lookup while it is well, and nobody notices when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headway import extras
from headway.client.response_cache import remote, remote_answers
from headway.client.response_cache.answer import Answer, encode_answer
from headway.client.response_cache.engine import CachingEngine
from headway.client.response_cache.keys import CacheKeys
from headway.client.response_cache.remote import RemoteAnswers, RemoteWrite
from headway.client.response_cache.store import AnswerStore
from headway.errors import InvalidRequest
from headway.types.response_cache import ResponseCacheConfig
from tests.client.response_cache.scripted import ScriptedEngine, expected, request
from tests.client.response_cache.test_engine import answered, in_loop, settle
from tests.client.support import collect, tokens, until


class HandLink:
    """A link to a table in this process, which can be held, or broken."""

    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}
        self.exchanges: list[tuple[list[bytes], list[RemoteWrite]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.pings = 0
        self.closed = False

    async def ping(self) -> None:
        self.pings += 1
        if self.error is not None:
            raise self.error

    async def exchange(
        self, wanted: Sequence[bytes], writes: Sequence[RemoteWrite]
    ) -> Sequence[bytes]:
        self.exchanges.append((list(wanted), list(writes)))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        for each in writes:
            if each.whole or each.key not in self.table:
                self.table[each.key] = each.value
        return [self.table.get(key, b"") for key in wanted]

    async def close(self) -> None:
        self.closed = True


async def started() -> tuple[RemoteAnswers, HandLink]:
    link = HandLink()
    answers = RemoteAnswers(link, pause=0.001)
    answers.start()
    await until(lambda: answers.up)
    return answers, link


@in_loop
async def test_lookups_and_writes_of_a_moment_go_together() -> None:
    answers, link = await started()
    link.table[b"a"] = b"1"

    async def put() -> None:
        answers.put(b"c", b"3", whole=True)

    first, _, second = await asyncio.gather(
        answers.get([b"a", b"b"]), put(), answers.get([b"b", b"c"])
    )
    assert (first, second) == ([b"1", None], [None, b"3"])
    assert [(len(wanted), len(writes)) for wanted, writes in link.exchanges] == [(3, 1)]
    assert answers.hits == 2
    await answers.close()
    assert link.closed


@in_loop
async def test_what_comes_during_an_exchange_goes_with_the_next() -> None:
    answers, link = await started()
    link.gate.clear()
    waiting = [asyncio.ensure_future(answers.get([b"%d" % n])) for n in range(3)]
    await settle()
    waiting += [asyncio.ensure_future(answers.get([b"%d" % n])) for n in range(2, 200)]
    await settle()
    link.gate.set()
    assert await asyncio.gather(*waiting) == [[None]] * 201
    assert [len(wanted) for wanted, _ in link.exchanges] == [3, 64, 64, 64, 5]
    await answers.close()


@pytest.mark.parametrize("way", ["error", "silence", "nonsense"])
def test_whatever_is_wrong_is_a_miss_and_nobody_asks_again_until_it_is_well(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "EXCHANGE_SECONDS", 0.01)

    async def main() -> None:
        answers, link = await started()
        link.table[b"a"] = b"1"
        if way == "error":
            link.error = ConnectionError("gone")
        elif way == "silence":
            link.gate.clear()
            link.error = TimeoutError()
        else:
            monkeypatch.setattr(link, "exchange", _nonsense)
        answers.put(b"c", b"3", whole=True)
        assert await answers.get([b"a"]) == [None]
        assert (answers.up, answers.failures > 0) == (False, True)
        if way != "nonsense":
            asked = len(link.exchanges)
            assert await answers.get([b"a"]) == [None]
            answers.put(b"c", b"3", whole=True)
            await settle()
            assert len(link.exchanges) == asked
            link.error = None
            link.gate.set()
            await until(lambda: answers.up)
            assert await answers.get([b"a", b"c"]) == [b"1", None]
        await answers.close()

    asyncio.run(main())


async def _nonsense(wanted: Sequence[bytes], writes: Sequence[RemoteWrite]) -> Sequence[bytes]:
    return [b""] * (len(wanted) + 1)


@in_loop
async def test_one_that_is_down_from_the_start_is_tried_again_and_again() -> None:
    link = HandLink()
    link.error = ConnectionError("refused")
    answers = RemoteAnswers(link, pause=0.001)
    answers.start()
    await until(lambda: link.pings > 2)
    assert (answers.up, await answers.get([b"a"])) == (False, [None])
    link.error = None
    await until(lambda: answers.up)
    await answers.close()


@in_loop
async def test_writes_that_cannot_be_made_as_fast_are_dropped_and_not_hoarded() -> None:
    answers, link = await started()
    link.gate.clear()
    value = bytes(2**20)
    for number in range(40):
        answers.put(b"%d" % number, value, whole=True)
        await asyncio.sleep(0)
    link.gate.set()
    await until(lambda: len(link.table) > 0)
    await answers.close()
    assert sum(len(writes) for _, writes in link.exchanges) <= 9


@in_loop
async def test_closing_answers_whoever_waits() -> None:
    answers, link = await started()
    link.gate.clear()
    waiting = asyncio.ensure_future(answers.get([b"a"]))
    await settle()
    await answers.close()
    assert await waiting == [None]


async def two_servers() -> tuple[list[CachingEngine], list[ScriptedEngine], HandLink]:
    """Servers of one model that share a cache."""
    link = HandLink()
    caches, engines = [], []
    for _ in range(2):
        answers = RemoteAnswers(link, pause=0.001)
        answers.start()
        await until(lambda answers=answers: answers.up)  # type: ignore[misc]
        engine = ScriptedEngine()
        store = AnswerStore(2**20, max_age=1e9)
        cache = CachingEngine(engine, keys=CacheKeys(b"model"), store=store, remote=answers)
        cache.trust()
        caches.append(cache)
        engines.append(engine)
    return caches, engines, link


@in_loop
async def test_what_one_server_computed_another_one_has() -> None:
    (one, two), (first, second), link = await two_servers()
    await answered(first, one.submit(request("a")))
    await until(lambda: len(link.table) == 1)
    stream = two.submit(request("b"))
    joined = two.submit(request("c"))
    for each in (stream, joined):
        assert tokens(await collect(each)) == expected(request("b"))
    assert (second.submitted, stream.outcome, joined.outcome) == ([], "hit", "joined")
    assert (two.counts.hits, two.counts.joined, len(two.store)) == (1, 1, 1)
    asked = len(link.exchanges)
    assert two.submit(request("d")).outcome == "hit"  # from its own memory
    assert len(link.exchanges) == asked


@in_loop
async def test_a_beginning_that_one_server_kept_is_continued_by_another() -> None:
    (one, two), (first, second), link = await two_servers()
    stream = one.submit(request("a"))
    await until(lambda: bool(first.running))
    first.step()
    await anext(stream)
    stream.enough("a")
    await until(lambda: len(link.table) == 1)
    assert tokens(await answered(second, two.submit(request("b")))) == expected(request("b"))
    assert [len(each.generated) for each in second.submitted] == [1]
    await until(lambda: len(link.exchanges) == 4)
    # The whole answer took its place, and a beginning takes that of none.
    assert tokens(await answered(first, one.submit(request("c")))) == expected(request("c"))


@in_loop
async def test_a_request_that_left_while_others_were_asked_is_not_computed() -> None:
    (one, _), (first, _), link = await two_servers()
    link.gate.clear()
    left, stayed = one.submit(request("a")), one.submit(request("b", (1,)))
    await settle()
    left.cancel()
    link.gate.set()
    assert tokens(await answered(first, stayed)) == expected(request("b", (1,)))
    assert [each.prompt for each in first.submitted] == [(1,)]


@in_loop
async def test_what_is_there_but_no_answer_is_computed() -> None:
    (one, _), (first, _), link = await two_servers()
    (key,) = CacheKeys(b"model").of([request("a")])
    for value in (b"\xc1", b"", encode_answer(Answer(tokens=(1, 2)))[:-1]):  # type: ignore[index]
        link.table[key] = value
        stream = one.submit(request("a"))
        assert tokens(await answered(first, stream)) == expected(request("a"))
        one.store.clear()


@in_loop
async def test_answers_of_a_model_that_may_be_damaged_stay_here() -> None:
    link = HandLink()
    answers = RemoteAnswers(link)
    answers.start()
    await until(lambda: answers.up)
    engine = ScriptedEngine()
    store = AnswerStore(2**20, max_age=1e9)
    cache = CachingEngine(engine, keys=CacheKeys(b"model"), store=store, remote=answers)
    await answered(engine, cache.submit(request("a")))
    cache.trust()
    await answered(engine, cache.submit(request("b", (1,))))
    await until(lambda: len(link.table) > 0)
    await settle()
    assert list(link.table) == CacheKeys(b"model").of([request("b", (1,))])
    await cache.close()


def test_without_its_client_a_redis_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = ResponseCacheConfig(response_cache=2**20, response_cache_redis="redis://here")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=r"pip install 'headway\[redis\]'") as caught:
        remote_answers(config)
    assert caught.value.field == "response_cache_redis"
    assert remote_answers(ResponseCacheConfig(response_cache=2**20)) is None
    assert remote_answers(None) is None
