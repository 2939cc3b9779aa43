"""Attainment: requests judged by hand, and what a live server says of those that it served."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headway.config import EngineConfig
from headway.server.attainment import RECENT_REQUESTS, RequestTimes, miss_of
from headway.server.metrics import Metrics
from headway.types import FinishReason, ServiceClass, TokenEvent
from headway.types.objectives import bounds_of, parse_objectives
from headway.wire import EngineStats
from tests.server.conftest import serving
from tests.server.test_metrics import HandClock, asked, values


def times(*heard: tuple[float, int], shed: bool = False) -> RequestTimes:
    """Of a request that arrives at 100 and hears so many tokens at each time after that."""
    found = RequestTimes(arrival=100.0, prompt_tokens=5, shed=shed)
    for after, tokens in heard:
        found.hear(tokens, 100.0 + after)
    return found


SPOKEN = ((1.0, 1), (1.5, 3), (4.0, 1))
"""TTFT 1 s, TPOT 3 / 4 s, largest gap 2.5 s, latency 4 s."""


@pytest.mark.parametrize(
    ("objectives", "heard", "finish", "missed"),
    [
        ("ttft=1s", SPOKEN, "stop", None),
        ("ttft=0.99s", SPOKEN, "stop", "ttft"),
        ("tpot=0.75s", SPOKEN, "length", None),
        ("tpot=0.74s", SPOKEN, "length", "tpot"),
        ("itl=2.5s", SPOKEN, "stop", None),
        ("itl=2.4s", SPOKEN, "stop", "itl"),
        # To the last token, though its client may have read it later.
        ("e2el=4s", SPOKEN, "stop", None),
        ("e2el=3.9s", SPOKEN, "stop", "deadline"),
        ("e2el=1s,itl=1s,tpot=1ms", SPOKEN, "stop", "tpot"),
        ("ttft_p50=0.5s,ttft_p99=1s", SPOKEN, "stop", None),
        # One token has no pace to miss.
        ("tpot=1ms,itl=1ms", ((1.0, 1),), "stop", None),
        ("tpot=1ms", ((1.0, 1),), "error", "error"),
        # A client that leaves at 10: what was late by then, and nothing else.
        ("ttft=9s", (), "abort", "ttft"),
        ("ttft=11s", (), "abort", None),
        ("e2el=9s", SPOKEN, "abort", "deadline"),
        ("e2el=11s", SPOKEN, "abort", None),
        ("itl=5s", SPOKEN, "abort", "itl"),
        ("itl=7s", SPOKEN, "abort", None),
    ],
)
def test_why_a_request_missed(
    objectives: str, heard: Sequence[tuple[float, int]], finish: FinishReason, missed: str | None
) -> None:
    bounds = bounds_of(parse_objectives(objectives))
    assert miss_of(times(*heard), bounds, finish, 110.0) == missed
    assert miss_of(times(*heard, shed=True), bounds, finish, 110.0) == "shed"


class Scene:
    """Metrics of a server whose clock is set by hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.metrics = Metrics("m", clock=self.clock)

    def serve(
        self,
        objectives: str | None,
        *events: TokenEvent,
        seconds: float = 0.0,
        ends: Sequence[FinishReason] = ("stop",),
        service_class: ServiceClass = "standard",
    ) -> None:
        """A request with as many continuations as ends, called r-0, r-1, ..."""
        names = [f"r-{number}" for number in range(len(ends))]
        request = asked(names, 4, 9, objectives=objectives, service_class=service_class)
        self.metrics.started(request)
        self.clock.time += seconds
        self.metrics.on_engine(events, EngineStats(), self.clock.time)
        self.metrics.finished(request, ends)

    def counted(self) -> dict[str, float]:
        """What is said of objectives, without what is zero and without times of creation."""
        names = ("headway:slo", "headway:requests")
        return {
            name.removeprefix("headway:"): value
            for name, value in values(self.metrics.render()).items()
            if name.startswith(names) and value and "_created" not in name
        }


TOKEN = TokenEvent(id="r-0", tokens=(1,))
SHED = TokenEvent(id="r-0", finish="error", error="late", retry_after=1.0)


def test_each_request_with_objectives_counts_once_for_its_class() -> None:
    scene = Scene()
    scene.serve("ttft=2s", TOKEN, seconds=1.0)
    scene.serve("ttft=2s", TOKEN, seconds=3.0)
    scene.serve("ttft=2s", seconds=3.0, ends=("error",))
    scene.serve("ttft=2s", TOKEN, seconds=1.0, service_class="interactive")
    scene.serve("ttft=2s", ends=("abort",), service_class="interactive")
    scene.serve(None, TOKEN, seconds=9.0, service_class="batch")
    assert scene.counted() == {
        "requests_attained_total[standard]": 1,
        "requests_missed_total[standard][ttft]": 1,
        "requests_missed_total[standard][error]": 1,
        "slo_attainment_ratio[standard]": pytest.approx(1 / 3),
        "requests_attained_total[interactive]": 1,
        "slo_attainment_ratio[interactive]": 1,
    }


def test_a_shed_request_is_missed_and_counts_without_objectives_too() -> None:
    scene = Scene()
    scene.serve("ttft=2s", SHED, ends=("error",))
    scene.serve(None, SHED, ends=("error",), service_class="batch")
    assert scene.counted() == {
        "requests_shed_total[standard]": 1,
        "requests_missed_total[standard][shed]": 1,
        "requests_shed_total[batch]": 1,
    }
    assert values(scene.metrics.render())["headway:slo_attainment_ratio[standard]"] == 0.0


def test_continuations_that_fall_with_one_that_was_shed_were_shed() -> None:
    scene = Scene()
    scene.serve("ttft=2s", SHED, seconds=1.0, ends=("error", "error", "error"))
    assert scene.counted() == {
        "requests_shed_total[standard]": 3,
        "requests_missed_total[standard][shed]": 3,
    }


def test_the_ratio_is_that_of_the_latest_requests() -> None:
    scene = Scene()
    for _ in range(10):
        scene.serve("ttft=2s", TOKEN, seconds=3.0)
    for number in range(RECENT_REQUESTS):
        scene.serve("ttft=2s", TOKEN, seconds=1.0)
        if number == 9:
            assert scene.counted()["slo_attainment_ratio[standard]"] == 0.5
    assert scene.counted()["slo_attainment_ratio[standard]"] == 1.0
    scene.serve("ttft=2s", TOKEN, seconds=3.0)
    assert scene.counted()["slo_attainment_ratio[standard]"] == 1 - 1 / RECENT_REQUESTS


def test_a_live_server_tells_targets_and_judges_what_it_served() -> None:
    config = EngineConfig(slo="ttft_p99=1min,tpot_p99=50s", slo_batch="e2el=2min")
    with serving(engine=config) as server, server.http() as http:
        for slo in (
            {},
            {"deadline_ms": 0.001},
            {"class": "batch"},
            {"class": "interactive", "ttft_ms": 0.001},
        ):
            body = {"prompt": "x", "max_tokens": 3, "slo": slo}
            assert http.post("/v1/completions", json=body).status_code == 200
        shed = TokenEvent(id="", finish="error", error="late", retry_after=2.0)
        server.engine.fault = (0, shed)
        body = {"prompt": "x", "n": 2}
        assert http.post("/v1/completions", json=body).status_code == 429
        found = values(http.get("/metrics").content)
    targets = {name: value for name, value in found.items() if "slo_target" in name}
    assert targets == {
        "headway:slo_target_seconds[interactive][ttft]": 60.0,
        "headway:slo_target_seconds[interactive][tpot]": 50.0,
        "headway:slo_target_seconds[standard][ttft]": 60.0,
        "headway:slo_target_seconds[standard][tpot]": 50.0,
        "headway:slo_target_seconds[batch][e2el]": 120.0,
    }
    assert found["headway:requests_attained_total[standard]"] == 1
    assert found["headway:requests_missed_total[standard][deadline]"] == 1
    assert found["headway:requests_missed_total[standard][shed]"] == 2
    assert found["headway:requests_shed_total[standard]"] == 2
    assert found["headway:requests_attained_total[batch]"] == 1
    assert found["headway:requests_missed_total[interactive][ttft]"] == 1
    assert found["headway:slo_attainment_ratio[standard]"] == 0.25
