"""The same with Debian's Redis, where that and its client are installed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.client.response_cache.remote import (
    MOST_VALUE_BYTES,
    RedisLink,
    RemoteAnswers,
    RemoteWrite,
)
from headway.errors import InvalidRequest
from tests.client.response_cache.redis_server import free_port, needs_server, redis_server
from tests.client.support import until

pytest.importorskip("redis")


@needs_server
def test_values_are_kept_cut_and_replaced_as_they_should(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        with redis_server(tmp_path, port):
            link = RedisLink(f"redis://127.0.0.1:{port}/0", max_age=100.0)
            answers = RemoteAnswers(link, pause=0.01)
            answers.start()
            await until(lambda: answers.up)
            assert await answers.get([b"a"]) == [None]
            answers.put(b"a", b"begun", whole=False)
            assert await answers.get([b"a", b"b"]) == [b"begun", None]
            answers.put(b"a", b"whole\x00", whole=True)
            assert await answers.get([b"a"]) == [b"whole\x00"]
            answers.put(b"a", b"begun", whole=False)
            assert await answers.get([b"a"]) == [b"whole\x00"]
            large = bytes([1]) * (MOST_VALUE_BYTES + 1)
            (found,) = await link.exchange([b"large"], [RemoteWrite(b"large", large, True)])
            assert len(found) == MOST_VALUE_BYTES
            assert 0 < await link._redis.pttl(b"headway:answer:a") <= 100_000
            await answers.close()

    asyncio.run(main())


@needs_server
def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        answers = RemoteAnswers(RedisLink(f"redis://127.0.0.1:{port}", max_age=9), pause=0.01)
        answers.start()
        for _ in range(2):
            with redis_server(tmp_path, port) as process:
                await until(lambda: answers.up)
                answers.put(b"a", b"1", whole=True)
                assert await answers.get([b"a"]) == [b"1"]
                process.kill()
                process.wait()
                found = [await answers.get([b"a"]) for _ in range(50)]
                assert found == [[None]] * 50
                assert not answers.up
        await answers.close()

    asyncio.run(main())


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        RedisLink("redis://host:port/0", max_age=1.0)
    assert caught.value.field == "response_cache_redis"
