"""One system on one group of requests, measured: from settings to a `Run`.

Every run gets a new engine, which answers a few warm-up requests and then the group. What users saw
comes from the load client; slots, and how near the engine was to its limits, come from the engine's
own recording. That also has the warm-up's requests, which are told apart by their ids.

Several engines side by side are not recorded: one that records leaves no KV cache for the others to
read, and a request may run in two of them. What is drawn is what clients saw.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headway.errors import EngineError
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.groups import RunGroup, config_for, slots_of
from headway.perf.bench.http_connection import Address
from headway.perf.bench.padded import (
    BatchGenerator,
    ClientBatchGenerator,
    TransformersProcess,
    run_padded_load,
)
from headway.perf.bench.run_load import run_load
from headway.perf.bench.scenario import Scenario, System
from headway.perf.bench.serve import ServeLoad, load_server
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.perf.report.run import Run
from headway.perf.report.slots import bars_of, bars_of_records, idle_share, percent_of_limit
from headway.perf.workload.synthetic import warm_up, with_other_prompts
from headway.recording.format import Recording, read_recordings
from headway.types.fleet import FleetConfig
from headway.wire import EngineInfo, LearnedModel

RECORDING_TIMEOUT = 5.0
"""Seconds that an engine gets to write the end of its recording."""


async def wait_for_recording(path: Path, label: str, count: int) -> Recording:
    """The part of the recording at `path` about the requests whose ids start with `label`.

    Waits until the engine, which has nothing else to do, has written all of them; raises
    `EngineError` if it does not.
    """
    deadline = time.monotonic() + RECORDING_TIMEOUT
    while True:
        found = select_requests(read_recordings(path)[-1], label)
        # The last step is written when it is certain that nothing follows.
        ends = max((request.end_step for request in found.requests), default=0)
        if len(found.requests) == count and (not found.steps or found.steps[-1].step >= ends):
            return found
        if time.monotonic() > deadline:
            raise EngineError(
                f"the engine recorded {len(found.requests)} of {count} requests that ended"
            )
        await asyncio.sleep(0.05)


def select_requests(recording: Recording, label: str) -> Recording:
    """The requests whose ids start with `label`, and the steps from the first of them on."""
    requests = tuple(request for request in recording.requests if request.id.startswith(label))
    first = min((request.step for request in requests if request.seq), default=None)
    steps = () if first is None else tuple(s for s in recording.steps if s.step >= first)
    return Recording(engine=recording.engine, requests=requests, steps=steps)


def with_recording(run: Run, recording: Recording) -> Run:
    """The run with slots, bars on the clock of its records, and shares, as they were recorded."""
    slots, bars = bars_of(recording, _origin(recording, run.records))
    return replace(
        run,
        slots=slots,
        bars=bars,
        idle_share=idle_share(bars, slots),
        percent_of_limit=percent_of_limit(recording),
    )


def _origin(recording: Recording, records: Sequence[RequestRecord]) -> float | None:
    """The records' zero on the engine's clock: the first request left and arrived together."""
    if not recording.requests or not records:
        return None
    arrival = min(request.arrival for request in recording.requests)
    return arrival - min(record.sent for record in records)


WARM_UP_OUTPUT = 8
"""Most tokens of an answer to a warm-up request."""
URL_TIMEOUT = 10.0
"""Seconds that a server gets to answer a first request."""
_ITL_FIGURES = ("_tpot_ms", "_itl_ms", "largest_gap_ms")
"""Ends of the names of figures that an answer in one piece does not have."""

Settings = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemResult:
    """A run, a warning about it, and what the engine chose."""

    run: Run
    warning: str | None = None
    """Why its figures are not to be trusted, if so."""
    info: EngineInfo | None = None
    """The engine's own settings, where it was ours."""
    model: LearnedModel | None = None
    """What it has learned of its steps' times; None where it told nothing."""


async def measure_engine(
    scenario: Scenario, system: System, group: RunGroup, *, block_bytes: int | None
) -> SystemResult:
    """This engine under one policy; see `headway.perf.bench.groups` for `block_bytes`.

    Raises `HeadwayError` where the engine cannot do it.
    """
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        fleet = system.fleet
        record = None if fleet.replicas > 1 else Path(folder) / "steps.jsonl"
        config = config_for(
            scenario,
            system,
            group,
            block_bytes=block_bytes,
            record=None if record is None else str(record),
        )
        async with await AsyncLLM.start(config, progress=False, fleet=fleet) as llm:
            measured = await _on_engine(scenario, system, group, llm, record)
            info, stats = llm.client.info, llm.client.stats
            if llm.client.restarts:
                raise EngineError("the engine died under the load and was started again")
    settings = dict(measured.run.settings) | {
        "policy": config.policy,
        "kv_reservation": config.kv_reservation,
        "kv_blocks": info.scheduler.num_blocks,
        "block_size": info.scheduler.block_size,
        "dtype": info.hardware.dtype,
        "kv_cache_dtype": info.hardware.kv_cache_dtype,
        "backend": info.hardware.backend,
        "threads": info.hardware.threads,
        "preemptions": stats.preemptions,
    }
    return replace(
        measured,
        run=replace(measured.run, settings=settings),
        info=info,
        model=None if stats.pacing is None else stats.pacing.model,
    )


async def measure_transformers(
    scenario: Scenario, system: System, group: RunGroup, process: TransformersProcess
) -> SystemResult:
    """Plain transformers in padded batches; one by one, where there is one slot."""
    warming = warm_up(group.workload, scenario.warmup, max_output=WARM_UP_OUTPUT)
    slots = _slots(system, group, scenario)
    await run_padded_load(process, warming, slots=slots)
    measured = await _padded(scenario, system, group, process)
    settings = dict(measured.run.settings) | {"dtype": process.dtype}
    return replace(measured, run=replace(measured.run, settings=settings))


async def measure_url(scenario: Scenario, system: System, group: RunGroup) -> SystemResult:
    """A server that runs already, whatever it is; raises `HeadwayError` where there is none."""
    assert system.url is not None, "checked by the scenario"
    address = Address.parse(system.url)
    served = await load_server(
        ServeLoad(
            workload=with_other_prompts(group.workload, secrets.randbits(32)),
            address=address,
            model=system.model,
            warmups=scenario.warmup,
            ready_timeout=URL_TIMEOUT,
            progress=False,
        )
    )
    result, warning = served.load_result, served.load_result.client_delay.warning
    if served.other_lengths:
        warning = f"{served.other_lengths} answers were not as long as asked"
    settings = {"url": address.url, "model": served.model}
    run = run_of(system, group, result.records, result.duration, settings=settings)
    return SystemResult(run=run, warning=warning)


def run_of(
    system: System,
    group: RunGroup,
    records: tuple[RequestRecord, ...],
    duration: float,
    *,
    settings: Settings,
) -> Run:
    """The run that records give; slots and bars are added where they are known."""
    return Run(
        system=system.name,
        group=group.name,
        kind="engine" if system.external is None else "external",
        settings=settings,
        length_cv=group.length_cv,
        rate=group.rate,
        summary=summarize(records, duration=duration, objectives=group.objectives),
        records=records,
    )


def without_itls(summary: Mapping[str, float]) -> dict[str, float]:
    """A summary of answers that came in one piece: they have no times between tokens."""
    return {name: value for name, value in summary.items() if not name.endswith(_ITL_FIGURES)}


async def _on_engine(
    scenario: Scenario, system: System, group: RunGroup, llm: AsyncLLM, record: Path | None
) -> SystemResult:
    count = len(group.workload.requests)
    with EngineLoadClient(llm) as client:
        await run_load(
            client,
            warm_up(group.workload, scenario.warmup, max_output=WARM_UP_OUTPUT),
            label="warm-up",
        )
        if system.padded and record is not None:
            measured = await _padded(scenario, system, group, ClientBatchGenerator(client))
            recording = await wait_for_recording(record, "batch-", count)
            limit = percent_of_limit(recording)
            return replace(measured, run=replace(measured.run, percent_of_limit=limit))
        before = _handed_over(llm)
        result = await run_load(client, group.workload)
    slots = slots_of(system, group, scenario.kv_tokens_of(system))
    settings: dict[str, str | int | float] = {} if slots is None else {"slots": slots}
    if record is None:
        settings |= fleet_settings(system.fleet)
        if system.roles is not None:
            settings["handed_over"] = _handed_over(llm) - before
    run = run_of(system, group, result.records, result.duration, settings=settings)
    if record is None:
        run = replace(run, bars=bars_of_records(run.records))
    else:
        run = with_recording(run, await wait_for_recording(record, "request-", count))
    return SystemResult(run=run, warning=result.client_delay.warning)


def fleet_settings(fleet: FleetConfig) -> dict[str, str | int | float]:
    """How many engines there are and what they are for, as a report shows it."""
    settings: dict[str, str | int | float] = {"replicas": fleet.replicas, "router": fleet.router}
    if fleet.roles is not None:
        settings |= {"roles": fleet.roles, "fixed_roles": str(fleet.fixed_roles).lower()}
    return settings


def _handed_over(llm: AsyncLLM) -> int:
    """Requests that engines have given away after their first token."""
    return sum(each.handed_over for each in llm.client.replicas)


async def _padded(
    scenario: Scenario, system: System, group: RunGroup, generator: BatchGenerator
) -> SystemResult:
    slots = _slots(system, group, scenario)
    result = await run_padded_load(generator, group.workload, slots=slots)
    run = run_of(system, group, result.records, result.duration, settings={"slots": slots})
    used = min(slots, len(group.workload.requests))
    run = replace(
        run,
        summary=without_itls(run.summary),
        slots=used,
        bars=result.bars,
        idle_share=idle_share(result.bars, used),
    )
    return SystemResult(run=run)


def _slots(system: System, group: RunGroup, scenario: Scenario) -> int:
    slots = slots_of(system, group, scenario.kv_tokens_of(system))
    assert slots is not None, "padded batches have slots: checked by the scenario"
    return slots
