"""What desktop tools ask first: whether anybody is there, and which models."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.ollama.models import OLLAMA_VERSION
from tests.server.conftest import MODEL, serving
from tests.server.fakes import TEMPLATE


def test_somebody_is_there(http: httpx.Client) -> None:
    assert http.head("/").status_code == 200
    assert http.get("/").text == "Headway is running"
    assert http.get("/api/version").json() == {"version": OLLAMA_VERSION}


def test_models_have_tags() -> None:
    names = ("one", "two:7b")
    config = ServerConfig(port=0, served_model_name=names)
    with serving(config=config) as server, server.http() as http:
        models = http.get("/api/tags").json()["models"]
    assert [each["name"] for each in models] == ["one:latest", "two:7b"]
    assert [each["model"] for each in models] == ["one:latest", "two:7b"]
    assert len({each["digest"] for each in models}) == 2
    datetime.fromisoformat(models[0]["modified_at"])
    details = models[0]["details"]
    assert (details["family"], details["quantization_level"]) == ("llama", "float32")


def test_the_model_is_always_loaded(http: httpx.Client) -> None:
    (model,) = http.get("/api/ps").json()["models"]
    assert model["name"] == f"{MODEL}:latest"
    assert model["context_length"] == 1000
    assert model["size_vram"] == 0
    assert datetime.fromisoformat(model["expires_at"]).year > 9000


@pytest.mark.parametrize("field", ["model", "name"])
def test_what_a_model_is(http: httpx.Client, field: str) -> None:
    shown = http.post("/api/show", json={field: f"{MODEL}:latest"}).json()
    assert shown["template"] == TEMPLATE
    assert "completion" in shown["capabilities"]
    assert "thinking" not in shown["capabilities"]
    info = shown["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["llama.context_length"] == 1000


@pytest.mark.parametrize(
    ("body", "status"), [({"model": "other"}, 404), ({}, 400), ({"model": MODEL, "odd": 1}, 400)]
)
def test_what_is_not_shown(http: httpx.Client, body: dict[str, object], status: int) -> None:
    answer = http.post("/api/show", json=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/embed"),
        ("POST", "/api/embeddings"),
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
    ],
)
def test_what_is_refused_says_why(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path, json={"model": MODEL, "input": "x"})
    assert answer.status_code == 400
    assert path in answer.json()["error"]


def test_a_key_is_asked_for_in_ollamas_form() -> None:
    with serving(config=ServerConfig(port=0, api_key=("k",))) as server, server.http() as http:
        for path in ("/api/tags", "/api/ps", "/api/version"):
            answer = http.get(path)
            assert answer.status_code == 401
            assert isinstance(answer.json()["error"], str)
            assert http.get(path, headers={"authorization": "Bearer k"}).status_code == 200
        assert http.get("/").status_code == 200
