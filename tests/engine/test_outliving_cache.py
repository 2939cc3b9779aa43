"""Real engine processes are killed: the next one goes on from the KV cache that they left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headway import machine
from headway.checkpoint import Storage, prepare
from headway.client import EngineClient
from headway.config import EngineConfig
from headway.engine.build import build_engine
from headway.native import available
from headway.types import Request, ResolvedSampling
from headway.wire import Start
from tests.client.support import PATIENCE, collect, tokens, until
from tests.models.families import write_tiny

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files of memory are Linux's"),
    pytest.mark.skipif(not available(), reason="the native library is not built"),
]
BLOCK = 16
TOKENS = 160


@pytest.fixture(name="folders", scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, prepared in two weight formats."""
    home = tmp_path_factory.mktemp("model")
    write_tiny("llama", home)
    storages: tuple[Storage, Storage] = ("native-float32", "native-int8")
    first, second = (prepare(str(home), dtype=each, progress=False).folder for each in storages)
    return first, second


def config_of(*, keep: bool = True, speculation: bool = True) -> EngineConfig:
    return EngineConfig(
        model="tiny",
        threads=1,
        block_size=BLOCK,
        kv_cache_memory=2**23,
        speculation=speculation,
        keep_kv_cache=keep,
    )


def requests() -> list[Request]:
    """Half of them greedy, half sampled; some repeat themselves, so that drafts are right."""
    return [
        Request(
            id=str(number),
            prompt=tuple(3 + (number * 7 + n * (1 + number % 3)) % 20 for n in range(40 + number)),
            sampling=ResolvedSampling(
                max_tokens=TOKENS, seed=number, temperature=0.0 if number % 2 else 0.9
            ),
            arrival=float(number),
        )
        for number in range(8)
    ]


def undisturbed(folder: Path, asked: Sequence[Request]) -> dict[str, list[int]]:
    engine, _ = build_engine(Start(config=config_of(speculation=False), prepared=str(folder)))
    told: dict[str, list[int]] = {request.id: [] for request in asked}
    for request in asked:
        engine.add(request)
    while engine.has_work:
        events = engine.step()
        assert isinstance(events, list)
        for event in events:
            told[event.id] += event.tokens
    return told


@pytest.mark.parametrize("speculation", [False, True])
@pytest.mark.parametrize("keep", [True, False])
def test_a_killed_engine_is_replaced_by_one_that_gives_the_same_tokens(
    folders: tuple[Path, Path], keep: bool, speculation: bool
) -> None:
    asked, (folder, _) = requests(), folders
    expected = undisturbed(folder, asked)

    async def main() -> None:
        config = config_of(keep=keep, speculation=speculation)
        client = await EngineClient.start(config, folder)
        try:
            assert client.info.adopted_blocks == 0
            streams = [client.submit(each) for each in asked]
            finished = [asyncio.ensure_future(collect(stream)) for stream in streams]
            prompts = sum(len(each.prompt) for each in asked)
            await until(lambda: client.stats.computed_tokens >= prompts + 8 * 40)
            os.kill(client.pid or 0, signal.SIGKILL)
            results = await asyncio.wait_for(asyncio.gather(*finished), PATIENCE)
            assert {each.id: tokens(found) for each, found in zip(asked, results, strict=True)} == (
                expected
            )
            assert client.restarts == 1
            needed = prompts + len(asked) * (TOKENS - 1)
            again = client.stats.computed_tokens - needed
            if keep:
                assert client.info.adopted_blocks >= prompts // BLOCK
            else:
                assert client.info.adopted_blocks == 0
                assert again > prompts
            if keep and not speculation:
                # The step that nobody heard of, and what was in blocks that were not full.
                assert again <= len(asked) * (BLOCK + 1)
        finally:
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("first_is", ["alive", "dead"])
def test_requests_that_move_bring_their_cache_along(
    folders: tuple[Path, Path], first_is: str
) -> None:
    asked, (folder, _) = requests(), folders
    expected = undisturbed(folder, asked)

    async def main() -> None:
        config = config_of(speculation=False)
        first, second = await asyncio.gather(
            EngineClient.start(config, folder), EngineClient.start(config, folder)
        )
        try:
            streams = [first.submit(each) for each in asked]
            prompts = sum(len(each.prompt) for each in asked)
            await until(lambda: first.stats.computed_tokens >= prompts + 8 * 40)
            if first_is == "dead":
                os.kill(first.pid or 0, signal.SIGKILL)
                await until(lambda: first.state != "ready")
            moved = [first.take(each.id) for each in asked]
            streams += [
                second.submit(replace(each, kv_source=first.kv_source))
                for each in moved
                if each is not None
            ]
            told: dict[str, list[int]] = {each.id: [] for each in asked}
            for stream in streams:
                for event in await asyncio.wait_for(collect(stream), PATIENCE):
                    told[event.id] += event.tokens
            assert told == expected
            assert None not in moved, "no request had ended"
            left = sum(TOKENS - len(each.generated) for each in moved if each is not None)
            # What was in blocks that were not full.
            assert second.stats.computed_tokens <= left + len(asked) * (BLOCK + 1)
            assert second.stats.prefix_hits >= prompts - len(asked) * BLOCK
        finally:
            await asyncio.gather(first.close(), second.close())

    asyncio.run(main())


def test_an_engine_adopts_only_what_computes_the_same(folders: tuple[Path, Path]) -> None:
    descriptor = os.memfd_create("test")
    asked = requests()[:2]

    def adopted(folder: Path, config: EngineConfig) -> int:
        start = Start(config=config, prepared=str(folder), kv_cache_fd=descriptor)
        engine, info = build_engine(start)
        for request in asked:
            engine.add(request)
        while engine.has_work:
            engine.step()
        return info.adopted_blocks

    try:
        assert adopted(folders[0], config_of()) == 0
        first = adopted(folders[0], config_of())
        assert first == sum((len(each.prompt) + TOKENS - 1) // BLOCK for each in asked)
        assert adopted(folders[1], config_of()) == 0, "other weights"
        assert adopted(folders[1], config_of()) > 0
        assert adopted(folders[0], config_of()) == 0, "the first ones are gone"
    finally:
        os.close(descriptor)


def test_a_cache_that_is_adopted_keeps_its_size_though_less_memory_is_free(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is so because the cache itself still takes it."""
    descriptor = os.memfd_create("test")
    config = replace(config_of(), kv_cache_memory=None)
    try:
        for free, adopted in ((2**27, 0), (2**26, 2)):
            monkeypatch.setattr(machine, "available_memory", lambda free=free: free)
            start = Start(config=config, prepared=str(folders[0]), kv_cache_fd=descriptor)
            engine, info = build_engine(start)
            assert info.adopted_blocks == adopted
            engine.add(replace(requests()[0], sampling=ResolvedSampling(max_tokens=1, seed=0)))
            while engine.has_work:
                engine.step()
    finally:
        os.close(descriptor)


def test_a_descriptor_of_something_else_is_left_alone(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    descriptor = os.open(path, os.O_RDWR)
    os.close(unused := os.dup(descriptor))
    try:
        for number in (descriptor, unused):
            start = Start(config=config_of(), prepared=str(folders[0]), kv_cache_fd=number)
            engine, info = build_engine(start)
            assert info.adopted_blocks == 0
            engine.add(requests()[0])
            engine.step()
    finally:
        os.close(descriptor)
    assert path.read_text() == "precious"
    assert caplog.text.count("will not outlive this engine") == 2
