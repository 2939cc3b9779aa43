"""Names that a server answers to: on a loopback address, not those of web pages of elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headway.config import ServerConfig
from headway.server.exposure import host_name, hosts_answered
from tests.server.conftest import Running, serving

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture(scope="module", name="local")
def _local() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, LOOPBACK),
        ({"host": "LocalHost"}, LOOPBACK),
        ({"host": "127.3.2.1"}, LOOPBACK | {"127.3.2.1"}),
        ({"host": "::1"}, LOOPBACK),
        ({"host": "::ffff:127.0.0.1"}, LOOPBACK | {"::ffff:127.0.0.1"}),
        ({"host": "0.0.0.0"}, None),
        ({"host": "::"}, None),
        ({"host": "10.0.0.7"}, None),
        ({"host": "models.example"}, None),
        ({"api_key": ("k",)}, None),
        ({"uds": "/somewhere"}, None),
        ({"allowed_hosts": ("Models.Example", "10.0.0.7")}, {"models.example", "10.0.0.7"}),
        ({"allowed_hosts": ("a.example",), "api_key": ("k",)}, {"a.example"}),
        ({"allowed_hosts": ("a.example",), "host": "0.0.0.0"}, {"a.example"}),
        ({"allowed_hosts": ("*",)}, None),
    ],
    ids=str,
)
def test_which_names_are_answered(settings: dict[str, Any], expected: set[str] | None) -> None:
    assert hosts_answered(ServerConfig(**settings)) == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8000", "localhost"),
        ("localhost.", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        (":80", ""),
        ("evil.example:8000", "evil.example"),
        ("localhost.evil.example", "localhost.evil.example"),
    ],
)
def test_the_name_in_a_header(value: str, name: str) -> None:
    assert host_name(value) == name


@pytest.mark.parametrize("path", ["/", "/v1/models", "/metrics", "/health", "/nothing"])
def test_a_page_that_was_rebound_reads_nothing(local: Running, path: str) -> None:
    with local.http() as http:
        for name in ("localhost", f"127.0.0.1:{local.port}", "[::1]:8000"):
            assert http.get(path, headers={"host": name}).status_code != 403
        for name in (f"evil.example:{local.port}", "evil.localhost.example", ""):
            answer = http.get(path, headers={"host": name})
            assert answer.status_code == 403, name
            assert "--allowed-hosts" in answer.json()["error"]["message"]
            assert answer.headers["x-request-id"]


def test_what_is_refused_does_not_generate(local: Running) -> None:
    local.llm.asked.clear()
    body = {"prompt": "x", "max_tokens": 1}
    with local.http() as http:
        answer = http.post("/v1/completions", json=body, headers={"host": "evil.example"})
        assert answer.status_code == 403
        assert not local.llm.asked
        shown = http.get("/v1/messages", headers={"host": "<script>" * 99}).json()
    assert shown["type"] == "error", "in the form of the path"
    assert len(shown["error"]["message"]) < 400


def test_one_with_other_names_answers_to_them() -> None:
    config = ServerConfig(port=0, allowed_hosts=("models.example",))
    with serving(config=config) as server, server.http() as http:
        assert http.get("/health", headers={"host": "MODELS.example:443"}).status_code == 200
        assert http.get("/health").status_code == 403, "the names replace those of the loopback"


@pytest.mark.parametrize("settings", [{"allowed_hosts": ("*",)}, {"api_key": ("k",)}])
def test_any_name_does_where_nothing_else_depends_on_it(settings: dict[str, Any]) -> None:
    with serving(config=ServerConfig(port=0, **settings)) as server, server.http() as http:
        answer = http.get(
            "/v1/models", headers={"host": "any.example", "authorization": "Bearer k"}
        )
        assert answer.status_code == 200


def test_below_ollamas_paths_errors_have_its_form(local: Running) -> None:
    with local.http() as http:
        for path in ("/api/unknown", "/api", "/api/chat/more"):
            answer = http.get(path)
            assert answer.status_code == 404
            assert answer.json() == {
                "error": "there is nothing at this path; /docs lists the endpoints"
            }
        assert "error" in http.post("/api/tags").json()
        assert isinstance(http.get("/apis").json()["error"], dict)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": "x", "n_predict": 1}),
        ("/api/chat", {"model": "alphabet", "messages": [{"role": "user", "content": "x"}]}),
        ("/api/generate", {"model": "alphabet", "prompt": "x"}),
        ("/api/generate", {"model": "alphabet", "prompt": "x", "raw": True}),
    ],
)
def test_objectives_in_the_other_dialects(local: Running, path: str, body: dict[str, Any]) -> None:
    local.engine.submitted.clear()
    with local.http() as http:
        answer = http.post(path, json=body | {"slo": {"ttft_ms": 700, "class": "batch"}})
        assert answer.status_code == 200, answer.text
        refused = http.post(path, json=body | {"slo": {"ttft_ms": 0}})
    request = local.engine.submitted[0]
    assert request.service_class == "batch"
    assert [(each.metric, each.seconds) for each in request.objectives] == [("ttft", 0.7)]
    assert refused.status_code == 400
    assert "slo.ttft_ms" in refused.text
