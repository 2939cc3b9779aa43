"""Whatever happens to the engines of a fleet, every request ends once, with its model's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.client.journal import QUARANTINE_DEATHS, RequestJournal
from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.routing import ROUTERS, RouterName
from headway.types.fleet import ROLES, Role
from tests.client.fake_engine import POISON
from tests.client.fleet.readers import Readers
from tests.client.fleet.scripted import NUM_BLOCKS, ScriptedFleet, scripted_fleet, turns
from tests.client.support import request

ACTIONS = (
    "submit", "submit", "abort", "cancel", "step", "step", "step", "deliver", "deliver", "turn",
    "read", "kill", "revive", "drain", "join", "restart",
)  # fmt: skip


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def may_be_killed(journal: RequestJournal) -> bool:
    """Whether nobody would be blamed for a death that was nobody's fault.

    One who is alone in an engine that dies, again, is guilty as far as anybody can know.
    """
    running = [each for each in map(journal.entry, journal.ids) if each and each.submitted]
    alone = len(running) == 1 and running[0].deaths + 1 >= QUARANTINE_DEATHS
    return not journal.isolating and not alone


class Schedule:
    """Does to a fleet what Hypothesis has drawn, and keeps what it may not forget."""

    def __init__(self, scripted: ScriptedFleet) -> None:
        self.scripted = scripted
        self.fleet = scripted.fleet
        self.readers = Readers(scripted.fleet)
        self.tasks: list[asyncio.Task[Any]] = []

    async def do(self, action: str, number: int) -> None:
        names = list(self.readers.requests)
        name = names[number % len(names)] if names else ""
        match action:
            case "submit":
                self._submit(number)
            case "abort" if name and name not in self.readers.cancelled:
                self.readers.abort(name)
            case "cancel" if name:
                self.readers.cancel(name)
            case "turn":
                await turns(1)
            case "read":
                self.readers.take()
            case _:
                self._do_to_engine(action, number)

    def _do_to_engine(self, action: str, number: int) -> None:
        members = self.fleet.members
        member = members[number % len(members)]
        engine = self.scripted.engines[member.id]
        match action:
            case "step":
                engine.step()
            case "deliver":
                engine.deliver()
            case "kill" if may_be_killed(member.client.journal):
                engine.die()
            case "revive" if engine.state == "restarting":
                engine.revive()
            case "drain":
                self._begin(self.fleet.drain(member.id))
            case "join" if len(members) < 4:
                self._begin(self.fleet.add_replica())
            case "restart" if not self.tasks:
                self._begin(self.fleet.restart())
            case _:
                pass

    def _submit(self, number: int) -> None:
        made = [
            replace(
                request(
                    f"r{len(self.readers.requests) + each}",
                    (5, 6, number % 50),
                    max_tokens=1 + number % 9,
                    arrival=float(len(self.readers.requests)),
                ),
                group=f"g{number}" if number % 2 else "",
            )
            for each in range(1 + number % 3)
        ]
        self.readers.submit(*made)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def finish(self) -> None:
        """Let everything come to its end, and see that nothing is left of it."""
        await turns()
        await self.scripted.finish()
        while not all(each.done() for each in self.tasks):
            await self.scripted.round()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            # Such as to drain the last one.
            assert not isinstance(outcome, BaseException) or isinstance(outcome, HeadwayError)
        self.readers.check()
        assert self.readers.steps == sorted(self.readers.steps)
        check_clean(self.scripted)


def check_clean(scripted: ScriptedFleet) -> None:
    """No request is left anywhere, nor counted."""
    for each in scripted.fleet.members:
        journal = each.client.journal
        assert (len(journal), journal.engine_busy, journal.isolating) == (0, False, False)
        assert (each.view.requests, each.view.decodes, each.view.held) == (0, 0, 0)
        engine = scripted.engines[each.id].engine
        assert engine is not None
        assert not engine.runs
    stats = scripted.fleet.stats
    assert (stats.running, stats.waiting) == (0, 0)


@settings(max_examples=150)
@given(
    replicas=st.integers(1, 3),
    router=st.sampled_from(ROUTERS),
    roles=st.none() | st.lists(st.sampled_from(ROLES), min_size=3, max_size=3),
    fixed_roles=st.booleans(),
    schedule=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 999)), max_size=80),
)
def test_any_schedule_of_faults_loses_and_doubles_nothing(
    replicas: int,
    router: RouterName,
    roles: list[Role] | None,
    fixed_roles: bool,
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
            doing = Schedule(scripted)
            for action, number in schedule:
                await doing.do(action, number)
            await doing.finish()

    run(main())


@settings(max_examples=50)
@given(
    replicas=st.integers(1, 4),
    poison=st.sets(st.integers(0, 15), max_size=3),
    rounds=st.lists(st.booleans(), max_size=12),
)
def test_exactly_the_requests_that_kill_engines_are_ended(
    replicas: int, poison: set[int], rounds: list[bool]
) -> None:
    """Between some of the requests engines step, so that not all start at once."""

    async def main() -> None:
        async with scripted_fleet(replicas) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(16):
                prompt = (5, POISON) if number in poison else (5, 6)
                readers.submit(request(f"r{number}", prompt, arrival=float(number)))
                if number < len(rounds) and rounds[number]:
                    await scripted.round(revive=False)
            await scripted.finish()
            readers.check(poison=[f"r{number}" for number in poison])
            check_clean(scripted)

    run(main())


def test_of_three_replicas_a_poison_request_does_not_kill_the_last() -> None:
    async def main() -> None:
        async with scripted_fleet(3) as scripted:
            readers = Readers(scripted.fleet)
            for number in range(32):
                prompt = (5, POISON) if number == 9 else (5, 6)
                readers.submit(request(f"r{number}", prompt, arrival=float(number)))
            while not readers.listened["r9"].ends:
                await scripted.round()
            deaths = sorted(each.client.restarts for each in scripted.fleet.members)
            assert deaths[0] == 0
            assert sum(deaths) <= 3
            await scripted.finish()
            readers.check(poison=["r9"])
            check_clean(scripted)

    run(main())


def test_others_go_on_while_a_suspect_runs_alone() -> None:
    async def main() -> None:
        async with scripted_fleet(2) as scripted:
            readers = Readers(scripted.fleet)
            first, second = scripted.engines
            readers.submit(request("a"), request("b"))
            readers.submit(request("c", arrival=1.0), request("d", arrival=1.0))
            home = scripted.home
            for engine, other in ((first, second), (second, first)):
                await turns()
                engine.step()
                engine.deliver()
                engine.die()
                if engine is first:
                    engine.revive()
                    assert all(home(name) == 1 for name in "abcd")
                assert other.state == "ready"
            # Two of them have seen two engines die: they wait for theirs, the others do not.
            stayed = {name for name in "abcd" if home(name) == 1}
            assert len(stayed) == 2
            second.revive()
            for number in range(3):
                readers.submit(request(f"new{number}"))
                assert home(f"new{number}") == 0
            await turns()
            assert second.engine is not None
            second.engine.step()
            assert len(second.engine.runs) <= 1
            await scripted.finish()
            readers.check()

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
            readers.submit(request("a"), request("b"))
            await scripted.round()
            for engine in scripted.engines:
                engine.die()
            assert scripted.home("a") == 1
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
