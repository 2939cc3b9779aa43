"""Faults of the whole server over HTTP: a killed engine, clients that leave, a server told to stop.

On the float32 reference, where a sequence that is recomputed gives the same tokens.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.server.serving import MODEL, headway_serve, until_idle
from tests.server.test_hostile import be_hostile

pytestmark = pytest.mark.model

Served = tuple["subprocess.Popen[str]", str]
STREAMS = 32
TOKENS = 24


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with headway_serve("--dtype", "float32", "--reasoning-parser", "deepseek_r1") as pair:
        yield pair


def asked(number: int, tokens: int = TOKENS) -> dict[str, Any]:
    """Every second one is greedy, the others have seeds of their own; some may not reason on."""
    return {
        "model": MODEL,
        "prompt": f"Chapter {number}. In the year {1900 + number} there was",
        "max_tokens": tokens,
        "temperature": 0.0 if number % 2 else 1.0,
        "seed": number,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
        "thinking_token_budget": number % 5 if number % 3 == 0 else -1,
    }


async def stream(
    client: httpx.AsyncClient,
    body: dict[str, Any],
    heard: Callable[[int], None] = lambda _: None,
) -> tuple[list[int], str, list[str]]:
    """Token ids, text and finish reasons of one stream, which must end with [DONE]."""
    ids: list[int] = []
    text, ends, done = "", [], False
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                choice = json.loads(line[6:])["choices"][0]
                ids += choice.get("token_ids") or []
                text += choice["text"]
                ends += [choice["finish_reason"]] if choice["finish_reason"] else []
                heard(len(ids))
    assert done
    return ids, text, ends


def clients(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=240, limits=limits)


def test_a_killed_engine_costs_no_stream_a_token(served: Served) -> None:
    process, url = served

    async def run(kill: bool) -> list[tuple[list[int], str, list[str]]]:
        started: set[int] = set()
        victims: list[int] = []

        def heard(number: int, count: int) -> None:
            if count >= 3:
                started.add(number)
            if kill and not victims and len(started) == STREAMS:
                engine = psutil.Process(process.pid).children()[0]
                victims.append(engine.pid)
                engine.send_signal(signal.SIGKILL)

        async with clients(url) as client:
            streams = (
                stream(client, asked(number), lambda count, number=number: heard(number, count))  # type: ignore[misc]
                for number in range(STREAMS)
            )
            told = await asyncio.gather(*streams)
        assert len(victims) == kill
        return told

    undisturbed = asyncio.run(run(kill=False))
    disturbed = asyncio.run(run(kill=True))
    assert [ends for _, _, ends in disturbed] == [["length"]] * STREAMS
    assert [len(ids) for ids, _, _ in disturbed] == [TOKENS] * STREAMS
    assert disturbed == undisturbed
    until_idle(url)


def accepted_drafts(url: str) -> float:
    found = re.search(
        r"^vllm:spec_decode_num_accepted_tokens_total\S* (\S+)",
        httpx.get(url + "/metrics").text,
        re.MULTILINE,
    )
    return 0.0 if found is None else float(found[1])


def test_a_killed_engine_costs_a_stream_with_drafts_no_token(served: Served) -> None:
    """Both before the engine dies and after it, tokens are computed ahead and are right."""
    process, url = served
    tokens = 160
    prompt = "One cat sat on a mat. Two cats sat on a mat. " * 12
    bodies = [
        asked(number, tokens) | {"prompt": prompt, "temperature": heat, "thinking_token_budget": -1}
        for number, heat in enumerate((0.0, 0.4))
    ]
    drafts: list[float] = []

    async def run(kill: bool) -> list[tuple[list[int], str, list[str]]]:
        victims: list[int] = []

        def heard(count: int) -> None:
            if kill and not victims and count >= tokens // 2:
                drafts.append(accepted_drafts(url))
                engine = psutil.Process(process.pid).children()[0]
                victims.append(engine.pid)
                engine.send_signal(signal.SIGKILL)

        async with clients(url) as client:
            told = await asyncio.gather(*(stream(client, body, heard) for body in bodies))
        assert len(victims) == kill
        return told

    before = accepted_drafts(url)
    undisturbed = asyncio.run(run(kill=False))
    between = accepted_drafts(url)
    assert between > before
    disturbed = asyncio.run(run(kill=True))
    assert between < drafts[0] < accepted_drafts(url)
    assert disturbed == undisturbed
    assert [len(ids) for ids, _, _ in disturbed] == [tokens] * 2
    until_idle(url)


def test_two_hundred_clients_that_leave_at_random_leave_nothing_behind(served: Served) -> None:
    _, url = served
    draw = random.Random(1)
    patience = [draw.choice((0.0, 0.01, 0.1, 0.5, 1.0, 2.0)) for _ in range(200)]

    async def impatient(client: httpx.AsyncClient, number: int) -> None:
        body = asked(number, tokens=400) | {"stream": bool(number % 3), "n": 1 + number % 2}
        if body["n"] > 1:
            body["temperature"] = 1.0
        try:
            async with asyncio.timeout(patience[number]):
                await client.post("/v1/completions", json=body)
        except TimeoutError:
            return
        raise AssertionError("nobody waits for 400 tokens")

    async def crowd() -> None:
        async with clients(url) as client:
            await asyncio.gather(*(impatient(client, number) for number in range(200)))

    asyncio.run(crowd())
    until_idle(url)
    answer = httpx.post(url + "/v1/completions", json=asked(1, 4) | {"stream": False}, timeout=60)
    assert answer.json()["usage"]["completion_tokens"] == 4


def test_a_thousand_hostile_bodies_leave_the_real_engine_whole(served: Served) -> None:
    process, url = served
    engine = psutil.Process(process.pid).children()[0]
    with httpx.Client(base_url=url, timeout=120) as http:
        be_hostile(http, refusals=1000, seed=21)
        for prompt in ("word " * 20_000, [5] * 9000, "x" * 20 * 2**20):
            body = asked(1) | {"prompt": prompt}
            answer = http.post("/v1/completions", json=body)
            assert answer.status_code in (400, 413), answer.text
            assert answer.json()["error"]["message"]
    until_idle(url)
    assert engine.is_running(), "no request may bring the engine down"


def test_sigterm_cuts_no_stream_off_and_refuses_newcomers() -> None:
    with headway_serve("--reasoning-parser", "deepseek_r1") as (process, url):
        refused: list[int] = []

        async def run() -> list[tuple[list[int], str, list[str]]]:
            async with clients(url) as client:

                async def newcomer() -> None:
                    answer = await client.post("/v1/completions", json=asked(99))
                    refused.append(answer.status_code)

                late: list[asyncio.Task[None]] = []

                def heard(_: int) -> None:
                    if not late:
                        process.send_signal(signal.SIGTERM)
                        late.append(asyncio.create_task(delayed(newcomer)))

                told = await asyncio.gather(
                    *(stream(client, asked(number, 64), heard) for number in range(16))
                )
                await asyncio.gather(*late)
                return told

        told = asyncio.run(run())
        assert [len(ids) for ids, _, _ in told] == [64] * 16
        assert refused == [503]
        assert process.wait(60) == 0


async def delayed(act: Callable[[], Any]) -> None:
    """After the signal has certainly been handled: the server answers 503 on /ready."""
    await asyncio.sleep(0.3)
    await act()
