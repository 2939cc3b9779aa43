"""Fields that nobody knows: refused by default, or told in a header and in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.ignored_fields import (
    MOST_CHARACTERS,
    MOST_REMEMBERED,
    MOST_SHOWN,
    QUIET_SECONDS,
    IgnoredFields,
    shown,
)
from tests.server.conftest import Running, serving

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
}


@pytest.fixture(scope="module", name="warning")
def _warning() -> Iterator[Running]:
    with serving(config=ServerConfig(port=0, unknown_fields="warn")) as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
def test_refused_by_default(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json=BODIES[path] | {"temprature": 0})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temprature"
    assert "x-ignored-fields" not in http.post(path, json=BODIES[path]).headers


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_told_where_they_are_to_pass(
    warning: Running, caplog: pytest.LogCaptureFixture, path: str, stream: bool
) -> None:
    name = f"odd_{path.count('/')}_{stream}"
    body = BODIES[path] | {"stream": stream, name: {"a": [1]}, "mirostat": 2}
    with warning.http() as http:
        plain = http.post(path, json=BODIES[path] | {"stream": stream})
        for _ in range(2):
            answer = http.post(path, json=body)
            assert answer.status_code == 200
            assert answer.headers["x-ignored-fields"] == f"{name}, mirostat"
    assert "x-ignored-fields" not in plain.headers
    assert caplog.text.count(name) == 1
    assert [r.levelno for r in caplog.records if name in r.getMessage()] == [logging.WARNING]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"odd": 1, "temperature": "hot"}, "temperature"),
        ({"odd": 1, "prompt_embeds": "x"}, "prompt_embeds"),
        ({"odd": 1, "stream": True, "stream_options": {"odd": 1}}, "stream_options.odd"),
        ({"odd": 1, "suffix": "x"}, "suffix"),
    ],
)
def test_what_is_known_is_as_strict_as_ever(
    warning: Running, more: dict[str, Any], field: str
) -> None:
    with warning.http() as http:
        answer = http.post("/v1/completions", json=BODIES["/v1/completions"] | more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("body", [b"[1]", b"{", b"[" * 5000, b'"x"'])
def test_what_is_no_object_is_refused_as_ever(warning: Running, body: bytes) -> None:
    with warning.http() as http:
        headers = {"content-type": "application/json"}
        answer = http.post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


def test_names_are_made_harmless_and_few() -> None:
    assert shown(["a\r\nx: y", "\u00fc"]) == "a??x??y, ?"
    names = [f"{number}" + "n" * 10**5 for number in range(10**4)]
    assert len(shown(names)) < (MOST_SHOWN + 1) * (MOST_CHARACTERS + 2)
    assert shown(names).endswith(f"and {10**4 - MOST_SHOWN} more")


def test_a_name_is_logged_once_in_a_while_and_memory_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [0.0, QUIET_SECONDS - 1, QUIET_SECONDS, 2 * QUIET_SECONDS - 1]
    clock = iter(times + [1e6] * 3 * MOST_REMEMBERED)
    fields = IgnoredFields(lambda: next(clock))
    for _ in times:
        fields.tell("/p", ["again"])
    assert caplog.text.count("again") == 2
    for number in range(3 * MOST_REMEMBERED):
        fields.tell("/p", [str(number)])
        assert len(fields._told) <= MOST_REMEMBERED
