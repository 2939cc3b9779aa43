"""A request that moves says where its keys and values are; who uses them, and until when."""

from __future__ import annotations

import asyncio

import pytest

from headway.client.fleet import fleet as fleet_module
from headway.client.journal import PROGRESS_TOKENS
from tests.client.fleet.readers import Readers
from tests.client.fleet.scripted import ScriptedFleet, scripted_fleet
from tests.client.support import request


def sources(scripted: ScriptedFleet) -> list[dict[str, str]]:
    """Of each engine, where the requests that it runs were before."""
    return [
        {} if each.engine is None else {n: r.request.kv_source for n, r in each.engine.runs.items()}
        for each in scripted.engines
    ]


def give_caches(scripted: ScriptedFleet) -> None:
    for number, each in enumerate(scripted.engines):
        each.kv_source = f"cache {number}"


async def with_four_requests(scripted: ScriptedFleet) -> Readers:
    """Two of them in each engine, which has computed a token of each."""
    give_caches(scripted)
    readers = Readers(scripted.fleet)
    for name in "abcd":
        readers.submit(request(name, max_tokens=40))
    await scripted.round()
    return readers


def test_a_request_that_moves_says_where_its_cache_is() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            give_caches(scripted)
            readers = Readers(scripted.fleet)
            for name in "ab":
                readers.submit(request(name, max_tokens=2 * PROGRESS_TOKENS))
            for _ in range(PROGRESS_TOKENS):
                await scripted.round()
            assert sources(scripted) == [{"a": ""}, {"b": ""}]
            scripted.engines[0].die()
            await scripted.round()
            assert sources(scripted)[1] == {"a": "cache 0", "b": ""}
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_what_may_have_killed_its_engine_takes_nothing_along() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            give_caches(scripted)
            readers = Readers(scripted.fleet)
            first = scripted.engines[0]
            readers.submit(request("long", max_tokens=2 * PROGRESS_TOKENS))
            for _ in range(PROGRESS_TOKENS):
                await scripted.round()
            scripted.fleet.members[1].resting = True  # so that all are in the first one
            readers.submit(request("new"))
            await scripted.round()
            scripted.fleet.members[1].resting = False
            first.fail()
            journal = scripted.fleet.members[1].client.journal
            long, new = journal.entry("long"), journal.entry("new")
            assert long is not None
            assert new is not None
            assert (long.accused, long.kv_source) == (False, "cache 0")
            assert (new.accused, new.kv_source) == (True, "")
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_a_drained_replica_stays_until_its_cache_was_read() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = await with_four_requests(scripted)
            drained = asyncio.ensure_future(scripted.fleet.drain(0))
            await asyncio.sleep(3 * fleet_module.HANDOVER_TICK)
            assert not drained.done()
            assert [each.state for each in scripted.fleet.replicas] == ["draining", "ready"]
            async with asyncio.timeout(fleet_module.HANDOVER_SECONDS / 2):
                while not drained.done():
                    await scripted.round()
                    await asyncio.sleep(fleet_module.HANDOVER_TICK / 4)
            assert drained.result() == 2
            assert [each.id for each in scripted.fleet.replicas] == [1]
            await scripted.finish()
            readers.check()

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_drained_replica_does_not_wait_for_ever(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "HANDOVER_SECONDS", seconds)

    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            give_caches(scripted)
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            await scripted.round()
            assert await scripted.fleet.drain(0) == 1  # and no engine makes a step meanwhile
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_what_an_old_model_computed_is_not_taken_to_engines_with_the_new_one() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = await with_four_requests(scripted)
            task = asyncio.ensure_future(scripted.fleet.restart())
            while not task.done():
                await scripted.round()
            await task
            assert [each.sources for each in scripted.engines] == [{""}, {""}]
            await scripted.finish()
            readers.check()

    asyncio.run(main())
