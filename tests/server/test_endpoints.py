"""The route table: aliases answer as their paths do, and are not described."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.endpoints import ENDPOINTS
from headway.server.middleware import is_protected
from headway.server.openapi import describe
from tests.server.conftest import Running, serving

HELLO = [{"role": "user", "content": "x"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 3},
    "/v1/completions": {"prompt": "x", "max_tokens": 3},
}
ALIASES = [(each, alias) for each in ENDPOINTS for alias in each.aliases]


def plain(answer: httpx.Response) -> tuple[int, str]:
    """Without what differs from request to request."""
    return answer.status_code, re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", answer.text)


@pytest.mark.parametrize("alias", ["/chat/completions", "/completions", "/models", "/v1/health"])
def test_what_clients_of_llama_cpp_ask_is_there(alias: str) -> None:
    assert alias in {alias for _, alias in ALIASES}


def test_an_alias_answers_as_its_path(http: httpx.Client) -> None:
    assert len(ALIASES) >= 5
    for endpoint, alias in ALIASES:
        body = BODIES.get(endpoint.path)
        pair = [
            plain(
                http.request(endpoint.method, path.replace("{model:path}", "alphabet"), json=body)
            )
            for path in (endpoint.path, alias)
        ]
        assert pair[0] == pair[1]
        assert pair[0][0] == 200


def test_an_alias_streams(http: httpx.Client) -> None:
    body = BODIES["/v1/chat/completions"] | {"stream": True}
    with http.stream("POST", "/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_aliases_are_not_described(server: Running) -> None:
    paths = describe(ENDPOINTS)["paths"]
    assert not {alias.replace(":path", "") for _, alias in ALIASES} & set(paths)
    described = [(each.method, each.path) for each in ENDPOINTS]
    every = described + [(each.method, alias) for each, alias in ALIASES]
    assert len(set(every)) == len(every)


def test_an_alias_needs_a_key_where_its_path_does() -> None:
    assert not is_protected("/v1/health")
    others = [(each, alias) for each, alias in ALIASES if alias != "/v1/health"]
    for endpoint, alias in others:
        assert is_protected(alias) == is_protected(endpoint.path)
    with serving(config=ServerConfig(port=0, api_key=("k",))) as server, server.http() as http:
        assert http.post("/chat/completions", json={}).status_code == 401
        assert http.get("/models").status_code == 401
        assert http.get("/v1/health").status_code == 200
        assert http.get("/models", headers={"x-api-key": "k"}).status_code == 200
