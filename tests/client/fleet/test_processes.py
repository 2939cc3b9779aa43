"""A fleet of real processes that run the fake engine: killed, drained, joined, replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headway.client.fleet import EngineFleet
from headway.config import EngineConfig
from headway.errors import HeadwayError
from headway.types.batch_news import BatchNews
from tests.client.fake_engine import COMMAND, LATE_POISON, POISON, expected_tokens
from tests.client.support import alive, collect, request, started, tokens, until


@asynccontextmanager
async def running_fleet(
    folder: Path, *, replicas: int = 2, config: EngineConfig | None = None, **script: object
) -> AsyncIterator[EngineFleet]:
    """A fleet of fake engines that follow `script`; all gone, as is checked, at exit."""
    (folder / "script.json").write_text(json.dumps(script))
    fleet = await EngineFleet.start(
        config or EngineConfig(),
        folder,
        replicas=replicas,
        router="least-requests",
        command=COMMAND,
    )
    try:
        yield fleet
    finally:
        await fleet.close()
    assert not any(alive(pid) for pid in started(folder))


def pids(fleet: EngineFleet) -> list[int]:
    return [each.pid or 0 for each in fleet.replicas]


def test_killed_drained_joined_and_replaced_under_load(tmp_path: Path) -> None:
    """All in one test, as starting processes is what takes time here."""

    async def main() -> None:
        async with running_fleet(tmp_path, step_seconds=0.002) as fleet:
            asked = [request(f"r{number}", (5, number), max_tokens=300) for number in range(24)]
            reading = [asyncio.ensure_future(collect(fleet.submit(each))) for each in asked]
            await until(lambda: fleet.stats.running == 24)
            first = pids(fleet)
            assert len(set(first)) == 2
            os.kill(first[0], signal.SIGKILL)
            await until(lambda: fleet.restarts == 1 and fleet.replicas[0].state == "ready")
            assert await fleet.add_replica() == 2
            assert fleet.replicas[2].cpus == ()  # all cores are taken
            await fleet.drain(1)
            assert not alive(first[1])
            before = pids(fleet)
            await fleet.restart()
            assert not set(before) & set(pids(fleet))
            assert [each.id for each in fleet.replicas] == [0, 2]
            for each, reader in zip(asked, reading, strict=True):
                events = await reader
                assert tokens(events) == expected_tokens(each)
                assert [event.finish for event in events if event.finish] == ["length"]
                assert sum(event.scheduled_at is not None for event in events) == 1
            await until(lambda: fleet.stats.running == 0)
            assert fleet.live == 0

    asyncio.run(main())


def test_a_poison_request_among_31_others_kills_one_replica_and_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path, replicas=3) as fleet:
            asked = [
                request(f"r{at}", (5, POISON if at == 13 else at), max_tokens=40, arrival=at)
                for at in range(32)
            ]
            streams = [fleet.submit(each) for each in asked]
            for at, stream in enumerate(streams):
                events = await collect(stream)
                if at == 13:
                    assert events[-1].finish == "error"
                    assert "died repeatedly" in (events[-1].error or "")
                else:
                    assert tokens(events) == expected_tokens(asked[at])
            await until(lambda: all(each.state == "ready" for each in fleet.replicas))
            # Two deaths until those that saw both run one by one, and one of it alone.
            assert sorted(each.restarts for each in fleet.replicas) == [0, 0, 3]
            assert len(started(tmp_path)) == 3 + 3

    asyncio.run(main())


def test_one_that_kills_late_kills_two_replicas_at_most_and_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path, replicas=3, step_seconds=0.001) as fleet:
            asked = [
                request(f"r{at}", (5, LATE_POISON if at == 4 else at), max_tokens=900, arrival=at)
                for at in range(9)
            ]
            streams = [fleet.submit(each) for each in asked]
            for at, stream in enumerate(streams):
                events = await collect(stream)
                assert [each.finish for each in events if each.finish] == [
                    "error" if at == 4 else "length"
                ]
                assert at == 4 or tokens(events) == expected_tokens(asked[at])
            restarts = sorted(each.restarts for each in fleet.replicas)
            assert restarts[:2] == [0, 1]
            assert restarts[2] < 10

    asyncio.run(main())


def test_a_fleet_that_cannot_start_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(HeadwayError) as caught:
            async with running_fleet(tmp_path, refuse_from=0):
                pass
        assert caught.value.field == "kv_cache_memory"
        assert not any(alive(pid) for pid in started(tmp_path))

    asyncio.run(main())


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores",
)
def test_replicas_are_pinned_to_cores_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path) as fleet:
            sets = [set(each.cpus) for each in fleet.replicas]
            assert not sets[0] & sets[1]
            for each in fleet.replicas:
                for thread in Path(f"/proc/{each.pid}/task").iterdir():
                    assert os.sched_getaffinity(int(thread.name)) == set(each.cpus) != set()

    asyncio.run(main())


def test_the_batches_of_all_replicas_are_told_also_of_those_that_come_and_go(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path, step_seconds=0.002) as fleet:
            news: list[BatchNews] = []
            stop = fleet.watch_batch(news.append)
            streams = [fleet.submit(request(f"r{at}", max_tokens=1500)) for at in range(4)]
            await until(lambda: {each.replica for each in news if each.num_running} == {0, 1})
            await fleet.drain(0)
            last = [each for each in news if each.replica == 0][-1]
            assert (last.num_running, last.slots) == (0, 0)
            assert await fleet.add_replica() == 2
            streams += [fleet.submit(request(f"s{at}", max_tokens=900)) for at in range(4)]
            await until(lambda: any(each.replica == 2 and each.num_running for each in news))
            stop()
            seen = len(news)
            for stream in streams:
                stream.cancel()
            await until(lambda: fleet.stats.running == 0)
            assert len(news) == seen

    asyncio.run(main())
