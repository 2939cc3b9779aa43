"""One server of the default model for all client libraries."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.features import WAITING
from tests.server.serving import headway_serve, until_idle


@pytest.fixture(scope="package")
def served() -> Iterator[str]:
    """The address of a server that is ready, or of the one that `CLIENTS_URL` names."""
    if url := os.environ.get("CLIENTS_URL"):
        yield url
        return
    with headway_serve() as (_, url):
        yield url
        until_idle(url)


@pytest.fixture
def url(served: str) -> str:
    """Where Anthropic's dialect has its root."""
    return served


@pytest.fixture
def v1(served: str) -> str:
    """Where OpenAI's dialect has its root."""
    return f"{served}/v1"


@pytest.fixture(scope="package")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines in one event loop: some libraries keep connections, which belong to one."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="package")
def empty_object(served: str) -> dict[str, Any]:
    """Fields that leave `{}` as the only JSON object: a small model may end no other."""
    ids: set[int] = set()
    for text in ("{", "}", "{}", "<|im_end|>"):
        answer = httpx.post(f"{served}/tokenize", json={"prompt": text}).json()
        ids.update(answer["tokens"])
    return {"allowed_token_ids": sorted(ids)}


@pytest.fixture(scope="package", autouse=True)
def _kept_clients(run: Callable[..., Any]) -> Iterator[None]:
    """LiteLLM keeps its connections for good."""
    yield
    if (litellm := sys.modules.get("litellm")) is None:
        return
    kept = litellm.in_memory_llm_clients_cache.cache_dict
    run(litellm.close_litellm_async_clients())
    for each in list(kept.values()):
        client = getattr(each, "client", each)
        if closing := getattr(client, "aclose", None):
            run(closing())
        else:
            client.close()
    kept.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        needed = {feature for mark in item.iter_markers("shows") for feature in mark.args}
        if here in item.path.parents and WAITING & needed:
            item.add_marker(pytest.mark.skip(reason="the server cannot do that yet"))
