"""Probing: workloads that any engine can hold, run while there is time, and a profile of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.config import EngineConfig
from headway.errors import EngineError
from headway.llm import AsyncLLM
from headway.perf.bench.probe import probe, probe_workloads, run_probes
from headway.types import Limits
from tests.client.fake_engine import COMMAND, POISON
from tests.llm.support import serve_fake, write_prepared


def limits(seqs: int, tokens: int, length: int) -> Limits:
    return Limits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_num_partial_prefills=1,
        max_model_len=length,
    )


@given(st.integers(1, 300), st.integers(2, 9000), st.integers(2, 40_000))
def test_no_probe_is_more_than_the_engine_can_hold(seqs: int, length: int, room: int) -> None:
    seeds: list[int] = []
    for workload in probe_workloads(limits(seqs, 512, length), room):
        assert workload.requests
        assert all(1 <= request.output == request.cap for request in workload.requests)
        assert all(
            request.prompt_tokens + request.output <= length for request in workload.requests
        )
        if len(workload.requests) > 1:
            assert workload.prompt_tokens + workload.output_tokens <= room
        assert [request.at for request in workload.requests] == sorted(
            request.at for request in workload.requests
        )
        seeds += [segment.seed for request in workload.requests for segment in request.segments]
    assert len(seeds) == len(set(seeds))


def test_probes_reach_from_one_stream_to_all_slots_and_from_short_to_long() -> None:
    workloads = list(probe_workloads(limits(256, 512, 8192), 10**6))
    widths = {len(workload.requests) for workload in workloads}
    assert {1, 2, 4, 64, 256} & widths >= {1, 2, 4, 256}
    # No two neighbours are more than a third apart, so that no width is far from a probe.
    ordered = sorted(widths)
    assert all(high <= low * 4 / 3 + 1 for low, high in pairwise(ordered))
    longest = max(request.prompt_tokens for workload in workloads for request in workload.requests)
    assert longest == 6000
    assert any(workload.requests[-1].at > 0 for workload in workloads)
    assert workloads == list(probe_workloads(limits(256, 512, 8192), 10**6))


def test_streams_alone_take_turns_with_all_else() -> None:
    """So that neither is known from one moment of a machine whose speed wanders."""
    workloads = list(probe_workloads(limits(256, 512, 8192), 10**6))[1:]
    alone = [workload.name.startswith("one stream") for workload in workloads]
    assert alone[:16] == [False, True] * 8
    prompts = [w.prompt_tokens for w, one in zip(workloads, alone, strict=True) if one][:8]
    # Nor are short prompts and long ones.
    assert [a < b for a, b in pairwise(prompts)] == [False, True, False, True, False, True, False]


def run_on_fake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, **script: object
) -> list[str]:
    """Names of the workloads that a fake engine got."""
    serve_fake(monkeypatch, write_prepared(folder, **script))
    names: list[str] = []

    async def main() -> None:
        async with await AsyncLLM.start(EngineConfig(), command=COMMAND) as llm:
            # Beyond lie the ids at which this engine misbehaves.
            llm.model_config = replace(llm.model_config, vocab_size=POISON)
            await run_probes(llm, seconds, names.append)

    asyncio.run(main())
    return names


def test_when_time_is_up_nothing_more_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_on_fake(tmp_path, monkeypatch, 1e-6) == ["a first stream"]


def test_with_time_enough_everything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_on_fake(tmp_path, monkeypatch, 1e6)
    assert names[0] == "a first stream"
    assert len(names) > 10
    assert any("beside" in name for name in names)


@pytest.mark.model
def test_a_profile_of_the_real_model() -> None:
    found = asyncio.run(probe(EngineConfig(max_num_seqs=8), seconds=2.0))
    assert found.fit is not None
    assert found.fit.steps > 50
    assert found.scheduler.limits.max_num_seqs == 8
    assert min(found.coefficients) >= 0.0
    assert found.machine.bandwidth > 1e8


def test_a_probe_that_fails_is_an_error_that_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_fake(monkeypatch, write_prepared(tmp_path))

    async def main() -> None:
        async with await AsyncLLM.start(EngineConfig(), command=COMMAND) as llm:
            await run_probes(llm, 1e6, lambda _: None)

    with pytest.raises(EngineError, match="a probe of"):
        asyncio.run(main())
