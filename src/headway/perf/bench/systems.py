"""One system on one group of requests, measured: from settings to a `Run`.

Every run gets a fresh engine, answers a few requests that do not count, and then the group. What
users saw comes from whoever asked, and what happened inside from the engine's own recording.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headway.errors import EngineError
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.external import TransformersProcess
from headway.perf.bench.groups import RunGroup, config_for, seats_of
from headway.perf.bench.http_connection import Address
from headway.perf.bench.in_process import recorded, run_in_process
from headway.perf.bench.padded import Computes, OnTarget, PaddedRun, drive_padded
from headway.perf.bench.run_load import run_load
from headway.perf.bench.scenario import Scenario, System
from headway.perf.bench.serve import ServeLoad as ServerLoad
from headway.perf.bench.serve import load_server
from headway.perf.records import RequestRecord, summarize
from headway.perf.report.run import Run
from headway.perf.report.slots import idle_share_of, percent_of_limit
from headway.perf.workload.workload import Segment, Workload
from headway.wire import EngineInfo

WARM_TOKENS = 8
"""Most tokens of an answer that does not count."""
URL_PATIENCE = 10.0
"""Seconds that a server gets to answer a first request."""
_PACE = ("_tpot_ms", "_itl_ms", "largest_gap_ms")
"""Ends of the names of figures that an answer in one piece does not have."""

Settings = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemResult:
    """A run, and what else is to be said of it."""

    run: Run
    warning: str | None = None
    """Why its figures are not to be trusted, if so."""
    info: EngineInfo | None = None
    """What the engine chose, where it was ours."""


async def measure_engine(
    scenario: Scenario, system: System, group: RunGroup, *, block_bytes: int | None
) -> SystemResult:
    """This engine under one policy; see `headway.perf.bench.groups` for `block_bytes`.

    Raises `HeadwayError` where the engine cannot do it.
    """
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        record = Path(folder) / "steps.jsonl"
        config = config_for(scenario, system, group, block_bytes=block_bytes, record=str(record))
        async with await AsyncLLM.start(config, progress=False) as llm:
            measured = await _on_engine(scenario, system, group, llm, record)
            info, stats = llm.client.info, llm.client.stats
            if llm.client.restarts:
                raise EngineError("the engine died under the load and was started again")
    settings = dict(measured.run.settings) | {
        "policy": config.policy,
        "kv_reservation": config.kv_reservation,
        "kv_blocks": info.num_blocks,
        "block_size": info.block_size,
        "dtype": info.dtype,
        "kv_cache_dtype": info.kv_cache_dtype,
        "backend": info.backend,
        "threads": info.threads,
        "preemptions": stats.preemptions,
    }
    return replace(measured, run=replace(measured.run, settings=settings), info=info)


async def measure_transformers(
    scenario: Scenario, system: System, group: RunGroup, process: TransformersProcess
) -> SystemResult:
    """Plain transformers in padded batches; one by one, where there is one seat."""
    warming = warm(group.workload, scenario.warmup)
    seats = _seats(system, group, scenario)
    await drive_padded(process, warming, seats=seats)
    measured = await _padded(scenario, system, group, process)
    settings = dict(measured.run.settings) | {"dtype": process.dtype}
    return replace(measured, run=replace(measured.run, settings=settings))


async def measure_url(scenario: Scenario, system: System, group: RunGroup) -> SystemResult:
    """A server that runs already, whatever it is; raises `HeadwayError` where there is none."""
    assert system.url is not None, "the scenario saw to it"
    address = Address.parse(system.url)
    loaded = await load_server(
        ServerLoad(
            workload=fresh(group.workload, secrets.randbits(32)),
            address=address,
            model=system.model,
            warmups=scenario.warmup,
            ready_timeout=URL_PATIENCE,
            progress=False,
        )
    )
    came, warning = loaded.driven, loaded.driven.lag.warning
    if loaded.other_lengths:
        warning = f"{loaded.other_lengths} answers were not as long as asked"
    settings = {"url": address.url, "model": loaded.model}
    run = run_of(system, group, came.records, came.duration, settings=settings)
    return SystemResult(run=run, warning=warning)


def fresh(workload: Workload, nonce: int) -> Workload:
    """The same workload with other tokens: a server may remember prompts from the run before."""
    jobs = tuple(
        replace(
            job,
            segments=tuple(Segment(each.seed ^ (nonce << 8), each.length) for each in job.segments),
        )
        for job in workload.jobs
    )
    return replace(workload, jobs=jobs)


def warm(workload: Workload, requests: int) -> Workload:
    """The first few jobs, cut short and all at once."""
    jobs = tuple(
        replace(job, output=tokens, cap=tokens, at=0.0)
        for job in workload.jobs[:requests]
        for tokens in (min(job.output, WARM_TOKENS),)
    )
    return Workload(name="warm-up", jobs=jobs)


def run_of(
    system: System,
    group: RunGroup,
    records: tuple[RequestRecord, ...],
    duration: float,
    *,
    settings: Settings,
) -> Run:
    """What records say; slots and bars are added by whoever knows of them."""
    return Run(
        system=system.name,
        group=group.name,
        kind="engine" if system.outside is None else "outside",
        settings=settings,
        spread=group.coefficient_of_variation,
        rate=group.rate,
        summary=summarize(records, duration=duration, objectives=group.objectives),
        records=records,
    )


def without_pace(summary: Mapping[str, float]) -> dict[str, float]:
    """A summary of answers that came in one piece: it has no times between tokens."""
    return {name: value for name, value in summary.items() if not name.endswith(_PACE)}


async def _on_engine(
    scenario: Scenario, system: System, group: RunGroup, llm: AsyncLLM, record: Path
) -> SystemResult:
    count = len(group.workload.jobs)
    with EngineLoadClient(llm) as target:
        await run_load(target, warm(group.workload, scenario.warmup), label="warm")
        if system.padded:
            measured = await _padded(scenario, system, group, OnTarget(target))
            recording = await recorded(record, "batch-", count)
            limit = percent_of_limit(recording)
            return replace(measured, run=replace(measured.run, percent_of_limit=limit))
        came = await run_load(target, group.workload)
    seats = seats_of(system, group, scenario.kv_tokens)
    settings: Settings = {} if seats is None else {"seats": seats}
    run = run_of(system, group, came.records, came.duration, settings=settings)
    inside = run_in_process(await recorded(record, "job-", count), came.records)
    run = replace(
        run,
        slots=inside.slots,
        bars=inside.bars,
        idle_share=inside.idle_share,
        percent_of_limit=inside.percent_of_limit,
    )
    return SystemResult(run=run, warning=came.lag.warning)


async def _padded(
    scenario: Scenario, system: System, group: RunGroup, computer: Computes
) -> SystemResult:
    seats = _seats(system, group, scenario)
    came: PaddedRun = await drive_padded(computer, group.workload, seats=seats)
    run = run_of(system, group, came.records, came.duration, settings={"seats": seats})
    slots = min(seats, len(group.workload.jobs))
    run = replace(
        run,
        summary=without_pace(run.summary),
        slots=slots,
        bars=came.bars,
        idle_share=idle_share_of(came.bars, slots),
    )
    return SystemResult(run=run)


def _seats(system: System, group: RunGroup, scenario: Scenario) -> int:
    seats = seats_of(system, group, scenario.kv_tokens)
    assert seats is not None, "padded batches have seats: the scenario saw to it"
    return seats
