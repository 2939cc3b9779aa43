"""Hostile grammars cost who sends them, and nobody else: a stream beside them says what it says."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.hostile import watch
from tests.hostile.attacks import PATIENCE, REFUSALS
from tests.hostile.grammars import CHAT, fields
from tests.server.serving import headway_serve, until_idle

SCALE = 0.05
MOST = 8


def body(path: str, hostile: dict[str, Any]) -> dict[str, Any]:
    asked: dict[str, Any] = {"prompt": "x"}
    if path == CHAT:
        asked = {"messages": [{"role": "user", "content": "x"}]}
    return asked | {"max_tokens": MOST} | hostile


@pytest.mark.model
def test_each_is_refused_or_bounded_while_a_stream_goes_on() -> None:
    async def ask(http: httpx.AsyncClient, path: str, hostile: dict[str, Any]) -> httpx.Response:
        async with free:
            return await http.post(path, json=body(path, hostile))

    async def all_at_once(url: str) -> tuple[dict[str, int], watch.Told, watch.Told]:
        asked = watch.question(1, 400)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            calm = await watch.stream(http, asked)
            named = list(fields(SCALE))
            beside = asyncio.create_task(watch.stream(http, asked))
            answers = await asyncio.gather(*(ask(http, path, each) for _, path, each in named))
            told = await beside
        statuses = [answer.status_code for answer in answers]
        return dict(zip([name for name, *_ in named], statuses, strict=True)), calm, told

    free = asyncio.Semaphore(6)
    with headway_serve() as (_, url):
        statuses, calm, told = asyncio.run(all_at_once(url))
        until_idle(url)
    allowed = {200, *REFUSALS}
    assert {name: status for name, status in statuses.items() if status not in allowed} == {}
    assert statuses["schema, huge text"] == statuses["schema, huge enum"] == 400
    assert told.error is None
    assert told.tokens == calm.tokens
    assert len(told.tokens) == 400
