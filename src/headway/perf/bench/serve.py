"""Loads a server: waits until it is there, tries it, warms it up, drives a workload at it.

The requests of trial and warm-up have the lengths of the workload's first jobs and prompts of their
own, so that nothing of the measurement is in a cache beforehand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from typing import Any, Literal

from headway.errors import HeadwayError
from headway.perf.bench.http_client import COMPLETIONS, PATIENCE, Asking, HttpLoadClient
from headway.perf.bench.http_connection import Address
from headway.perf.bench.run_load import LoadClient, LoadResult, Progress, run_load
from headway.perf.bench.served_model import PAUSE, find_out
from headway.perf.workload.tokens import vocabulary_tokens
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest

logger = logging.getLogger(__name__)

OTHER_PROMPTS = 1 << 40
"""Added to the seeds of prompts that are not part of the measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLoad:
    """What to do to which server."""

    workload: Workload
    address: Address
    model: str | None = None
    """None: the first that the server lists."""
    endpoint: str = COMPLETIONS
    prompts: Literal["tokens", "text"] = "tokens"
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every request, put over our own."""
    max_concurrency: int | None = None
    warmups: int = 0
    ready_timeout: float = 60.0
    """Seconds that the server has to get ready; 0: it is, and gets no trial."""
    request_timeout: float = PATIENCE
    max_token: int = 30_000
    """Prompts are made of token ids below this."""
    progress: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeResult:
    """What came of it."""

    model: str
    driven: LoadResult
    other_lengths: int
    """Whole answers that were not as long as asked."""


async def load_server(load: ServeLoad) -> ServeResult:
    """Do it; raises `HeadwayError` where the server cannot be loaded at all."""
    served = await find_out(
        load.address, model=load.model, headers=load.headers, patience=load.ready_timeout
    )
    asking = Asking(
        model=served.model,
        endpoint=load.endpoint,
        prompts=load.prompts,
        token_ids=served.tells_tokens,
        extra=load.extra,
    )
    target = HttpLoadClient(
        load.address, asking, headers=load.headers, timeout=load.request_timeout
    )
    tokens = partial(vocabulary_tokens, high=load.max_token)
    jobs = load.workload.jobs
    try:
        if load.ready_timeout > 0 and jobs:
            await _try(target, another(jobs[0]), load)
        if load.warmups:
            await run_load(
                target,
                warm_up(load.workload, load.warmups),
                max_concurrency=load.max_concurrency,
                tokens=tokens,
            )
        with Progress(len(jobs), tokens=lambda: target.heard, show=load.progress) as progress:
            driven = await run_load(
                target,
                load.workload,
                max_concurrency=load.max_concurrency,
                watch=progress,
                tokens=tokens,
            )
    finally:
        target.close()
    return ServeResult(
        model=served.model, driven=driven, other_lengths=_other_lengths(jobs, driven)
    )


def another(job: WorkloadRequest) -> WorkloadRequest:
    """A job like this one, now, with a prompt that no job of the workload begins with."""
    segments = tuple(Segment(each.seed + OTHER_PROMPTS, each.length) for each in job.segments)
    return replace(job, segments=segments, at=0.0)


def warm_up(workload: Workload, count: int) -> Workload:
    """So many jobs like the first ones of a workload, all at once, with prompts of their own."""
    jobs = tuple(another(job) for job in islice(cycle(workload.jobs), count))
    return Workload(name="warm-up", jobs=jobs)


async def _try(target: LoadClient, job: WorkloadRequest, load: ServeLoad) -> None:
    """One request; a server that has no room yet is asked again until its time is over."""
    deadline = time.monotonic() + load.ready_timeout
    tokens = vocabulary_tokens(job, high=load.max_token)
    while (answer := await target.ask(job, tokens, id="trial")).outcome != "ok":
        if answer.outcome == "error" or time.monotonic() >= deadline:
            raise HeadwayError(f"{load.address.url} does not serve a first request: {answer.error}")
        await asyncio.sleep(PAUSE)
    came = sum(answer.counts) if answer.output_tokens is None else answer.output_tokens
    if came != job.output:
        logger.warning(
            "a first answer had %d tokens, though %d were asked; --extra-body may tell this server "
            "how to give answers of a length",
            came,
            job.output,
        )


def _other_lengths(jobs: Sequence[WorkloadRequest], driven: LoadResult) -> int:
    return sum(
        record.outcome == "ok" and record.output_tokens != job.output
        for job, record in zip(jobs, driven.records, strict=True)
    )
