"""Helpers for tests that run the fake engine: start it, ask it, wait for conditions."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from headway.client import EngineClient, Stream
from headway.config import EngineConfig
from headway.types import Request, ResolvedSampling, TokenEvent
from tests.client.fake_engine import COMMAND

PATIENCE = 60.0
"""Seconds after which a test gives up; nothing should ever come near."""


def request(
    name: str, prompt: Iterable[int] = (5, 6, 7), *, max_tokens: int = 12, arrival: float = 0.0
) -> Request:
    return Request(
        id=name,
        prompt=tuple(prompt),
        sampling=ResolvedSampling(max_tokens=max_tokens, seed=11),
        arrival=arrival,
    )


@asynccontextmanager
async def running_client(
    folder: Path, *, config: EngineConfig | None = None, **script: object
) -> AsyncIterator[EngineClient]:
    """A client with a fake engine that follows `script`; gone, as is checked, at exit."""
    (folder / "script.json").write_text(json.dumps(script))
    client = await EngineClient.start(config or EngineConfig(), folder, command=COMMAND)
    try:
        yield client
    finally:
        await client.close()
    for pid in started(folder):
        assert not alive(pid)


def started(folder: Path) -> list[int]:
    """Process ids of the engines that were started, in order."""
    log = folder / "starts.log"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def collect(stream: Stream) -> list[TokenEvent]:
    return [event async for event in stream]


def tokens(events: Iterable[TokenEvent]) -> list[int]:
    return [token for event in events for token in event.tokens]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail after a time that no healthy machine needs."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
