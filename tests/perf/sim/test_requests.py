"""What of a workload's request reaches the engine, and the record of what became of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.perf.sim import fleet
from headway.perf.sim.requests import SimulatedRequest, request_of
from headway.perf.sim.simulate import simulate
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.types import Request
from headway.types.objectives import parse_objectives
from tests.perf.sim.setups import setup_of

PLAIN = WorkloadRequest(segments=(Segment(1, 4),), output=2, cap=2)
OWN = parse_objectives("ttft=1s")
OF_RUN = parse_objectives("ttft=9s")


def test_engine_and_records_know_whom_requests_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def noted(request: SimulatedRequest) -> Request:
        asked.append(request_of(request))
        return asked[-1]

    monkeypatch.setattr(fleet, "request_of", noted)
    specs = (
        replace(PLAIN, tenant="a", service_class="interactive", objectives=OWN),
        replace(PLAIN, tenant="b"),
        replace(PLAIN, service_class="batch"),
    )
    records = simulate(Workload(name="", requests=specs), setup_of(), objectives=OF_RUN).records
    assert [each.objectives for each in asked] == [OWN, OF_RUN, ()]
    assert [each.objectives for each in records] == [OWN, (), ()]
    for told in (asked, records):
        assert [each.tenant for each in told] == ["a", "b", ""]
        assert [each.service_class for each in told] == ["interactive", "standard", "batch"]
