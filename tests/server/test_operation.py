"""Statistics in the log, computed by hand, and warnings at the start."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from headway import machine
from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from headway.server.exposure import warn_of_exposure
from headway.server.metrics import Metrics
from headway.server.operation import (
    Statistics,
    log_statistics,
    warn_of_threads,
)
from headway.types import TokenEvent
from headway.wire import EngineStats
from tests.server.fakes import NUM_BLOCKS, FakeEngine
from tests.server.test_metrics import HandClock, asked


class Scene:
    """Metrics and statistics over an engine whose state is set by hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.engine = FakeEngine()
        self.metrics = Metrics("m", clock=self.clock)
        self.metrics.attach(self.engine)
        self.statistics = Statistics(self.metrics, self.engine, clock=self.clock)

    def step(self, *events: TokenEvent, **stats: Any) -> None:
        stats.setdefault("free_blocks", NUM_BLOCKS)
        self.engine.stats = EngineStats(step=self.engine.stats.step + 1, **stats)
        self.metrics.on_engine(events, self.engine.stats, self.clock.time)

    def after(self, seconds: float) -> str | None:
        self.clock.time += seconds
        return self.statistics.line()


def test_the_figures_of_an_interval() -> None:
    scene = Scene()
    scene.metrics.started(asked(["r"], 40, 9))
    events = [TokenEvent(id="r", tokens=(1, 2, 3))]
    scene.step(
        *events,
        running=1,
        waiting=2,
        free_blocks=NUM_BLOCKS - 25,
        prefix_queries=40,
        prefix_hits=10,
        preemptions=1,
    )
    assert scene.after(10.0) == (
        "event=stats running=1 waiting=2 prompt_tokens_per_second=4.000 "
        "generated_tokens_per_second=0.300 kv_cache_percent=25.000 prefix_hit_percent=25.000 "
        "preemptions=1"
    )
    # The next line tells of its own interval alone, and no rate where nothing was looked up.
    scene.step(
        TokenEvent(id="r", tokens=(4,) * 5), prefix_queries=40, prefix_hits=10, preemptions=4
    )
    assert scene.after(5.0) == (
        "event=stats running=0 waiting=0 prompt_tokens_per_second=0.000 "
        "generated_tokens_per_second=1.000 kv_cache_percent=0.000 preemptions=3"
    )


def test_drafts_are_those_of_the_interval_and_not_said_where_there_were_none() -> None:
    scene = Scene()
    scene.step(running=1, draft_tokens=40, accepted_tokens=10)
    line = scene.after(10.0) or ""
    assert line.endswith(" draft_tokens_per_second=4.000 accepted_draft_percent=25.000")
    scene.step(running=1, draft_tokens=60, accepted_tokens=30)
    line = scene.after(10.0) or ""
    assert line.endswith(" draft_tokens_per_second=2.000 accepted_draft_percent=100.000")
    scene.step(running=1, draft_tokens=60, accepted_tokens=30)
    assert "draft" not in (scene.after(10.0) or "draft")


def test_attainment_is_that_of_the_interval_and_is_not_said_without_objectives() -> None:
    scene = Scene()

    def served(seconds: float, objectives: str | None) -> None:
        request = asked(["r"], 4, 9, objectives=objectives)
        scene.metrics.started(request)
        scene.clock.time += seconds
        scene.step(TokenEvent(id="r", tokens=(1,)), running=1)
        scene.metrics.finished(request, ["stop"])

    served(3.0, None)
    assert "attainment" not in (scene.after(10.0) or "none")
    for seconds in (1.0, 3.0, 1.0):
        served(seconds, "ttft=2s")
    assert (scene.after(10.0) or "").endswith(" attainment=0.667")
    served(3.0, "ttft=2s")
    assert (scene.after(10.0) or "").endswith(" attainment=0.000")
    scene.step(running=1)
    assert "attainment" not in (scene.after(10.0) or "none")


def test_nothing_is_said_while_nothing_happens() -> None:
    scene = Scene()
    assert scene.after(10.0) is None
    scene.step(running=0)
    assert scene.after(10.0) is not None, "something was computed in between"
    assert scene.after(10.0) is None
    scene.engine.stats = EngineStats(step=1, waiting=1, free_blocks=NUM_BLOCKS)
    assert scene.after(10.0) is not None, "somebody waits, though nothing is computed"


def test_lines_come_until_the_task_ends_and_a_fault_does_not_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="headway.server")
    scene = Scene()

    async def live() -> None:
        task = log_statistics(scene.metrics, scene.engine, ServerConfig(log_stats_interval=0.001))
        assert task is not None
        scene.engine.stats = None  # type: ignore[assignment]
        while not any(record.exc_info for record in caplog.records):
            await asyncio.sleep(0.001)
        scene.engine.stats = EngineStats(running=1, free_blocks=NUM_BLOCKS)
        while not caplog.records[-1].getMessage().startswith("event=stats running=1"):
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(asyncio.wait_for(live(), 60))


def test_no_statistics_where_they_are_turned_off() -> None:
    scene = Scene()
    config = ServerConfig(log_stats_interval=0)
    assert log_statistics(scene.metrics, scene.engine, config) is None
    with pytest.raises(InvalidRequest, match="log_stats_interval"):
        ServerConfig(log_stats_interval=-1)


def warnings_of(caplog: pytest.LogCaptureFixture, host: str, **settings: object) -> list[str]:
    caplog.clear()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        warn_of_exposure(ServerConfig(host=host, **settings), listener)  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_address_without_a_key(host: str, caplog: pytest.LogCaptureFixture) -> None:
    (found,) = warnings_of(caplog, host)
    assert found.startswith("event=no_api_key host=")
    assert "--api-key" in found
    assert warnings_of(caplog, host, api_key=("secret",)) == []
    assert warnings_of(caplog, host, uds="/somewhere") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_a_local_address_needs_no_key(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(caplog, host) == []


def test_more_threads_than_cores(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    warn_of_threads(EngineConfig())
    warn_of_threads(EngineConfig(threads=4))
    assert caplog.records == []
    warn_of_threads(EngineConfig(threads=5))
    (record,) = caplog.records
    assert record.getMessage().startswith("event=too_many_threads threads=5 cores=4")


def test_threads_are_those_of_all_engines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    warn_of_threads(EngineConfig(), replicas=4)
    warn_of_threads(EngineConfig(threads=2), replicas=2)
    assert caplog.records == []
    warn_of_threads(EngineConfig(), replicas=5)
    warn_of_threads(EngineConfig(threads=2), replicas=3)
    told = [record.getMessage().partition(" advice")[0] for record in caplog.records]
    assert told == [f"event=too_many_threads threads={count} cores=4" for count in (5, 6)]
