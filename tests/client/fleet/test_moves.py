"""Whatever happens to the engines of a fleet, every request ends once, with its model's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import InvalidRequest, Unavailable
from headway.routing import ROUTERS, RouterName
from headway.types.fleet import ROLES, Role
from tests.client.fleet.readers import Readers
from tests.client.fleet.schedule import ACTIONS, POISON_ACTIONS, Schedule, check_clean
from tests.client.fleet.scripted import NUM_BLOCKS, scripted_fleet, turns
from tests.client.support import request


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@settings(max_examples=150)
@given(
    replicas=st.integers(1, 3),
    router=st.sampled_from(ROUTERS),
    roles=st.none() | st.lists(st.sampled_from(ROLES), min_size=3, max_size=3),
    fixed_roles=st.booleans(),
    poison=st.integers(0, 2),
    schedule=st.lists(
        st.tuples(st.sampled_from((*ACTIONS, *POISON_ACTIONS)), st.integers(0, 999)), max_size=80
    ),
)
def test_any_schedule_of_faults_loses_and_doubles_nothing(
    replicas: int,
    router: RouterName,
    roles: list[Role] | None,
    fixed_roles: bool,
    poison: int,
    schedule: list[tuple[str, int]],
) -> None:
    async def main() -> None:
        async with scripted_fleet(
            replicas,
            router=router,
            roles=(roles or [])[:replicas],
            fixed_roles=fixed_roles,
            keep_kv_cache=True,
        ) as scripted:
            doing = Schedule(scripted, poison=poison, fuses=(0, 1, 5, 70))
            for action, number in schedule:
                await doing.do(action, number)
            await doing.finish()

    run(main())


def test_what_waits_goes_to_a_replica_that_has_nothing_to_do() -> None:
    async def main() -> None:
        async with scripted_fleet(1) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(9):
                readers.submit(request(f"r{number}"))
            await scripted.round()
            assert await scripted.fleet.add_replica() == 1
            loads = [each.client.live for each in scripted.fleet.members]
            assert loads == [6, 3]
            # What has begun stays where it is.
            assert all(scripted.home(f"r{n}") == 0 for n in range(3))
            await scripted.finish()
            readers.check()

    run(main())


def test_a_drained_replica_gives_all_it_has_to_others() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(8):
                readers.submit(request(f"r{number}"))
            for _ in range(3):
                await scripted.round()
            steps = scripted.fleet.stats.step
            assert await scripted.fleet.drain(0) == 4
            assert [each.id for each in scripted.fleet.replicas] == [1]
            assert scripted.fleet.stats.step == steps
            assert scripted.engines[0].state == "closed"
            with pytest.raises(Unavailable, match="the last"):
                await scripted.fleet.drain(1)
            with pytest.raises(InvalidRequest, match="there is no replica 0; there are 1"):
                await scripted.fleet.drain(0)
            assert await scripted.fleet.add_replica() == 2
            await scripted.finish()
            readers.check()

    run(main())


def test_a_rolling_restart_replaces_one_engine_after_the_other() -> None:
    async def main() -> None:
        async with scripted_fleet(3) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(12):
                readers.submit(request(f"r{number}", max_tokens=20))
            await scripted.round()
            task = asyncio.ensure_future(scripted.fleet.restart())
            downs = []
            while not task.done():
                await turns(1)
                state = [each.state for each in scripted.present()]
                downs.append(state.count("restarting"))
                resting = [each for each in scripted.fleet.members if each.resting]
                assert all(each.client.live == 0 for each in resting)
                await scripted.round()
            await task
            assert max(downs) == 1
            assert [each.restarts for each in scripted.fleet.replicas] == [1, 1, 1]
            assert scripted.fleet.restarts == 3
            await scripted.finish()
            readers.check()

    run(main())


def test_a_single_replica_is_restarted_with_its_requests_and_blames_none() -> None:
    async def main() -> None:
        async with scripted_fleet(1) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a", max_tokens=20))
            for _ in range(3):
                await scripted.round()
                task = asyncio.ensure_future(scripted.fleet.restart())
                while not task.done():
                    await scripted.round()
                await task
            await scripted.finish()
            readers.check()

    run(main())


def test_a_replica_that_fails_for_good_leaves_its_requests_to_others() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(6):
                readers.submit(request(f"r{number}"))
            await scripted.round()
            scripted.engines[0].fail()
            assert [each.state for each in scripted.fleet.replicas] == ["failed", "ready"]
            assert (scripted.fleet.state, scripted.fleet.live) == ("ready", 6)
            await scripted.finish()
            readers.check()
            readers.submit(request("last"))
            scripted.engines[1].fail()
            assert scripted.fleet.state == "failed"
            readers.check(poison=["last"])
            with pytest.raises(Unavailable, match="it stays down"):
                scripted.fleet.submit(request("more"))

    run(main())


def test_what_a_failed_replica_had_waits_for_one_that_is_being_restarted() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            readers.submit(request("b"))
            await scripted.round()
            for engine in scripted.engines:
                engine.die()
            assert {scripted.home("a"), scripted.home("b")} == {0, 1}
            scripted.engines[1].fail()
            assert (scripted.home("a"), scripted.home("b")) == (0, 0)
            await scripted.finish()
            readers.check()

    run(main())


def test_blocks_of_an_engine_that_has_told_nothing_yet_are_free() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            assert scripted.fleet.stats.free_blocks == scripted.fleet.info.scheduler.num_blocks
            scripted.engines[0].die()
            assert scripted.fleet.stats.free_blocks == NUM_BLOCKS
            scripted.engines[0].revive()
            assert scripted.fleet.stats.free_blocks == 2 * NUM_BLOCKS

    run(main())


def test_a_fleet_is_as_silent_as_its_most_silent_engine() -> None:
    async def main() -> None:
        async with scripted_fleet(3) as scripted:
            for engine, silence in zip(scripted.engines, (1.0, 4.0, 9.0), strict=True):
                assert engine.engine is not None
                engine.engine.silence = silence
            scripted.engines[2].die()
            assert scripted.fleet.silence == 4.0
            scripted.fleet.members[0].client._last_step -= 50.0
            assert scripted.fleet.last_step_age < 50.0
            scripted.fleet.members[1].client._last_step -= 60.0
            assert 50.0 <= scripted.fleet.last_step_age < 60.0

    run(main())


def test_requests_wait_while_no_replica_is_ready() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            for engine in scripted.engines:
                engine.die()
            assert scripted.fleet.state == "restarting"
            readers.submit(request("a"), request("b"))
            await scripted.finish()
            readers.check()

    run(main())


def test_an_id_that_is_in_use_anywhere_is_refused_and_nothing_is_submitted() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            for ids in ("ba", "cc"):
                with pytest.raises(InvalidRequest, match="is running already"):
                    scripted.fleet.submit(*(request(name) for name in ids))
            assert scripted.fleet.live == 1
            await scripted.finish()
            readers.check()

    run(main())


def test_a_request_may_come_back_before_its_first_engine_has_let_go_of_it() -> None:
    """What that engine said of it before is not taken for news."""

    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            first, second = scripted.engines
            readers.submit(request("a"))
            await turns()
            first.step()  # a token, which is on its way
            scripted.fleet.members[0].resting = True
            scripted.settle()
            await turns()
            second.step()
            second.deliver()
            scripted.fleet.members[0].resting = False
            scripted.fleet.members[1].resting = True
            scripted.settle()
            scripted.fleet.members[1].resting = False
            await turns()
            first.deliver()
            assert len(readers.listened["a"].tokens) == 1
            await scripted.finish()
            readers.check()

    run(main())


def test_continuations_of_one_prompt_go_to_one_replica() -> None:
    async def main() -> None:
        async with scripted_fleet(3) as scripted:
            readers = Readers(scripted.fleet)
            together = [replace(request(f"r{n}"), group="g") for n in range(3)]
            readers.submit(*together, replace(request("other"), group="h"))
            loads = sorted(each.client.live for each in scripted.fleet.members)
            assert loads == [0, 1, 3]
            await scripted.finish()
            readers.check()

    run(main())


def test_a_request_that_is_taken_is_no_more_in_the_fleet() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            await scripted.round()
            remaining = scripted.fleet.take("a")
            assert remaining is not None
            assert len(remaining.generated) == 1
            assert scripted.fleet.take("a") is None
            assert scripted.fleet.live == 0
            readers.submit(remaining)
            await scripted.finish()
            assert readers.listened["a"].ends == ["length"]
            check_clean(scripted)

    run(main())


def test_there_is_a_most_of_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.client.fleet.fleet.MOST_REPLICAS", 2)

    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            with pytest.raises(Unavailable, match="2 replicas already"):
                await scripted.fleet.add_replica()
        with pytest.raises(InvalidRequest, match="from 1 to 2, got 3"):
            async with scripted_fleet(3):
                pass

    run(main())
