"""Two real engines of the default model: whatever becomes of them, no token is another."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headway.client.fleet import EngineFleet
from headway.config import EngineConfig
from headway.llm.weight_format import ready_model
from headway.types import Request, ResolvedSampling
from tests.client.support import PATIENCE, collect, tokens, until

pytestmark = pytest.mark.model

STREAMS = 16
CONFIG = EngineConfig(max_model_len=512, kv_cache_memory=128 * 2**20)


@pytest.fixture(name="model", scope="module")
def _model() -> tuple[EngineConfig, Path]:
    config, prepared = ready_model(CONFIG, progress=False)
    return config, prepared.folder


def asked(number: int) -> Request:
    """Half of them greedy, the others sampled with seeds of their own; some share a beginning."""
    random = Random(number)
    shared = [random.randrange(100, 20_000) for _ in range(8)] if number % 4 else [500] * 40
    sampling = ResolvedSampling(
        max_tokens=48, seed=number, temperature=0.9 if number % 2 else 0.0, top_p=0.95
    )
    return Request(
        id=f"r{number}", prompt=(*shared, number + 100), sampling=sampling, arrival=float(number)
    )


async def answers(fleet: EngineFleet) -> dict[int, list[int]]:
    streams = [fleet.submit(asked(number)) for number in range(STREAMS)]
    return {number: tokens(await collect(stream)) for number, stream in enumerate(streams)}


async def keep_asking(
    fleet: EngineFleet, number: int, done: asyncio.Event, expected: list[int]
) -> int:
    """The same question again and again until told; returns how often it was answered."""
    count = 0
    while not done.is_set() or not count:
        events = await collect(fleet.submit(replace(asked(number), id=f"r{number}-{count}")))
        assert [event.finish for event in events if event.finish] == ["length"]
        assert sum(event.scheduled_at is not None for event in events) == 1
        assert tokens(events) == expected, f"answer {count} to {number}"
        count += 1
    return count


async def disturb(fleet: EngineFleet) -> None:
    """A kill, a drain, a replica that joins, and a rolling restart, one after the other."""
    await until(lambda: fleet.stats.running == STREAMS)
    victim = fleet.replicas[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    await until(lambda: fleet.restarts == 1 and fleet.replicas[0].state == "ready")
    assert await fleet.drain(1) > 0
    assert await fleet.add_replica() == 2
    before = {each.pid for each in fleet.replicas}
    await fleet.restart()
    assert not before & {each.pid for each in fleet.replicas}


def test_no_token_is_another_whatever_becomes_of_the_engines(
    model: tuple[EngineConfig, Path],
) -> None:
    config, folder = model

    async def main() -> None:
        fleet = await EngineFleet.start(config, folder, replicas=2, router="least-requests")
        try:
            undisturbed = await answers(fleet)
            assert len({tuple(each) for each in undisturbed.values()}) > STREAMS // 2
            done = asyncio.Event()
            readers = [
                asyncio.ensure_future(keep_asking(fleet, number, done, expected))
                for number, expected in undisturbed.items()
            ]
            async with asyncio.timeout(4 * PATIENCE):
                await disturb(fleet)
                done.set()
                await asyncio.gather(*readers)
            await until(lambda: fleet.stats.running == 0)
            assert fleet.live == 0
            assert fleet.stats.free_blocks == fleet.info.scheduler.num_blocks
        finally:
            await fleet.close()

    asyncio.run(main())


def test_what_a_drained_replica_computed_is_not_computed_again(
    model: tuple[EngineConfig, Path],
) -> None:
    config, folder = model
    prompt, block = 300, config.block_size

    async def main() -> None:
        fleet = await EngineFleet.start(config, folder, replicas=2, router="round-robin")
        try:
            streams = []
            for number in range(4):
                draw = Random(number)
                words = tuple(draw.randrange(100, 20_000) for _ in range(prompt))
                sampling = replace(asked(number).sampling, max_tokens=200)
                one = replace(asked(number), prompt=words, sampling=sampling)
                streams.append(fleet.submit(one))
            await until(lambda: fleet.stats.computed_tokens >= 4 * (prompt + 8))
            assert fleet.stats.prefix_hits == 0
            assert await fleet.drain(0) == 2
            assert fleet.stats.prefix_hits >= 2 * (prompt // block * block)
            for stream in streams:
                assert len(tokens(await collect(stream))) == 200
        finally:
            await fleet.close()

    asyncio.run(main())


@pytest.mark.parametrize("fixed_roles", [True, False])
def test_answers_are_the_same_where_prefill_and_decode_are_apart(
    model: tuple[EngineConfig, Path], fixed_roles: bool
) -> None:
    config, folder = model
    block, prompt = config.block_size, 100

    async def answered(**settings: Any) -> tuple[dict[int, list[int]], EngineFleet]:
        fleet = await EngineFleet.start(
            config, folder, replicas=2, router="least-requests", **settings
        )
        try:
            streams = []
            for number in range(STREAMS):
                draw = Random(number)
                words = tuple(draw.randrange(100, 20_000) for _ in range(prompt))
                streams.append(fleet.submit(replace(asked(number), prompt=words)))
            told = [tokens(await collect(stream)) for stream in streams]
            await until(lambda: fleet.stats.running == 0)
            return dict(enumerate(told)), fleet
        finally:
            await fleet.close()

    async def main() -> None:
        together, _ = await answered()
        apart, fleet = await answered(roles=("prefill", "decode"), fixed_roles=fixed_roles)
        assert apart == together
        first, second = fleet.members
        assert second.handed_over == 0
        if fixed_roles:
            assert first.handed_over == STREAMS
        # Of each that was handed over, the full blocks were loaded and not computed again.
        loaded = second.client.stats.prefix_hits
        assert loaded >= 0.9 * first.handed_over * (prompt // block * block)

    asyncio.run(main())
