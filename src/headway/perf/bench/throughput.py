"""Load on an engine without a server: workloads one after the other, or one batch again and again.

The difference to the same workload on a server is what serving costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.run_load import LoadResult, Progress, run_load
from headway.perf.workload.synthetic import warm_up
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest, vocabulary_tokens
from headway.wire import EngineInfo

MAX_TOKEN = 30_000
"""Prompts are made of token ids below this, or below the vocabulary's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRunResult:
    """Workloads that an engine ran, one after the other."""

    results: tuple[LoadResult, ...]
    info: EngineInfo
    preemptions: int


async def run_workloads(
    config: EngineConfig,
    workloads: Sequence[Workload],
    *,
    warmups: int = 0,
    max_concurrency: int | None = None,
    progress: bool = True,
    command: Sequence[str] | None = None,
) -> EngineRunResult:
    """Start an engine, warm it up with so many requests, and run the workloads in turn.

    `command` replaces the engine program. Raises `InvalidRequest` for a request that cannot fit.
    """
    async with await AsyncLLM.start(config, progress=progress, command=command) as llm:
        for workload in workloads:
            check_fit(workload, llm.max_model_len)
        high = min(MAX_TOKEN, llm.model_config.vocab_size)
        load = partial(
            run_load,
            max_concurrency=max_concurrency,
            tokens=partial(vocabulary_tokens, high=high),
        )
        total = sum(len(workload.requests) for workload in workloads)
        with EngineLoadClient(llm) as client:
            if warmups and total:
                await load(client, warm_up(workloads[0], warmups), label="warm-up")
            before = llm.client.stats.preemptions
            with Progress(total, tokens=lambda: client.tokens_received, show=progress) as observer:
                results = [
                    await load(client, workload, observer=observer, label=f"run-{number}")
                    for number, workload in enumerate(workloads, 1)
                ]
        return EngineRunResult(
            results=tuple(results),
            info=llm.client.info,
            preemptions=llm.client.stats.preemptions - before,
        )


def check_fit(workload: Workload, max_model_len: int) -> None:
    """Raise `InvalidRequest` for a request that is longer than the longest sequence."""
    longest = max((request.prompt_tokens + request.cap for request in workload.requests), default=0)
    if longest > max_model_len:
        raise InvalidRequest(
            f"a prompt and its most tokens come to {longest}, but the longest sequence has "
            f"{max_model_len}; ask for less, cap it with --output-cap, or scale the trace with "
            "--length-scale",
            field="--input-len",
        )


def batches(*, size: int, prompt: int, output: int, count: int) -> tuple[Workload, ...]:
    """So many workloads of one batch each: equal lengths, prompts that differ, all at once."""
    one = WorkloadRequest(segments=(Segment(0, prompt),), output=output, cap=output)
    return tuple(
        Workload(
            name=f"{size} x {prompt}+{output}",
            requests=tuple(
                replace(one, segments=(Segment(number * size + row, prompt),))
                for row in range(size)
            ),
        )
        for number in range(count)
    )
