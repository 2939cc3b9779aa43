"""A request that kills engines kills one of a fleet, and no other request is lost by that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.client.fleet import patience
from headway.client.journal import PROGRESS_TOKENS
from headway.routing import ROUTERS, RouterName
from tests.client.fake_engine import POISON
from tests.client.fleet.readers import Readers
from tests.client.fleet.schedule import KEEPING, POISON_ACTIONS, Schedule, check_clean
from tests.client.fleet.scripted import ScriptedFleet, scripted_fleet, turns
from tests.client.support import request

LONG = 4 * PROGRESS_TOKENS


def poisoned(scripted: ScriptedFleet) -> list[int]:
    """How many engines of each replica died of a request."""
    return [each.poisoned for each in scripted.engines]


@settings(max_examples=150)
@given(
    replicas=st.integers(2, 4),
    router=st.sampled_from(ROUTERS),
    fuse=st.sampled_from((0, 1, 5, PROGRESS_TOKENS - 1)),
    schedule=st.lists(
        st.tuples(st.sampled_from((*KEEPING, *POISON_ACTIONS)), st.integers(0, 999)), max_size=80
    ),
)
def test_one_replica_at_most_dies_of_a_request(
    replicas: int, router: RouterName, fuse: int, schedule: list[tuple[str, int]]
) -> None:
    """Whatever else is killed, aborted and added meanwhile, while engines come back."""

    async def main() -> None:
        async with scripted_fleet(replicas, router=router) as scripted:
            doing = Schedule(scripted, poison=1, fuses=(fuse,))
            for action, number in schedule:
                await doing.do(action, number)
                if action == "step":
                    # What is moved as it waits must not have begun without our knowing.
                    await doing.do("deliver", number)
                    await turns()
            await doing.finish()
            assert sum(each > 0 for each in poisoned(scripted)) <= 1

    asyncio.run(main())


@settings(max_examples=50)
@given(
    replicas=st.integers(1, 5),
    poison=st.sets(st.integers(0, 15), max_size=3),
    fuse=st.sampled_from((0, 1, 7)),
    rounds=st.lists(st.booleans(), max_size=12),
)
def test_exactly_the_requests_that_kill_engines_are_ended(
    replicas: int, poison: set[int], fuse: int, rounds: list[bool]
) -> None:
    """Between some of the requests engines step, so that not all start at once."""

    async def main() -> None:
        async with scripted_fleet(replicas) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(16):
                prompt = (5, POISON, fuse) if number in poison else (5, 6)
                length = 100 if number in poison else 12
                made = request(f"r{number}", prompt, max_tokens=length, arrival=float(number))
                readers.submit(made)
                if number < len(rounds) and rounds[number]:
                    await scripted.round(revive=False)
            await scripted.finish()
            readers.check(poison=[f"r{number}" for number in poison])
            check_clean(scripted)
            assert sum(each > 0 for each in poisoned(scripted)) <= len(poison)

    asyncio.run(main())


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_of_many_replicas_a_poison_request_kills_one(replicas: int) -> None:
    async def main() -> None:
        async with scripted_fleet(replicas) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(32):
                prompt = (5, POISON) if number == 9 else (5, 6)
                readers.submit(request(f"r{number}", prompt, arrival=float(number)))
            await scripted.finish()
            readers.check(poison=["r9"])
            check_clean(scripted)
            assert sorted(each.client.restarts for each in scripted.fleet.members) == [
                *[0] * (replicas - 1),
                3,
            ]

    asyncio.run(main())


@pytest.mark.parametrize("fuse", [PROGRESS_TOKENS, 150, 700])
def test_one_that_kills_late_kills_two_replicas_and_is_found(fuse: int) -> None:
    async def main() -> None:
        async with scripted_fleet(4) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("bad", (5, POISON, fuse), max_tokens=100_000))
            for number in range(8):
                readers.submit(request(f"r{number}", max_tokens=4 * fuse))
            while not readers.listened["bad"].ends:
                await scripted.round()
            killed = [each for each in poisoned(scripted) if each]
            assert len(killed) == 2
            assert min(killed) == 1
            assert sum(killed) <= 12
            await scripted.finish()
            readers.check(poison=["bad"])
            check_clean(scripted)

    asyncio.run(main())


@asynccontextmanager
async def after_a_death(replicas: int = 3) -> AsyncIterator[tuple[ScriptedFleet, Readers]]:
    """A fleet whose first engine has just died under "long", which ran for some time, and two
    newcomers, "new0" and "new1"; "other" runs in the second."""
    async with scripted_fleet(replicas) as scripted:
        readers = Readers(scripted.fleet)
        readers.submit(request("long", max_tokens=LONG))
        for _ in range(PROGRESS_TOKENS):
            await scripted.round()
        readers.submit(request("other", max_tokens=LONG))
        await turns()
        for each in scripted.fleet.members[1:]:
            each.resting = True  # gets nothing at present
        readers.submit(request("new0", max_tokens=LONG))
        readers.submit(request("new1", max_tokens=LONG))
        for each in scripted.fleet.members[1:]:
            each.resting = False
        await scripted.round()
        assert [scripted.home(name) for name in ("long", "other", "new0", "new1")] == [0, 1, 0, 0]
        scripted.engines[0].die()
        yield scripted, readers
        await scripted.finish()
        readers.check()
        check_clean(scripted)


def test_newcomers_wait_for_their_engine_and_others_do_not() -> None:
    async def main() -> None:
        async with after_a_death() as (scripted, readers):
            first = scripted.fleet.members[0]
            assert scripted.home("long") == 2
            assert [scripted.home(name) for name in ("new0", "new1")] == [0, 0]
            scripted.engines[0].revive()
            # Nobody is let in to them, though it has least to do, until they have made progress.
            assert (first.open, first.accepting) == (True, False)
            for number in range(6):
                readers.submit(request(f"r{number}"))
                assert scripted.home(f"r{number}") != 0
            rounds = 0
            while not first.accepting:
                await scripted.round()
                rounds += 1
            assert rounds == PROGRESS_TOKENS
            for number in range(6, 10):
                readers.submit(request(f"r{number}"))
            assert 0 in [scripted.home(f"r{number}") for number in range(6, 10)]

    asyncio.run(main())


def test_what_waits_goes_to_a_replica_that_accepts_requests_again() -> None:
    async def main() -> None:
        async with after_a_death(2) as (scripted, readers):
            scripted.engines[0].revive()
            await scripted.round()
            # The second one dies too, under two that the first may not have yet.
            for _ in range(PROGRESS_TOKENS - 10):
                await scripted.round()
            readers.submit(request("late"))
            scripted.engines[1].die()
            stayed = [scripted.home(name) for name in ("long", "other", "late")]
            assert stayed == [1, 1, 1]
            for _ in range(12):
                await scripted.round(revive=False)
            assert scripted.fleet.members[0].accepting
            assert scripted.home("late") == 0  # it was not in the engine that died
            assert scripted.home("long") == 1  # the second death that it sees

    asyncio.run(main())


def test_a_replica_that_has_nothing_to_do_is_given_none_of_them() -> None:
    async def main() -> None:
        async with after_a_death() as (scripted, readers):
            scripted.engines[0].revive()
            for number in range(4):
                scripted.fleet.members[1].resting = scripted.fleet.members[2].resting = True
                readers.submit(request(f"r{number}"))
            scripted.fleet.members[1].resting = scripted.fleet.members[2].resting = False
            await scripted.round()
            assert scripted.engines[0].engine is not None
            assert scripted.engines[0].engine.stats().waiting
            for name in ("long", "other"):
                scripted.fleet.abort(name)
            await scripted.round()
            homes = [scripted.home(name) for name in ("new0", "new1", "r0", "r1", "r2", "r3")]
            assert homes == [0] * 6

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fail", "drain", "overdue"])
def test_newcomers_whose_engine_does_not_come_back_go_to_one_replica_which_gets_no_other(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.01 if how == "overdue" else 1e6)

    async def main() -> None:
        async with after_a_death() as (scripted, readers):
            assert scripted.home("new0") == 0
            if how == "fail":
                scripted.engines[0].fail()
            elif how == "drain":
                await scripted.fleet.drain(0)
            else:
                while scripted.home("new0") == 0:
                    await asyncio.sleep(0.005)
            home = scripted.home("new0")
            assert home == scripted.home("new1") != 0
            member = scripted.fleet._placement.find(home)
            assert (member.open, member.accepting) == (True, False)
            for number in range(6):
                readers.submit(request(f"r{number}"))
                assert scripted.home(f"r{number}") not in (0, home)
            # Should they kill that one as well, they stay there.
            await scripted.round()
            scripted.engines[home].die()
            scripted.engines[home].revive()
            assert member.client.journal.isolating
            assert home == scripted.home("new0") == scripted.home("new1")

    asyncio.run(main())


def test_an_engine_that_is_back_in_time_is_not_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.02)

    async def main() -> None:
        async with after_a_death() as (scripted, _):
            scripted.engines[0].revive()
            await asyncio.sleep(0.05)
            assert not scripted.fleet.members[0].overdue
            assert scripted.home("new0") == 0
            scripted.engines[0].die()
            while scripted.home("new0") == 0:
                await asyncio.sleep(0.005)
            first = scripted.fleet.members[0]
            assert (first.overdue, first.accepting) == (True, False)
            scripted.engines[0].revive()
            assert (first.overdue, first.accepting) == (False, True)

    asyncio.run(main())


def test_where_there_is_no_other_requests_go_to_a_replica_with_newcomers() -> None:
    async def main() -> None:
        async with after_a_death(2) as (scripted, readers):
            scripted.engines[0].revive()
            scripted.engines[1].fail()
            readers.submit(request("r"))
            homes = [scripted.home(name) for name in ("long", "other", "new0", "new1", "r")]
            assert homes == [0] * 5
            await scripted.round()
            assert len(readers.listened["r"].tokens) <= 1

    asyncio.run(main())


def test_a_new_request_runs_beside_newcomers_rather_than_wait_for_an_engine() -> None:
    async def main() -> None:
        async with after_a_death(2) as (scripted, readers):
            scripted.engines[0].revive()
            for name in ("long", "other"):
                scripted.fleet.abort(name)
            scripted.engines[1].die()
            readers.submit(request("r"))
            assert scripted.home("r") == 0

    asyncio.run(main())


def test_a_rolling_restart_lets_newcomers_go_together() -> None:
    async def main() -> None:
        async with after_a_death() as (scripted, _):
            scripted.engines[0].revive()
            await turns()
            task = asyncio.ensure_future(scripted.fleet.restart())
            await turns()
            assert scripted.home("new0") == scripted.home("new1") != 0
            while not task.done():
                await scripted.round()
            await task
            assert poisoned(scripted) == [0, 0, 0]
            for name in ("long", "other", "new0", "new1"):
                assert scripted.home(name) in (0, 1, 2)

    asyncio.run(main())
