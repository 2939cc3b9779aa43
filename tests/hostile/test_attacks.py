"""Every attack at a small scale: the server refuses or serves it, and goes on serving others."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest

from tests.hostile.attacks import ATTACKS, Broken, Target, post, pour
from tests.server.conftest import Running, serving

SCALE = 0.02


@pytest.fixture(scope="module")
def attacked() -> Iterator[Running]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_an_attack_breaks_nothing(attacked: Running, name: str) -> None:
    ATTACKS[name](Target(attacked.url, SCALE), random.Random(1))
    attacked.until_idle()
    with attacked.http() as http:
        assert http.get("/health").status_code == 200
        answer = http.post("/v1/completions", json={"prompt": "x", "max_tokens": 2})
        assert answer.status_code == 200


def test_an_internal_error_is_found(attacked: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.Response(500, text="oh", request=httpx.Request("POST", attacked.url))
    monkeypatch.setattr(httpx.Client, "post", lambda *_, **__: answer)
    with pytest.raises(Broken, match="500"):
        post(Target(attacked.url), "/v1/completions", {})


def test_a_server_that_takes_all_is_found(attacked: Running) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 1000000\r\n\r\n"
    with pytest.raises(Broken, match="taken"):
        pour(Target(attacked.url), head, b"x" * 1000, most=100_000, what="a body")
