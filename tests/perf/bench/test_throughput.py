"""Workloads on an engine in this process, over the fake engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.bench.engine_client import EngineRunResult, batches, check_fit, run_workloads
from headway.perf.workload.workload import Workload
from tests.client.fake_engine import COMMAND
from tests.client.support import alive, started
from tests.llm.support import serve_fake, write_prepared
from tests.perf.bench.fakes import request, workload


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *workloads: Workload, warmups: int = 0
) -> EngineRunResult:
    serve_fake(monkeypatch, write_prepared(folder))
    return asyncio.run(
        run_workloads(EngineConfig(), workloads, warmups=warmups, progress=False, command=COMMAND)
    )


def test_workloads_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = workload(request(4, 3), request(5, 6)), workload(request(7, 8, cap=9))
    ran = run(tmp_path, monkeypatch, first, second, warmups=3)
    assert [[record.id for record in load_result.records] for load_result in ran.results] == [
        ["run-1-1", "run-1-2"],
        ["run-2-1"],
    ]
    assert [record.output_tokens for record in ran.results[0].records] == [3, 6]
    assert ran.results[1].records[0].outcome == "ok"
    assert ran.info.hardware.backend == "fake"
    assert ran.preemptions == 0
    assert not any(alive(pid) for pid in started(tmp_path))


def test_no_requests_are_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(tmp_path, monkeypatch, workload(), warmups=3)
    assert ran.results[0].records == ()


def test_what_cannot_fit_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="the longest sequence has 2048"):
        run(tmp_path, monkeypatch, workload(request(4, 3), request(2000, 49)))
    assert not any(alive(pid) for pid in started(tmp_path))
    check_fit(workload(request(2000, 48)), 2048)
    with pytest.raises(InvalidRequest):
        check_fit(workload(request(10, 1, cap=91)), 100)


def test_batches_have_equal_lengths_and_prompts_of_their_own() -> None:
    made = batches(size=3, prompt=8, output=5, count=4)
    requests = [each for batch in made for each in batch.requests]
    assert [len(batch.requests) for batch in made] == [3] * 4
    assert {(each.prompt_tokens, each.output, each.cap, each.at) for each in requests} == {
        (8, 5, 5, 0.0)
    }
    assert len({each.segments for each in requests}) == 12
