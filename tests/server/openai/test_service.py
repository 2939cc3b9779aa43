"""The fields `slo` and `service_tier`: what they become, who may ask for how much, what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from tests.server.conftest import Running, serving

PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
}
every_path = pytest.mark.parametrize("path", PATHS)
OBJECTIVES = EngineConfig(
    slo="ttft_p99=1s,tpot_p99=50ms", slo_interactive="ttft_p99=500ms", slo_batch=None
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(engine=OBJECTIVES) as running:
        yield running


def post(http: httpx.Client, path: str, key: str = "", **more: Any) -> httpx.Response:
    headers = {"x-api-key": key} if key else {}
    return http.post(path, json=PATHS[path] | more, headers=headers)


def refused(answer: httpx.Response, field: str) -> str:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == field
    message: str = error["message"]
    return message


def reached(server: Running) -> tuple[str, list[str]]:
    """Class and objectives of the last request that the engine got."""
    request = server.engine.submitted[-1]
    return request.service_class, [str(each) for each in request.objectives]


@every_path
def test_own_objectives_replace_those_of_the_class_for_their_metrics(
    server: Running, http: httpx.Client, path: str
) -> None:
    asked: list[tuple[dict[str, Any], tuple[str, list[str]]]] = [
        ({}, ("standard", ["ttft_p99=1s", "tpot_p99=50ms"])),
        ({"slo": None}, ("standard", ["ttft_p99=1s", "tpot_p99=50ms"])),
        ({"slo": {}}, ("standard", ["ttft_p99=1s", "tpot_p99=50ms"])),
        ({"slo": {"ttft_ms": 2500}}, ("standard", ["ttft=2.5s", "tpot_p99=50ms"])),
        (
            {"slo": {"itl_ms": 80.5, "deadline_ms": 60000, "tpot_ms": 30, "ttft_ms": 9}},
            ("standard", ["ttft=9ms", "tpot=30ms", "itl=80.5ms", "e2el=1min"]),
        ),
        ({"slo": {"class": "interactive"}}, ("interactive", ["ttft_p99=500ms"])),
        ({"slo": {"class": "batch"}}, ("batch", [])),
        ({"slo": {"class": "batch", "deadline_ms": 3600000}}, ("batch", ["e2el=60min"])),
        ({"service_tier": "flex"}, ("batch", [])),
        ({"service_tier": "priority"}, ("interactive", ["ttft_p99=500ms"])),
        ({"service_tier": "default"}, ("standard", ["ttft_p99=1s", "tpot_p99=50ms"])),
        ({"service_tier": "auto", "slo": {"class": "batch"}}, ("batch", [])),
        ({"service_tier": "flex", "slo": {"ttft_ms": 9}}, ("batch", ["ttft=9ms"])),
    ]
    for fields, expected in asked:
        assert post(http, path, **fields).status_code == 200
        assert reached(server) == expected


@every_path
@pytest.mark.parametrize(
    ("slo", "field"),
    [
        ({"ttft": 5}, "slo.ttft"),
        ({"ttft_ms": 0}, "slo.ttft_ms"),
        ({"tpot_ms": -1}, "slo.tpot_ms"),
        ({"itl_ms": 1e300}, "slo.itl_ms"),
        ({"itl_ms": 5e-324}, "slo.itl_ms"),
        ({"deadline_ms": 2592000001}, "slo.deadline_ms"),
        ({"deadline_ms": "soon"}, "slo.deadline_ms"),
        ({"deadline_ms": True}, "slo.deadline_ms"),
        ({"class": "premium"}, "slo.class"),
        ({"class": 1}, "slo.class"),
        ([], "slo"),
        ("ttft=1s", "slo"),
    ],
)
def test_what_is_no_objective_is_refused_by_name(
    http: httpx.Client, path: str, slo: Any, field: str
) -> None:
    refused(post(http, path, slo=slo), field)


@every_path
def test_a_tier_and_a_class_that_disagree(http: httpx.Client, path: str) -> None:
    said = refused(post(http, path, service_tier="flex", slo={"class": "standard"}), "service_tier")
    assert "batch" in said
    assert post(http, path, service_tier="flex", slo={"class": "batch"}).status_code == 200
    refused(post(http, path, service_tier="scale"), "service_tier")


@every_path
def test_the_answer_names_the_tier_that_served_it(http: httpx.Client, path: str) -> None:
    for tier, answered in (
        ("auto", "default"),
        ("default", "default"),
        ("flex", "flex"),
        ("priority", "priority"),
    ):
        assert post(http, path, service_tier=tier).json()["service_tier"] == answered
        lines = post(http, path, service_tier=tier, stream=True).text.splitlines()
        events = [json.loads(line[6:]) for line in lines if line and line != "data: [DONE]"]
        assert [event["service_tier"] for event in events] == [answered] * len(events)
        assert events
    answer = post(http, path, service_tier="auto", slo={"class": "batch"})
    assert answer.json()["service_tier"] == "flex"
    assert post(http, path, slo={"class": "batch"}).json()["service_tier"] is None
    assert "service_tier" not in post(http, path, stream=True).text


@every_path
def test_only_some_keys_may_be_interactive_or_ask_for_more_than_their_class(path: str) -> None:
    config = ServerConfig(port=0, api_key=("slow", "fast"), interactive_api_key=("fast",))
    hurried: list[tuple[dict[str, Any], str]] = [
        ({"slo": {"class": "interactive"}}, "slo.class"),
        ({"slo": {"class": "interactive"}, "service_tier": "priority"}, "slo.class"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"slo": {"ttft_ms": 999}}, "slo.ttft_ms"),
        ({"slo": {"ttft_ms": 2000, "tpot_ms": 49}}, "slo.tpot_ms"),
        ({"slo": {"deadline_ms": 3600000}}, "slo.deadline_ms"),
        ({"slo": {"class": "batch", "ttft_ms": 3600000}}, "slo.ttft_ms"),
    ]
    patient: list[dict[str, Any]] = [
        {},
        {"slo": {"ttft_ms": 1000, "tpot_ms": 50}},
        {"slo": {"ttft_ms": 2000}},
        {"slo": {"class": "batch"}},
        {"service_tier": "flex"},
    ]
    with serving(config=config, engine=OBJECTIVES) as server, server.http() as http:
        for fields, field in hurried:
            assert "this API key" in refused(post(http, path, "slow", **fields), field)
            assert post(http, path, "fast", **fields).status_code == 200
        for fields in patient:
            assert post(http, path, "slow", **fields).status_code == 200


@pytest.mark.parametrize("keys", [(), ("other",)])
def test_keys_for_interactive_requests_are_some_of_the_keys(keys: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ServerConfig(api_key=keys, interactive_api_key=("secret",))
    assert caught.value.field == "interactive_api_key"
    assert "secret" not in caught.value.message


def test_the_description_shows_objectives_and_tiers(http: httpx.Client) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    slo = schemas["SloBody"]
    assert slo["additionalProperties"] is False
    assert set(slo["properties"]) == {"ttft_ms", "tpot_ms", "itl_ms", "deadline_ms", "class"}
    bounds = slo["properties"]["ttft_ms"]["anyOf"][0]
    assert (bounds["minimum"], bounds["maximum"]) == (0.001, 2592000000)
    classes = slo["properties"]["class"]["anyOf"][0]["enum"]
    assert set(classes) == {"interactive", "standard", "batch"}
    for body in ("ChatBody", "CompletionBody"):
        described = schemas[body]["properties"]
        assert described["slo"]["anyOf"][0]["$ref"].endswith("/SloBody")
        assert set(described["service_tier"]["anyOf"][0]["enum"]) == {
            *("auto", "default", "flex", "priority")
        }
    assert "SloBody" in http.get("/docs").text
