"""Workloads on an engine in this process, over the fake engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.bench.throughput import Ran, batches, check_fit, run_workloads
from headway.perf.workload.workload import Workload
from tests.client.fake_engine import COMMAND
from tests.client.support import alive, started
from tests.llm.support import serve_fake, write_prepared
from tests.perf.bench.fakes import job, workload


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *workloads: Workload, warmups: int = 0
) -> Ran:
    serve_fake(monkeypatch, write_prepared(folder))
    return asyncio.run(
        run_workloads(EngineConfig(), workloads, warmups=warmups, progress=False, command=COMMAND)
    )


def test_workloads_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = workload(job(4, 3), job(5, 6)), workload(job(7, 8, cap=9))
    ran = run(tmp_path, monkeypatch, first, second, warmups=3)
    assert [[record.id for record in driven.records] for driven in ran.driven] == [
        ["run-1-1", "run-1-2"],
        ["run-2-1"],
    ]
    assert [record.output_tokens for record in ran.driven[0].records] == [3, 6]
    assert ran.driven[1].records[0].outcome == "ok"
    assert ran.info.backend == "fake"
    assert ran.preemptions == 0
    assert not any(alive(pid) for pid in started(tmp_path))


def test_no_jobs_are_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(tmp_path, monkeypatch, workload(), warmups=3)
    assert ran.driven[0].records == ()


def test_what_cannot_fit_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="the longest sequence has 2048"):
        run(tmp_path, monkeypatch, workload(job(4, 3), job(2000, 49)))
    assert not any(alive(pid) for pid in started(tmp_path))
    check_fit(workload(job(2000, 48)), 2048)
    with pytest.raises(InvalidRequest):
        check_fit(workload(job(10, 1, cap=91)), 100)


def test_batches_have_equal_lengths_and_prompts_of_their_own() -> None:
    made = batches(size=3, prompt=8, output=5, count=4)
    jobs = [each for batch in made for each in batch.jobs]
    assert [len(batch.jobs) for batch in made] == [3] * 4
    assert {(each.prompt_tokens, each.output, each.cap, each.at) for each in jobs} == {
        (8, 5, 5, 0.0)
    }
    assert len({each.segments for each in jobs}) == 12
