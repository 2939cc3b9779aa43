"""Keys, origins, certificates, sockets."""

from __future__ import annotations

import httpx
import openai
import pytest

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.server.run import listen
from tests.server.conftest import MODEL, serving
from tests.server.raw import talk

CONFIG = ServerConfig(port=0, api_key=("first", "second"), allowed_origins=("https://a.example",))


def test_any_of_the_keys_opens() -> None:
    with serving(config=CONFIG) as server:
        for key in CONFIG.api_key:
            with server.openai(api_key=key) as client:
                assert client.models.list().data[0].id == MODEL


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer third", "Bearer firs", "first", "Basic first", "Bearer \xff"],
)
def test_without_a_key_nothing_generates(header: str) -> None:
    with serving(config=CONFIG) as server, server.http() as http:
        headers = [(b"authorization", header.encode("latin-1"))] if header else []
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/nothing"),
            ("POST", "/v1/completions"),
            ("POST", "/tokenize"),
            ("POST", "/detokenize"),
        ):
            answer = http.request(method, path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.json()["error"]["code"] == "invalid_api_key"
        for path in ("/health", "/ready", "/metrics", "/docs", "/version", "/load"):
            assert http.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer second"),
        (b"authorization", b"bearer  second"),
        (b"x-api-key", b"second"),
        (b"X-API-KEY", b"second"),
        (b"x-api-key", "schl\u00fcssel".encode()),
    ],
)
def test_ways_to_bring_a_key(header: tuple[bytes, bytes]) -> None:
    config = ServerConfig(port=0, api_key=("first", "second", "schl\u00fcssel"))
    with serving(config=config) as server, server.http() as http:
        assert http.get("/v1/models", headers=[header]).status_code == 200
        # A wrong one beside it changes nothing, and a part of it is not it.
        wrong = (b"authorization", b"Bearer wrong")
        assert http.get("/v1/models", headers=[wrong, header]).status_code == 200
        part = (header[0], header[1].strip()[:-1])
        assert http.get("/v1/models", headers=[part]).status_code == 401
        for odd in (b"", b"Bearer", b"\xff\xfe", b"s" * 60_000, header[1].strip() + b"\xc3"):
            assert http.get("/v1/models", headers=[(header[0], odd)]).status_code == 401


@pytest.mark.parametrize("key", ["", " ", "\t", "a ", "a\n", "\x00"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="api_key must not be empty"):
        ServerConfig(api_key=("good", key))


@pytest.mark.parametrize("path", ["/v1/models", "/%76%31/models", "/v1/../v1/models", "/tokenize"])
def test_no_spelling_of_a_path_passes_without_a_key(path: str) -> None:
    with serving(config=CONFIG) as server:
        answer = talk(server, f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401 ")


def test_the_client_sees_an_authentication_error() -> None:
    with (
        serving(config=CONFIG) as server,
        server.openai(api_key="third") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_an_allowed_origin_may_ask() -> None:
    with serving(config=CONFIG) as server, server.http() as http:
        asking = {"origin": "https://a.example", "access-control-request-method": "POST"}
        asked = http.options("/v1/completions", headers=asking)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://a.example"
        refused = http.get("/v1/models", headers={"origin": "https://a.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://a.example"
        other = http.get("/version", headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_names_that_are_served() -> None:
    config = ServerConfig(port=0, served_model_name=("one", "two"))
    with serving(config=config) as server, server.openai() as client:
        assert [model.id for model in client.models.list().data] == ["one", "two"]
        assert client.models.retrieve("two").id == "two"
        assert client.completions.create(model="two", prompt="x").model == "one"
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=MODEL, prompt="x")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("three")


def test_a_model_name_may_have_slashes() -> None:
    config = ServerConfig(port=0, served_model_name=("owner/name",))
    with serving(config=config) as server, server.http() as http:
        answer = http.get("/v1/models/owner/name").json()
        assert answer["id"] == "owner/name"
        assert answer["max_model_len"] == 1000


def test_an_occupied_port_is_one_clear_error() -> None:
    with listen(ServerConfig(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InvalidRequest, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(ServerConfig(port=port))


def test_the_docs_need_nothing_from_elsewhere() -> None:
    with serving() as server, server.http() as http:
        page = http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        for word in ("src=", "http://", "https://", "<script"):
            assert word not in page.text.replace("http://localhost:8000", "")
        description = http.get("/openapi.json").json()
        check_described(page, description)


def check_described(page: httpx.Response, description: dict[str, object]) -> None:
    paths = description["paths"]
    assert isinstance(paths, dict)
    assert {"/v1/completions", "/v1/models/{model}", "/metrics"} <= set(paths)
    for path in paths:
        assert path in page.text
    for field in ("truncate_prompt_tokens", "max_completion_tokens", "return_token_strs"):
        assert f"<code>{field}</code>" in page.text
