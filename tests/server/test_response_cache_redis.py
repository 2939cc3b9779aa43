"""Servers share answers through a Redis, and when it dies their clients notice nothing."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.config import ServerConfig
from tests.client.response_cache.redis_server import free_port, needs_server, redis_server
from tests.server.conftest import Running, serving
from tests.server.test_response_cache import ask, cache_of, told

pytest.importorskip("redis")


def config(port: int) -> ServerConfig:
    url = f"redis://127.0.0.1:{port}/0"
    return ServerConfig(port=0, response_cache=2**20, response_cache_redis=url)


def is_up(server: Running) -> bool:
    remote = cache_of(server).remote
    return remote is not None and remote.up


@needs_server
def test_what_one_server_computed_another_one_gives(tmp_path: Path) -> None:
    port = free_port()
    with (
        redis_server(tmp_path, port),
        serving(config=config(port)) as one,
        serving(config=config(port)) as two,
        one.http() as http_one,
        two.http() as http_two,
    ):
        for server in (one, two):
            server.until(lambda server=server: is_up(server))  # type: ignore[misc]
        computed = ask(http_one)
        one.until(lambda: not _writing(one))
        given = ask(http_two)
        assert [told(each) for each in (computed, given)] == ["miss", "hit"]
        assert given.json()["choices"] == computed.json()["choices"]
        assert given.json()["usage"]["response_cache"] == "hit"
        assert two.engine.submitted == []
        metrics = http_two.get("/metrics").text
        assert 'headway:response_cache_remote_hits_total{model_name="alphabet"} 1.0' in metrics
        assert 'headway:response_cache_remote_up{model_name="alphabet"} 1.0' in metrics


def _writing(server: Running) -> bool:
    remote = cache_of(server).remote
    assert remote is not None
    return bool(remote._writes) or not (remote._worker and remote._worker.done())


@needs_server
def test_a_redis_that_is_killed_under_load_is_noticed_by_nobody(tmp_path: Path) -> None:
    port = free_port()
    with serving(config=config(port)) as server, server.http() as http:
        with redis_server(tmp_path, port) as process:
            server.until(lambda: is_up(server))
            with ThreadPoolExecutor(16) as pool:
                asked = [pool.submit(ask, http, prompt=f"{n % 300}") for n in range(400)]
                asked[100].result(60)
                process.kill()
                answers = [each.result(60) for each in asked]
        outcomes = Counter(told(each) for each in answers)
        assert sum(outcomes.values()) == 400
        assert {each.json()["choices"][0]["text"] for each in answers} == {"abcdefghi"}
        assert outcomes["miss"] <= 300
        assert told(ask(http, prompt="another")) == "miss"
        assert not server.call(lambda: is_up(server))
