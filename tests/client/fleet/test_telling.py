"""Listeners of a fleet hear of blocks and slots that come and go, though no engine makes a step."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from headway.wire import EngineStats
from tests.client.fake_engine import NUM_BLOCKS
from tests.client.fleet.test_processes import pids, running_fleet
from tests.client.support import collect, request, until


def test_an_idle_fleet_tells_its_free_blocks_and_what_each_was_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path) as fleet:
            heard: list[EngineStats] = []
            fleet.subscribe(lambda _events, stats, _now: heard.append(stats))
            os.kill(pids(fleet)[0], signal.SIGKILL)
            await until(lambda: bool(heard) and heard[-1].free_blocks == NUM_BLOCKS)
            await until(lambda: heard[-1].free_blocks == 2 * NUM_BLOCKS)
            await fleet.add_replica()
            assert heard[-1].free_blocks == 3 * NUM_BLOCKS
            await fleet.drain(1)
            assert heard[-1].free_blocks == 2 * NUM_BLOCKS
            streams = [fleet.submit(request(f"r{number}")) for number in range(4)]
            await asyncio.gather(*map(collect, streams))
            assert sum(each.given for each in fleet.replicas) == 4

    asyncio.run(main())
