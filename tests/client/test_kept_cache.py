"""The memory of a KV cache: it outlives engines, and is emptied where it cannot be trusted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.client import EngineClient
from headway.client.kept_cache import CacheMemoryFile, keeps_cache
from headway.config import EngineConfig
from headway.errors import HeadwayError
from tests.client.fake_engine import POISON, expected_tokens
from tests.client.support import PATIENCE, collect, request, running_client, tokens, until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="files of memory are Linux's"
)


def found(folder: Path) -> list[str]:
    """What each engine found in its memory, in the order of their starts."""
    log = folder / "memory.log"
    return log.read_text().split("\n")[:-1] if log.exists() else []


def memory_files() -> list[str]:
    """The files of memory that this process has open."""
    open_files = Path("/proc/self/fd").iterdir()
    targets = [os.readlink(each) for each in open_files if each.is_symlink()]  # noqa: PTH115
    return [each for each in targets if "headway-kv-cache" in each]


async def use(client: EngineClient, name: str) -> None:
    asked = request(name)
    async with asyncio.timeout(PATIENCE):
        assert tokens(await collect(client.submit(asked))) == expected_tokens(asked)


async def is_replaced(client: EngineClient, times: int = 1) -> None:
    await until(lambda: client.restarts == times and client.state == "ready")


@pytest.mark.parametrize(
    ("number", "left"),
    [(signal.SIGKILL, "engine 0"), (signal.SIGSEGV, ""), (signal.SIGBUS, ""), (signal.SIGABRT, "")],
)
def test_what_an_engine_left_is_there_for_the_next_unless_it_crashed(
    tmp_path: Path, number: signal.Signals, left: str
) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            os.kill(client.pid or 0, number)
            await is_replaced(client)
            await use(client, "b")

    asyncio.run(main())
    assert found(tmp_path) == ["", left]
    assert memory_files() == []


def test_of_an_engine_without_a_single_token_nothing_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            os.kill(client.pid or 0, signal.SIGKILL)
            await is_replaced(client, 1)
            os.kill(client.pid or 0, signal.SIGKILL)
            await is_replaced(client, 2)

    asyncio.run(main())
    assert found(tmp_path) == ["", "engine 0", ""]


def test_what_kills_whoever_adopts_it_is_given_to_one_engine_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            events = await collect(client.submit(request("bad", (POISON,))))
            assert [event.finish for event in events] == ["error"]
            await use(client, "b")

    asyncio.run(main())
    assert found(tmp_path) == ["", "engine 0", "", ""]


def test_an_engine_that_reads_the_model_anew_has_nothing_of_the_old_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            assert client.kv_source
            replacing = asyncio.create_task(client.restart())
            await asyncio.sleep(0)
            assert client.kv_source == "", "nor has another engine"
            await replacing
            assert client.kv_source
            await use(client, "b")

    asyncio.run(main())
    assert found(tmp_path) == ["", ""]


def test_the_model_may_be_replaced_while_there_is_no_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            os.kill(client.pid or 0, signal.SIGKILL)
            await until(lambda: client.state == "restarting")
            await client.restart()
            await use(client, "b")

    asyncio.run(main())
    assert found(tmp_path)[-1] == ""


def test_an_engine_that_fails_to_start_leaves_nothing_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.client.restarts.FIRST_WAIT", 0.01)

    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            (tmp_path / "script.json").write_text('{"exit_from": 1}')
            os.kill(client.pid or 0, signal.SIGKILL)
            await until(lambda: client.restarts >= 2)
            (tmp_path / "script.json").write_text("{}")
            await until(lambda: client.state == "ready")

    asyncio.run(main())
    assert found(tmp_path)[:3] == ["", "engine 0", ""]


def test_others_can_read_it_as_long_as_it_may_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            source = Path(client.kv_source)
            assert source.read_bytes() == b"engine 0"
            seen: list[bytes] = []
            died = client.on_engine_died

            def look(error: HeadwayError) -> bool:
                seen.append(source.read_bytes())
                return died(error)

            monkeypatch.setattr(client, "on_engine_died", look)
            for times, number in enumerate((signal.SIGKILL, signal.SIGSEGV), 1):
                os.kill(client.pid or 0, number)
                await is_replaced(client, times)
                await use(client, f"b{times}")
            assert seen == [b"engine 0", b""], "whoever hears of a death sees nothing of a crash"

    asyncio.run(main())


@pytest.mark.parametrize("setting", [{"keep_kv_cache": False}, {"record": "steps.jsonl"}])
def test_it_is_kept_only_where_that_is_wanted(tmp_path: Path, setting: dict[str, Any]) -> None:
    async def main() -> None:
        config = EngineConfig(**setting)
        async with running_client(tmp_path, config=config) as client:
            await use(client, "a")
            assert memory_files() == []
            assert client.kv_source == ""

    asyncio.run(main())
    assert found(tmp_path) == []


def test_without_such_files_engines_run_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(os, "memfd_create")

    async def main() -> None:
        async with running_client(tmp_path) as client:
            await use(client, "a")
            os.kill(client.pid or 0, signal.SIGKILL)
            await is_replaced(client)
            await use(client, "b")

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert found(tmp_path) == []
    assert "the KV cache ends with its engine" in caplog.text


def test_whose_cache_may_be_adopted() -> None:
    assert keeps_cache(-signal.SIGKILL, useful=True)
    assert keeps_cache(1, useful=True), "it has reported an error"
    assert not keeps_cache(-signal.SIGKILL, useful=False)
    assert not keeps_cache(-signal.SIGSEGV, useful=True)
    assert not keeps_cache(None, useful=True), "it may still be writing"


def test_a_discarded_file_takes_no_memory() -> None:
    file = CacheMemoryFile()
    assert file.descriptor is not None
    os.pwrite(file.descriptor, b"x" * 2**16, 0)
    assert os.fstat(file.descriptor).st_blocks > 0
    file.discard()
    assert os.fstat(file.descriptor).st_blocks == os.fstat(file.descriptor).st_size == 0
    file.close()
    file.close()
    assert memory_files() == []
