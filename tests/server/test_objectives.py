"""`/slo` asked what other objectives would do, and told to hold requests to others from now on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headway.config import EngineConfig, ServerConfig
from headway.server import exposure
from headway.server.exposure import is_loopback
from headway.server.slo import Explainer
from headway.steptime.explanation import explain
from headway.types.objectives import pace_of, parse_objectives
from tests.server.conftest import Running, serving
from tests.server.test_slo import busy_engine, pacing_of

PROMPT = {"model": "alphabet", "prompt": "x", "max_tokens": 2}


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Running, httpx.Client]]:
    """A server whose engine knows its machine and its traffic."""
    settings = EngineConfig(slo="tpot=500ms")
    with serving(engine=settings) as server, server.http() as http:
        engine = busy_engine(pacing_of())
        server.engine.info, server.engine.stats = engine.info, engine.stats
        yield server, http


def explained(http: httpx.Client, objectives: str) -> dict[str, Any]:
    answer = http.get("/slo", params={"objectives": objectives})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()["explanation"]
    return found


def test_another_objective_gets_the_explanation_of_a_batch_held_to_it() -> None:
    explainer = Explainer(busy_engine(pacing_of()))
    asked = parse_objectives("tpot=90ms")
    situation = explainer.situation(pace_of(asked))
    assert situation is not None
    assert situation.pace.tpot == 0.09
    assert explain(situation, asked).width < explain(explainer.situation() or situation, ()).width


def test_what_if_is_asked_and_changes_nothing(busy: tuple[Running, httpx.Client]) -> None:
    _, http = busy
    before = http.get("/slo").json()
    tight, loose = explained(http, "tpot=90ms"), explained(http, "tpot=10s,ttft=1min")
    assert tight["width"] < loose["width"]
    assert (tight["metric"], tight["step_limit"]) == ("tpot", 0.09)
    assert [each["asked"] for each in explained(http, "tpot=1ms")["unheld"]] == ["tpot=1ms"]
    assert http.get("/slo").json()["classes"] == before["classes"]


@pytest.mark.parametrize(
    ("params", "field"),
    [({"objectives": "tpot"}, "objectives"), ({"objectives": ""}, "objectives"), ({"x": "1"}, "x")],
)
def test_what_is_no_objective_is_refused(
    busy: tuple[Running, httpx.Client], params: dict[str, str], field: str
) -> None:
    answer = busy[1].get("/slo", params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_objectives_that_are_set_hold_for_what_comes(busy: tuple[Running, httpx.Client]) -> None:
    server, http = busy
    answer = http.post("/slo", json={"objectives": "tpot=70ms,ttft=2s"})
    assert answer.status_code == 200
    assert answer.json()["classes"]["standard"]["objectives"] == ["tpot=70ms", "ttft=2s"]
    http.post("/v1/completions", json=PROMPT)
    assert server.engine.submitted[-1].objectives == parse_objectives("tpot=70ms,ttft=2s")
    targets = [line for line in http.get("/metrics").text.splitlines() if "slo_target" in line]
    assert any(line.endswith(" 0.07") for line in targets)
    assert not any(line.endswith(" 0.5") and 'class="standard"' in line for line in targets)
    # An explanation that was kept is not told any more. (The fake engine's own know no traffic.)
    server.engine.stats = busy_engine(pacing_of()).stats
    unheld = http.post("/slo", json={"objectives": "tpot=1ms"}).json()["explanation"]["unheld"]
    assert [each["asked"] for each in unheld] == ["tpot=1ms"]
    none = http.post("/slo", json={"objectives": "", "service_class": "standard"}).json()
    assert none["classes"]["standard"]["objectives"] == []
    targets = [line for line in http.get("/metrics").text.splitlines() if "slo_target" in line]
    assert not any('class="standard"' in line for line in targets)
    http.post("/v1/completions", json=PROMPT)
    assert server.engine.submitted[-1].objectives == ()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "objectives"),
        ({"objectives": "tpot=0ms"}, "objectives"),
        ({"objectives": "tpot=1s", "service_class": "urgent"}, "service_class"),
        ({"objectives": "tpot=1s", "class": "batch"}, "class"),
    ],
)
def test_what_cannot_be_set_is_refused(
    busy: tuple[Running, httpx.Client], body: dict[str, str], field: str
) -> None:
    answer = busy[1].post("/slo", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_only_who_may_hurry_sets_them() -> None:
    config = ServerConfig(port=0, api_key=("a", "b"), interactive_api_key=("b",))
    body = {"objectives": "tpot=1s"}
    with serving(config=config) as server, server.http() as http:
        statuses = [
            http.post("/slo", json=body, headers=headers).status_code
            for headers in ({}, {"x-api-key": "a"}, {"x-api-key": "b"})
        ]
        assert statuses == [401, 400, 200]


def test_without_keys_only_this_machine_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_loopback(each) for each in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]
    monkeypatch.setattr(exposure, "is_loopback", lambda host: host != "127.0.0.1")
    with serving() as server, server.http() as http:
        answer = http.post("/slo", json={"objectives": "tpot=1s"})
        assert answer.status_code == 400
        assert "--api-key" in answer.json()["error"]["message"]


def test_a_web_page_of_elsewhere_cannot_set_them() -> None:
    """Browsers send plain text without asking first; so that is refused."""
    with serving() as server, server.http() as http:
        answer = http.post(
            "/slo",
            content=b'{"objectives": "tpot=1ms"}',
            headers={"origin": "https://evil.example", "content-type": "text/plain"},
        )
        assert answer.status_code == 415
