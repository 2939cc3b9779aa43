"""What well-behaved clients see beside hostile ones: tokens, `/health`, the server's memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

MODEL = "smollm2-135m-instruct"
PROBE_SECONDS = 0.05
MEMORY_SECONDS = 1.0


def question(number: int, tokens: int) -> dict[str, Any]:
    """Every second one is greedy, the others have seeds of their own."""
    return {
        "model": MODEL,
        "prompt": f"Chapter {number}. In the year {1900 + number} there was",
        "max_tokens": tokens,
        "temperature": 0.0 if number % 2 else 1.0,
        "seed": number,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }


@dataclass(slots=True)
class Told:
    """What one stream brought."""

    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    done: bool = False
    first_token_seconds: float | None = None
    error: str | None = None
    """Where there was no stream, or it broke off."""
    shed: bool = False
    """The server had no room (429 or 503) and said so."""


async def stream(
    client: httpx.AsyncClient, body: dict[str, Any], on_token: Callable[[], None] | None = None
) -> Told:
    """Read one stream to its end; `on_token` is called after each event with tokens."""
    told, began = Told(), time.monotonic()
    try:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                told.error = f"{answer.status_code} {(await answer.aread()).decode()[:200]}"
                told.shed = answer.status_code in (429, 503)
                return told
            async for line in answer.aiter_lines():
                if _hear(told, line, began) and on_token is not None:
                    on_token()
    except httpx.HTTPError as error:
        told.error = f"{type(error).__name__}: {error}"
    if not told.done and told.error is None:
        told.error = "the stream ended without [DONE]"
    return told


def _hear(told: Told, line: str, began: float) -> bool:
    """Take in one line of a stream; whether it brought tokens."""
    if line == "data: [DONE]":
        told.done = True
    elif line.startswith("data: "):
        event = json.loads(line[6:])
        if "error" in event:
            told.error = str(event["error"])
            return False
        choice = event["choices"][0]
        tokens = choice.get("token_ids") or []
        told.tokens += tokens
        told.finish = choice["finish_reason"] or told.finish
        if tokens and told.first_token_seconds is None:
            told.first_token_seconds = time.monotonic() - began
        return bool(tokens)
    return False


def clients(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=240, limits=httpx.Limits(max_connections=None))


async def streams_until(
    url: str, end: float, calm: dict[int, list[int]], *, tokens: int
) -> list[Told]:
    """One stream per question of `calm` at any time, each asked again until `end`."""

    async def again(client: httpx.AsyncClient, number: int) -> list[Told]:
        told = []
        while time.monotonic() < end:
            told.append(await stream(client, question(number, tokens)))
            if told[-1].shed:
                await asyncio.sleep(1)
        return told

    async with clients(url) as client:
        rounds = await asyncio.gather(*(again(client, number) for number in calm))
    for number, answers in zip(calm, rounds, strict=True):
        for told in answers:
            if told.error is None and told.tokens != calm[number]:
                told.error = f"other tokens than in a calm run, for question {number}"
    return [told for answers in rounds for told in answers]


async def probe_health(url: str, end: float) -> list[float]:
    """Seconds that `/health` took to answer 200; -1 for any other answer, or none in 10 s."""
    taken = []
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        while time.monotonic() < end:
            began, good = time.monotonic(), False
            with contextlib.suppress(httpx.HTTPError):
                good = (await client.get("/health")).status_code == 200
            taken.append(time.monotonic() - began if good else -1.0)
            await asyncio.sleep(PROBE_SECONDS)
    return taken


@dataclass(slots=True)
class Memory:
    """MiB that a process and its children held, sample by sample."""

    server: list[float] = field(default_factory=list)
    children: list[float] = field(default_factory=list)

    async def watch(self, pid: int, end: float) -> None:
        server = psutil.Process(pid)
        while time.monotonic() < end:
            self.server.append(_private_mib(server))
            children = server.children(recursive=True)
            self.children.append(sum(_private_mib(child) for child in children))
            await asyncio.sleep(MEMORY_SECONDS)


def _private_mib(process: psutil.Process) -> float:
    """What it holds of its own; the weights are mapped from a file and shared."""
    with contextlib.suppress(psutil.Error):
        memory = process.memory_info()
        return float(memory.rss - memory.shared) / 2**20
    return 0.0


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def levels(values: list[float]) -> dict[str, float]:
    """The median of each third of a run, and the peak: level where the thirds agree."""
    third = max(len(values) // 3, 1)
    parts = [values[:third], values[third : 2 * third] or values, values[2 * third :] or values]
    thirds = {f"third_{place}": statistics.median(part) for place, part in enumerate(parts, 1)}
    return {name: round(value, 1) for name, value in (thirds | {"peak": max(values)}).items()}
