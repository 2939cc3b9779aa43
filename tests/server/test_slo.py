"""`/slo`, the metrics of the batch, and what the log says of it, over the fake engine."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.config import EngineConfig, ServerConfig
from headway.server import limiting
from headway.server.app import attach_engine, build_app, build_state
from headway.server.batch_metrics import BATCH_METRICS, BatchMetrics
from headway.server.limiting import (
    LASTING,
    LimitingFactorLog,
    reach_lines,
    unheld_lines,
    watch_limiting_factor,
)
from headway.server.metrics import Metrics
from headway.server.slo import KEPT_SECONDS, Explainer
from headway.steptime.explanation import explain
from headway.steptime.margins import Margins
from headway.steptime.slo_report import SloReport
from headway.types import ServiceClass
from headway.types.objectives import Objective, Pace, parse_objectives
from headway.types.traffic import Traffic
from headway.wire import EngineStats, LearnedModel, PacingStats
from tests.server.conftest import serving
from tests.server.fakes import NUM_BLOCKS, FakeEngine, FakeFleet
from tests.server.test_metrics import HandClock, values
from tests.steptime.world import MACHINE, SIZES, TRUTH

TRAFFIC = Traffic(
    prompt=20.0, output=10.0, context=25.0, held=25.0, longest=40, rate=0.5, pace=Pace(tpot=0.5)
)
"""On the round machine a decode alone takes some 70 ms."""
MODEL = LearnedModel(
    status="learned", coefficients=TRUTH, margins=Margins(decode=1.1), steps=7, error=0.03
)


def pacing_of(**changes: Any) -> PacingStats:
    known = PacingStats(
        at=100.0,
        traffic=TRAFFIC,
        model=MODEL,
        sequences=3,
        tokens=9,
        predicted_seconds=0.25,
        bound_seconds=0.3,
    )
    return msgspec.structs.replace(known, **changes)


def busy_engine(pacing: PacingStats | None = None, *, machine: bool = True) -> FakeEngine:
    engine = FakeEngine()
    if machine:
        engine.info = msgspec.structs.replace(
            engine.info, sizes=SIZES, machine=MACHINE, pinned=("max_num_seqs",)
        )
    engine.stats = EngineStats(
        step=5, running=3, waiting=1, step_tokens=9, step_seconds=0.2, pacing=pacing
    )
    return engine


def explainer_of(
    pacing: PacingStats | None = None, slo: str = "", clock: HandClock | None = None
) -> Explainer:
    objectives: dict[ServiceClass, tuple[Objective, ...]] = {}
    if slo:
        objectives["standard"] = parse_objectives(slo)
    return Explainer(busy_engine(pacing), objectives, clock=clock or HandClock())


def test_the_report_says_what_is_so() -> None:
    explainer = explainer_of(pacing_of(), "tpot_p99=500ms,ttft=10ms")
    report = explainer.report()
    assert list(report.classes) == ["interactive", "standard", "batch"]
    standard = report.classes["standard"]
    assert standard.objectives == ("tpot_p99=500ms", "ttft=10ms")
    assert [each.asked for each in standard.unheld] == ["ttft=10ms"]
    assert report.classes["batch"].unheld == ()
    assert (report.batch.running, report.batch.waiting, report.batch.step_tokens) == (3, 1, 9)
    assert (report.batch.predicted_seconds, report.batch.bound_seconds) == (0.25, 0.3)
    assert report.limits.max_num_seqs == 8
    assert report.limits.kv_cache_tokens == NUM_BLOCKS * 8
    assert report.limits.pinned == ("max_num_seqs",)
    assert report.traffic is not None
    assert (report.traffic.tpot, report.traffic.ttft) == (0.5, None)
    assert report.model is not None
    assert (report.model.status, report.model.steps, report.model.error) == ("learned", 7, 0.03)
    assert report.model.margin_decode == 1.1
    situation = explainer.situation()
    assert situation is not None
    assert report.explanation == explain(situation, parse_objectives("tpot_p99=500ms,ttft=10ms"))


def fleet_of(*rates: float) -> FakeFleet:
    """An engine for each rate of requests."""
    fleet, one = FakeFleet(len(rates)), busy_engine()
    for replica, rate in enumerate(rates):
        stats = EngineStats(running=replica, pacing=pacing_of(traffic=replace(TRAFFIC, rate=rate)))
        fleet.statuses[replica] = replace(fleet.status_of(replica), info=one.info, stats=stats)
    return fleet


def test_of_several_engines_the_busiest_that_serves_is_explained() -> None:
    fleet = fleet_of(0.5, 2.0, 1.0)
    explainer = Explainer(fleet, clock=HandClock())
    report = explainer.report()
    assert report.traffic is not None
    assert (report.replica, report.replicas, report.batch.running) == (1, 3, 1)
    assert report.traffic.requests_per_second == 2.0
    assert explainer.serving == 3
    fleet.statuses[1] = replace(fleet.statuses[1], state="restarting")
    assert (explainer.report().replica, explainer.serving) == (2, 2)
    for each in (0, 2):
        fleet.statuses[each] = replace(fleet.statuses[each], state="failed")
    assert (explainer.report().replica, explainer.serving) == (1, 1)


def test_a_rate_that_was_is_none_that_is() -> None:
    """What came a while ago counts for less, as no engine says anything while nothing comes."""
    fleet = fleet_of(2.0, 1.0)
    stats = EngineStats(pacing=pacing_of(at=-100.0, traffic=replace(TRAFFIC, rate=2.0)))
    fleet.statuses[0] = replace(fleet.statuses[0], stats=stats)
    assert Explainer(fleet, clock=HandClock()).report().replica == 1
    # Nothing is known of it at all.
    fleet.statuses[1] = replace(fleet.statuses[1], stats=EngineStats())
    assert Explainer(fleet, clock=HandClock()).report().replica == 0


def test_the_capacity_is_that_of_all_engines() -> None:
    def capacity(*rates: float) -> float:
        explainer = Explainer(fleet_of(*rates), clock=HandClock())
        metrics = Metrics("m")
        metrics.registry.register(BatchMetrics(explainer, "m"))
        return values(metrics.render())["headway:capacity_requests_per_second"]

    assert capacity(0.5, 0.5, 0.5) == pytest.approx(3 * capacity(0.5))


def test_attainment_has_its_place() -> None:
    explainer = Explainer(busy_engine(), attainment={"standard": 0.97}.get)
    classes = explainer.report().classes
    assert (classes["standard"].attainment, classes["batch"].attainment) == (0.97, None)


def test_the_model_that_the_engine_learned_is_the_one_that_explains() -> None:
    learned = explainer_of(pacing_of()).explanation()
    twice = replace(TRUTH, **{name: 2 * getattr(TRUTH, name) for name in ("memory", "compute")})
    slower = msgspec.structs.replace(MODEL, coefficients=twice)
    other = explainer_of(pacing_of(model=slower)).explanation()
    wide = msgspec.structs.replace(MODEL, margins=Margins(decode=1.5))
    cautious = explainer_of(pacing_of(model=wide)).explanation()
    assert learned is not None
    assert other is not None
    assert cautious is not None
    assert other.lowest_tpot > 1.2 * learned.lowest_tpot
    assert cautious.lowest_tpot == pytest.approx(1.5 / 1.1 * learned.lowest_tpot)


@pytest.mark.parametrize("pacing", [None, pacing_of(traffic=None), pacing_of(model=None)])
def test_what_is_not_known_is_left_out(pacing: PacingStats | None) -> None:
    report = explainer_of(pacing, "tpot=1ms").report()
    assert report.explanation is None
    # The machine alone says that no batch is that fast.
    assert [each.asked for each in report.classes["standard"].unheld] == ["tpot=1ms"]
    unknown = Explainer(busy_engine(pacing, machine=False), {"batch": parse_objectives("tpot=1ms")})
    assert unknown.report().explanation is None
    assert unknown.report().classes["batch"].unheld == ()
    assert unknown.report().classes["batch"].longest_prompt is None


def test_an_explanation_is_kept_for_a_second() -> None:
    clock = HandClock()
    explainer = explainer_of(pacing_of(), clock=clock)
    first = explainer.explanation()
    assert explainer.explanation() is first
    clock.time += KEPT_SECONDS
    again = explainer.explanation()
    assert again is not first
    assert first is not None
    assert again is not None
    # Meanwhile nothing has come.
    assert (again.load or 0) < (first.load or 0)


def test_the_endpoint_answers_in_its_schema() -> None:
    with serving() as server, server.http() as http:
        engine = busy_engine(pacing_of())
        server.engine.info, server.engine.stats = engine.info, engine.stats
        answer = http.get("/slo")
        report = msgspec.json.decode(answer.content, type=SloReport)
        assert answer.status_code == 200
        assert report.explanation is not None
        described = http.get("/openapi.json").json()
        schema = described["components"]["schemas"]["SloReport"]
        assert set(schema["required"]) <= set(answer.json())
        assert "/slo" in described["paths"]


def test_it_answers_before_anything_was_served() -> None:
    with serving() as server, server.http() as http:
        report = http.get("/slo").json()
        assert (report["explanation"], report["traffic"], report["model"]) == (None, None, None)


def test_it_needs_the_key_and_an_engine() -> None:
    config = ServerConfig(port=0, api_key=("secret",))
    with serving(config=config) as server, server.http() as http:
        assert http.get("/slo").status_code == 401
        assert http.get("/slo", headers={"x-api-key": "secret"}).status_code == 200
    with serving(ready=False) as server, server.http() as http:
        assert http.get("/slo").status_code == 503


def rendered(pacing: PacingStats | None) -> dict[str, float]:
    engine = busy_engine(pacing)
    metrics = Metrics("m")
    explainer = Explainer(engine, clock=HandClock())
    metrics.registry.register(BatchMetrics(explainer, "m"))
    return values(metrics.render())


def test_the_metrics_are_those_of_the_explanation() -> None:
    found = rendered(pacing_of())
    explanation = explainer_of(pacing_of()).explanation()
    assert explanation is not None
    assert found["headway:predicted_step_seconds"] == 0.25
    assert found["headway:step_width"] == 3
    assert found["headway:step_token_budget"] == explanation.token_budget
    assert found["headway:capacity_requests_per_second"] == explanation.requests_per_second
    assert found["headway:lowest_tpot_seconds"] == explanation.lowest_tpot
    factors = {name: value for name, value in found.items() if "limiting_factor" in name}
    assert len(factors) == 5
    assert factors.pop(f"headway:limiting_factor[{explanation.limiting_factor}]") == 1
    assert set(factors.values()) == {0}
    names = {name.partition("[")[0] for name in found}
    assert set(BATCH_METRICS) <= names


def test_a_metric_of_which_nothing_is_known_is_not_there() -> None:
    assert not any(name in found for found in [rendered(None)] for name in BATCH_METRICS)
    partly = rendered(pacing_of(model=None, predicted_seconds=None))
    assert "headway:step_width" in partly
    assert "headway:predicted_step_seconds" not in partly


def test_a_server_has_the_metrics() -> None:
    with serving() as server, server.http() as http:
        engine = busy_engine(pacing_of())
        server.engine.info, server.engine.stats = engine.info, engine.stats
        assert 'headway:limiting_factor{factor="arrivals"' in http.get("/metrics").text


def test_an_objective_that_cannot_be_held_is_said_with_the_nearest() -> None:
    (said,) = unheld_lines(explainer_of(None, "tpot_p99=1ms,ttft_p99=10s"))
    assert said.fields["asked"] == "tpot_p99=1ms"
    nearest = re.fullmatch(r"tpot_p99=(\d+)ms", str(said.fields["nearest"]))
    assert nearest is not None
    assert list(unheld_lines(explainer_of(None, str(said.fields["nearest"])))) == []


def test_how_far_an_objective_reaches_is_said_where_it_is_not_everywhere() -> None:
    """A prompt token takes at least 2 ms here, and the longest prompt has 999."""
    (said,) = reach_lines(explainer_of(None, "ttft=1s"))
    assert said.fields["service_class"] == "standard"
    assert 100 < int(str(said.fields["longest_prompt"])) < 500
    assert list(reach_lines(explainer_of(None, "ttft=60s"))) == []
    assert list(reach_lines(explainer_of(None, "tpot=1s"))) == []


def looks(
    log: LimitingFactorLog, rate: float, times: int, tpot: float = 0.5
) -> list[dict[str, object]]:
    traffic = replace(TRAFFIC, rate=rate, pace=Pace(tpot=tpot))
    situation = explainer_of(pacing_of(traffic=traffic)).situation()
    assert situation is not None
    seen = [log.see(situation, explain(situation)) for _ in range(times)]
    return [each.fields for each in seen if each is not None]


def test_a_change_that_lasts_is_logged_once_with_its_cause() -> None:
    log = LimitingFactorLog()
    (first,) = looks(log, 0.5, LASTING + 3)
    assert ("from" not in first, first["to"]) == (True, "arrivals")
    assert looks(log, 500.0, LASTING - 1) == []
    assert looks(log, 0.5, 1) == [], "it went back, so nothing has changed"
    assert looks(log, 500.0, LASTING - 1) == []
    (change,) = looks(log, 500.0, 3)
    assert (change["from"], change["to"]) == ("arrivals", "limit")
    assert change["because"] == "requests a second went from 0.5 to 500"
    assert looks(log, 500.0, 20) == []


def test_a_change_is_noted_for_whoever_shows_it() -> None:
    clock = HandClock()
    explainer = explainer_of(pacing_of(), clock=clock)
    log = LimitingFactorLog(explainer.note_change)
    looks(log, 0.5, LASTING)
    assert explainer.change is not None
    assert (explainer.change.before, explainer.change.after) == (None, "arrivals")
    clock.time = 130.0
    looks(log, 500.0, LASTING - 1)
    assert explainer.change.after == "arrivals"
    looks(log, 500.0, 1)
    assert (explainer.change.before, explainer.change.after) == ("arrivals", "limit")
    assert explainer.change.because == "requests a second went from 0.5 to 500"
    assert explainer.change.at == 130.0


def test_factors_that_take_turns_are_no_change() -> None:
    log = LimitingFactorLog()
    looks(log, 0.5, LASTING)
    # Nor where none of them is the one that was said.
    assert looks(log, 500.0, LASTING - 1) + looks(log, 500.0, 1, tpot=0.01) == []
    looks(log, 0.5, 1)
    assert [looks(log, rate, 2) for rate in (500.0, 0.5) * LASTING] == [[]] * 2 * LASTING


async def logged(
    explainer: Explainer, until: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "INTERVAL", 0.001)
    task = watch_limiting_factor(explainer)
    async with asyncio.timeout(10):
        while not until():
            await asyncio.sleep(0.005)
    task.cancel()


def test_the_watch_logs_and_outlives_a_fault(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = explainer_of(pacing_of(), "tpot=1ms")
    faults = [ValueError("odd")]
    whole = explainer.situation

    def situation() -> Any:
        if faults:
            raise faults.pop()
        return whole()

    monkeypatch.setattr(explainer, "situation", situation)
    explainer.explanation = explainer_of(pacing_of()).explanation  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO):
        asyncio.run(logged(explainer, lambda: "event=limiting_factor" in caplog.text, monkeypatch))
    assert "event=error" in caplog.text
    assert "to=arrivals" in caplog.text


def test_a_server_that_starts_says_what_cannot_be_held(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    explainer = explainer_of(None, "tpot_p99=1ms")

    async def start() -> None:
        watch_limiting_factor(explainer).cancel()

    with caplog.at_level(logging.INFO):
        asyncio.run(start())
    (record,) = (each for each in caplog.records if "objective_unheld" in each.getMessage())
    assert record.levelno == logging.WARNING


def test_a_server_with_objectives_says_how_they_fare() -> None:
    config = EngineConfig(slo="ttft=10s,tpot=1ms", slo_batch="e2el=30s")
    with serving(engine=config) as server, server.http() as http:
        server.engine.info = busy_engine().info
        classes = http.get("/slo").json()["classes"]
        assert classes["interactive"]["objectives"] == ["ttft=10s", "tpot=1ms"]
        assert [each["asked"] for each in classes["standard"]["unheld"]] == ["tpot=1ms"]
        assert (classes["batch"]["objectives"], classes["batch"]["unheld"]) == (["e2el=30s"], [])
        assert classes["standard"]["attainment"] is None
        http.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).raise_for_status()
        server.until_idle()
        assert http.get("/slo").json()["classes"]["standard"]["attainment"] == 1.0


def test_the_application_explains_its_engine() -> None:
    from tests.server.fakes import FakeLLM

    app = build_app(build_state(ServerConfig(), model_name="alphabet"))
    llm = FakeLLM()

    async def attach() -> None:
        attach_engine(app, llm)

    asyncio.run(attach())
    explainer: Explainer = app.state.explainer
    assert explainer.situation() is None
    llm.engine.info = busy_engine().info
    llm.engine.stats = EngineStats(pacing=pacing_of())
    assert explainer.situation() is not None
