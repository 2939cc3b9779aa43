"""Engines that hang are replaced, and nobody else is."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from headway.client import EngineClient
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent
from tests.client.fake_engine import HANGING, expected_tokens
from tests.client.support import PATIENCE, alive, collect, request, running_client, tokens, until

SILENCE = 2.0
"""Seconds, of an engine whose heartbeat comes twenty times a second."""


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.client.watchdog.SILENCE_SECONDS", SILENCE)


def asked(count: int) -> list[Request]:
    return [request(f"r{n}", (3, n, 9), max_tokens=60 + n) for n in range(count)]


async def finish(client: EngineClient, requests: list[Request]) -> list[list[TokenEvent]]:
    streams = [client.submit(each) for each in requests]
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(collect(stream) for stream in streams))


def test_a_stopped_engine_is_replaced_and_no_stream_loses_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, stop_at_step=20) as client:
            first = client.pid or 0
            requests = asked(8)
            streams = [client.submit(each) for each in requests]
            finished = [asyncio.ensure_future(collect(stream)) for stream in streams]
            await until(lambda: client.silence > 1.0)
            assert client.restarts == 0
            assert client.last_step_age > 0.9
            await until(lambda: client.restarts == 1)
            assert not alive(first)
            for each, future in zip(requests, finished, strict=True):
                assert tokens(await asyncio.wait_for(future, PATIENCE)) == expected_tokens(each)

    asyncio.run(main())
    assert "it hung: silent for" in caplog.text


def test_an_idle_engine_that_was_stopped_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            os.kill(client.pid or 0, signal.SIGSTOP)
            await until(lambda: client.restarts == 1 and client.state == "ready")
            (events,) = await finish(client, asked(1))
            assert tokens(events) == expected_tokens(asked(1)[0])

    asyncio.run(main())


def test_a_step_that_does_not_end_is_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        config = EngineConfig(step_timeout=1.0)
        async with running_client(tmp_path, config=config, hang_at_step=10) as client:
            requests = asked(4)
            for each, events in zip(requests, await finish(client, requests), strict=True):
                assert tokens(events) == expected_tokens(each)
            assert client.restarts == 1

    asyncio.run(main())
    assert "step 10 has not ended in" in caplog.text


def test_a_request_that_makes_steps_hang_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        config = EngineConfig(step_timeout=1.0)
        async with running_client(tmp_path, config=config, step_seconds=0.001) as client:
            good = asked(3)
            bad = request("bad", (3, HANGING), max_tokens=200, arrival=2.5)
            *results, ended = await finish(client, [*good, bad])
            assert ended[-1].finish == "error"
            assert "died repeatedly" in (ended[-1].error or "")
            for each, events in zip(good, results, strict=True):
                assert tokens(events) == expected_tokens(each)
            assert client.state == "ready"

    asyncio.run(main())


def test_an_api_process_that_stood_still_blames_no_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            time.sleep(2 * SILENCE)
            await asyncio.sleep(0.2)
            assert client.restarts == 0
            assert client.silence < 1.0
            assert client.state == "ready"

    asyncio.run(main())


def test_a_step_timeout_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="step_timeout"):
        EngineConfig(step_timeout=0.5)
