"""Whatever comes in which order: nobody gets a wrong token, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from headway.client import Stream
from headway.client.response_cache.engine import CachingEngine
from headway.client.response_cache.keys import CacheKeys
from headway.client.response_cache.store import ENTRY_BYTES, LARGEST_SHARE, AnswerStore
from headway.types import Request, TokenEvent
from tests.client.response_cache.scripted import ScriptedEngine, expected, request

PROMPTS = ((5, 6), (7,), (8, 9, 10))
MOST_BYTES = LARGEST_SHARE * (ENTRY_BYTES + 40)

Call = tuple[str, int, int]
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 11), st.integers(0, 8)),
        st.tuples(st.just("leave"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("abort"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("take"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("forget"), st.just(0), st.just(0)),
        st.tuples(st.just("read"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@dataclass(slots=True)
class Caller:
    """One request, and whoever reads its answer."""

    asked: Request
    stream: Stream
    enough_at: int
    """It has enough after so many tokens."""
    got: list[TokenEvent] = field(default_factory=list)
    gone: bool = False

    @property
    def tokens(self) -> list[int]:
        return [token for event in self.got for token in event.tokens]

    @property
    def finish(self) -> str | None:
        return self.got[-1].finish if self.got else None

    @property
    def live(self) -> bool:
        return not self.gone and self.finish is None

    async def read(self) -> None:
        async for event in self.stream:
            self.got.append(event)
            if event.finish is None and len(self.tokens) >= self.enough_at:
                self.gone = True
                self.stream.enough(self.asked.id)


class World:
    """A cache over an engine, and all callers so far."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine()
        store = AnswerStore(MOST_BYTES, max_age=1e9)
        self.cache = CachingEngine(self.engine, keys=CacheKeys(b"model"), store=store)
        self.callers: list[Caller] = []
        self.readers: list[asyncio.Task[None]] = []
        self.failed = set[str]()
        """Of the callers, whose computation was made to fail."""

    def call(self, name: str, number: int, more: int) -> None:
        live = [caller for caller in self.callers if caller.live]
        chosen = live[number % len(live)] if live else None
        if name == "submit":
            self._submit(number, more)
        elif name == "step":
            for _ in range(number):
                self.engine.step()
        elif name == "fail" and self.engine.running:
            running = list(self.engine.running)[number % len(self.engine.running)]
            of = self.engine.running[running].request
            same = [each for each in live if each.asked.prompt == of.prompt]
            self.failed |= {each.asked.id for each in same}
            self.engine.end(TokenEvent(id=running, finish="error", error="on purpose"))
        elif name == "forget":
            self.cache.forget()
        elif chosen is not None:
            self._end(name, chosen)

    def _submit(self, kind: int, enough_at: int) -> None:
        asked = request(
            f"r{len(self.callers)}",
            PROMPTS[kind % 3],
            max_tokens=4,
            priority=kind // 3 % 2,
            logprobs=1 if kind >= 6 else None,
        )
        caller = Caller(asked, self.cache.submit(asked), enough_at or 99)
        self.callers.append(caller)

    def _end(self, name: str, caller: Caller) -> None:
        if name == "leave":
            caller.gone = True
            caller.stream.cancel()
        elif name == "abort":
            self.cache.abort(caller.asked.id)
        elif name == "take":
            taken = self.cache.take(caller.asked.id)
            caller.gone = True
            if taken is not None:
                whole = expected(caller.asked)
                assert list(taken.generated) == whole[: len(taken.generated)]
                assert len(taken.generated) >= len(caller.tokens)

    async def settle(self) -> None:
        for caller in self.callers[len(self.readers) :]:
            self.readers.append(asyncio.ensure_future(caller.read()))
        for _ in range(8):
            await asyncio.sleep(0)

    def check(self) -> None:
        """What must hold whenever nothing is left to be done at once."""
        assert self.cache.store.bytes <= MOST_BYTES
        live = [caller.asked for caller in self.callers if caller.live]
        wanted = {(each.prompt, each.sampling) for each in live}
        for running in self.engine.running.values():
            assert (running.request.prompt, running.request.sampling) in wanted
        for caller in self.callers:
            whole = expected(caller.asked)
            assert caller.tokens == whole[: len(caller.tokens)]
            assert sum(len(event.logprobs) for event in caller.got) == (
                len(caller.tokens) if caller.asked.sampling.logprobs else 0
            )


@given(CALLS)
def test_everyone_gets_what_computing_gives_and_the_engine_works_for_nobody_else(
    calls: list[Call],
) -> None:
    async def main() -> None:
        world = World()
        aborted = {number for name, number, _ in calls if name == "abort"}
        for name, number, more in calls:
            world.call(name, number, more)
            # Unless somebody reads, nothing of a paused answer goes on.
            if name == "read":
                await world.settle()
                world.check()
        for _ in range(12):
            await world.settle()
            if world.engine.running:
                world.engine.step()
        await world.settle()
        world.check()
        assert world.engine.running == {}
        await asyncio.wait_for(asyncio.gather(*world.readers), 5)
        for caller in world.callers:
            if caller.gone:
                continue
            if caller.finish == "length":
                assert caller.tokens == expected(caller.asked)
            elif caller.finish == "error":
                assert caller.asked.id in world.failed
            else:
                assert (caller.finish, bool(aborted)) == ("abort", True)
        # Whoever comes now gets the whole answer, whatever is kept of it.
        last = request("last", PROMPTS[0], max_tokens=4)
        caller = Caller(last, world.cache.submit(last), 99)
        world.callers.append(caller)
        for _ in range(8):
            await world.settle()
            if world.engine.running:
                world.engine.step()
        assert (caller.tokens, caller.finish) == (expected(last), "length")
        await world.cache.close()

    asyncio.run(main())
