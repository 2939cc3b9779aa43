"""What is sent at `/` and for the page's files, to whom, and with which headers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.page.files import page_files
from tests.server.conftest import Running, serving
from tests.server.raw import talk

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
RUNNING = "Headway is running"


@pytest.fixture
def without_page() -> Iterator[httpx.Client]:
    with serving(config=ServerConfig(port=0, page=False)) as server, server.http() as http:
        yield http


def test_a_browser_gets_the_page(http: httpx.Client) -> None:
    answer = http.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == page_files()["index.html"].content
    assert '<main id="try"' in answer.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/plain", "", None])
def test_who_asks_for_no_html_is_told_that_the_server_runs(
    http: httpx.Client, accept: str | None
) -> None:
    """As Ollama's and llama.cpp's clients ask, and probes."""
    request = http.build_request("GET", "/")
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    answer = http.send(request)
    assert (answer.status_code, answer.text) == (200, RUNNING)
    assert answer.headers["content-type"].startswith("text/plain")
    assert "accept" in answer.headers["vary"]


def test_a_cache_keeps_the_two_apart(http: httpx.Client) -> None:
    for headers in (BROWSER, {}):
        assert "accept" in http.get("/", headers=headers).headers["vary"].split(", ")


@pytest.mark.parametrize("name", sorted(page_files()))
def test_every_file_is_sent_with_headers_that_bind_the_browser(
    http: httpx.Client, name: str
) -> None:
    path = "/" if name == "index.html" else f"/page/{name}"
    answer = http.get(path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.content == page_files()[name].content
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}
    assert answer.headers["content-type"].startswith(types[name.rpartition(".")[2]])
    policy = dict(
        each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_copy_that_is_still_right_is_not_sent_again(http: httpx.Client) -> None:
    first = http.get("/page/shell.js")
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for known in (etag, f'"other", {etag}'):
        again = http.get("/page/shell.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "content-security-policy" in again.headers
    changed = http.get("/page/shell.js", headers={"if-none-match": 'W/"other"'})
    assert changed.status_code == 200
    assert http.get("/page/try.js").headers["etag"] != etag


def test_it_is_packed_only_for_those_who_unpack(http: httpx.Client) -> None:
    packed = http.get("/page/try.js")
    plain = http.get("/page/try.js", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2


def test_head_says_what_get_would(server: Running, http: httpx.Client) -> None:
    for path in ("/", "/page/shell.js"):
        head, get = http.head(path, headers=BROWSER), http.get(path, headers=BROWSER)
        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-type", "content-length", "etag"):
            assert head.headers[name] == get.headers[name]
    raw = talk(server, b"HEAD / HTTP/1.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "name", ["none.js", "..%2Fendpoints.py", "%2e%2e/endpoints.py", "", "static", "__init__.py"]
)
def test_there_is_nothing_else(http: httpx.Client, name: str) -> None:
    answer = http.get(f"/page/{name}", headers=BROWSER)
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_it_needs_no_key_and_no_engine() -> None:
    config = ServerConfig(port=0, api_key=("k",))
    with serving(config=config, ready=False) as server, server.http() as http:
        assert http.get("/", headers=BROWSER).status_code == 200
        assert http.get("/page/shell.js").status_code == 200
        assert http.get("/v1/models").status_code == 401


def test_it_can_be_switched_off(without_page: httpx.Client) -> None:
    answer = without_page.get("/", headers=BROWSER)
    assert (answer.status_code, answer.text) == (200, RUNNING)
    assert without_page.get("/page/shell.js").status_code == 404
    assert without_page.get("/v1/models").status_code == 200
