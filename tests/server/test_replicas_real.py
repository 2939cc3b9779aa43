"""`headway serve --replicas 2` with the real model: the answers of one engine, whatever happens to
either of the two.

On the native kernels, where a sequence that is computed anew elsewhere gives the same tokens.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.serving import headway_serve, until_idle
from tests.server.test_faults import asked, clients, stream

pytestmark = pytest.mark.model

STREAMS = 8
Told = list[tuple[list[int], str, list[str]]]


@pytest.fixture(scope="module")
def alone() -> Told:
    """What one engine answers."""
    with headway_serve("--threads", "1", "--reasoning-parser", "deepseek_r1") as (_, url):
        return asyncio.run(answers(url))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Two engines' address, and where they record."""
    folder = tmp_path_factory.mktemp("records")
    flags = (
        "--replicas",
        "2",
        "--router",
        "round-robin",
        "--record",
        str(folder / "steps-{replica}.jsonl"),
    )
    one = ("--threads", "1", "--reasoning-parser", "deepseek_r1")
    with headway_serve(*flags, *one) as (_, url):
        yield url, folder


async def answers(url: str, midway: Callable[[], object] | None = None) -> Told:
    """Of all streams at once; `midway` is done once half of them have said something."""
    started: set[int] = set()
    doing: list[asyncio.Task[object]] = []

    def heard(number: int, count: int) -> None:
        if count >= 2:
            started.add(number)
        if midway is not None and not doing and len(started) == STREAMS // 2:
            doing.append(asyncio.create_task(asyncio.to_thread(midway)))

    async with clients(url) as client:
        streams = (
            stream(client, asked(number), lambda count, number=number: heard(number, count))  # type: ignore[misc]
            for number in range(STREAMS)
        )
        told = await asyncio.gather(*streams)
    assert len(doing) == (midway is not None)
    await asyncio.gather(*doing)
    return told


def replicas(url: str) -> dict[int, dict[str, Any]]:
    listed = httpx.get(url + "/replicas").json()["replicas"]
    return {each["id"]: each for each in listed}


def test_two_engines_answer_as_one(pair: tuple[str, Path], alone: Told) -> None:
    url, folder = pair
    assert asyncio.run(answers(url)) == alone
    until_idle(url)
    assert {path.name for path in folder.iterdir()} == {"steps-0.jsonl", "steps-1.jsonl"}
    assert all(path.stat().st_size for path in folder.iterdir()), "both had something to do"
    given = re.findall(
        r'headway:replica_requests_total\{.*replica="(\d)"\} (\S+)',
        httpx.get(url + "/metrics").text,
    )
    counts = {int(replica): float(count) for replica, count in given}
    # More than there were, where one had nothing to do and took some that waited with the other.
    assert set(counts) == {0, 1}
    assert min(counts.values()) > 0
    assert sum(counts.values()) >= STREAMS


def test_the_death_of_one_costs_nobody_a_token(pair: tuple[str, Path], alone: Told) -> None:
    url, _ = pair
    victim = replicas(url)[0]
    told = asyncio.run(answers(url, lambda: os.kill(victim["pid"], signal.SIGKILL)))
    assert told == alone
    while (now := replicas(url)[0])["state"] != "ready":
        assert now["state"] == "restarting"
        assert httpx.get(url + "/health").status_code == 200
    assert (now["pid"] != victim["pid"], now["restarts"]) == (True, 1)
    until_idle(url)


def test_one_is_drained_under_load_and_another_one_comes(
    pair: tuple[str, Path], alone: Told
) -> None:
    url, _ = pair
    drained: list[httpx.Response] = []

    def drain() -> None:
        busiest = max(replicas(url).values(), key=lambda each: int(each["live_requests"]))
        drained.append(httpx.delete(f"{url}/replicas/{busiest['id']}", timeout=60))

    assert asyncio.run(answers(url, drain)) == alone
    assert drained[0].json()["moved"] > 0
    (left,) = replicas(url)
    assert drained[0].url.path == f"/replicas/{1 - left}"
    assert httpx.delete(f"{url}/replicas/{left}").status_code == 409
    added = httpx.post(url + "/replicas", json={}, timeout=120)
    assert added.json()["id"] == 2
    assert asyncio.run(answers(url)) == alone
    until_idle(url)
    assert replicas(url)[2]["restarts"] == 0
