"""Systems beside this engine, measured: a server that runs, and a program in padded batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from headway.errors import HeadwayError
from headway.perf.bench.groups import RunGroup
from headway.perf.bench.padded import BatchTimes, TransformersProcess
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System
from headway.perf.bench.systems import measure_transformers, measure_url
from headway.perf.workload.synthetic import with_other_prompts
from headway.perf.workload.workload import Segment, WorkloadRequest, vocabulary_tokens
from headway.types.objectives import parse_objectives
from tests.perf.bench.fakes import request, workload
from tests.server.conftest import serving


def group(*requests: WorkloadRequest, slo: str = "e2el=10min") -> RunGroup:
    return RunGroup(
        name="burst",
        workload=workload(*requests),
        rate=None,
        length_cv=0.5,
        objectives=parse_objectives(slo),
    )


def scenario(system: System, *, warmup: int = 2) -> Scenario:
    return Scenario(
        title="t",
        systems=(system,),
        workloads=(ScenarioLoad(name="burst", requests=1),),
        warmup=warmup,
    )


def test_a_server_answers_the_group_with_prompts_it_has_never_seen() -> None:
    requests = [request(4 + n, 2 + n) for n in range(3)]
    with serving() as server:
        system = System(name="theirs", external="url", url=server.url)
        measured = [
            asyncio.run(measure_url(scenario(system), system, group(*requests))) for _ in range(2)
        ]
        asked = [prompt for prompt, *_ in server.llm.asked]
    for one in measured:
        assert (one.run.kind, one.run.system, one.run.group) == ("external", "theirs", "burst")
        assert [record.output_tokens for record in one.run.records] == [2, 3, 4]
        assert one.run.summary["completed"] == 3
        assert one.run.summary["attainment"] == 1.0
        assert one.run.settings == {"url": server.url, "model": "alphabet"}
        assert one.run.bars == ()
        assert one.info is None
    # A trial, the warm-up and the group, twice: the second time nothing is in a prefix cache.
    assert len(asked) == 2 * (1 + 2 + 3)
    assert not {tuple(prompt) for prompt in asked[3:6]} & {tuple(prompt) for prompt in asked[9:]}


def test_no_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.perf.bench.systems.URL_TIMEOUT", 0.1)
    system = System(name="theirs", external="url", url="http://127.0.0.1:9")
    with pytest.raises(HeadwayError, match="no server"):
        asyncio.run(measure_url(scenario(system), system, group(request())))


class Process:
    """Stands in for transformers: a batch takes a millisecond a token."""

    dtype = "bfloat16"

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        self.batches.append((len(prompts), tokens))
        await asyncio.sleep(tokens / 1000)
        times = [number / 1000 for number in range(1, tokens + 1)]
        return BatchTimes(rows=(times,) * len(prompts))


def test_transformers_warms_up_and_runs_padded_batches() -> None:
    process = Process()
    system = System(name="naive", external="transformers", slots=2)
    requests = [request(output=3), request(output=30), request(output=12)]
    measured = asyncio.run(
        measure_transformers(
            scenario(system), system, group(*requests), cast(TransformersProcess, process)
        )
    )
    # The warm-up is cut to eight tokens.
    assert process.batches == [(2, 8), (2, 30), (1, 12)]
    run = measured.run
    assert run.kind == "external"
    assert run.settings == {"slots": 2, "dtype": "bfloat16"}
    assert run.slots == 2
    assert [bar.request for bar in run.bars] == ["request-1", "request-2", "request-3"]
    assert run.summary["total_output_tokens"] == 45
    assert "p50_itl_ms" not in run.summary
    # Row one is padding for 27 of 30 tokens, and nobody sat beside row three.
    assert run.idle_share is not None
    assert 0.3 < run.idle_share < 0.7


def test_fresh_prompts_keep_lengths_times_and_what_is_shared() -> None:
    shared = Segment(7, 3)
    requests = [
        WorkloadRequest(segments=(shared, Segment(seed, 4)), output=2, cap=5, at=float(seed))
        for seed in (1, 2)
    ]
    one, other = (
        with_other_prompts(workload(*requests), 1),
        with_other_prompts(workload(*requests), 2),
    )
    for changed in (one, other):
        first, second = changed.requests
        assert first.segments[0] == second.segments[0]
        assert first.segments[1] != second.segments[1]
        assert [
            (each.prompt_tokens, each.output, each.cap, each.at) for each in changed.requests
        ] == [
            (7, 2, 5, 1.0),
            (7, 2, 5, 2.0),
        ]
    assert vocabulary_tokens(one.requests[0])[:3] != vocabulary_tokens(other.requests[0])[:3]
